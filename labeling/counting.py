"""Which rows count, told before anything is computed from them: one way for status, reward models and gold.

1. A rater's row on one task counts once: of two rows of one uid the later one in the file.
2. Texts that differ by white space at their end, line ends or Unicode form only are one text under two uids.
3. Names that differ by white space around them or Unicode form are one rater; those that differ by case are told.

A text that was sampled twice and judged twice under two uids keeps both judgements: they are two answers.
"""

from __future__ import annotations

import dataclasses
import json
import unicodedata
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from labeling.pairs import content_uid
from rlhf.foundation.errors import InputError
from rlhf.foundation.records import Comparison, Label, LabelName, rater_name
from rlhf.foundation.terminal import shown


@dataclass(frozen=True, slots=True)
class Counted:
    """The rows that count, each with the uid of its text's first row and the rater's one name, and what was found.

    `kept` has the place of each among the rows that were given, from 0.
    `doubled` rows were replaced by a later one of the same rater and uid, `changed` of them with another answer;
    `twins` texts are another one but for white space or Unicode form; `equal` pairs had two such texts, so that no
    answer says anything; `spellings` are names written in several ways, `similar` those that differ by case only.
    """

    labels: list[Label]
    kept: list[int]
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
            "counted": len(self.labels),
            "doubled_rows": self.doubled,
            "doubled_rows_changed": self.changed,
            "twin_texts": self.twins,
            "equal_pairs": self.equal,
            "names_written_in_several_ways": {name: list(ways) for name, ways in self.spellings.items()},
            "names_that_differ_by_case": [list(names) for names in self.similar],
        }


def count_once(labels: Sequence[Label], keys: Sequence[Hashable] | None = None, *, equal: int = 0) -> Counted:
    """The labels that count (see the top of the file), in order of first appearance.

    `keys` says which labels are of one text, by default those whose prompt and completion are alike in `plain`.
    Raises InputError when one uid carries two texts.
    """
    keys = [plain(label.prompt + label.completion) for label in labels] if keys is None else keys
    key_of: dict[str, Hashable] = {}
    first: dict[Hashable, str] = {}
    raw: dict[Hashable, set[str]] = defaultdict(set)
    kept: dict[tuple[str, str], tuple[Label, int]] = {}
    doubled = changed = 0
    for number, (label, key) in enumerate(zip(labels, keys, strict=True)):
        if key_of.setdefault(label.uid, key) != key:
            raise InputError(
                f"labels of uid {label.uid}", got="two different texts", expected="one text a uid", fix="mend the file"
            )
        uid = first.setdefault(key, label.uid)
        raw[key].add(label.prompt + label.completion)
        name = rater_name(label.annotator)
        other = kept.get((label.uid, name))
        doubled += other is not None
        changed += other is not None and other[0].label != label.label
        kept[label.uid, name] = dataclasses.replace(label, uid=uid, annotator=name), number
    return Counted(
        [label for label, _ in kept.values()],
        [number for _, number in kept.values()],
        len(labels) + equal,
        doubled,
        changed,
        sum(len(texts) - 1 for texts in raw.values()),
        equal,
        *_names([label.annotator for label in labels]),
    )


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
