"""States that passed by in sampling measure as a plain pass does, and the doctor still reads a few texts plainly."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from rewards.rules import full_stop
from rlhf.foundation.frozen_trunk import SharedTrunk
from rlhf.language_model.randomness import Stream
from rlhf.ppo import passing
from rlhf.ppo.critic import ActorCritic
from rlhf.ppo.evidence import TraitsOfMeasured, traits_of
from rlhf.ppo.reward_functions import Rewards
from rlhf.ppo.rollout import Rollout, RolloutWorker

from .test_fast_paths import learner_of, options

PROMPTS = ["a", "good morning", "the", "o"]
MEASURED = ("old_logprobs", "ref_logprobs", "values", "kl", "k1", "k3", "entropy")


@pytest.fixture
def roll(tokenizer: Any) -> Any:
    def rolled(kind: str, trained: str, *, moved: bool, size: int = 3) -> tuple[RolloutWorker, Rollout]:
        learner, reference = learner_of(kind, trained)
        actor = learner if isinstance(learner, ActorCritic) else None
        policy = learner.policy if actor else learner
        shared = SharedTrunk.of(policy, reference) if trained == "last layer" else None
        config = dataclasses.replace(
            options(max_completion_length=7, per_device_generation_batch_size=size), logits_memory_mb=1
        )
        worker = RolloutWorker(
            policy, reference, tokenizer, config, Rewards([full_stop], [1.0]), critic=actor, shared=shared
        )
        rows = [{"prompt": prompt} for prompt in PROMPTS * 3]
        encoded = [tokenizer(row["prompt"]).input_ids for row in rows]
        return worker, worker(rows, encoded, stream=Stream.ROLLOUT, iteration=1, moved=moved)

    return rolled


@pytest.mark.parametrize("trained", ["all", "last layer", "lora", "shared critic", "separate critic"])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_they_measure_as_a_plain_pass(roll: Any, kind: str, trained: str, monkeypatch: pytest.MonkeyPatch) -> None:
    worker, found = roll(kind, trained, moved=True)
    assert worker.passing.head is not None
    assert (found.states is not None) == (trained == "last layer")
    lengths = found.completion_mask.sum(1)
    assert len(set(lengths.tolist())) > 1  # some end early
    monkeypatch.setattr(passing, "MOST_HELD", 0)
    _, plain = roll(kind, trained, moved=True)
    assert plain.states is None
    assert torch.equal(found.completion_ids, plain.completion_ids)
    for name in MEASURED:
        got, wanted = getattr(found, name), getattr(plain, name)
        assert (got is None) == (wanted is None)
        if wanted is not None:
            torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-11, msg=name)
    assert float(found.kl.mean()) > 1e-4


def test_the_trunk_is_not_read_again(roll: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from rlhf.ppo import measuring

    read: list[Tensor | None] = []
    inner = measuring.read
    monkeypatch.setattr(measuring, "read", lambda *a, **k: (read.append(k.get("states")), inner(*a, **k))[1])
    roll("llama", "all", moved=True, size=12)
    assert [states is not None for states in read] == [True, False] * (len(read) // 2)  # the policy's, the original's
    read.clear()
    roll("llama", "all", moved=False, size=12)
    assert read == [None] * len(read)  # so that its KL is exactly 0
    assert len(read) >= 2


def test_traits_counted_while_measuring_are_those_of_a_pass_of_their_own(roll: Any) -> None:
    worker, rollout = roll("llama", "all", moved=True)
    from rlhf.ppo.doctor import scoring

    alone = traits_of(worker.model, rollout.sampled, scoring(worker.config))
    counted = rollout.traits
    assert counted is not None
    assert counted.hits() == alone.hits()
    torch.testing.assert_close(counted.expected, alone.expected)
    assert torch.equal(counted.observed, alone.observed)
    for name, mass in alone.masses().items():
        torch.testing.assert_close(counted.masses()[name].sort().values, mass.sort().values, msg=name)


def test_traits_of_two_processes_are_joined(roll: Any) -> None:
    _, rollout = roll("llama", "all", moved=True)
    sampled, logp = rollout.sampled, torch.randn(int(rollout.completion_mask.sum()), rollout.vocabulary).log_softmax(-1)
    per_row = rollout.completion_mask.sum(1).tolist()

    def watch(rows: slice) -> TraitsOfMeasured:
        watching = TraitsOfMeasured(sampled, rollout.vocabulary)
        witness = watching.witness(rows)
        assert witness is not None
        start = sum(per_row[: rows.start])
        count = sum(per_row[rows])
        for tile in (slice(0, 3), slice(3, count)):
            witness(logp[start + tile.start : start + tile.stop], tile)
        return watching

    whole, parts = watch(slice(0, 12)), [watch(slice(0, 5)), watch(slice(5, 12))]
    told: list[list[Tensor]] = [[], []]
    for rank, part in enumerate(parts):
        part.joined(rank, 2, lambda tensor, rank=rank: (told[rank].append(tensor), tensor)[1])
    sums = iter([sum(pair) for pair in zip(*told, strict=True)])
    joined = parts[0].joined(0, 2, lambda _: next(sums))
    assert joined.hits() == whole.traits.hits()
    torch.testing.assert_close(joined.expected, whole.traits.expected)
    for name, mass in whole.traits.masses().items():
        assert float(joined.masses()[name].sum()) == pytest.approx(float(mass.sum()))
