"""`rlhf rate`: people rate samples without knowing whose they are."""

from __future__ import annotations

from rlhf.commands.group import run_group

# subcommand -> (module with `main(argv)`, one line of help)
SUBCOMMANDS: dict[str, tuple[str, str]] = {
    "plan": ("rlhf.commands.rate.plan", "what a blind rating of so many samples can show, before anything goes out"),
    "push": ("rlhf.commands.rate.push", "a blind packet: two models or the ladder, in Label Studio or an offline page"),
    "pull": ("rlhf.commands.rate.pull", "ratings come back, still blind"),
    "judge": ("rlhf.commands.rate.judge", "a language model's verdict on two models' samples, pair by pair"),
    "score": ("rlhf.commands.rate.score", "unblind and give the verdict with its interval"),
}


def main(argv: list[str]) -> None:
    """Run one subcommand. Raises InputError for an unknown one."""
    run_group("rlhf rate", "People rate samples without knowing whose they are.", SUBCOMMANDS, argv)
