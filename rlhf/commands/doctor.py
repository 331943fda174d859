"""`rlhf doctor`: do the samples come from the policy? For runs of `rlhf ppo`, and for rollouts of any other loop."""

from __future__ import annotations

from rlhf.commands.command_line import parse
from rlhf.commands.first_words import first_words
from rlhf.evaluation.examine import DoctorConfig, doctor


def main(argv: list[str]) -> None:
    """Parse (a bare word in front is the run), examine, print."""
    words = first_words(argv, "run_directory")
    config = parse(DoctorConfig, words, prog="rlhf doctor", description=__doc__ or "")
    print("\n".join(doctor.run(config).lines) or "healthy")
