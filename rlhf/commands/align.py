"""`rlhf align`: SFT, DPO, KTO, rejection sampling, GRPO or RLOO, kept as a ladder along KL like PPO's."""

from __future__ import annotations

from collections.abc import Sequence

from rlhf.commands.command_line import parse
from rlhf.foundation.terminal import say
from rlhf.methods.align import align
from rlhf.methods.config import AlignConfig


def main(argv: Sequence[str]) -> None:
    """Parse, run, and print the ladder."""
    run = align.run(parse(AlignConfig, argv, prog="rlhf align", description="A policy by another method than PPO."))
    from rlhf.runs.ladder import read_rungs

    for rung in read_rungs(run.directory / "ladder.json"):
        say(
            f"{rung.name}  KL {rung.kl_per_completion:6.2f} ± {rung.kl_per_completion_se:.2f} nats  "
            f"reward {rung.reward:8.3f} ± {rung.reward_se:.3f}  (n = {rung.n})"
        )
    say(f"{run.stop_reason}\nrun directory: {run.directory}")
