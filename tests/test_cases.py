"""The cases of docs/cases/ do what they say, with a tiny model in place of the real one and little work."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from rlhf.cli import main
from rlhf.foundation.model_directory import save_model
from rlhf.language_model.tokenizer import train_tokenizer
from tests.pages import blocks

CHAT = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
SMALL = {
    "sample": {"--num_return_sequences": "2", "--max_new_tokens": "6"},
    "ppo": {
        "--max_iterations": "2", "--iteration_batch_size": "32", "--max_iteration_batch_size": "32",
        "--num_eval_samples": "8", "--normalization_samples": "16", "--max_completion_length": "6",
    },
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With a model of two layers that knows words of joy and of sorrow, by the name of the page's."""
    words = "user assistant : the new film was happy joy good great sad bad awful woe and a of it . In one sentence how"
    tokenizer: Any = train_tokenizer([words] * 3, 400)
    tokenizer.chat_template = CHAT
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 5, "num_attention_heads": 2}
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = LlamaConfig(
        vocab_size=len(tokenizer), max_position_embeddings=128, pad_token_id=tokenizer.pad_token_id, **shape, **ends
    )
    save_model(LlamaForCausalLM(config), tokenizer, tmp_path / "SmolLM2-135M-Instruct")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def smaller(words: Sequence[str]) -> list[str]:
    """A command of the page with less work."""
    less = SMALL.get(words[0], {})
    kept = [word for before, word in zip(["", *words], words, strict=False) if before not in less and word not in less]
    return [*kept, *(word for pair in less.items() for word in pair)]


def run_page(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for one in blocks(page):
        if one.mark.startswith("file "):
            Path(one.mark.split()[1]).write_text(one.code, encoding="utf-8")
        for words in one.commands() if one.language == "bash" else []:
            if words[0] == "python":
                monkeypatch.setattr(sys, "argv", words[1:])
                runpy.run_path(words[1], run_name="__main__")
            else:
                assert words[0] == "rlhf"
                assert main(smaller(words[1:])) == 0, words


@pytest.mark.long
@pytest.mark.slow
def test_sentiment_runs_as_the_page_has_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/cases/sentiment.md"""
    run_page("docs/cases/sentiment.md", monkeypatch)
    for run in ("plain", "chat"):
        evaluation = json.loads(Path(f"runs/{run}_ppo/evaluation.json").read_text(encoding="utf-8"))
        assert "lexicon" in json.dumps(evaluation)
        assert Path(f"runs/{run}_ppo/report.html").stat().st_size > 100_000


@pytest.mark.slow
def test_full_stops_run_as_the_page_has_them(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/cases/full_stop.md"""
    run_page("docs/cases/full_stop.md", monkeypatch)
    for run in ("last_layer", "lora", "all", "bf16"):
        lines = Path(f"runs/{run}/metrics.jsonl").read_text(encoding="utf-8").splitlines()
        assert json.loads(lines[-1])["kl_per_completion"] > 0
    assert Path("runs/report.html").stat().st_size > 100_000
    assert Path("runs/figures/proxy-along-kl.png").exists()
