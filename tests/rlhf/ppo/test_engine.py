"""An engine in the own sampler's place: what is asked of it, what is made of its answers, and how it fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from rewards.rules import full_stop
from rlhf import PPOConfig, PPOTrainer
from rlhf.foundation.errors import InputError
from rlhf.language_model.endings import Ending
from rlhf.language_model.randomness import Stream
from rlhf.language_model.sampler import LogitsNotFinite
from rlhf.ppo.together import Alone
from rlhf.ppo.who_samples import Draw, EngineSampler, Key, evened
from tests.rlhf.ppo.engines import StandIn

KEY = Key(Stream.ROLLOUT, 0, 0)
SMALL: dict[str, Any] = {
    "iteration_batch_size": 32, "max_iteration_batch_size": 32, "minibatch_size": 16, "num_eval_samples": 8,
    "normalization_samples": 8, "max_completion_length": 8, "max_iterations": 3, "per_device_generation_batch_size": 8,
    "quiet": True, "learning_rate": 3e-4,
}  # fmt: skip


class Answers:
    """An engine that answers what it was told to."""

    def __init__(self, draws: Sequence[Draw], *, even: bool = False) -> None:
        self.draws, self.even, self.own_seed = list(draws), even, 0

    def renew(self) -> None:
        """It has no weights."""

    def draw(self, prompts: Sequence[list[int]], seed: int) -> list[Draw]:
        return self.draws


def sampler(model: Any, draws: Sequence[Draw], strings: tuple[str, ...] = (), tokenizer: Any = None) -> EngineSampler:
    args = PPOConfig(output_dir="-", max_completion_length=4)
    return EngineSampler(Answers(draws), model, Ending((0,), tokenizer, strings), 0, args, Alone())


def test_rows_are_cut_at_their_end_and_padded(model: Any) -> None:
    given = [Draw([5, 0, 7, 7], [-1.0, -2.0, -9.0, -9.0]), Draw([6, 7, 8, 9, 9], [-1.0] * 5), Draw([0], [-3.0])]
    drawn = sampler(model, given)([[0]] * 3, KEY, keep=True, moved=False)
    assert drawn.ids.tolist() == [[5, 0, 0, 0], [6, 7, 8, 9], [0, 0, 0, 0]]
    assert drawn.mask.int().tolist() == [[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]]
    assert drawn.logprobs.tolist() == [[-1.0, -2.0, 0.0, 0.0], [-1.0] * 4, [-3.0, 0.0, 0.0, 0.0]]
    assert drawn.states is None


def test_a_stop_string_ends_a_row_too(model: Any, tokenizer: Any) -> None:
    ids = tokenizer("ab.c")["input_ids"]
    drawn = sampler(model, [Draw(ids, [-1.0] * 4)], (".",), tokenizer)([[0]], KEY, keep=True, moved=False)
    assert drawn.mask.int().tolist() == [[1, 1, 1, 0]]


@pytest.mark.parametrize("draw", [Draw([3, 99], [-1.0, -1.0]), Draw([], []), Draw([-1], [-1.0])])
def test_what_the_policy_does_not_have_is_refused(model: Any, draw: Draw) -> None:
    with pytest.raises(InputError, match="the policy's own model and tokenizer"):
        sampler(model, [draw])([[0]], KEY, keep=True, moved=False)


def test_a_completion_that_was_cut_short_is_refused(model: Any) -> None:
    with pytest.raises(InputError, match="a completion of 3 tokens without an end; expected an end token, or 4 tokens"):
        sampler(model, [Draw([5, 5, 5], [-1.0] * 3)])([[0]], KEY, keep=True, moved=False)


@pytest.mark.parametrize("nats", [None, float("nan"), float("-inf")])
def test_log_probs_that_are_no_numbers_are_the_end(model: Any, nats: float | None) -> None:
    with pytest.raises(LogitsNotFinite):
        sampler(model, [Draw([3, 0], [-1.0, nats])])([[0]], KEY, keep=True, moved=False)
    sampler(model, [Draw([0, 3], [-1.0, nats])])([[0]], KEY, keep=True, moved=False)  # behind the end nobody looks


def test_shares_are_evened_for_processes_that_share_an_engine() -> None:
    assert evened([[0, 1, 2], [3]], 1) == [3, 0, 0]
    assert evened([[0, 1, 2], [3]], 0) == [0, 1, 2]
    assert evened([[0], []], 1) == [0]


@pytest.fixture
def trainer(build_model: Any, tokenizer: Any, tmp_path: Path) -> Callable[..., PPOTrainer]:
    def build(engine: Any = StandIn, name: str = "run", **options: Any) -> PPOTrainer:
        args = PPOConfig(**{"output_dir": str(tmp_path / name), **SMALL, **options})
        made = PPOTrainer(build_model(), full_stop, args, processing_class=tokenizer)
        if engine is not None:
            made.worker.take(engine(made.model, 8))
        return made

    return build


def test_a_run_is_sampled_by_the_engine_and_evaluated_by_us(trainer: Callable[..., PPOTrainer]) -> None:
    ours = trainer()
    ours.begin()
    first = ours.rollout()
    engine = ours.worker.engine.engine  # type: ignore[union-attr]
    assert first.by_engine
    assert engine.asked[-1][0] == 32
    assert engine.renewed == len(engine.asked)
    line = ours.step(first)
    assert line["sampling/importance_sampling_ratio/mean"] == pytest.approx(1.0, abs=1e-4)
    assert line["doctor"] is None
    asked = len(engine.asked)
    assert not ours._evaluate().by_engine
    assert len(engine.asked) == asked
    with torch.no_grad():
        policy, theirs = (dict(m.named_parameters()) for m in (ours.model, engine.own))
        assert any(not torch.equal(policy[name], theirs[name]) for name in policy)  # an update lies between
        ours.rollout()
        assert all(torch.equal(policy[name], theirs[name]) for name in policy)


def test_the_same_command_asks_with_the_same_seeds_also_after_resuming(trainer: Callable[..., PPOTrainer]) -> None:
    def asked(made: PPOTrainer) -> list[tuple[int, int]]:
        made.train()
        return made.worker.engine.engine.asked  # type: ignore[union-attr]

    whole = asked(trainer(name="whole"))
    asked(trainer(name="cut", max_iterations=1))
    rest = asked(trainer(name="cut", max_iterations=3, resume=True))
    assert len({seed for _, seed in whole[2:]}) == 4  # each iteration has its own
    assert rest[-3:] == whole[-3:]


def test_an_engine_that_fails_ends_the_run_and_resume_goes_on(trainer: Callable[..., PPOTrainer]) -> None:
    class Dies(StandIn):
        def draw(self, prompts: Sequence[list[int]], seed: int) -> list[Draw]:
            if len(self.asked) == 4:
                raise InputError("the engine", got="its end", expected="an answer", fix="start it again")
            return super().draw(prompts, seed)

    with pytest.raises(InputError, match="got its end"):
        trainer(Dies).train()
    run = trainer(resume=True).train()
    assert run.stop_reason == "3 iterations done"
    assert list(run.metrics["iteration"]) == [0, 1, 2, 3]


def test_weights_reach_the_update(trainer: Callable[..., PPOTrainer], monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that is far off, all its completions beyond the largest weight: nothing is learnt, and told."""

    class FarOff(StandIn):
        def draw(self, prompts: Sequence[list[int]], seed: int) -> list[Draw]:
            return [Draw(d.ids, [x - 5.0 for x in d.logprobs if x is not None]) for d in super().draw(prompts, seed)]

    moved = {}
    for mode in ("sequence_mask", "none"):
        monkeypatch.setattr("rlhf.ppo.config.PPOConfig.require_vllm", lambda args: None)
        monkeypatch.setattr("rlhf.ppo.trainer.start_engine", lambda args, model, *_: FarOff(model, 8))
        made = trainer(None, mode, use_vllm=True, vllm_importance_sampling_mode=mode)
        before = {name: p.detach().clone() for name, p in made.model.named_parameters()}
        line = made.step(made.rollout())
        moved[mode] = max(float((p.detach() - before[name]).abs().max()) for name, p in made.model.named_parameters())
        assert line["sampling/importance_sampling_ratio/cut"] == (1.0 if mode == "sequence_mask" else 0.0)
        made.close()
    assert moved["sequence_mask"] == 0.0 < moved["none"]
