"""`rlhf evaluate RUN`: fresh samples of every rung, scored by the proxy and by rewards the trainer never saw."""

from __future__ import annotations

from collections.abc import Sequence

from rlhf.commands.command_line import parse
from rlhf.commands.first_words import first_words
from rlhf.evaluation.evaluate import EvaluateConfig, evaluate
from rlhf.foundation.terminal import plus_minus, say
from rlhf.inspection.opened_run import open_run


def main(argv: Sequence[str]) -> None:
    """Parse, evaluate, print the ladder."""
    config = parse(
        EvaluateConfig, first_words(argv, "run"), prog="rlhf evaluate", description="Score a run's ladder afresh."
    )
    from rlhf.inspection.kl_efficiency import statement
    from rlhf.inspection.win_rate import win_rates

    evaluation = evaluate.run(config)
    names = ["proxy", *evaluation.telling_golds, *evaluation.qualities]
    for rung in evaluation.rungs:
        scores = "  ".join(f"{name} {estimate.text(3)}" for name in names if (estimate := rung.reward(name)))
        say(f"{rung.name}  KL {rung.kl:6.2f} {plus_minus(rung.kl_se, 2)} nats  {scores}")
    for gold in evaluation.telling_golds:
        if len(evaluation.rungs) > 1:
            say(
                f"{gold} against the original, same prompt and random numbers: {win_rates(evaluation, gold)[-1].text()}"
            )
    if (bought := statement(evaluation)) is not None:
        say(bought)
    for onset in evaluation.onsets.values():
        say(onset.statement())
    say(f"written: {open_run(config.run).directory / 'evaluation.json'}")
