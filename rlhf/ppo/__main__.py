"""`rlhf ppo`, also `accelerate launch --config_file accelerate_config.yaml -m rlhf.ppo`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from rlhf import environment
from rlhf.commands.command_line import parse
from rlhf.foundation.errors import InputError
from rlhf.foundation.terminal import say
from rlhf.ppo.finetune import PPOCommandConfig, finetune


def main(argv: Sequence[str]) -> None:
    """Parse, run, and print the ladder."""
    if "WORLD_SIZE" in os.environ:
        from rlhf.ppo.failing_together import all_parse

        config = all_parse(lambda: parse_command(argv))
    else:
        config = parse_command(argv)
    run = finetune.run(config)
    if os.environ.get("RANK", "0") != "0":  # another process writes and reports
        return
    from rlhf.runs.ladder import read_rungs

    for rung in read_rungs(run.directory / "ladder.json"):
        say(
            f"{rung.name}  KL {rung.kl_per_completion:6.2f} ± {rung.kl_per_completion_se:.2f} nats  "
            f"reward {rung.reward:8.3f} ± {rung.reward_se:.3f}  (n = {rung.n})"
        )
    say(f"{run.stop_reason}\nrun directory: {run.directory}")


def parse_command(argv: Sequence[str]) -> PPOCommandConfig:
    """The options of the command line. Raises InputError."""
    for cut in ("--top_k", "--top_p", "--min_p", "--repetition_penalty"):
        if any(word.split("=")[0] == cut for word in argv):
            raise InputError(
                cut,
                got="a change of the distribution",
                expected="samples of the policy itself",
                fix="leave it out: it biases every KL estimate and makes the first update's ratio wrong",
            )
    return parse(PPOCommandConfig, argv, prog="rlhf ppo", description="Finetune a language model with PPO.")


if __name__ == "__main__":
    environment.prepare()
    from rlhf.cli import run as run_command

    sys.exit(run_command(main, sys.argv[1:]))
