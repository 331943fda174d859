"""`rlhf rate judge FIRST SECOND`: a language model says which of two models' samples are better, pair by pair."""

from __future__ import annotations

from rlhf.commands.command_line import parse
from rlhf.commands.first_words import first_words
from rlhf.evaluation.rate_judge import RateJudgeConfig, rate_judge
from rlhf.foundation.held import place_of
from rlhf.foundation.terminal import say


def main(argv: list[str]) -> None:
    """Parse (bare words in front are the samples), ask, print the verdict."""
    config = parse(
        RateJudgeConfig,
        first_words(argv, "samples"),
        prog="rlhf rate judge",
        description="A judge's verdict on two models' samples, each pair asked twice with the sides changed.",
    )
    say("\n".join(rate_judge.run(config).statements(*map(place_of, config.samples))))
    if config.output_path is not None:
        say(f"written: {config.output_path}")
