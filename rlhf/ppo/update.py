"""The update: several minibatches a rollout, reshuffled each epoch, token-level clipping, means over the global batch.

Each minibatch is `minibatch_size` completions over all processes; process r takes its rows r, r + W, ... and
accumulates them in pieces of `per_device_train_batch_size`, or smaller ones when the vocabulary is large. The loss is
divided by the token count of the whole minibatch, so any split into processes and pieces gives the same gradient. With
a critic its loss, times `vf_coef`, is added.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rlhf.language_model.randomness import Stream, generator
from rlhf.language_model.sampler import chunks
from rlhf.ppo.advantages import Targets
from rlhf.ppo.config import PPOConfig
from rlhf.ppo.distributed import Processes
from rlhf.ppo.objective import ValueLoss, clipped_loss, clipped_value_loss, masked_sum
from rlhf.ppo.precision import is_half
from rlhf.ppo.rollout import Rollout
from rlhf.ppo.sharding import clip_grad_norm
from rlhf.ppo.zero import ZeroOptimizer


class UpdateStatistics(NamedTuple):
    """What an iteration's updates did, token-weighted over all processes; see metrics.py for units."""

    region_mean: float
    outside_mean: float | None  # None when the iteration had one update only
    outside_by_epoch: list[float]
    ratio_first_update_max_dev: float
    approx_kl: float
    grad_norm: float
    value_loss: float | None  # None without a critic, as the next
    value_clip_ratio: float | None
    optimizer_steps: int
    early_stopped: bool
    seconds: float


class Step(NamedTuple):
    """Sums over the real tokens of one optimiser step, over all processes."""

    epoch: int
    outside: float
    binding: float
    approx_kl: float
    value_loss: float
    value_clipped: float
    tokens: int
    grad_norm: float


def optimizer_of(groups: list[dict[str, Any]], config: PPOConfig) -> torch.optim.Optimizer:
    """Adam without weight decay, fused: one pass over weights and moments in place of ten."""
    rate, epsilon = config.learning_rate, config.adam_epsilon
    return torch.optim.AdamW(groups, lr=rate, eps=epsilon, weight_decay=0.0, fused=True)


def minibatches(count: int, config: PPOConfig, iteration: int, epoch: int) -> list[Tensor]:
    """Row numbers of each minibatch of an epoch, in an order keyed by (seed, iteration, epoch)."""
    order = torch.from_numpy(generator(config.seed, Stream.SHUFFLE, iteration, epoch).permutation(count))
    return [order[list(chunk)] for chunk in chunks(count, config.minibatch_size)]


def update(
    model: Any,
    optimizer: torch.optim.Optimizer | ZeroOptimizer,
    rollout: Rollout,
    targets: Targets,
    config: PPOConfig,
    processes: Processes,
    iteration: int,
    *,
    learning_rates: Sequence[float],
    steps_before: int,
) -> UpdateStatistics:
    """Take every optimiser step of one rollout. `model` is a `ChosenTokens`, or what DDP made of it.

    `learning_rates` are those of the optimiser's parameter groups after the warm-up, 0 for one that stands still;
    `steps_before` counts the steps of all iterations before.
    """
    started = time.perf_counter()
    steps: list[Step] = []
    first_deviation, stopped = torch.zeros(()), False
    epochs = range(config.num_ppo_epochs)
    for epoch, rows in ((e, rows) for e in epochs for rows in minibatches(len(rollout), config, iteration, e)):
        tokens = int(targets.mask[rows].sum())
        if tokens == 0:  # every completion of it was left out
            continue
        sums, deviation = accumulate(model, rollout, targets, rows, tokens, config, processes)
        let_stand(optimizer, learning_rates)
        warm = warmup_factor(steps_before + len(steps), config.warmup_steps)
        for group, rate in zip(optimizer.param_groups, learning_rates, strict=False):
            group["lr"] = rate * warm
        grad_norm = take_step(model, optimizer, config.max_grad_norm)
        if not steps:
            first_deviation = deviation
        outside, binding, approx_kl, of_values, clipped = processes.sum(sums).tolist()
        steps.append(Step(epoch, outside, binding, approx_kl, of_values, clipped, tokens, grad_norm))
        stopped = config.early_stop_kl is not None and approx_kl / tokens > config.early_stop_kl
        if stopped:
            break
    return summarise(
        steps,
        config.num_ppo_epochs,
        critic=targets.returns is not None,
        first_deviation=float(processes.max(first_deviation)),
        early_stopped=stopped,
        seconds=time.perf_counter() - started,
    )


def take_step(model: Any, optimizer: Any, max_grad_norm: float) -> float:
    """Clip the gradients, move the weights and forget the gradients; returns their norm before."""
    if isinstance(optimizer, ZeroOptimizer):
        return optimizer.step()
    norm = clip_grad_norm(list(model.parameters()), max_grad_norm)
    optimizer.step()
    optimizer.zero_grad()
    return norm


def let_stand(optimizer: torch.optim.Optimizer | ZeroOptimizer, learning_rates: Sequence[float]) -> None:
    """Drop the gradients of groups whose rate is 0: Adam would remember them, and clipping count them."""
    if isinstance(optimizer, ZeroOptimizer):
        return  # no group stands still there (zero.require_options)
    for group, rate in zip(optimizer.param_groups, learning_rates, strict=False):
        for parameter in group["params"] if rate == 0 else ():
            parameter.grad = None


def warmup_factor(step: int, warmup_steps: int) -> float:
    """What step `step` (from 0) multiplies the learning rate by: (step + 1) / (warmup_steps + 1), then 1."""
    return min(1.0, (step + 1) / (warmup_steps + 1))


def accumulate(
    model: Any,
    rollout: Rollout,
    targets: Targets,
    rows: Tensor,
    tokens: int,
    config: PPOConfig,
    processes: Processes,
) -> tuple[Tensor, Tensor]:
    """Gradients of one minibatch, piece by piece. Returns the five sums of a `Step` and max |ratio - 1|."""
    device = processes.accelerator.device
    own = rows[processes.rank :: processes.world_size]
    even = is_half(config) or processes.sharded  # where every pass is a collective all take equally many
    length = rollout.length_of(own, targets.mask, even=even)
    whole = processes.accelerator.unwrap_model(model)
    rows_at_once = whole.rows_at_once(rollout.prompt_ids.shape[1], length, len(own))
    pieces = list(chunks(len(own), rows_at_once))
    sums, deviation = torch.zeros(5, dtype=torch.float64), torch.zeros(())
    for number, piece in enumerate(pieces):
        picked = own[list(piece)]
        length = rollout.length_of(picked, targets.mask, even=even)
        ids = rollout.completion_ids[picked, :length].to(device)
        mask = targets.mask[picked, :length].to(device)
        places = rollout.prompt_ids.shape[1] + length
        states = rollout.states[picked, :places].to(device) if rollout.states is not None else None
        last = processes.sharded or number == len(pieces) - 1
        # Only the last piece's passes speak with the other processes: buffers before it, gradients during the backward;
        # all of them where the model is cut.
        meeting = processes.meeting if last else nullcontext
        with nullcontext() if last else processes.accelerator.no_sync(model):
            with meeting():
                logprobs, values, kl = model(
                    rollout.prompt_ids[picked].to(device), rollout.prompt_mask[picked].to(device), ids, mask, states
                )
            weights = None if targets.weights is None else targets.weights[picked, :length].to(device, logprobs.dtype)
            result = clipped_loss(
                logprobs,
                rollout.old_logprobs[picked, :length].to(device, logprobs.dtype),
                targets.advantages[picked, :length].to(device, logprobs.dtype),
                mask,
                config.epsilon,
                weights,
            )
            penalty: float | Tensor = 0.0
            if kl is not None and targets.kl_weight:
                penalty = masked_sum(kl if weights is None else kl * weights, mask) * targets.kl_weight
            loss, of_values = result.loss + penalty, ValueLoss(torch.zeros(()), torch.zeros(()))
            if values is not None:
                of_values = value_loss(values, rollout, targets, picked, mask, config)
                loss = loss + config.vf_coef * of_values.loss
            # DDP averages over processes; the loss is a mean over the tokens of all of them.
            with meeting():
                processes.backward(model, loss * processes.world_size / tokens, last=number == len(pieces) - 1)
        policy_sums = torch.stack([result.outside, result.binding, result.approx_kl]).double().cpu()
        sums += torch.cat([policy_sums, torch.stack(of_values).detach().double().cpu()])
        deviation = torch.maximum(deviation, result.max_deviation.detach().float().cpu())
    return sums, deviation


def value_loss(
    values: Tensor, rollout: Rollout, targets: Targets, picked: Tensor, mask: Tensor, config: PPOConfig
) -> ValueLoss:
    """The critic's loss on the rows `picked`. values and mask (b, t)."""
    if rollout.values is None or targets.returns is None:
        raise ValueError("a critic's update needs a rollout with values, measured by that critic")
    old_values, returns = (
        x[picked, : values.shape[1]].to(values.device, values.dtype) for x in (rollout.values, targets.returns)
    )
    return clipped_value_loss(values, old_values, returns, mask, config.cliprange_value)


def summarise(
    steps: list[Step], epochs: int, *, critic: bool, first_deviation: float, early_stopped: bool, seconds: float
) -> UpdateStatistics:
    """Means over steps, each step weighted by its tokens; the first step is left out of the clip fraction."""
    later = steps[1:]

    def share(picked: list[Step], name: str) -> float:
        tokens = sum(step.tokens for step in picked)
        return float(sum(getattr(step, name) for step in picked)) / tokens if tokens else 0.0

    return UpdateStatistics(
        region_mean=share(steps, "binding"),
        outside_mean=share(later, "outside") if later else None,
        outside_by_epoch=[share([s for s in later if s.epoch == epoch], "outside") for epoch in range(epochs)],
        ratio_first_update_max_dev=first_deviation,
        approx_kl=share([s for s in steps if s.epoch == steps[-1].epoch], "approx_kl"),
        grad_norm=sum(step.grad_norm for step in steps) / max(1, len(steps)),
        value_loss=share(steps, "value_loss") if critic else None,
        value_clip_ratio=share(steps, "value_clipped") if critic else None,
        optimizer_steps=len(steps),
        early_stopped=early_stopped,
        seconds=seconds,
    )
