"""`rlhf loop`: rounds of label, reward and PPO, each labelling samples of the policy that the last round made."""

from __future__ import annotations

from collections.abc import Sequence

from rlhf.commands.command_line import parse
from rlhf.whole_loop.rounds import LoopConfig, loop


def main(argv: Sequence[str]) -> None:
    """Parse, run, print the table, or what people must do first."""
    config = parse(LoopConfig, argv, prog="rlhf loop", description="Rounds of label, reward and PPO.")
    rounds = loop.run(config)
    print(rounds.waiting or rounds.table)
