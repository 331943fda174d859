"""The trainer on a tiny character model: files, exact KL, ratio 1, resuming, bad input."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from rewards.rules import full_stop
from rlhf import PPOConfig, PPOTrainer
from rlhf.foundation.errors import InputError
from rlhf.foundation.records import read_samples
from rlhf.inspection.opened_run import OpenedRun
from rlhf.language_model.randomness import Stream
from rlhf.runs.ladder import read_rungs
from rlhf.runs.metrics import METRICS
from rlhf.runs.writing import RunDirectory

Build = Callable[..., GPT2LMHeadModel]
RATIO_TOLERANCE = 1e-4  # float32: scoring in another batch shape rounds differently


def configure(directory: Path, **options: Any) -> PPOConfig:
    small: dict[str, Any] = {
        "iteration_batch_size": 128,
        "max_iteration_batch_size": 512,
        "minibatch_size": 32,
        "max_completion_length": 12,
        "learning_rate": 1e-3,
        "num_eval_samples": 64,
        "normalization_samples": 256,
        "max_iterations": 4,
        "kl_budget": 3.0,
        "ladder_step": 0.25,
        "quiet": True,
    }
    return PPOConfig(output_dir=str(directory), **(small | options))


def train(model: Any, tokenizer: Any, directory: Path, reward: Any = full_stop, **options: Any) -> OpenedRun:
    return PPOTrainer(model, reward, configure(directory, **options), processing_class=tokenizer).train()


def lines(run: OpenedRun | Path) -> list[dict[str, Any]]:
    path = run if isinstance(run, Path) else run.directory / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def without_seconds(line: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in line.items() if not key.startswith("seconds/")}


def test_run_directory_is_complete(model: GPT2LMHeadModel, tokenizer: Any, tmp_path: Path) -> None:
    run = train(model, tokenizer, tmp_path / "run")
    logged = lines(run)
    assert len(logged) == 5  # four updates, and the policy that stopped the run
    named = {key.replace("full_stop", "NAME") for key in logged[0]}
    of_ensembles = {"rewards/NAME/worst_member", "rewards/NAME/disagreement"}  # test_ensemble_watched.py has them
    assert named | of_ensembles == METRICS.keys()
    assert all(line.keys() == logged[0].keys() for line in logged)
    assert logged[-1]["clip_ratio/outside_mean"] is None
    assert [line["iteration"] for line in logged] == [0, 1, 2, 3, 4]
    assert [line["completions_seen"] for line in logged][:3] == [0, 128, 128 + logged[1]["iteration_batch_size"]]
    record = run.record
    assert record["status"] == "finished"
    assert record["world_size"] == 1
    assert record["normalization"]["n"] == 256
    rungs = read_rungs(run.directory / "ladder.json")
    assert rungs[0].name == "kl-00.00"
    assert rungs[0].kl_per_completion == 0.0
    assert rungs[-1].iteration == 4
    for rung in rungs:
        AutoModelForCausalLM.from_pretrained(run.directory / rung.path)
        samples = read_samples(run.directory / rung.samples)
        assert len(samples) == rung.n
        assert sum(s.reward or 0 for s in samples) / len(samples) == pytest.approx(rung.reward)
        assert all(s.completion.count(".") == s.reward for s in samples)
    assert (
        not list(run.directory.rglob("*.bin")) + list(run.directory.rglob("*.pt")) + list(run.directory.rglob("*.tmp"))
    )


def test_reward_rises_and_the_budget_stops(model: GPT2LMHeadModel, tokenizer: Any, tmp_path: Path) -> None:
    run = train(model, tokenizer, tmp_path / "run", max_iterations=60, kl_budget=1.0)
    logged = lines(run)
    assert logged[-1]["reward"] > logged[0]["reward"] + 5 * logged[0]["reward_se"]
    last = read_rungs(run.directory / "ladder.json")[-1]
    assert last.target_sqrt_kl == 1.0
    assert last.name == "kl-01.00"
    assert last.kl_per_completion == pytest.approx(1.0, rel=0.03)
    assert last.iteration == logged[-1]["iteration"] < 60


def test_a_rung_remeasured_on_fresh_samples_has_the_kl_it_states(
    model: GPT2LMHeadModel, tokenizer: Any, tmp_path: Path
) -> None:
    run = train(model, tokenizer, tmp_path / "run", num_eval_samples=256)
    rung = read_rungs(run.directory / "ladder.json")[-1]
    policy = AutoModelForCausalLM.from_pretrained(run.directory / rung.path)
    trainer = PPOTrainer(policy, full_stop, configure(tmp_path / "other", seed=99), processing_class=tokenizer)
    trainer.worker.measurer.ref_model = AutoModelForCausalLM.from_pretrained(run.directory / "checkpoints" / "kl-00.00")
    fresh = trainer._roll([{"prompt": ""}] * 512, Stream.EVALUATION, 0, 0).kl
    error = math.hypot(rung.kl_per_completion_se, float(fresh.std()) / math.sqrt(len(fresh)))
    assert abs(float(fresh.mean()) - rung.kl_per_completion) < 3.5 * error


def test_first_update_has_ratio_one(model: GPT2LMHeadModel, tokenizer: Any, tmp_path: Path) -> None:
    run = train(model, tokenizer, tmp_path / "run")
    assert all(line["ratio_first_update_max_dev"] < RATIO_TOLERANCE for line in lines(run)[:-1])


def test_dropout_left_on_would_be_seen(build_model: Build, tokenizer: Any, tmp_path: Path) -> None:
    model = build_model(dropout=0.1)
    trainer = PPOTrainer(model, full_stop, configure(tmp_path / "run"), processing_class=tokenizer)
    trainer.train()
    assert (
        lines(trainer.run.root / "metrics.jsonl")[0]["ratio_first_update_max_dev"] < RATIO_TOLERANCE
    )  # the trainer turned it off
    again = PPOTrainer(model, full_stop, configure(tmp_path / "noisy"), processing_class=tokenizer)
    again.model.train()  # planted
    again.train()
    assert lines(again.run.root / "metrics.jsonl")[0]["ratio_first_update_max_dev"] > 100 * RATIO_TOLERANCE


def enumerated_kl(policy: Any, reference: Any, length: int) -> float:
    """KL of whole completions by enumeration: every sequence up to the end token or `length` tokens."""
    vocabulary = policy.config.vocab_size
    total = 0.0
    with torch.no_grad():
        for ids in itertools.product(range(vocabulary), repeat=length):
            if 0 in ids[:-1] and any(t != 0 for t in ids[ids.index(0) :]):
                continue  # one representative of each sequence that ended
            n = ids.index(0) + 1 if 0 in ids else length
            sequence = torch.tensor([[0, *ids[:n]]])
            logs = [
                m(sequence).logits[0, :-1].log_softmax(-1).gather(-1, sequence[0, 1:, None]).sum().item()
                for m in (policy, reference)
            ]
            total += math.exp(logs[0]) * (logs[0] - logs[1])
    return total


def test_kl_covers_the_enumerated_truth(four_tokens: Any, tmp_path: Path) -> None:
    def tiny(seed: int) -> GPT2LMHeadModel:
        torch.manual_seed(seed)
        config = GPT2Config(
            vocab_size=4,
            n_positions=8,
            n_embd=8,
            n_layer=1,
            n_head=1,
            bos_token_id=0,
            eos_token_id=0,
            initializer_range=0.7,
        )
        return GPT2LMHeadModel(config).double().eval()

    policy, reference = tiny(1), tiny(2)
    truth = enumerated_kl(policy, reference, 4)
    assert truth > 0.2
    inside = 0
    for seed in range(100):
        config = configure(tmp_path / "unused", seed=seed, max_completion_length=4, dtype="float64")
        trainer = PPOTrainer(policy, full_stop, config, processing_class=four_tokens)
        trainer.worker.measurer.ref_model = reference
        kl = trainer._roll([{"prompt": ""}] * 200, Stream.ROLLOUT, 0, 0, measure=False)
        trainer.worker._measure(kl)
        assert (kl.kl >= 0).all()
        inside += abs(float(kl.kl.mean()) - truth) < 1.96 * float(kl.kl.std()) / math.sqrt(200)
    assert inside >= 90


def test_resumed_equals_uninterrupted(build_model: Build, tokenizer: Any, tmp_path: Path) -> None:
    whole = train(build_model(), tokenizer, tmp_path / "whole", max_iterations=6)
    train(build_model(), tokenizer, tmp_path / "cut", max_iterations=3)
    cut = train(build_model(), tokenizer, tmp_path / "cut", max_iterations=6, resume=True)
    assert [without_seconds(x) for x in lines(cut)] == [without_seconds(x) for x in lines(whole)]
    assert (cut.directory / "ladder.json").read_text() == (whole.directory / "ladder.json").read_text()
    for rung in read_rungs(whole.directory / "ladder.json"):
        a, b = whole.directory / rung.path / "model.safetensors", cut.directory / rung.path / "model.safetensors"
        assert a.read_bytes() == b.read_bytes()
    assert sorted(p.name for p in (cut.directory / "state").iterdir()) == sorted(
        p.name for p in (whole.directory / "state").iterdir()
    )


def test_the_learning_rate_rises_step_by_step_and_a_resumed_run_goes_on_rising(
    build_model: Build, tokenizer: Any, tmp_path: Path
) -> None:
    options = {
        "warmup_steps": 9,
        "learning_rate": 1e-3,
        "kl_budget": 50.0,
        "clip_ratio_low": 0.0,
        "clip_ratio_high": 1.0,
    }
    whole = train(build_model(), tokenizer, tmp_path / "whole", max_iterations=4, **options)
    logged = lines(whole)
    per_iteration = logged[1]["optimizer_steps"]
    assert per_iteration == 4
    rates = [line["learning_rate"] for line in logged[:-1]]
    # The last step of each iteration, of 10 equal rises from 0.
    assert rates == pytest.approx([4e-4, 8e-4, 1e-3, 1e-3])
    # Adam's first step is its rate in every weight: a tenth of the rate moves the policy less than half as far.
    cold = lines(train(build_model(), tokenizer, tmp_path / "cold", max_iterations=2, **options | {"warmup_steps": 0}))
    assert logged[1]["sqrt_kl"] < 0.5 * cold[1]["sqrt_kl"]
    train(build_model(), tokenizer, tmp_path / "cut", max_iterations=1, **options)
    cut = train(build_model(), tokenizer, tmp_path / "cut", max_iterations=4, resume=True, **options)
    assert [without_seconds(x) for x in lines(cut)] == [without_seconds(x) for x in logged]


def test_a_torn_state_falls_back_to_the_one_before(
    build_model: Build, tokenizer: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = train(build_model(), tokenizer, tmp_path / "whole", max_iterations=5)
    train(build_model(), tokenizer, tmp_path / "cut", max_iterations=4)
    parameters = tmp_path / "cut" / "state" / "000004" / "parameters.safetensors"
    parameters.write_bytes(parameters.read_bytes()[:-100])
    cut = train(build_model(), tokenizer, tmp_path / "cut", max_iterations=5, resume=True)
    assert "000004 is torn" in capsys.readouterr().err
    assert [without_seconds(x) for x in lines(cut)] == [without_seconds(x) for x in lines(whole)]


def test_resume_refuses_other_options_and_another_model(build_model: Build, tokenizer: Any, tmp_path: Path) -> None:
    train(build_model(), tokenizer, tmp_path / "run", max_iterations=2)
    with pytest.raises(InputError, match=r"--learning_rate: got 0.5 with --resume; expected 0.001"):
        train(build_model(), tokenizer, tmp_path / "run", resume=True, learning_rate=0.5)
    other = build_model()
    with torch.no_grad():
        other.transformer.wte.weight[0, 0] += 1
    with pytest.raises(InputError, match="changed since the run began: original model's weights; expected"):
        train(other, tokenizer, tmp_path / "run", resume=True)


def test_a_used_directory_and_a_second_run_are_refused(build_model: Build, tokenizer: Any, tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "thesis.txt").write_text("x")
    with pytest.raises(InputError, match="not empty"):
        train(build_model(), tokenizer, tmp_path / "used")
    with pytest.raises(InputError, match="files that are no run"):
        train(build_model(), tokenizer, tmp_path / "used", resume=True)
    holder = RunDirectory(str(tmp_path / "held"))
    holder.open(resume=False)
    with pytest.raises(InputError, match="in use by another trainer of this process"):
        train(build_model(), tokenizer, tmp_path / "held")
    holder.close()


def test_unscored_completions_are_counted_and_left_out(build_model: Build, tokenizer: Any, tmp_path: Path) -> None:
    def only_with_e(completions: list[str], **_: Any) -> list[float | None]:
        return [float(c.count(".")) if "e" in c else None for c in completions]

    run = train(build_model(), tokenizer, tmp_path / "run", only_with_e, max_iterations=1)
    first = lines(run)[0]
    assert 0 < first["unscored"] < 128


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (lambda completions, **_: [1.0], "1 rewards; expected a list of 4 numbers"),
        (lambda completions, **_: [math.nan] * len(completions), "got nan for"),
        (lambda completions, **_: [math.inf] * len(completions), "got inf for"),
        (lambda completions, **_: [1.0] * len(completions), "no spread over 256"),
        (lambda completions, **_: [1 / (c != completions[1]) for c in completions], "ZeroDivisionError"),
    ],
)
def test_bad_rewards_are_one_line(
    build_model: Build, tokenizer: Any, tmp_path: Path, reward: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        train(build_model(), tokenizer, tmp_path / "run", reward)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": 0.0}, "--epsilon: got 0.0"),
        ({"kl_budget": 0.01}, "--kl_budget: got 0.01; expected at least the first rung"),
        ({"minibatch_size": 256}, "--minibatch_size: got 256; expected at most the iteration batch, 128"),
        ({"minibatch_size": 48}, "--minibatch_size: got 48; expected a divisor"),
        ({"max_completion_length": 48}, "got 1 \\+ 48 tokens; expected at most 48"),
        ({"clip_ratio_high": 0.005}, "--clip_ratio_high"),
        ({"temperature": 0.0}, "--temperature"),
    ],
)
def test_bad_options_are_one_line(
    build_model: Build, tokenizer: Any, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        train(build_model(), tokenizer, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_reward_functions_are_weighted(build_model: Build, tokenizer: Any, tmp_path: Path) -> None:
    def commas(completions: list[str], **_: Any) -> list[float]:
        return [float(c.count(",")) for c in completions]

    run = train(
        build_model(), tokenizer, tmp_path / "run", [full_stop, commas], reward_weights=[2.0, -1.0], max_iterations=1
    )
    samples = read_samples(run.directory / read_rungs(run.directory / "ladder.json")[0].samples)
    assert all(s.reward == 2.0 * s.completion.count(".") - s.completion.count(",") for s in samples)
    assert len({s.reward for s in samples}) > 2


def test_seed_decides_everything(build_model: Build, tokenizer: Any, tmp_path: Path) -> None:
    random.seed(1)
    torch.manual_seed(1)
    a = train(build_model(), tokenizer, tmp_path / "a", max_iterations=2)
    torch.manual_seed(2)
    b = train(build_model(), tokenizer, tmp_path / "b", max_iterations=2)
    c = train(build_model(), tokenizer, tmp_path / "c", max_iterations=2, seed=5)
    assert [without_seconds(x) for x in lines(a)] == [without_seconds(x) for x in lines(b)]
    assert lines(a)[1]["reward"] != lines(c)[1]["reward"]
