"""vLLM in this process: the policy's completions and log-probs, before and after updates; planted faults are named."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rewards.rules import full_stop
from rlhf import PPOConfig, PPOTrainer
from rlhf.language_model.randomness import Stream, uniforms
from rlhf.language_model.sampler import generate
from rlhf.ppo import trainer as trainer_module
from rlhf.ppo.engine_start import start_engine
from rlhf.ppo.engine_weights import plain_weights
from rlhf.ppo.vllm_engine import Colocated, sampling_settings
from tests.vllm.conftest import LEAK, last_line

pytestmark = pytest.mark.vllm
LENGTH = 24
SHAPE: dict[str, Any] = {
    "iteration_batch_size": 256, "max_iteration_batch_size": 256, "minibatch_size": 64, "num_eval_samples": 64,
    "normalization_samples": 64, "max_completion_length": LENGTH, "quiet": True, "learning_rate": 3e-4,
    "suppress_tokens": [31], "use_vllm": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def model_directory(save_model: Callable[..., Path]) -> Path:
    return save_model()


@pytest.fixture(scope="module")
def engine_of() -> Callable[..., Any]:
    """Starts vLLM at the first call; at later ones the same engine takes another policy."""
    started: list[Colocated] = []

    def of(args: PPOConfig, model: Any, *rest: Any) -> Colocated:
        if not started:
            engine = start_engine(args, model, *rest)
            assert isinstance(engine, Colocated)
            started.append(engine)
        started[0].vllm._iter_named_params = lambda: plain_weights(model)
        return started[0]

    return of


@pytest.fixture
def trainer(
    model_directory: Path, engine_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., PPOTrainer]:
    monkeypatch.setattr(trainer_module, "start_engine", engine_of)

    def build(name: str = "run", peft_config: Any = None, **options: Any) -> PPOTrainer:
        args = PPOConfig(**{"output_dir": str(tmp_path / name), **SHAPE, **options})
        rows = [{"prompt": text} for text in ("", "a", "the b", "no, i a")]
        return PPOTrainer(str(model_directory), full_stop, args, train_dataset=rows, peft_config=peft_config)

    return build


def engine_in(trainer: PPOTrainer) -> Colocated:
    sampler: Any = trainer.worker.engine
    engine: Colocated = sampler.engine
    return engine


def apart(trainer: PPOTrainer) -> torch.Tensor:
    """Engine's log-probs less scored ones of a rollout's tokens, (N,)."""
    rollout = trainer.rollout()
    return (rollout.sampler_logprobs - rollout.old_logprobs)[rollout.completion_mask]


def test_the_models_generation_config_is_one_that_would_be_seen(model_directory: Path) -> None:
    told = json.loads((model_directory / "generation_config.json").read_text())
    assert told.items() >= LEAK.items()


@pytest.mark.parametrize("strings", [(), (".", "e ")])
def test_greedy_completions_are_ours(
    trainer: Callable[..., PPOTrainer], monkeypatch: pytest.MonkeyPatch, strings: tuple[str, ...]
) -> None:
    ours = trainer(stop_strings=list(strings))
    engine, ending = engine_in(ours), ours.worker.ending
    prompts = [[0, *torch.randint(1, 31, (1 + i % 7,)).tolist()] for i in range(64)]
    monkeypatch.setattr(engine.vllm, "temperature", 0.0)
    monkeypatch.setattr(engine.vllm, "generation_kwargs", sampling_settings(ours.args, ending, 32))
    engine.renew()
    sampler: Any = ours.worker.engine
    ids, mask, _ = sampler._rows(engine.draw(prompts, 0), prompts)
    done = generate(
        ours.model, prompts, uniforms(0, Stream.SAMPLE, range(64), LENGTH), ending=ending, pad_token_id=0,
        temperature=1e-7, suppress_tokens=ours.args.suppress_tokens,
    )  # fmt: skip
    assert torch.equal(mask, done.completion_mask)
    assert torch.equal(ids[mask], done.completion_ids[mask])
    print(f"greedy: {len(ids)} completions, {int(mask.sum())} tokens, all equal; stop strings {strings}")


def test_log_probs_are_ours(trainer: Callable[..., PPOTrainer]) -> None:
    gap = apart(ours := trainer())
    print(f"{len(gap)} tokens: mean {gap.mean():.1e}, sd {gap.std():.1e}, max {gap.abs().max():.1e} nats")
    assert len(gap) > 2000
    assert float(gap.abs().max()) < 1e-4
    assert ours.doctor.diagnosis.healthy, ours.doctor.diagnosis
    assert 31 not in ours.rollout().completion_ids


def test_the_same_seed_samples_the_same(trainer: Callable[..., PPOTrainer]) -> None:
    first, second = (trainer(name).rollout() for name in "ab")
    assert torch.equal(first.completion_ids, second.completion_ids)
    assert len(set(first.completions)) > 200
    assert not torch.equal(trainer("c", seed=1).rollout().completion_ids, first.completion_ids)


@pytest.mark.parametrize("adapter", [False, True])
def test_it_follows_the_trained_weights(trainer: Callable[..., PPOTrainer], adapter: bool) -> None:
    from peft import LoraConfig

    lora = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", lora_dropout=0.0)
    ours = trainer(peft_config=lora if adapter else None, learning_rate=3e-3 if adapter else 1e-3)
    for _ in range(3):
        ours.step(ours.rollout())
    gap, moved = apart(ours), float(ours.rollout().kl.mean())
    print(f"after 3 updates, adapter {adapter}: KL {moved:.2f} nats, max {gap.abs().max():.1e} nats a token")
    assert moved > 0.3
    assert float(gap.abs().max()) < 1e-4
    assert ours.doctor.diagnosis.healthy, ours.doctor.diagnosis


def test_without_the_synchronisation_it_would_be_seen(
    trainer: Callable[..., PPOTrainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = trainer(learning_rate=1e-3)
    ours.step(ours.rollout())
    monkeypatch.setattr(Colocated, "renew", lambda self: None)
    gap = apart(ours)
    print(f"one update not sent: mean {gap.abs().mean():.1e}, max {gap.abs().max():.1e} nats a token")
    assert float(gap.abs().mean()) > 0.01
    assert [cause.name for cause in ours.doctor.diagnosis.causes] == ["stale weights in the engine"]


@pytest.mark.parametrize(
    ("setting", "value", "cause", "evidence"),
    [
        ("temperature", 0.8, "temperature", r"0\.(79|80|81):"),
        ("top_p", 0.9, "top-p", r"p = 0\.90:"),
        ("repetition_penalty", 1.1, "repetition penalty", r"1\.(09|10|11):"),
        ("top_k", 8, "top-k", "k = 8:"),
        ("min_p", 0.1, "min-p", r"0\.1 of"),
    ],
)
def test_planted_settings_are_named(
    trainer: Callable[..., PPOTrainer], monkeypatch: pytest.MonkeyPatch, setting: str, value: float, cause: str,
    evidence: str,
) -> None:  # fmt: skip
    ours = trainer()
    monkeypatch.setattr(engine_in(ours).vllm, setting, value)
    gap = apart(ours)
    (found,) = ours.doctor.diagnosis.causes
    print(f"{setting} {value}: mean {gap.abs().mean():.2g} nats a token; {found}")
    assert found.name == f"{cause} in the engine"
    assert re.match(evidence, found.evidence)


@pytest.mark.parametrize("seeds", [range(4)])
def test_ten_iterations_come_to_the_same_kl_and_reward(trainer: Callable[..., PPOTrainer], seeds: range) -> None:
    reached: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for by_vllm, seed in ((v, s) for v in reached for s in seeds):
        options = {"use_vllm": by_vllm, "max_iterations": 10, "seed": seed, "num_eval_samples": 512, "kl_budget": 60.0}
        run = trainer(f"{by_vllm}-{seed}", clip_ratio_high=0.9, **options).train()
        final = run.ladder.iloc[-1]
        reached[by_vllm].append((final.kl_per_completion, final.reward))
    for place, name in enumerate(("KL, nats per completion", "reward, full stops")):
        ours, theirs = ([pair[place] for pair in reached[v]] for v in (False, True))
        error = (statistics.variance(ours) / len(ours) + statistics.variance(theirs) / len(theirs)) ** 0.5
        difference = statistics.mean(theirs) - statistics.mean(ours)
        print(f"{name}: ours {statistics.mean(ours):.3f}, vLLM {statistics.mean(theirs):.3f}, error {error:.3f}")
        assert abs(difference) < 3 * error
        assert error < 0.2 * statistics.mean(ours)


def test_too_little_memory_is_one_line(ppo: Any, model_directory: Path, tmp_path: Path) -> None:
    words = ("--model_name_or_path", model_directory, "--output_dir", tmp_path / "run", "--use_vllm")
    done = ppo(*words, environment={"VLLM_CPU_KVCACHE_SPACE": "100000"})
    assert done.returncode == 2, done.stderr
    print(last_line(done.stderr))
    assert "starting vLLM: got" in last_line(done.stderr)
    assert "VLLM_CPU_KVCACHE_SPACE" in last_line(done.stderr)
    assert "Traceback" not in done.stderr
    assert ppo(*words, "--max_iterations", 1).returncode == 0
