"""Fitting the token reward model to soft targets.

Shapes: B texts of a batch, T tokens.

How this differs from fine-tuning a classifier as usual:
1. The number of steps is fixed in advance and the learning rate falls to zero over them. Early stopping on the
   held-out loss restored a model at chance: while it learns, its loss on few noisy labels rises before it falls.
2. Besides the last position, which is the reward, the same label may be asked for at every position
   (`dense_weight`): a few hundred labels say too little to find out which of thirty tokens mattered.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from transformers import PreTrainedModel

from rewards.batching import Batch, pad
from rewards.targets import LabelledText
from rewards.token_model import TokenRewardModel
from rlhf.foundation.causal_lm import width

# Texts of this many batches are sorted by length together, so that little padding is computed.
_BATCHES_SORTED_TOGETHER = 8


@dataclass(frozen=True, slots=True)
class FitSettings:
    """How a token reward model is fitted. `learning_rate` None means 0.1 / hidden width."""

    num_train_epochs: float
    batch_size: int = 32
    learning_rate: float | None = None
    dense_weight: float = 0.0
    weight_decay: float = 0.01
    warmup_share: float = 0.1
    max_grad_norm: float = 1.0

    def steps(self, n_texts: int) -> int:
        """Optimiser steps for `n_texts` texts."""
        return max(1, round(self.num_train_epochs * n_texts / self.batch_size))

    def rate_for(self, model: PreTrainedModel) -> float:
        """The highest learning rate for `model`: wider layers take smaller steps."""
        return self.learning_rate or 0.1 / width(model)


def last_position_loss(difference: Tensor, last: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Σ_i w_i H(t_i, σ(d_i,last)) / Σ_i w_i: cross-entropy with the soft target after the last real token, in nats.

    difference (B, T) = z_target - z_other, last (B,), targets (B,) in [0, 1], weights (B,).
    """
    at_last = difference.gather(1, last[:, None]).squeeze(1)  # (B,)
    losses = binary_cross_entropy_with_logits(at_last, targets, reduction="none")
    return (losses * weights).sum() / weights.sum()


def every_position_loss(difference: Tensor, mask: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """The same cross-entropy at every real position, averaged over the batch's tokens: Σ w_i m_it H / Σ w_i m_it."""
    repeated = targets[:, None].expand_as(difference)
    losses = binary_cross_entropy_with_logits(difference, repeated, reduction="none")  # (B, T)
    shares = mask * weights[:, None]
    return (losses * shares).sum() / shares.sum()


def total_loss(difference: Tensor, batch: Batch, targets: Tensor, weights: Tensor, dense_weight: float) -> Tensor:
    """last_position_loss + dense_weight × every_position_loss."""
    loss = last_position_loss(difference, batch.last, targets, weights)
    if dense_weight:
        loss = loss + dense_weight * every_position_loss(difference, batch.mask, targets, weights)
    return loss


def learning_rate_factor(step: int, n_steps: int, warmup_share: float) -> float:
    """Linear rise over the first `warmup_share` of the steps, then linear fall to zero at the end; in (0, 1]."""
    warmup = max(1, round(warmup_share * n_steps))
    return min((step + 1) / warmup, (n_steps - step) / max(1, n_steps - warmup), 1.0)


def fit(
    reward: TokenRewardModel,
    texts: Sequence[LabelledText],
    settings: FitSettings,
    *,
    seed: int,
    on_step: Callable[[], None] = lambda: None,
) -> None:
    """Fit `reward` in place to P(target) of `texts`, each weighted by its number of labels.

    Same seed, same result on one machine. `on_step` is called after each optimiser step.
    """
    encoded = reward.encoder.encode([text.prompt for text in texts], [text.completion for text in texts])
    of_target = [text.target if reward.target == "positive" else 1 - text.target for text in texts]
    targets = torch.tensor(of_target, device=reward.device)
    weights = torch.tensor([float(text.n_labels) for text in texts], device=reward.device)
    base_rate = settings.rate_for(reward.model)
    optimizer = torch.optim.AdamW(
        reward.model.parameters(), lr=base_rate, weight_decay=settings.weight_decay, betas=(0.9, 0.99), fused=True
    )
    n_steps = settings.steps(len(texts))
    order = shuffled_batches([len(ids) for ids in encoded], settings.batch_size, seed)
    devices = [reward.device] if reward.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        reward.model.train(True)
        for step in range(n_steps):
            batch = pad(encoded, next(order), reward.encoder.first_id, reward.device)
            difference = reward.logit_difference(batch, every_position=True)
            loss = total_loss(difference, batch, targets[batch.rows], weights[batch.rows], settings.dense_weight)
            for group in optimizer.param_groups:
                group["lr"] = base_rate * learning_rate_factor(step, n_steps, settings.warmup_share)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(reward.model.parameters(), settings.max_grad_norm)
            optimizer.step()
            on_step()
        reward.model.train(False)


def shuffled_batches(lengths: Sequence[int], batch_size: int, seed: int) -> Iterator[list[int]]:
    """Batches of row numbers without end: each text once an epoch, in a new order, near lengths together."""
    rng = random.Random(f"batches {seed}")
    while True:
        order = list(range(len(lengths)))
        rng.shuffle(order)
        found: list[list[int]] = []
        pool = batch_size * _BATCHES_SORTED_TOGETHER
        for start in range(0, len(order), pool):
            rows = sorted(order[start : start + pool], key=lambda row: lengths[row])
            found += [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
        rng.shuffle(found)
        yield from found
