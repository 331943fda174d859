"""What goes wrong in the middle of a run: one line each, the run's state kept, and nothing lost by going on."""

from __future__ import annotations

import copy
import json
import math
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import GPT2LMHeadModel, TrainerCallback

from rewards.rules import full_stop
from rlhf import PPOConfig, PPOTrainer
from rlhf.cli import main
from rlhf.foundation.errors import InputError

Build = Callable[..., GPT2LMHeadModel]


def configure(directory: Path, **options: Any) -> PPOConfig:
    small: dict[str, Any] = {
        "iteration_batch_size": 64, "max_iteration_batch_size": 64, "minibatch_size": 32, "max_completion_length": 8,
        "learning_rate": 1e-3, "num_eval_samples": 16, "normalization_samples": 128, "max_iterations": 3,
        "ladder_step": 0.1, "quiet": True,
    }  # fmt: skip
    return PPOConfig(output_dir=str(directory), **(small | options))


def trainer(model: Any, tokenizer: Any, directory: Path, reward: Any = full_stop, **options: Any) -> PPOTrainer:
    given = {name: options.pop(name) for name in ("train_dataset", "callbacks") if name in options}
    return PPOTrainer(model, reward, configure(directory, **options), processing_class=tokenizer, **given)


def lines(directory: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if not key.startswith("seconds/")} for row in rows]


def assert_same(whole: Path, cut: Path) -> None:
    """The same lines, and the same bytes of everything that holds no times."""
    assert lines(whole) == lines(cut)
    a, b = (
        {
            str(p.relative_to(run)): p.read_bytes()
            for p in run.rglob("*")
            if p.is_file() and p.name not in ("run.json", "metrics.jsonl", ".lock") and "strays" not in p.parts
        }
        for run in (whole, cut)
    )
    assert a == b


class Chokes:
    """Cannot judge the sixth completion it is shown, then or ever after."""

    def __init__(self) -> None:
        self.poison: str | None = None

    def __call__(self, completions: list[str]) -> list[float]:
        if self.poison is None:
            self.poison = completions[5]
        return [1 / (text != self.poison) for text in completions]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Chokes(), "reward function dots: got ZeroDivisionError: division by zero on sample 5, '"),
        (lambda completions: None, r"reward function dots: got nothing \(None\); expected a list of 64 numbers"),
        (lambda completions: [1.0] * 63, "reward function dots: got 63 rewards; expected a list of 64 numbers"),
        (lambda completions: [math.nan] * 64, "reward function dots: got nan for "),
        (lambda completions: [None] * 64, "reward: got 0 of 64 completions scored in iteration 1; expected at least 2"),
        (lambda completions: [1.0, *[None] * 63], "reward: got 1 of 64 completions scored in iteration 1"),
    ],
)
def test_a_reward_that_fails_later_costs_nothing_but_its_iteration(
    build_model: Build, tokenizer: Any, tmp_path: Path, fault: Any, message: str
) -> None:
    calls: list[int] = []
    mended: list[bool] = []

    def dots(completions: list[str], **_: Any) -> Any:
        calls.append(len(completions))
        # two trials, normalisation, first rollout, first rung, then the second rollout
        return fault(completions) if len(calls) >= 6 and not mended else full_stop([], completions)

    with pytest.raises(InputError, match=message):
        trainer(build_model(), tokenizer, tmp_path / "cut", dots).train()
    assert calls[:6] == [4, 2, 128, 64, 16, 64]
    assert len(lines(tmp_path / "cut")) == 1
    mended.append(True)
    trainer(build_model(), tokenizer, tmp_path / "cut", dots, resume=True).train()
    trainer(build_model(), tokenizer, tmp_path / "whole", dots).train()
    assert_same(tmp_path / "whole", tmp_path / "cut")


class FillsTheDisk(TrainerCallback):
    """From the second line on no file may grow beyond a few kilobytes."""

    def __init__(self, after_lines: int) -> None:
        self.after_lines, self.seen = after_lines, 0
        self.before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def on_log(self, *args: Any, **kwargs: Any) -> None:
        self.seen += 1
        if self.seen == self.after_lines:
            resource.setrlimit(resource.RLIMIT_FSIZE, (8000, self.before[1]))

    def restore(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self.before)


@pytest.mark.parametrize("after_lines", [1, 2])
def test_a_disk_that_fills_while_the_state_is_saved(
    build_model: Build, tokenizer: Any, tmp_path: Path, after_lines: int
) -> None:
    disk = FillsTheDisk(after_lines)
    try:
        with pytest.raises(InputError, match=r"writing .*state.*expected a writable disk with free space"):
            trainer(build_model(), tokenizer, tmp_path / "cut", callbacks=[disk]).train()
    finally:
        disk.restore()
    assert not list((tmp_path / "cut" / "state").glob(".*"))
    trainer(build_model(), tokenizer, tmp_path / "cut", resume=True).train()
    trainer(build_model(), tokenizer, tmp_path / "whole").train()
    assert_same(tmp_path / "whole", tmp_path / "cut")


def test_no_whole_state_is_one_line(build_model: Build, tokenizer: Any, tmp_path: Path) -> None:
    trainer(build_model(), tokenizer, tmp_path / "run", max_iterations=2).train()
    for path in (tmp_path / "run" / "state").rglob("state.json"):
        path.write_text(path.read_text()[:-20])
    with pytest.raises(InputError, match="got no whole state"):
        trainer(build_model(), tokenizer, tmp_path / "run", resume=True).train()


def test_a_prompt_longer_than_the_context(build_model: Build, tokenizer: Any, tmp_path: Path) -> None:
    rows = [{"prompt": "oh"}, {"prompt": "a" * 41}]
    with pytest.raises(InputError, match=r"got 41 \+ 8 tokens; expected at most 48"):
        trainer(build_model(), tokenizer, tmp_path / "run", train_dataset=rows)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "train_dataset: got no prompts"),
        ([{"text": "oh"}], "train_dataset, row 1: got no `prompt`"),
        ([{"prompt": 3}], "train_dataset, row 1: got a int as prompt"),
        ([{"prompt": [{"role": "user", "content": "oh"}]}], "tokenizer: got no chat template"),
    ],
)
def test_data_sets_without_prompts(
    build_model: Build, tokenizer: Any, tmp_path: Path, rows: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        trainer(build_model(), tokenizer, tmp_path / "run", train_dataset=rows)


def test_a_tokenizer_without_pad_or_end(build_model: Build, tokenizer: Any, tmp_path: Path) -> None:
    rows = [{"prompt": "oh"}, {"prompt": "my lord,"}]
    whole = trainer(build_model(), tokenizer, tmp_path / "whole", train_dataset=rows).train()
    padless = copy.deepcopy(tokenizer)
    padless.pad_token = None
    run = trainer(build_model(), padless, tmp_path / "padless", train_dataset=rows).train()
    assert lines(run.directory) == lines(whole.directory)
    endless = copy.deepcopy(tokenizer)
    endless.eos_token = endless.pad_token = None
    with pytest.raises(InputError, match="tokenizer: got no EOS token"):
        trainer(build_model(), endless, tmp_path / "endless").train()
    endless.bos_token = None
    with pytest.raises(InputError, match="tokenizer: got neither a BOS nor an EOS token"):
        trainer(build_model(), endless, tmp_path / "endless")


@pytest.mark.parametrize("option", ["--top_k", "--top_p", "--min_p"])
def test_cut_distributions_are_refused_with_the_reason(
    model_directory: Path, tmp_path: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["ppo", "--model_name_or_path", str(model_directory), "--reward_func", "full_stop", "--output_dir"]
    assert main([*words, str(tmp_path / "run"), option, "1"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"rlhf: {option}: got ")
    assert "biases every KL estimate" in line


@pytest.mark.parametrize(("weights", "ok"), [([1.0], False), ([1.0, 2.0, 3.0], False), ([1.0, 0.5], True)])
def test_as_many_weights_as_reward_functions(
    build_model: Build, tokenizer: Any, tmp_path: Path, weights: list[float], ok: bool
) -> None:
    def build() -> PPOTrainer:
        return trainer(build_model(), tokenizer, tmp_path / "run", [full_stop, full_stop], reward_weights=weights)

    if ok:
        build()
    else:
        with pytest.raises(InputError, match=f"--reward_weights: got {len(weights)} weights; expected 2"):
            build()


def test_none_from_one_function_leaves_the_others(build_model: Build, tokenizer: Any, tmp_path: Path) -> None:
    """TRL's rule: None is no zero; where one function does not apply, the other alone is the reward."""

    def only_with_e(completions: list[str], **_: Any) -> list[float | None]:
        return [10.0 if "e" in text else None for text in completions]

    run = trainer(build_model(), tokenizer, tmp_path / "run", [full_stop, only_with_e], max_iterations=1).train()
    from rlhf.foundation.records import read_samples

    samples = read_samples(run.directory / "samples" / "kl-00.00.jsonl")
    assert {s.reward == s.completion.count(".") + 10.0 * ("e" in s.completion) for s in samples} == {True}
    assert len({"e" in s.completion for s in samples}) == 2
