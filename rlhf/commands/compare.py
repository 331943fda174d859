"""`rlhf compare A B`: how far two rewards are apart, on base samples and on those of a run's checkpoints."""

from __future__ import annotations

from rlhf.commands.command_line import parse
from rlhf.evaluation.compare import CompareConfig, compare
from rlhf.foundation.terminal import say


def main(argv: list[str]) -> None:
    """Parse (bare words in front are the rewards), run, and print the table."""
    bare = next((i for i, word in enumerate(argv) if word.startswith("-")), len(argv))
    words = [*(["--rewards", *argv[:bare]] if bare else []), *argv[bare:]]
    config = parse(CompareConfig, words, prog="rlhf compare", description=__doc__ or "")
    rows = compare.run(config)
    say(f"EPIC-style distance of {config.rewards[0]} and {config.rewards[1]}")
    print("(0: alike, 0.707: unrelated, 1: opposite; 95 % bootstrap interval)")
    for row in rows:
        found = row.distance
        kl = "" if row.kl_per_completion is None else f"  KL {row.kl_per_completion:5.2f} nats"
        dropped = f", {found.dropped} dropped" if found.dropped else ""
        say(
            f"{row.name}{kl}  {found.distance:.3f} ({found.low:.3f} to {found.high:.3f}), correlation "
            f"{found.correlation:.3f} (n = {found.n} completions of {found.n_prompts} prompts{dropped})"
        )
