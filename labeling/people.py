"""Who answered: one name for one person under number, object and e-mail, and a name each for those who have none."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from labeling.annotations import Annotation, Item
from rlhf.foundation.errors import InputError
from rlhf.foundation.moments import instant
from rlhf.foundation.records import Comparison, Label

NOBODY = "imported"
NUMBERED = re.compile(r"user-\d+")
Answered = TypeVar("Answered", Label, Comparison)


class Joined(NamedTuple, Generic[Answered]):
    """Records whose annotators have one name each, and sentences for the person at the keyboard."""

    records: list[Answered]
    notes: list[str]


def emails_by_number(items: Iterable[Item]) -> dict[str, str]:
    """The e-mail of each `user-N` to whom objects of the export give exactly one."""
    emails: dict[str, set[str]] = defaultdict(set)
    for by in (annotation.get("completed_by") for item in items for annotation in item.annotations):
        if isinstance(by, Mapping) and isinstance(by.get("id"), int) and isinstance(by.get("email"), str):
            emails[f"user-{by['id']}"].add(by["email"])
    return {name: found.pop() for name, found in emails.items() if len(found) == 1}


def person(by: Any, place: str, emails: Mapping[str, str]) -> str:
    """A name for `completed_by`: the e-mail where one is known, else user-N; "" for nobody. Raises InputError."""
    if isinstance(by, Mapping):
        email, by = by.get("email"), by.get("id")
        if isinstance(email, str) and email.strip():
            return email
    if by is None or by == "":
        return ""
    if isinstance(by, str):
        return by
    if isinstance(by, int) and not isinstance(by, bool):
        return emails.get(f"user-{by}", f"user-{by}")
    raise InputError(
        f"{place}, completed_by",
        got=f"{by!r}"[:60],
        expected="a user's number, or an object with id and email",
        fix="export the project again",
    )


def name_unknown(found: Sequence[Annotation], annotator: str) -> tuple[list[Annotation], int]:
    """Answers that name nobody get `annotator`; without one each further answer to a text is another person's.

    Returns the answers and how many of them were such further ones: imported-2, imported-3, ... by time and number,
    so that the order of a file does not matter.
    """
    names: dict[int, str] = {}
    seen: Counter[str] = Counter()
    unnamed = [i for i, one in enumerate(found) if not one.annotator]
    for i in sorted(unnamed, key=lambda i: (instant(found[i].updated_at, "an answer"), found[i].number)):
        seen[found[i].uid] += 1
        number = seen[found[i].uid]
        names[i] = annotator or (NOBODY if number == 1 else f"{NOBODY}-{number}")
    named = [dataclasses.replace(one, annotator=names[i]) if i in names else one for i, one in enumerate(found)]
    return named, 0 if annotator else sum(seen.values()) - len(seen)


def join_people(before: Sequence[Answered], new: Sequence[Answered], emails: Mapping[str, str]) -> Joined[Answered]:
    """Earlier records under the names that the new export gives, and what to say about people with two names.

    Where the export gives the number of an earlier `user-N` an e-mail, they are one person, unless the two answered
    one text differently: then they may be of two servers, and only a warning names both.
    """
    answers = {(one.uid, one.annotator): _answer(one) for one in new}
    notes: list[str] = []
    same: dict[str, str] = {}
    for number in sorted({one.annotator for one in before} & emails.keys()):
        email, earlier = emails[number], [one for one in before if one.annotator == number]
        if any(answers.get((one.uid, email), _answer(one)) != _answer(one) for one in earlier):
            notes.append(f"'{number}' and '{email}' may be one person: they answered a text differently, so both stay")
        else:
            same[number] = email
            notes.append(f"'{number}' is '{email}', says the export: {len(earlier)} earlier answers go by that name")
    twice = sum(
        answers.get((one.uid, one.annotator), _answer(one)) != _answer(one) for one in before if _is_nobody(one)
    )
    if twice:
        notes.append(f"{NOBODY!r} answered {twice} texts differently before, and the later answer counts: if these are "
                     "several people, give each file its --annotator NAME")  # fmt: skip
    joined: list[Answered] = [
        dataclasses.replace(one, annotator=same.get(one.annotator, one.annotator)) for one in before
    ]
    return Joined(joined, [*notes, *_doubtful({one.annotator for one in [*joined, *new]})])


def _is_nobody(one: Label | Comparison) -> bool:
    return one.annotator == NOBODY or one.annotator.startswith(f"{NOBODY}-")


def _answer(one: Label | Comparison) -> object:
    return one.label if isinstance(one, Label) else (one.tie, one.tie or one.chosen)


def _doubtful(names: set[str]) -> list[str]:
    numbers = sorted(name for name in names if NUMBERED.fullmatch(name))
    emails = sorted(name for name in names if "@" in name)
    if not numbers or not emails:
        return []
    listed = f"{', '.join(map(repr, numbers[:5]))} and {', '.join(map(repr, emails[:5]))}"
    return [f"{listed}: by number and by e-mail, so one person may count twice; import exports of one kind"]
