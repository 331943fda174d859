"""`rlhf sample`: batched samples of any causal language model, with their log-probabilities."""

from __future__ import annotations

from collections.abc import Sequence

from rlhf.commands.command_line import parse
from rlhf.foundation.terminal import say
from rlhf.sampling import SampleConfig, sample


def main(argv: Sequence[str]) -> None:
    """Parse, sample, say what was written."""
    config = parse(SampleConfig, argv, prog="rlhf sample", description="Sample from a causal language model.")
    samples = sample.run(config)
    say(f"{len(samples)} samples written to {config.output_path}; the first three:")
    for one in samples[:3]:
        say(f"  {one.text!r}")
