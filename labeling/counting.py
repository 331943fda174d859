"""Which rows count, told before anything is computed from them: one way for status, reward models and gold.

1. A rater's row on one task counts once: of two rows of one uid the later one in the file.
2. Texts that differ by white space at their end, line ends or Unicode form only are one text under two uids.
3. Names that differ by white space around them or Unicode form are one rater; those that differ by case are told.

A text that was sampled twice and judged twice under two uids keeps both judgements: they are two answers.
"""

from __future__ import annotations

import dataclasses
import json
import math
import unicodedata
from array import array
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from labeling.votes import Votes
from rlhf.foundation.errors import InputError
from rlhf.foundation.lazy import Lazy
from rlhf.foundation.records import LABELS, ORIGINS, Comparison, Label, LabelName, content_uid, rater_name
from rlhf.foundation.repeats import Keys, Places, grouped
from rlhf.foundation.terminal import shown


@dataclass(frozen=True, slots=True)
class Counted:
    """The rows that count, each with the uid of its text's first row and the rater's one name, and what was found.

    `votes` are these rows as columns, `labels` the rows themselves, made when they are looked at; `kept` has the place
    of each among the rows that were given, from 0.
    `doubled` rows were replaced by a later one of the same rater and uid, `changed` of them with another answer;
    `twins` texts are another one but for white space or Unicode form; `equal` pairs had two such texts, so that no
    answer says anything; `spellings` are names written in several ways, `similar` those that differ by case only.
    """

    votes: Votes
    labels: Sequence[Label]
    kept: Sequence[int]
    rows: int
    doubled: int = 0
    changed: int = 0
    twins: int = 0
    equal: int = 0
    spellings: Mapping[str, Sequence[str]] = field(default_factory=dict)
    similar: Sequence[Sequence[str]] = ()

    def lines(self) -> list[str]:
        """What a person should know, a line each; none where every row counts as it stands."""
        told = []
        if self.doubled:
            changed = f" ({self.changed} with another answer)" if self.changed else ""
            told.append(
                f"rows that repeat a rater's row on the same task: {self.doubled}{changed}; the later one counts"
            )
        if self.twins:
            told.append(
                f"texts that differ from another by white space or Unicode form only: {self.twins}; counted with it"
            )
        if self.equal:
            told.append(f"answers to pairs of two texts that look the same: {self.equal}; left out")
        for name, ways in self.spellings.items():
            told.append(f"{shown(name, 40)} is written in {len(ways)} ways ({_listed(ways)}): counted as one rater")
        for names in self.similar:
            told.append(
                f"{_listed(names)} differ by case only: counted as {len(names)} raters; rename one if it is one"
            )
        return told

    def report(self) -> dict[str, Any]:
        """The same as numbers, for JSON."""
        return {
            "counted": len(self.votes),
            "doubled_rows": self.doubled,
            "doubled_rows_changed": self.changed,
            "twin_texts": self.twins,
            "equal_pairs": self.equal,
            "names_written_in_several_ways": {name: list(ways) for name, ways in self.spellings.items()},
            "names_that_differ_by_case": [list(names) for names in self.similar],
        }


def count_once(labels: Sequence[Label], keys: Sequence[Hashable] | None = None, *, equal: int = 0) -> Counted:
    """The labels that count (see the top of the file), in order of first appearance; they are gone through once.

    `keys` says which labels are of one text, by default those whose prompt and completion are alike in `plain`.
    Raises InputError when one uid carries two texts.
    """
    counting = Counting()
    for place, label in enumerate(labels):
        counting.add(label, None if keys is None else keys[place])
    return counting.counted(labels, equal)


class Counting:
    """`count_once` while the labels pass: 22 bytes of each are held, and what tells texts apart.

    Rows of one uid and text that stand together, as several raters' do, are a run; of a run 48 bytes are held, and its
    uid.
    """

    def __init__(self) -> None:
        self._given: dict[str, int] = {}  # names as they stand
        self._name, self._run = array("i"), array("I")
        self._said, self._origin, self._seconds = bytearray(), bytearray(), array("d")
        self._uids: list[str] = []  # of each run
        self._by_uid, self._by_text, self._by_raw = Keys(), Keys(), Keys()
        self._before: tuple[str, str, str] | None = None

    def add(self, label: Label, key: Hashable = None) -> None:
        """The next row; `key` is what `count_once` says of it."""
        self._name.append(self._given.setdefault(label.annotator, len(self._given)))
        self._said.append(LABELS.index(label.label))
        self._origin.append(ORIGINS.index(label.origin))
        self._seconds.append(math.nan if label.lead_time is None else label.lead_time)
        text = (label.uid, label.prompt, label.completion)
        if key is not None or text != self._before:
            raw = label.prompt + label.completion
            self._by_raw.add(raw)
            self._by_text.add(plain(raw) if key is None else repr(key))
            self._by_uid.add(label.uid)
            self._uids.append(label.uid)
            self._before = text
        self._run.append(len(self._uids) - 1)

    def counted(self, labels: Sequence[Label], equal: int = 0) -> Counted:
        """What counts of the rows, which are those of `labels`. Raises InputError when one uid carries two texts."""
        text, first_run, twins = self._texts()
        run = np.frombuffer(self._run, np.uint32)
        uid = self._by_uid.numbers()[0][run]
        names: dict[str, int] = {}
        of_name = np.array([names.setdefault(rater_name(name), len(names)) for name in self._given], np.int32)
        rater = of_name[np.frombuffer(self._name, np.int32)]
        said = np.frombuffer(self._said, np.uint8)
        kept, changed = _once(uid * max(1, len(names)) + rater, said)
        votes = Votes(
            [self._uids[place] for place in first_run],
            list(names),
            text[run[kept]],
            rater[kept],
            said[kept].astype(np.int8),
            np.frombuffer(self._seconds)[kept],
            np.frombuffer(self._origin, np.uint8)[kept].astype(np.int8),
        )

        def label(place: int) -> Label:
            uid, name = votes.uids[votes.text[place]], votes.raters[votes.rater[place]]
            return dataclasses.replace(labels[int(kept[place])], uid=uid, annotator=name)

        return Counted(
            votes,
            Lazy(label, range(len(kept))),
            Lazy(int, array("q", kept.tobytes())),
            len(labels) + equal,
            len(run) - len(kept),
            changed,
            twins,
            equal,
            *_names(list(self._given)),
        )

    def _texts(self) -> tuple[Places, Places, int]:
        """The number of each run's text, the run in which each text first came, and how many are another's twins.

        Raises InputError when one uid carries two texts.
        """
        text, first_run = self._by_text.numbers()
        uid, first_of_uid = self._by_uid.numbers()
        differ = np.flatnonzero(text != text[first_of_uid[uid]])
        if len(differ):
            wrong = self._uids[differ[0]]
            raise InputError(
                f"labels of uid {wrong}", got="two different texts", expected="one text a uid", fix="mend the file"
            )
        raw, _ = self._by_raw.numbers()
        return text, first_run, len(np.unique(text * max(1, len(raw)) + raw)) - len(first_run)


def _once(pairs: Places, said: npt.NDArray[np.uint8]) -> tuple[Places, int]:
    """Of rows of one uid and rater (`pairs`) the place of the last, by the place of the first; and how many rows said
    something else than the one before them.
    """
    if not len(pairs):
        return pairs, 0
    order = np.argsort(pairs, kind="stable")
    pairs, said = pairs[order], said[order]
    last = grouped(pairs)
    first = order[np.concatenate(([0], last[:-1] + 1))]
    changed = (said[1:] != said[:-1]) & (pairs[1:] == pairs[:-1])
    return order[last][np.argsort(first)], int(changed.sum())


def _names(given: Sequence[str]) -> tuple[dict[str, list[str]], list[list[str]]]:
    """Names written in several ways, and the groups that differ by case only."""
    ways: dict[str, set[str]] = defaultdict(set)
    for name in set(given):
        ways[rater_name(name)].add(name)
    folded: dict[str, list[str]] = defaultdict(list)
    for name in sorted(ways):
        folded[name.casefold()].append(name)
    several = {name: sorted(found) for name, found in sorted(ways.items()) if len(found) > 1}
    return several, [names for names in folded.values() if len(names) > 1]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(shown(repr(name), 40) for name in names)


def plain(text: object) -> str:
    """What a reader sees of a text: Unicode's form NFC, `\\n` at line ends, no white space at its end.

    Of a conversation the same of every string in it, as JSON.
    """
    return _plain(text) if isinstance(text, str) else json.dumps(_leaves(text), ensure_ascii=False, sort_keys=True)


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n")).rstrip()


def _leaves(value: object) -> object:
    if isinstance(value, str):
        return _plain(value)
    if isinstance(value, Mapping):
        return {name: _leaves(part) for name, part in value.items()}
    return [_leaves(part) for part in value] if isinstance(value, list) else value


def pair_label(
    prompt: object, chosen: object, rejected: object, *, tie: bool, **rest: Any
) -> tuple[Label, tuple[str, ...]]:
    """An answer to a pair as a label, and the pair's key: agreement and pooling are one computation for both kinds.

    Of the two texts as `pair_order` puts them, negative means that the first was chosen, positive the second, neutral
    a tie. `rest` holds the label's remaining fields; texts may be conversations.
    """
    one, two = sorted((chosen, rejected), key=pair_order)
    answer: LabelName = "neutral" if tie else "negative" if plain(chosen) == plain(one) else "positive"
    label = Label(prompt=_text(prompt), completion=f"{_text(one)} | {_text(two)}", label=answer, **rest)
    return label, (plain(prompt), plain(one), plain(two))


def pair_order(text: object) -> str:
    """What a pair's texts are sorted by: a digest, so that the order goes with nothing that a rater could like.

    In the alphabet's order all good texts might come first; raters who always choose them would agree by chance alone.
    """
    return content_uid(plain(text))


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def count_comparisons(comparisons: Sequence[Comparison]) -> Counted:
    """`count_once` of comparisons in the shape of labels (see `pair_label`); pairs of equal texts are left out."""
    found = [
        pair_label(
            c.prompt,
            c.chosen,
            c.rejected,
            tie=c.tie,
            uid=c.uid,
            annotator=c.annotator,
            created_at=c.created_at,
            lead_time=c.lead_time,
            origin=c.origin,
        )
        for c in comparisons
        if plain(c.chosen) != plain(c.rejected)
    ]
    equal = len(comparisons) - len(found)
    return count_once([label for label, _ in found], [key for _, key in found], equal=equal)
