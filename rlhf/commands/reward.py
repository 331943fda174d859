"""`rlhf reward`: fit a reward model to labels, test it on texts it has not seen, and refuse it if it knows nothing."""

from __future__ import annotations

from typing import Any

from rewards.steps.fit import fit
from rewards.steps.reward_config import FittedReward, RewardConfig
from rlhf.commands.command_line import parse
from rlhf.foundation.terminal import shown


def main(argv: list[str]) -> None:
    """Parse, run, and print what was learned."""
    config = parse(RewardConfig, argv, prog="rlhf reward", description=__doc__ or "")
    print(summary(fit.run(config)))


def summary(result: FittedReward) -> str:
    """A few lines for the terminal: accuracy with interval, calibration, normalisation, time, place."""
    report = result.report
    if report["kind"] == "preference":
        return summary_of_comparisons(result)
    held_out, labels = report["held_out"], report["labels"]
    tested = held_out["accuracy"]
    lines = [
        f"{labels['counted']} labels on {labels['texts']} texts by {labels['annotators']} annotators",
        *result.pooling,
        f"held-out accuracy {tested['share']:.1%} (95 % interval {tested['low']:.1%} to {tested['high']:.1%}, "
        f"n = {tested['n']} non-neutral texts; always the more frequent class: {held_out['majority_share']:.1%})",
        f"calibration error {held_out['expected_calibration_error']:.3f} (n = {held_out['texts']} texts; "
        f"{report['uncalibrated']['expected_calibration_error']:.3f} before temperature "
        f"{report['training']['temperature']:.2f})",
    ]
    if not report["better_than_chance"]:
        lines.append("WEAK: no better than chance, kept because of --allow_weak")
    if report["normalization"]:
        constants = report["normalization"]
        lines.append(
            f"reward log P({report['target']}) on base samples: {constants['offset']:.3f} ± "
            f"{constants['offset_se']:.3f} nats, standard deviation {constants['scale']:.3f} (n = {constants['n']})"
        )
    lines += [f"guard failed: {guard['name']}: {guard['says']}" for guard in report["guards"] if not guard["passed"]]
    if "learning_curve" in report:
        lines += _curve_lines(report["learning_curve"])
    lines.append(f"{shown(result.directory)}, {report['seconds']:.1f} s")
    return "\n".join(lines)


def _curve_lines(curve: dict[str, Any]) -> list[str]:
    points = ", ".join(f"{p['texts']}: {p['accuracy']['share']:.0%}" for p in curve["points"])
    gain, ceiling = curve["next_gain"], curve["single_label_ceiling"]
    lines = [
        f"held-out accuracy by labelled texts: {points} (n = {curve['held_out_texts_judged']})",
        f"the next {gain['labels']} labels would bring {100 * gain['gain']:+.1f} points "
        f"(95 % interval {100 * gain['low']:+.1f} to {100 * gain['high']:+.1f})",
    ]
    if ceiling["value"] is not None:
        lines.append(
            f"raters' agreement sets a ceiling of {ceiling['value']:.0%} for any model judged by single labels of all "
            f"three kinds ({ceiling['low']:.0%} to {ceiling['high']:.0%}, n = {ceiling['n']} texts)"
        )
    return lines


def summary_of_comparisons(result: FittedReward) -> str:
    """A few lines for the terminal."""
    report = result.report
    data, tested = report["comparisons"], report["held_out"]["accuracy"]
    lines = [
        f"{data['counted']} answers on {data['pairs']} pairs, {data['undecided']} undecided (soft 1/2)",
        *result.pooling,
        f"held-out accuracy {tested['share']:.1%} (95 % interval {tested['low']:.1%} to {tested['high']:.1%}, "
        f"n = {tested['n']} decided pairs)",
    ]
    if not report["better_than_chance"]:
        lines.append("WEAK: no better than chance, kept because of --allow_weak")
    if report["normalization"]:
        constants = report["normalization"]
        lines.append(
            f"score on base samples: {constants['offset']:.3f} ± {constants['offset_se']:.3f}, "
            f"standard deviation {constants['scale']:.3f} (n = {constants['n']})"
        )
    lines += [f"guard failed: {guard['name']}: {guard['says']}" for guard in report["guards"] if not guard["passed"]]
    return "\n".join([*lines, f"{shown(result.directory)}, {report['seconds']:.1f} s"])
