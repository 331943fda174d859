"""docs/own_model.md and docs/own_loop.md, taken at their word: their code runs, and does what they say."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import GPT2LMHeadModel

from rewards.rules import full_stop
from rlhf import PPOConfig, PPOTrainer
from rlhf.cli import main
from rlhf.foundation.errors import InputError
from rlhf.foundation.records import read_samples
from rlhf.language_model.endings import Ending
from rlhf.language_model.randomness import Stream, uniforms
from rlhf.language_model.sampler import generate

Build = Callable[..., GPT2LMHeadModel]
DOCS = Path(__file__).parents[3] / "docs"
OWN_MODEL, OWN_LOOP = (DOCS / name for name in ("own_model.md", "own_loop.md"))


def block(name: str) -> str:
    found = re.search(rf"<!-- {name} -->\n```\w+\n(.*?)```", OWN_MODEL.read_text(encoding="utf-8"), re.DOTALL)
    assert found, name
    return found.group(1)


def commands(name: str) -> list[list[str]]:
    lines = block(name).replace("\\\n", " ").splitlines()
    return [shlex.split(line)[2:] for line in lines if line.strip()]


@pytest.fixture
def own_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The page's file, imported; the page's model saved to runs/own in an empty working directory."""
    path = tmp_path / "own_model.py"
    path.write_text("\n\n".join(block(name) for name in ("have", "wrapper", "command")))
    monkeypatch.chdir(tmp_path)
    specification = importlib.util.spec_from_file_location("own_model", path)
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, "own_model", module)
    specification.loader.exec_module(module)
    torch.manual_seed(0)
    exec(compile(block("save"), "own_model.md", "exec"), {})
    yield module
    from transformers import AutoConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    CONFIG_MAPPING._extra_content.pop("own-characters")
    with pytest.raises(ValueError, match="own-characters"):
        AutoConfig.from_pretrained(tmp_path / "runs" / "own")


def test_the_wrapper_has_at_most_forty_lines() -> None:
    lines = block("wrapper").strip().splitlines()
    assert len(lines) <= 40
    assert f"in {len(lines)} lines" in OWN_MODEL.read_text(encoding="utf-8")
    assert max(map(len, lines)) <= 120


@pytest.mark.slow
def test_sample_reward_ppo_and_inspect(own_model: Any, tmp_path: Path) -> None:
    for words in commands("sample"):
        assert main([*words, "--quiet"]) == 0
    exec(compile(block("labels"), "own_model.md", "exec"), {})
    for words in commands("loop"):
        assert main(words) == 0, words
    lines = [json.loads(line) for line in (tmp_path / "runs/ppo/metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 5
    assert lines[0]["kl_per_completion"] == 0.0
    assert lines[-1]["kl_per_completion"] > 0.0
    assert all(line["ratio_first_update_max_dev"] < 1e-4 for line in lines[:-1])
    assert lines[-1]["reward"] > lines[0]["reward"]
    assert (tmp_path / "runs/ppo/report.html").stat().st_size > 10_000


def test_a_model_of_a_stream_keeps_every_new_line(own_model: Any, tmp_path: Path) -> None:
    """No end token of its own, no beginning: a new line begins, the end never comes, and every character stays."""
    from rlhf.foundation.encoding import TextEncoder, encode_prompt
    from rlhf.foundation.model_directory import load_causal_lm, load_tokenizer
    from rlhf.language_model.endings import ending_of

    torch.manual_seed(0)
    exec(compile(block("stream"), "own_model.md", "exec"), {})
    model, tokenizer = load_causal_lm("runs/stream"), load_tokenizer("runs/stream")
    ending, end = ending_of(model, tokenizer), int(tokenizer.eos_token_id)
    assert ending.token_ids == (end,)
    prompts = [encode_prompt(tokenizer, "")] * 200
    assert prompts[0] == [0]  # one new line
    done = generate(model, prompts, uniforms(0, Stream.SAMPLE, range(200), 12), ending=ending, pad_token_id=end)
    assert bool(done.completion_mask.all())  # nothing ended
    characters = "\n !',.abcdefghijklmnopqrstuvwxyz"
    texts = done.texts(ending)
    assert texts == ["".join(characters[i] for i in row) for row in done.completion_ids.tolist()]
    assert sum(text.startswith("\n") for text in texts) >= 2  # the one that a prefix stripped would lose
    encoded = TextEncoder(tokenizer, max_length=None).encode([""] * 200, texts)
    assert encoded == [[0, *row] for row in done.completion_ids.tolist()]
    run = PPOTrainer(
        model,
        lambda completions, **_: [float(text.count("e")) for text in completions],
        PPOConfig(
            output_dir="runs/stream_ppo", iteration_batch_size=64, minibatch_size=32, max_completion_length=12,
            normalization_samples=64, num_eval_samples=16, max_iterations=2, quiet=True, stop_strings=["\n"],
        ),
        processing_class=tokenizer,
    ).train()  # fmt: skip
    line = json.loads((run.directory / "metrics.jsonl").read_text().splitlines()[1])
    assert 0 < line["kl_per_completion"] < 1
    assert 0 < line["completions/clipped_ratio"] < 1  # some stopped at a new line
    samples = read_samples(run.directory / "samples/kl-00.00.jsonl")
    assert not any("\n" in sample.completion for sample in samples)


def test_the_wrapped_model_is_the_plain_one_whatever_the_padding(own_model: Any) -> None:
    from rlhf.foundation.model_directory import load_causal_lm

    model: Any = load_causal_lm("runs/own")
    plain = model.net
    ids = torch.tensor([[5, 6, 7]])
    expected = plain(ids)
    for pads in (0, 2):
        padded = torch.tensor([[0] * pads + [5, 6, 7]])
        mask = torch.tensor([[0] * pads + [1, 1, 1]])
        with torch.no_grad():
            got = model(input_ids=padded, attention_mask=mask, logits_to_keep=2).logits
        assert torch.allclose(got, expected[:, -2:], atol=1e-5)


def test_a_model_without_a_cache_samples_what_its_logits_say(own_model: Any) -> None:
    from rlhf.foundation.model_directory import load_causal_lm

    model: Any = load_causal_lm("runs/own")
    done = generate(
        model, [[0], [5, 6, 7]], uniforms(0, Stream.SAMPLE, range(2), 8), ending=Ending((0,)), pad_token_id=0
    )
    for row, prompt in enumerate([[0], [5, 6, 7]]):
        completion = done.completion_ids[row][done.completion_mask[row]]
        sequence = torch.cat([torch.tensor(prompt), completion])[None]
        with torch.no_grad():
            logps = model.net(sequence)[0, len(prompt) - 1 : -1].log_softmax(-1)
        expected = logps.gather(-1, completion[:, None]).squeeze(-1)
        assert torch.allclose(done.logprobs[row][: len(completion)], expected, atol=1e-5)


# -- a loop of one's own -----------------------------------------------------------------------------------------------


def configure(directory: Path, **options: Any) -> PPOConfig:
    small: dict[str, Any] = {
        "iteration_batch_size": 64, "minibatch_size": 32, "max_completion_length": 8, "learning_rate": 1e-3,
        "num_eval_samples": 16, "normalization_samples": 128, "max_iterations": 3, "quiet": True,
    }  # fmt: skip
    return PPOConfig(output_dir=str(directory), **(small | options))


def parameters(directory: Path) -> dict[str, torch.Tensor]:
    return load_file(directory / "state" / "000003" / "parameters.safetensors")


@pytest.mark.slow
def test_the_page_s_loop_is_train(
    build_model: Build, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from rlhf.foundation.model_directory import save_model

    save_model(build_model(), tokenizer, tmp_path / "runs" / "model")
    monkeypatch.chdir(tmp_path)
    found = re.search(r"```python\n(.*?)```", OWN_LOOP.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    scope: dict[str, Any] = {}
    exec(compile(found.group(1), "own_loop.md", "exec"), scope)
    whole = PPOConfig(output_dir="runs/whole", iteration_batch_size=64, minibatch_size=32, max_iterations=3, quiet=True)
    PPOTrainer("runs/model", full_stop, whole).train()
    assert scope["trainer"].stop_reason == "3 iterations done"
    ours, theirs = parameters(Path("runs/loop")), parameters(Path("runs/whole"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    lines = [
        [json.loads(line) for line in (Path("runs") / run / "metrics.jsonl").read_text().splitlines()]
        for run in ("loop", "whole")
    ]
    for one, other in zip(*lines, strict=True):
        assert {k: v for k, v in one.items() if "seconds" not in k} == {
            k: v for k, v in other.items() if "seconds" not in k
        }


def test_rewards_of_one_s_own_are_what_is_learnt(build_model: Build, tokenizer: Any, tmp_path: Path) -> None:
    trainer = PPOTrainer(build_model(), full_stop, configure(tmp_path / "own"), processing_class=tokenizer)
    metrics = []
    while trainer.stop_reason is None:
        rollout = trainer.rollout()
        rollout.rewards = torch.tensor([float(c.count(",")) for c in rollout.completions], dtype=torch.float64)
        rollout.rewards[0] = float("nan")
        metrics.append(trainer.step(rollout))
    trainer.close()
    assert [line["unscored"] for line in metrics] == [1, 1, 1, 1]
    samples = read_samples(trainer.run.root / "samples" / "kl-00.00.jsonl")
    assert all(s.reward == s.completion.count(".") for s in samples)
    PPOTrainer(build_model(), full_stop, configure(tmp_path / "rule"), processing_class=tokenizer).train()
    ours, theirs = parameters(tmp_path / "own"), parameters(tmp_path / "rule")
    assert any(not torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_loop_that_was_left_is_continued(build_model: Build, tokenizer: Any, tmp_path: Path) -> None:
    trainer = PPOTrainer(build_model(), full_stop, configure(tmp_path / "cut"), processing_class=tokenizer)
    trainer.step(trainer.rollout())
    trainer.rollout()  # sampled, but never used
    trainer.close()
    with pytest.raises(InputError, match=r"not empty; .* give --resume"):
        trainer.rollout()  # the directory is no longer this trainer's
    trainer.close()
    again = configure(tmp_path / "cut", resume=True)
    PPOTrainer(build_model(), full_stop, again, processing_class=tokenizer).train()
    PPOTrainer(build_model(), full_stop, configure(tmp_path / "whole"), processing_class=tokenizer).train()
    ours, theirs = parameters(tmp_path / "cut"), parameters(tmp_path / "whole")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
