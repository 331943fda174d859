"""One rung out: it loads, its card tells the figures, and mistakes are one line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlhf.cli import main as console
from rlhf.evaluation.evaluate import EvaluateConfig, evaluate
from rlhf.evaluation.export import ExportConfig, export
from rlhf.foundation.errors import InputError
from rlhf.inspection.model_card import code, plain
from rlhf.ppo.finetune import PPOCommandConfig, finetune
from rlhf.runs.reading import read_run


def test_an_exported_rung_is_a_model_with_a_card(trained_run: Path, tmp_path: Path) -> None:
    last = read_run(trained_run).rungs[-1].name
    out = tmp_path / "out"
    assert console(["export", str(trained_run), "--rung", last, "--output_dir", str(out)]) == 0
    assert AutoModelForCausalLM.from_pretrained(out).config.vocab_size == 32
    assert AutoTokenizer.from_pretrained(out).eos_token == "<end>"
    card = (out / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlibrary_name: transformers\n")
    assert "full_stop" in card
    assert "Proxy reward" in card


def test_the_recommended_rung_is_the_default(trained_run: Path, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(trained_run, tmp_path / "run"))
    with pytest.raises(InputError, match="--rung: got nothing"):
        export.run(ExportConfig(run=str(directory), output_dir=str(tmp_path / "out")))
    evaluate.run(EvaluateConfig(run=str(directory), stored_samples=True, gold_reward_func=["length"]))
    out = export.run(ExportConfig(run=str(directory), output_dir=str(tmp_path / "out")))
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "| length |" in card
    assert "| proxy |" in card


def test_a_lora_rung_stands_alone(trained_run: Path, tmp_path: Path) -> None:
    model = trained_run.parent / "model"
    finetune.run(
        PPOCommandConfig(
            output_dir=str(tmp_path / "lora"), model_name_or_path=str(model), reward_func=["full_stop"], use_peft=True,
            iteration_batch_size=64, minibatch_size=32, max_completion_length=12, learning_rate=1e-2, kl_budget=0.3,
            max_iterations=4, num_eval_samples=16, normalization_samples=64, quiet=True, use_cpu=True,
        )
    )  # fmt: skip
    last = read_run(tmp_path / "lora").rungs[-1]
    adapted = AutoModelForCausalLM.from_pretrained(tmp_path / "lora" / last.path)
    out = export.run(ExportConfig(run=str(tmp_path / "lora"), rung=last.name, output_dir=str(tmp_path / "out")))
    assert not (out / "adapter_config.json").exists()
    alone = AutoModelForCausalLM.from_pretrained(out)
    ids = torch.arange(20)[None]
    assert torch.allclose(alone(ids).logits, adapted(ids).logits, atol=1e-5)
    base = AutoModelForCausalLM.from_pretrained(model)
    assert not torch.allclose(alone(ids).logits, base(ids).logits, atol=1e-3)


def test_names_in_the_card_are_no_markup() -> None:
    hostile = "a`\n# <script>x</script> [b](http://c) \u202ed"
    assert code(hostile) == "`a´ # <script>x</script> [b](http://c) \\u202ed`"  # one line, one pair of backticks
    assert plain(hostile) == "a\\` \\# &lt;script\\>x&lt;/script\\> \\[b\\]\\(http://c\\) \\\\u202ed"
    assert plain("kl-01.00") == "kl\\-01.00"


def test_mistakes(trained_run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--rung: got kl-77; expected one of kl-00\.00"):
        export.run(ExportConfig(run=str(trained_run), rung="kl-77"))
    with pytest.raises(InputError, match="got no run"):
        ExportConfig()
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "diary.txt").write_text("mine")
    with pytest.raises(InputError, match="a directory with other files"):
        export.run(ExportConfig(run=str(trained_run), rung="kl-00.00", output_dir=str(taken)))
    out = tmp_path / "out"
    with pytest.raises(InputError, match="--push_to_hub"):
        export.run(
            ExportConfig(run=str(trained_run), rung="kl-00.00", output_dir=str(out), push_to_hub="someone/model")
        )
    assert (out / "config.json").exists()  # nothing lost
