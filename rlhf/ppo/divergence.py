"""What is said when an update went too far: beyond the budget in one step, or to weights that are no numbers."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from rlhf.foundation.errors import InputError
from rlhf.ppo.config import PPOConfig
from rlhf.ppo.landing import STEP_BACK, Move
from rlhf.ppo.rollout import Rollout
from rlhf.ppo.sharding import own_part
from rlhf.runs.ladder import Ladder


def all_finite(model: torch.nn.Module) -> bool:
    """Whether every trained number of `model` (of this process's share of it) is finite."""
    return all(bool(own_part(p).detach().isfinite().all()) for p in model.parameters() if p.requires_grad)


def what_to_lower(args: PPOConfig) -> str:
    """The options that decide how far one iteration goes, with their values."""
    return (
        f"a lower --learning_rate (now {args.learning_rate:g}) or --num_ppo_epochs (now {args.num_ppo_epochs}), "
        f"or fewer, larger minibatches (--minibatch_size is {args.minibatch_size})"
    )


def step_too_large(rollout: Rollout, ladder: Ladder, iteration: int, args: PPOConfig, move: Move | None) -> str | None:
    """What is said when the policy that made the rollout lies far beyond the budget; None when it does not.

    `move` is what is done about it: the update taken back, or nothing where its beginning was not kept.
    """
    kl = float(rollout.kl.mean())
    if not ladder.overshot(kl):
        return None
    back = move is not None and move.action == STEP_BACK
    done = f"{move.share:.0%} of it is kept and the learning rate halved; better is" if move and back else "begin"
    return (
        f"iteration {iteration} begins at {kl:.1f} nats per completion, more than a rung beyond the budget of "
        f"{ladder.budget:g}: the last update was too large; {done} another run with {what_to_lower(args)}"
    )


def tell(line: Mapping[str, Any]) -> None:
    """Say on stderr what a line of metrics has to say of a step too large."""
    if line["step_too_large"]:
        print(f"rlhf: {line['step_too_large']}", file=sys.stderr)


def diverged(iteration: int, args: PPOConfig, rungs: Sequence[str]) -> InputError:
    """The refusal to go on from weights, or logits, that are no numbers; `rungs` are the names of those kept."""
    return InputError(
        f"diverged at iteration {iteration}",
        got="weights or logits that are not finite numbers",
        expected="finite ones",
        fix=f"begin another run with {what_to_lower(args)}; "
        + (f"the last good rung, {rungs[-1]}, is kept" if rungs else "check the original model"),
    )
