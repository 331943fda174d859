"""What a reward model has to say of a task, shown after a blind first answer; and what raters then change.

After Saunders et al. 2022, "Self-critiquing models for assisting human evaluators", with these differences:
1. The critique is no text that a model wrote, but the words that the reward model's score rests on (attribution).
2. The answer before it is kept beside the answer after it, so that the change can be measured: a rater who only comes
   round to the model teaches it nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from labeling.counting import plain
from labeling.folder import Task
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_jsonl, write_jsonl
from rlhf.foundation.proportion import Proportion, wilson
from rlhf.foundation.records import SOFT_TARGETS, Comparison, Label, rater_name

FILE = "reasons.jsonl"
Leaning = Literal["positive", "negative", "first", "second", ""]
FIRST = {"chosen": 1.0, "tie": 0.5, "rejected": 0.0}


@dataclass(frozen=True, slots=True)
class Reasons:
    """A reward model's reasons about one task; texts in the task's own order, whichever side they are shown on.

    `scores` are the texts' (in the reward's unit), `pieces` each text in words, each with what the score loses without
    it. `leans` is the answer that the model would give, "" where it has none.
    """

    uid: str
    reward: str
    scores: tuple[float, ...]
    leans: Leaning
    pieces: tuple[tuple[tuple[str, float], ...], ...]

    def shown(self, *, swapped: bool) -> Reasons:
        """The same with the texts in the order of the screen."""
        if not swapped:
            return self
        other: dict[str, Leaning] = {"first": "second", "second": "first"}
        leans = other.get(self.leans, self.leans)
        return dataclasses.replace(self, scores=self.scores[::-1], pieces=self.pieces[::-1], leans=leans)


def write_reasons(folder: Path, reasons: Iterable[Reasons]) -> None:
    """Write them into a labelling folder."""
    write_jsonl(folder / FILE, (dataclasses.asdict(one) for one in reasons))


def read_leanings(folder: Path) -> dict[str, Leaning]:
    """What the model would answer, by uid; {} where no reasons were shown. Raises InputError."""
    path = folder / FILE
    try:
        return {row["uid"]: row["leans"] for row in read_jsonl(path)} if path.exists() else {}
    except (KeyError, TypeError) as error:
        fix = "restore it from a copy"
        raise InputError(str(path), got="a row of another shape", expected="reasons as written", fix=fix) from error


@dataclass(frozen=True, slots=True)
class Change:
    """One answer before and after the reasons, 0 to 1, and which of the two the model would give (None: neither)."""

    rater: str
    before: float
    after: float
    model: float | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """Of one rater's (or everyone's) answers the share that was changed, and of the changes those towards the model.

    Changes of tasks where the model leans to no answer are in `changed` and not in `towards`.
    """

    rater: str
    changed: Proportion
    towards: Proportion


def label_change(label: Label, leanings: Mapping[str, Leaning]) -> Change | None:
    """The change of a label; None where no reasons were shown."""
    if label.first is None:
        return None
    model = SOFT_TARGETS.get(leanings.get(label.uid, ""))
    return Change(rater_name(label.annotator), SOFT_TARGETS[label.first], SOFT_TARGETS[label.label], model)


def comparison_change(row: Comparison, leanings: Mapping[str, Leaning], tasks: Mapping[str, Task]) -> Change | None:
    """The change of a comparison, in shares of the chosen text; None where no reasons were shown."""
    if row.first is None:
        return None
    task, leans = tasks.get(row.uid), leanings.get(row.uid, "")
    model = None
    if task is not None and leans:
        favourite = task.text if leans == "first" else task.second
        model = float(plain(favourite) == plain(row.chosen))
    return Change(rater_name(row.annotator), FIRST[row.first], 0.5 if row.tie else 1.0, model)


def add_up_changes(changes: Mapping[tuple[str, str], Change]) -> list[Changes]:
    """Everyone's changes ("" as the rater), then each rater's by name; [] without any. Keys are uid and rater."""
    if not changes:
        return []
    raters = sorted({one.rater for one in changes.values()})
    every = list(changes.values())
    return [_of("", every), *(_of(name, [one for one in every if one.rater == name]) for name in raters)]


def _of(rater: str, changes: Sequence[Change]) -> Changes:
    changed = [one for one in changes if one.before != one.after]
    leaning = [one for one in changed if one.model is not None]
    towards = sum(abs(one.after - one.model) < abs(one.before - one.model) for one in leaning if one.model is not None)
    return Changes(rater, wilson(len(changed), len(changes)), wilson(towards, len(leaning)))


def change_line(one: Changes) -> str:
    """`changed 3 of 30 answers after the reasons (10%, ...)`, and how many of these towards the model."""
    share, towards = one.changed, one.towards
    said = (
        f"changed {round(share.share * share.n)} of {share.n} answers after the reward model's reasons "
        f"({share.share:.0%}, 95 % interval {share.low:.0%} to {share.high:.0%})"
    )
    if not towards.n:
        return said
    return (
        f"{said}; {round(towards.share * towards.n)} of {towards.n} changes went the model's way ({towards.share:.0%}, "
        f"{towards.low:.0%} to {towards.high:.0%})"
    )
