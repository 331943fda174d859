"""A reviewer's answers: what raters are measured by, kept in a file of their own and out of everything that trains.

labels.jsonl has labels.reference.jsonl beside it, comparisons.jsonl comparisons.reference.jsonl.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from labeling.votes import CLASSES, Votes
from rlhf.foundation.errors import InputError
from rlhf.foundation.proportion import Proportion, wilson
from rlhf.foundation.records import LABELS, is_name, rater_name

SUFFIX = ".reference.jsonl"


@dataclass(frozen=True, slots=True)
class Reviewed:
    """One rater measured by one reviewer, over the tasks that both answered.

    `agreement` is the share of them with the same answer, `table[mine][theirs]` how many were answered how.
    """

    rater: str
    reviewer: str
    agreement: Proportion
    table: dict[str, dict[str, int]]


def reference_file(path: Path) -> Path:
    """Where the answers stand by which those of `path` are measured."""
    return path.with_name(path.stem + SUFFIX)


def reviewers_in(words: Sequence[str]) -> list[str]:
    """Names in the words of `--reviewer`, in one form each. Raises InputError for what is no name."""
    names = [rater_name(name) for text in words for name in text.split(",") if name.strip()]
    for name in names:
        if not is_name(name):
            expected = "a name of 1 to 200 characters on one line"
            raise InputError("--reviewer", got=repr(name)[:80], expected=expected, fix="name the person")
    return list(dict.fromkeys(names))


def review(votes: Votes, references: Votes) -> list[Reviewed]:
    """Each rater of `votes` measured by each reviewer of `references`, by name; tasks are told apart by their uid.

    Nobody is measured by themself.
    """
    wanted = set(references.uids)
    places = {uid: place for place, uid in enumerate(votes.uids) if uid in wanted}
    found = []
    for reviewer, answered in references.by_rater().items():
        truth = np.full(len(votes.uids), -1, np.int64)
        for answer in answered:
            place = places.get(references.uids[references.text[answer]])
            if place is not None:
                truth[place] = references.said[answer]
        shared = votes.only(truth[votes.text] >= 0) if len(votes) else votes
        for rater, mine in shared.by_rater().items():
            if rater == reviewer:
                continue
            table = np.zeros((CLASSES, CLASSES), np.int64)
            np.add.at(table, (shared.said[mine].astype(np.int64), truth[shared.text[mine]]), 1)
            rows: dict[str, dict[str, int]] = {
                said: dict(zip(LABELS, map(int, row), strict=True)) for said, row in zip(LABELS, table, strict=True)
            }
            found.append(Reviewed(rater, reviewer, wilson(int(np.trace(table)), int(table.sum())), rows))
    return found
