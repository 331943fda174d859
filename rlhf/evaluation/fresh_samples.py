"""Fresh samples of every rung: the same prompts and random numbers on each, none of them seen by the trainer.

Shapes: N samples of a rung, T tokens of a completion.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, cast

import torch

from rewards.calling import RewardFunction
from rewards.rules import RewardFunc
from rlhf.evaluation.checkpoints import load_rung
from rlhf.evaluation.heldout import heldout_loss
from rlhf.foundation.conversation import prompt_from_text, prompt_to_text
from rlhf.foundation.encoding import encode_prompt, token_texts
from rlhf.foundation.errors import InputError
from rlhf.foundation.model_directory import load_tokenizer
from rlhf.foundation.progress import progress_bar
from rlhf.foundation.recorded_paths import require_located
from rlhf.foundation.records import Sample
from rlhf.inspection.estimates import Estimate, mean_estimate
from rlhf.language_model.randomness import Stream
from rlhf.ppo.config import PPOConfig
from rlhf.ppo.forward import completion_logits
from rlhf.ppo.objective import exact_kl
from rlhf.ppo.reward_functions import Rewards
from rlhf.ppo.rollout import Rollout, RolloutWorker
from rlhf.runs.provenance import changed_since, reward_inputs, reward_origins, told
from rlhf.runs.reading import Run, measured_prompts


@dataclass(frozen=True, slots=True)
class TokenHeat:
    """One sample's tokens, the KL (nats) between policy and original where each was drawn, and what each was paid.

    A token's pay is the reward of the completion up to and with it less the reward up to it; None where a part of
    the completion has no reward.
    """

    tokens: list[str]
    kl: list[float]
    pay: list[float | None]


@dataclass(frozen=True, slots=True)
class FreshRung:
    """Samples of one rung, its KL on them (nats per completion), the KL by token of the first few, held-out loss."""

    samples: list[Sample]
    kl: Estimate
    heat: list[TokenHeat]
    heldout: Estimate | None


def run_rewards(
    run: Run,
    models: Sequence[str | RewardFunction] = (),
    functions: Sequence[str | RewardFunction] = (),
    *,
    accept_changes: bool = False,
) -> tuple[list[RewardFunc], list[str]]:
    """The reward functions the run was trained on, loaded again from what run.json says, and which of them changed.

    `models` and `functions` say where they are today, if not where the run had them, or are the rewards themselves.
    Raises InputError when the run got them as Python objects, which no file can bring back, when they are not found, or
    (unless that is accepted) are not what they were: a reward itself, or the labels and samples that it was made from.
    """
    from rewards.loading import load_rewards

    resolved = run.info.get("resolved", {})
    models = models or [where(run, "reward_model_path", path) for path in resolved.get("reward_model_path") or []]
    given_in_python = (run.info.get("made_from") or {}).get("reward_func", [])
    functions = functions or [
        where(run, "reward_func", name) for name in resolved.get("reward_func") or given_in_python
    ]
    if not models and not functions:
        raise InputError(
            f"{run.directory / 'run.json'}",
            got="no reward model path and no reward function's name",
            expected="a run of `rlhf ppo`, whose rewards can be loaded again",
            fix="score the stored samples instead: --stored_samples",
        )
    given = load_rewards(models, functions, label=resolved.get("reward_label"))
    rewards = [cast(RewardFunc, one) for one in given]
    changed = changed_since(run.info, reward_inputs(rewards), only="reward ")
    if changed and not accept_changes:
        raise InputError(
            str(run.directory),
            got=f"changed since the run was trained: {told(changed, reward_origins(rewards))}",
            expected="the rewards of the run",
            fix="restore them, score the stored samples instead: --stored_samples, or go on with --accept_changes",
        )
    return rewards, changed


def where(run: Run, option: str, given: str) -> str:
    """Where a reward of the run is today. Raises InputError naming the option when it is a file that is not found."""
    fix = f"say where it is now: --{option}"
    return require_located(run.info, run.directory, option, given, fix=fix)


def original_rung(run: Run) -> str:
    """Name of the rung that is the original model itself. Raises InputError when the ladder has none."""
    for rung in run.rungs:
        if rung.iteration == 0:
            return rung.name
    raise InputError(
        str(run.directory / "ladder.json"),
        got="no rung of iteration 0",
        expected="the original model as first rung",
        fix="let the run reach its first rung",
    )


def sampling_config(run: Run, *, quiet: bool) -> PPOConfig:
    """The run's own options, as far as they decide how a completion is sampled and measured."""
    resolved = run.info.get("resolved", {})
    known = {field.name: resolved[field.name] for field in fields(PPOConfig) if field.name in resolved}
    anew = {"output_dir": str(run.directory), "resume": False, "overwrite": False, "accept_changes": False}
    return PPOConfig(**{**known, **anew, "quiet": quiet})


def draw_rung(
    run: Run,
    rung: str,
    prompts: Sequence[str],
    rewards: Sequence[RewardFunc],
    *,
    draw: int = 1,
    heat_samples: int = 0,
    heldout: str | None = None,
    original: Any | None = None,
    quiet: bool = True,
) -> FreshRung:
    """One completion a prompt of one rung, with rewards and exact KL.

    `draw` 0 would repeat the trainer's own evaluation samples; 1 and above are fresh, equal for all rungs.
    `original` may be passed in when it is loaded already.
    """
    config = sampling_config(run, quiet=quiet)
    by_name = {r.name: r for r in run.rungs}
    device = torch.device("cuda" if torch.cuda.is_available() and not config.use_cpu else "cpu")
    tokenizer = load_tokenizer(str(run.directory / by_name[rung].path))
    dtype = getattr(torch, config.dtype)
    model = load_rung(run, by_name[rung], dtype=dtype).to(device)
    first = by_name[original_rung(run)]
    reference = original if original is not None else load_rung(run, first, dtype=dtype).to(device)
    worker = RolloutWorker(
        model,
        reference,
        tokenizer,
        config,
        Rewards.of(rewards, config),
    )
    encoded = {prompt: encode_prompt(tokenizer, prompt_from_text(prompt)) for prompt in set(prompts)}
    rollout = worker(
        [{"prompt": prompt_from_text(prompt)} for prompt in prompts],
        [encoded[prompt] for prompt in prompts],
        stream=Stream.EVALUATION,
        iteration=draw,
    )
    kl = mean_estimate(rollout.kl.tolist())
    assert kl is not None  # the exact KL of every completion is finite
    heat = token_heat(worker, rollout, range(min(heat_samples, len(rollout))))
    loss = heldout_loss(model, tokenizer, heldout) if heldout is not None else None
    return FreshRung(_samples(rollout, f"{rung}-fresh-{draw}", rung, config.seed), kl, heat, loss)


def draw_ladder(
    run: Run,
    rewards: Sequence[RewardFunc],
    *,
    count: int,
    pool: int = 0,
    draw: int = 1,
    heat_samples: int = 0,
    heldout: str | None = None,
    quiet: bool = False,
) -> dict[str, FreshRung]:
    """Fresh samples of every rung whose checkpoint is there, on the prompts of the last rung's stored samples.

    The original gets `pool` samples if that is more than `count`; the first `count` are the same either way.
    """
    known = measured_prompts(run)
    prompts = [known[i % len(known)] for i in range(max(count, pool))]
    config = sampling_config(run, quiet=quiet)
    device = torch.device("cuda" if torch.cuda.is_available() and not config.use_cpu else "cpu")
    first = original_rung(run)
    by_name = {rung.name: rung for rung in run.rungs}
    original = load_rung(run, by_name[first], dtype=getattr(torch, config.dtype)).to(device)
    there = [rung for rung in run.rungs if (run.directory / rung.path).is_dir()]
    drawn: dict[str, FreshRung] = {}
    with progress_bar("evaluate", "rung", total=len(there), quiet=quiet) as bar:
        for rung in there:
            drawn[rung.name] = draw_rung(
                run,
                rung.name,
                prompts if rung.name == first else prompts[:count],
                rewards,
                draw=draw,
                heat_samples=heat_samples,
                heldout=heldout,
                original=original,
                quiet=quiet,
            )
            bar.update()
    return drawn


@torch.no_grad()
def token_heat(worker: RolloutWorker, rollout: Rollout, rows: range) -> list[TokenHeat]:
    """KL between the two next-token distributions (temperature 1) and pay at every token of some completions."""
    found = []
    for row in rows:
        length = int(rollout.completion_mask[row].sum())
        one = slice(row, row + 1)
        prompt, mask = rollout.prompt_ids[one].to(worker.device), rollout.prompt_mask[one].to(worker.device)
        completion = rollout.completion_ids[one, :length].to(worker.device)
        heat = worker.config.temperature
        logits = completion_logits(worker.model, prompt, mask, completion, worker.config)
        reference = completion_logits(worker.ref_model, prompt, mask, completion, worker.config)
        logp, logq = ((tempered * heat).log_softmax(-1) for tempered in (logits, reference))
        values = exact_kl(logp, logq).kl[0].double().tolist()
        ids = rollout.completion_ids[row, :length].tolist()
        tokens = token_texts(worker.tokenizer, rollout.prompt_ids[row][rollout.prompt_mask[row]].tolist(), ids)
        pay = token_pay(worker, rollout, row, ids)
        found.append(TokenHeat(tokens, [float(f"{max(v, 0.0):.3g}") for v in values], pay))
    return found


def token_pay(worker: RolloutWorker, rollout: Rollout, row: int, ids: list[int]) -> list[float | None]:
    """Reward gained with each token of a completion: R(ids[:t+1]) - R(ids[:t]), without what an ending costs."""
    parts = [ids[:t] for t in range(len(ids) + 1)]
    before = rollout.prompt_ids[row][rollout.prompt_mask[row]].tolist()
    texts = worker.ending.texts([before] * len(parts), parts)
    values = worker.score([rollout.prompts[row]] * len(parts), texts, parts, {})
    rewards = worker.rewards.weighted(values).tolist()
    gains = [after - before for before, after in pairwise(rewards)]
    return [float(f"{gain:.3g}") if math.isfinite(gain) else None for gain in gains]


def _samples(rollout: Rollout, stem: str, rung: str, seed: int) -> list[Sample]:
    logprobs = torch.where(rollout.completion_mask, rollout.sampler_logprobs, 0.0).sum(-1).tolist()
    return [
        Sample(
            uid=f"{stem}-{i:05d}",
            prompt=prompt_to_text(rollout.prompts[i]),
            completion=rollout.completions[i],
            source=rung,
            logprob=logprobs[i],
            seed=seed,
            reward=float(rollout.rewards[i]) if bool(rollout.scored[i]) else None,
        )
        for i in range(len(rollout))
    ]


def samples_for_error(scores: Sequence[Sequence[Sequence[float | None]]], relative_error: float) -> int:
    """Samples a rung that bring every rung's standard error below `relative_error` original standard deviations.

    `scores[reward][rung]` are pilot values, the original's first: N = max (s_rung / s_original)² / e².
    """
    needed = 2
    for reward in scores:
        spreads = [_spread(values) for values in reward]
        if spreads and spreads[0] > 0:
            needed = max(needed, math.ceil((max(spreads) / spreads[0] / relative_error) ** 2))
    return needed


def _spread(values: Sequence[float | None]) -> float:
    estimate = mean_estimate(values)
    return estimate.se * math.sqrt(estimate.n) if estimate and estimate.se else 0.0
