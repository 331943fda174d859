"""What is said of each rater, in the words of the screen: work, verdict, haste, leaning, and who agrees with whom."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from labeling.leaning import Verdicts
from labeling.pooling import Pooled
from labeling.rater_agreement import Estimate, RaterCounts
from labeling.reviewing import Reviewed
from labeling.votes import Votes
from rlhf.foundation.proportion import Proportion
from rlhf.foundation.records import LABELS
from rlhf.foundation.terminal import shown


def tally(counts: Mapping[str, int], words: Mapping[str, str]) -> str:
    """`12 Yes, 3 Unsure, 5 No`."""
    return ", ".join(f"{counts[name]} {words[name]}" for name in LABELS)


def rater_lines(
    rater: RaterCounts,
    pooled: Pooled,
    words: Mapping[str, str],
    left: Proportion | None,
    verdicts: Verdicts | None = None,
) -> list[str]:
    """One rater: the work, the verdict, haste, where the rater leans, and the table against the others."""
    pace = f"{rater.median_seconds:.1f} s a label (median, n={rater.timed})" if rater.timed else "pace unknown"
    agrees = f"agrees with the others on {rater.agreement:.0%}" if rater.agreement is not None else "labels alone"
    counts = f"{rater.labels} labels ({tally(rater.answers, words)})"
    lines = [f"  {shown(rater.annotator, 40)}: {counts}, {pace}, {agrees}", f"      {verdict(rater.annotator, pooled)}"]
    if rater.hasty:
        usual = f"a fifth of everyone's median time ({rater.usual_seconds:.1f} s)"
        lines.append(f"      HASTY: {rater.hasty} of {rater.timed} labels in less than {usual}")
    if left is not None:
        sure = "PREFERS A SIDE: " if not left.low <= 0.5 <= left.high else ""
        lines.append(
            f"      {sure}chose the text on the left in {left.share:.0%} of {left.n} decided pairs "
            f"(95 % interval {left.low:.0%} to {left.high:.0%}; sides are dealt by lot)"
        )
    if verdicts is not None:
        lines.append(verdicts_line(verdicts, words["positive"]))
    if rater.agreement is not None:
        for mine in LABELS:
            row = ", ".join(f"{rater.against_others[mine][theirs]:.1f} {words[theirs]}" for theirs in LABELS)
            lines.append(f"      said {words[mine]}: others {row}")
    return lines


def verdicts_line(verdicts: Verdicts, positive: str) -> str:
    """How often a rater gives the positive verdict beside the others, and whether the difference is no chance."""
    lean = f"LEANS {verdicts.leaning}: " if verdicts.leaning else ""
    higher = verdicts.higher
    differ = (
        f"; the higher share on {higher.share:.0%} of {higher.n} tasks where they differ "
        f"(95 % interval {higher.low:.0%} to {higher.high:.0%})"
        if higher.n
        else "; they differ on no task"
    )
    shares = f"{verdicts.share:.0%} of {verdicts.n} shared tasks, the others on {verdicts.others:.0%}"
    return f"      {lean}said {positive} on {shares}{differ}"


def reviewer_lines(references: Votes, words: Mapping[str, str]) -> list[str]:
    """Who the raters are measured by, a line each."""
    lines = []
    for name, places in references.by_rater().items():
        said = dict(zip(LABELS, np.bincount(references.said[places], minlength=len(LABELS)).tolist(), strict=True))
        lines.append(
            f"  reviewer {shown(name, 40)}: {len(places)} answers ({tally(said, words)}), what raters are measured by: "
            "in no agreement, pooling or training"
        )
    return lines


def reviewed_lines(one: Reviewed, words: Mapping[str, str]) -> list[str]:
    """One rater's agreement with one reviewer, and the table of both."""
    share, name = one.agreement, f"reviewer {shown(one.reviewer, 40)}"
    right = sum(one.table[label][label] for label in LABELS)
    lines = [
        f"      agrees with {name} on {right} of {share.n} tasks ({share.share:.0%}, "
        f"95 % interval {share.low:.0%} to {share.high:.0%})"
    ]
    for mine in LABELS:
        if sum(one.table[mine].values()):
            row = ", ".join(f"{one.table[mine][theirs]} {words[theirs]}" for theirs in LABELS)
            lines.append(f"      said {words[mine]}: {name} {row}")
    return lines


def verdict(name: str, pooled: Pooled) -> str:
    """What becomes of a rater's labels in `rlhf reward`."""
    if name in pooled.left_out:
        return f"verdict: NO BETTER THAN CHANCE, {pooled.left_out[name].text()}: left out of pooling"
    right, weight = pooled.accuracy.get(name), pooled.weight(name)
    if right is None:
        return "verdict: counts, every label the same"
    return f"verdict: counts, right on about {right:.0%} (Dawid-Skene), a label weighs {weight:.1f} nats"


def interval(estimate: Estimate, noun: str, *, percent: bool = False) -> str:
    """`0.71 (95 % interval 0.66 to 0.76, n=300 tasks)`, or why there is no number."""
    if estimate.value is None:
        return "undefined: no task has two labels" if estimate.n == 0 else "undefined: only one label was ever used"
    value, low, high = (
        f"{number:.1%}" if percent else f"{number:.3f}" if number is not None else "?"
        for number in (estimate.value, estimate.low, estimate.high)
    )
    return f"{value} (95 % interval {low} to {high}, n={estimate.n} {noun})"
