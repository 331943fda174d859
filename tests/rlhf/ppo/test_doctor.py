"""The doctor: each cause planted in a real run or in rollouts from elsewhere is named; healthy ones raise no alarm."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import GPT2LMHeadModel

from rewards.rules import full_stop
from rlhf import PPOConfig, PPOTrainer
from rlhf.foundation.errors import InputError
from rlhf.language_model import drawing
from rlhf.language_model.endings import Ending
from rlhf.language_model.randomness import Stream, uniforms
from rlhf.language_model.sampler import generate
from rlhf.ppo import forward
from rlhf.ppo.doctor import THRESHOLD, Diagnosis, examine, paired_symptoms, standard_errors
from rlhf.ppo.machinery import mask_faults
from rlhf.ppo.sampled import Sampled

Build = Callable[..., GPT2LMHeadModel]
INVERT = drawing.invert_cdf
EOS = 0


def trainer(model: Any, tokenizer: Any, directory: Path, **options: Any) -> PPOTrainer:
    small: dict[str, Any] = {
        "iteration_batch_size": 256, "max_iteration_batch_size": 256, "minibatch_size": 64, "num_eval_samples": 8,
        "max_completion_length": 12, "learning_rate": 1e-3, "normalization_samples": 256, "max_iterations": 3,
        "kl_budget": 50.0, "ladder_step": 7.0, "quiet": True,
    }  # fmt: skip
    rows = [{"prompt": "a"}, {"prompt": "good morning"}]  # of unequal length, so that prompts are padded
    return PPOTrainer(
        model, full_stop, PPOConfig(output_dir=str(directory), **(small | options)), train_dataset=rows,
        processing_class=tokenizer,
    )  # fmt: skip


def findings(run: Any) -> list[dict[str, Any] | None]:
    return [json.loads(line)["doctor"] for line in (run.directory / "metrics.jsonl").read_text().splitlines()]


def altered(change: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """Sampling from changed next-token probabilities (B, V)."""
    return lambda weights, uniform: INVERT(change(weights / weights.sum(-1, keepdim=True)), uniform)


def colder(p: Tensor) -> Tensor:
    return (p ** (1 / 0.7)) / (p ** (1 / 0.7)).sum(-1, keepdim=True)


def top_k(p: Tensor) -> Tensor:
    return torch.where(p >= p.topk(6).values[:, -1:], p, 0.0)


def top_p(p: Tensor) -> Tensor:
    ordered, order = p.sort(-1, descending=True)
    kept = torch.where(ordered.cumsum(-1) - ordered < 0.8, ordered, 0.0)
    return torch.zeros_like(p).scatter(-1, order, kept)


def without_some_letters(p: Tensor) -> Tensor:
    return p.index_fill(-1, torch.tensor([5, 9, 14, 19]), 0.0)


SAMPLERS = {
    "temperature": colder, "top-k": top_k, "top-p": top_p, "suppressed tokens": without_some_letters,
}  # fmt: skip


@pytest.mark.parametrize("cause", SAMPLERS)
def test_an_altered_sampler_is_named_in_training(
    build_model: Build, tokenizer: Any, tmp_path: Path, cause: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(drawing, "invert_cdf", altered(SAMPLERS[cause]))
    found = [entry for entry in findings(trainer(build_model(), tokenizer, tmp_path / "run").train()) if entry]
    # A sampler that only leaves tokens out shows itself once the policy has moved; the others at once.
    assert len(found) >= (1 if cause == "suppressed tokens" else 4)
    assert all(list(entry["causes"]) == [cause] for entry in found), found
    warnings = [line for line in capsys.readouterr().err.splitlines() if "doctor" in line]
    assert warnings
    assert cause in warnings[0]


def test_the_option_temperature_is_named(build_model: Build, tokenizer: Any, tmp_path: Path) -> None:
    found = findings(trainer(build_model(), tokenizer, tmp_path / "run", temperature=0.7).train())
    assert all(entry is not None and "--temperature 0.7" in entry["causes"]["temperature"] for entry in found)


def test_dropout_is_named(build_model: Build, tokenizer: Any, tmp_path: Path) -> None:
    planted = trainer(build_model(dropout=0.1), tokenizer, tmp_path / "run")
    planted.model.train()
    found = findings(planted.train())
    assert all(entry is not None and list(entry["causes"]) == ["dropout"] for entry in found)
    assert "first ratio is not 1" in (found[0] or {})["symptoms"]


def test_padding_is_named(build_model: Build, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The classic: scoring counts positions from the padding's start, sampling from the first real token.
    monkeypatch.setattr(
        forward, "position_ids", lambda mask: torch.arange(mask.shape[1]).expand(mask.shape[0], -1).clone()
    )
    found = findings(trainer(build_model(), tokenizer, tmp_path / "run").train())
    assert all(entry is not None and list(entry["causes"]) == ["padding"] for entry in found), found


def test_a_stale_reference_is_named(build_model: Build, tokenizer: Any, tmp_path: Path) -> None:
    planted = trainer(build_model(), tokenizer, tmp_path / "run")
    step = planted.step

    def step_and_sync(*arguments: Any) -> Any:
        done = step(*arguments)
        planted.ref_model.load_state_dict(planted.model.state_dict())  # the reference follows the policy
        return done

    planted.step = step_and_sync  # type: ignore[method-assign]
    found = findings(planted.train())
    assert found[0] is None
    assert all(entry is not None and list(entry["causes"]) == ["stale reference"] for entry in found[1:])


def test_a_model_in_bf16_is_rounding_not_staleness(build_model: Build, tokenizer: Any, tmp_path: Path) -> None:
    found = findings(trainer(build_model(dtype=torch.bfloat16), tokenizer, tmp_path / "run").train())
    assert any(found)
    assert all(entry is None or list(entry["causes"]) == ["bf16 rounding"] for entry in found), found


def test_healthy_runs_raise_no_alarm(build_model: Build, tokenizer: Any, tmp_path: Path) -> None:
    run = trainer(build_model(dropout=0.1), tokenizer, tmp_path / "run", max_iterations=6, suppress_tokens=[7]).train()
    assert findings(run) == [None] * 7


# -- rollouts from elsewhere -------------------------------------------------------------------------------------------


def draw(model: Any, count: int, seed: int, width: int = 12) -> Sampled:
    """Completions of prompts of one and three tokens, with the log-probs the sampler saw."""
    prompts = [[0] if i % 2 else [0, 3, 4] for i in range(count)]
    done = generate(
        model, prompts, uniforms(seed, Stream.SAMPLE, range(count), width), ending=Ending((EOS,)), pad_token_id=EOS
    )
    return Sampled(done.prompt_ids, done.prompt_mask, done.completion_ids, done.completion_mask, (EOS,), done.logprobs)


def moved(model: GPT2LMHeadModel, size: float, seed: int = 3) -> GPT2LMHeadModel:
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(size * torch.randn_like(parameter))
    return model


@pytest.fixture
def pair(build_model: Build) -> tuple[GPT2LMHeadModel, GPT2LMHeadModel]:
    """A policy that has moved from its reference."""
    return moved(build_model(dropout=0.1), 0.05), build_model()


@pytest.mark.slow
def test_healthy_rollouts_of_100_seeds(pair: Any) -> None:
    policy, reference = pair
    alarms = [str(d) for s in range(100) if not (d := examine(policy, reference, draw(policy, 200, s))).healthy]
    # Two tests beyond 4 standard errors in 100 seeds: 0.01 false alarms expected from the normal law.
    assert len(alarms) <= 1, alarms


def replaced(sampled: Sampled, **changes: Any) -> Sampled:
    values = {name: getattr(sampled, name) for name in Sampled.__dataclass_fields__}
    return Sampled(**(values | changes))


def tempered_logprobs(model: Any, sampled: Sampled, temperature: float) -> Tensor:
    config = PPOConfig(output_dir="-", temperature=temperature)
    with torch.no_grad():
        logits = forward.completion_logits(
            model, sampled.prompt_ids, sampled.prompt_mask, sampled.completion_ids, config
        )
    return logits.log_softmax(-1).gather(-1, sampled.completion_ids[..., None]).squeeze(-1)


def plant(cause: str, policy: Any, reference: Any) -> Sampled:
    sampled = draw(policy, 300, 1)
    if cause == "temperature":  # recorded log-probs are those of scoring at 0.5
        return replaced(sampled, logprobs=tempered_logprobs(policy, sampled, 0.5))
    if cause == "stale policy":  # the sampler's weights lag behind
        return draw(reference, 300, 1)
    if cause == "stale reference":
        return replaced(sampled, ref_logprobs=tempered_logprobs(moved(reference, 0.02), sampled, 1.0))
    if cause == "dropout":
        policy.train()
        noisy = tempered_logprobs(policy, sampled, 1.0)
        policy.eval()
        return replaced(sampled, logprobs=noisy)
    if cause == "padding":  # the mask counts what stands after the end token
        return replaced(sampled, completion_mask=torch.ones_like(sampled.completion_mask))
    raise AssertionError(cause)


@pytest.mark.parametrize("cause", ["temperature", "stale policy", "stale reference", "dropout", "padding"])
def test_faults_of_own_loops_are_named(build_model: Build, pair: Any, cause: str) -> None:
    policy, reference = pair
    sampled = plant(cause, policy, reference)
    diagnosis = examine(policy, build_model(), sampled)
    assert [found.name for found in diagnosis.causes] == [cause], diagnosis


@pytest.mark.parametrize("cause", SAMPLERS)
def test_samplers_of_own_loops_are_named(pair: Any, cause: str, monkeypatch: pytest.MonkeyPatch) -> None:
    policy, reference = pair
    monkeypatch.setattr(drawing, "invert_cdf", altered(SAMPLERS[cause]))
    diagnosis = examine(policy, reference, replaced(draw(policy, 300, 1), logprobs=None))
    assert [found.name for found in diagnosis.causes] == [cause], diagnosis


# -- by hand -----------------------------------------------------------------------------------------------------------


def test_pairing_sees_what_two_means_hide() -> None:
    # k1 and the exact KL share their spread (10 nats); the difference of 0.5 is hidden without pairing.
    torch.manual_seed(0)
    shared, noise = 10 * torch.randn(400, dtype=torch.float64), 0.1 * torch.randn(400, dtype=torch.float64)
    exact, k1 = 20 + shared, 20.5 + shared + noise
    zero = torch.zeros(400, dtype=torch.float64)
    assert [s.name for s in paired_symptoms(k1, exact, zero, zero)] == ["k1 is not the KL"]
    unpaired = float((k1.mean() - exact.mean()) / (k1.var() / 400 + exact.var() / 400).sqrt())
    assert abs(unpaired) < THRESHOLD  # the wrong test is silent


def test_standard_errors_by_hand() -> None:
    # mean 2, sample variance (1 + 0 + 1)/2 = 1, error 1/sqrt(3)
    assert standard_errors(torch.tensor([1.0, 2.0, 3.0])) == pytest.approx(2 * 3**0.5)
    assert standard_errors(torch.zeros(5)) == 0.0
    assert standard_errors(torch.full((5,), 1e-6) + torch.arange(5) * 1e-9) == 0.0  # within rounding


def test_a_negative_k1_is_a_symptom() -> None:
    k1 = torch.linspace(-1.2, -0.8, 50, dtype=torch.float64)
    zero = torch.zeros(50, dtype=torch.float64)
    assert "k1 is negative" in [s.name for s in paired_symptoms(k1, k1, zero, zero)]


def test_masks_by_hand() -> None:
    ids = torch.tensor([[5, 6, 0, 0], [5, 0, 0, 0], [5, 6, 7, 8]])
    prompt = torch.zeros(3, 1, dtype=torch.long)
    right = [[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]]

    def faults(mask: list[list[int]], repeat: int = 1) -> list[str]:
        sampled = Sampled(
            prompt.repeat(repeat, 1), prompt.repeat(repeat, 1).bool(), ids.repeat(repeat, 1),
            torch.tensor(mask).bool().repeat(repeat, 1), (EOS,),
        )  # fmt: skip
        return [cause.evidence for cause in mask_faults(sampled)]

    assert faults(right) == []
    assert faults([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 1]]) == ["1 masks count tokens after the first end token"]
    assert faults([[1, 0, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]]) == [
        "1 masks are not one run of real tokens from the start"
    ]
    dropped = [[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1]]
    assert faults(dropped, 4) == ["all 8 masks of completions that ended drop the end token"]


def test_shapes_are_checked(pair: Any) -> None:
    sampled = draw(pair[0], 4, 0)
    with pytest.raises(InputError, match="logprobs: got shape"):
        examine(*pair, replaced(sampled, logprobs=torch.zeros(4, 3)))


def test_healthy_is_said() -> None:
    assert str(Diagnosis()) == "healthy"
    assert Diagnosis().to_json() is None
