"""What a rung records: its evaluation samples as a file holds them, and its line in the ladder."""

from __future__ import annotations

import dataclasses

import torch

from rlhf.foundation.conversation import prompt_to_text
from rlhf.foundation.digests import digest_files
from rlhf.foundation.records import Sample, write_records
from rlhf.ppo.checkpoints import Checkpoints
from rlhf.ppo.rollout import Rollout
from rlhf.ppo.statistics import mean_and_error
from rlhf.runs.ladder import Ladder, Rung
from rlhf.runs.writing import RunDirectory


def describe(
    name: str, target: float | None, evaluation: Rollout, *, iteration: int, completions_seen: int, optimizer_steps: int
) -> Rung:
    """The rung of a policy, from its own fresh evaluation samples."""
    kl, kl_se = mean_and_error(evaluation.kl)
    reward, reward_se = mean_and_error(evaluation.rewards[evaluation.scored])
    return Rung(
        name=name,
        target_sqrt_kl=target,
        kl_per_completion=kl,
        kl_per_completion_se=kl_se,
        iteration=iteration,
        completions_seen=completions_seen,
        optimizer_steps=optimizer_steps,
        reward=reward,
        reward_se=reward_se,
        n=len(evaluation),
        path=f"checkpoints/{name}",
        samples=f"samples/{name}.jsonl",
    )


def keep(
    run: RunDirectory, ladder: Ladder, checkpoints: Checkpoints, rung: Rung, evaluation: Rollout, seed: int
) -> list[Sample]:
    """Write a rung's samples, its checkpoint and ladder.json, in this order; returns the samples."""
    samples = samples_of(evaluation, rung.name, seed)
    write_records(run.root / rung.samples, samples)
    checkpoints.save(run.root / rung.path)
    ladder.add(dataclasses.replace(rung, files=digest_files(run.root, rung.path, rung.samples)))
    return samples


def samples_of(evaluation: Rollout, name: str, seed: int) -> list[Sample]:
    """The evaluation samples of a rung, with log-probabilities at temperature 1 and raw rewards."""
    logprobs = torch.where(evaluation.completion_mask, evaluation.sampler_logprobs, 0.0).sum(-1)
    return [
        Sample(
            uid=f"{name}-{i:05d}",
            prompt=prompt_to_text(evaluation.prompts[i]),
            completion=evaluation.completions[i],
            source=name,
            logprob=float(logprobs[i]),
            seed=seed,
            reward=float(evaluation.rewards[i]) if bool(evaluation.scored[i]) else None,
        )
        for i in range(len(evaluation))
    ]
