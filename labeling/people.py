"""Who answered: one name for one person under number, object and e-mail, and a name each for those who have none."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from labeling.answer_table import AnswerTable
from rlhf.foundation.errors import InputError
from rlhf.foundation.lazy import Lazy
from rlhf.foundation.records import Comparison, Label

NOBODY = "imported"
NUMBERED = re.compile(r"user-\d+")
Answered = TypeVar("Answered", Label, Comparison)


class Joined(NamedTuple, Generic[Answered]):
    """Records whose annotators have one name each, and sentences for the person at the keyboard."""

    records: Sequence[Answered]
    notes: list[str]


class People:
    """Who answers in a file, each by a number, until the whole file tells what they are called."""

    def __init__(self) -> None:
        self._numbers: dict[str | int, int] = {}
        self._emails: dict[str, set[str]] = defaultdict(set)

    def number(self, by: Any, place: str) -> int:
        """The number, from 0, of whoever `completed_by` names. Raises InputError as `person`."""
        if isinstance(by, Mapping) and isinstance(by.get("id"), int) and isinstance(by.get("email"), str):
            self._emails[f"user-{by['id']}"].add(by["email"])
        return self._numbers.setdefault(_identity(by, place), len(self._numbers))

    @property
    def nobody(self) -> int:
        """The number of those who are not named, -1 where all are."""
        return self._numbers.get("", -1)

    @property
    def emails(self) -> dict[str, str]:
        """The e-mail of each `user-N` to whom objects of the export give exactly one."""
        return {name: next(iter(found)) for name, found in self._emails.items() if len(found) == 1}

    def names(self) -> list[str]:
        """What each is called, by number; "" for those who are not named."""
        emails = self.emails
        return [_named(who, emails) for who in self._numbers]


def person(by: Any, place: str, emails: Mapping[str, str]) -> str:
    """A name for `completed_by`: the e-mail where one is known, else user-N; "" for nobody. Raises InputError."""
    return _named(_identity(by, place), emails)


def _named(who: str | int, emails: Mapping[str, str]) -> str:
    return emails.get(f"user-{who}", f"user-{who}") if isinstance(who, int) else who


def _identity(by: Any, place: str) -> str | int:
    """A name, a user's number, or "" for nobody."""
    if isinstance(by, Mapping):
        email, by = by.get("email"), by.get("id")
        if isinstance(email, str) and email.strip():
            return email
    if by is None or by == "":
        return ""
    if isinstance(by, str) or (isinstance(by, int) and not isinstance(by, bool)):
        return by
    raise InputError(
        f"{place}, completed_by",
        got=f"{by!r}"[:60],
        expected="a user's number, or an object with id and email",
        fix="export the project again",
    )


def name_unknown(table: AnswerTable, people: People, annotator: str) -> tuple[list[str], int]:
    """What the people of a table are called: who is not named is `annotator`, and without one each further answer to a
    text is another person's.

    Returns the names, and how many answers were such further ones: imported-2, imported-3, ... by time and number, so
    that the order of a file does not matter.
    """
    names, nobody = people.names(), people.nobody
    if nobody < 0:
        return names, 0
    names[nobody] = annotator or NOBODY
    if annotator:
        return names, 0
    unnamed = [place for place, who in enumerate(table.people) if who == nobody]
    seen: Counter[str] = Counter()
    further: dict[int, int] = {}  # imported-2, imported-3, ... -> their numbers among the people
    for place in sorted(unnamed, key=table.age):
        uid = table.uid(place)
        seen[uid] += 1
        if seen[uid] > 1:
            if seen[uid] not in further:
                further[seen[uid]] = len(names)
                names.append(f"{NOBODY}-{seen[uid]}")
            table.people[place] = further[seen[uid]]
    return names, sum(seen.values()) - len(seen)


def join_people(before: Sequence[Answered], new: Sequence[Answered], emails: Mapping[str, str]) -> Joined[Answered]:
    """Earlier records under the names that the new export gives, and what to say about people with two names.

    Where the export gives the number of an earlier `user-N` an e-mail, they are one person, unless the two answered
    one text differently: then they may be of two servers, and only a warning names both.
    """
    earlier = Counter(one.annotator for one in before)
    numbers = sorted(earlier.keys() & emails.keys())
    theirs = {emails[number] for number in numbers}
    unnamed = any(map(_is_nobody, earlier))
    answers = {
        (one.uid, one.annotator): _answer(one)
        for one in (new if numbers or unnamed else ())
        if one.annotator in theirs or _is_nobody(one.annotator)
    }
    differ: Counter[str] = Counter()
    for one in before if answers else ():
        name = emails.get(one.annotator, one.annotator)
        differ[one.annotator] += answers.get((one.uid, name), _answer(one)) != _answer(one)
    notes: list[str] = []
    same: dict[str, str] = {}
    for number in numbers:
        email = emails[number]
        if differ[number]:
            notes.append(f"'{number}' and '{email}' may be one person: they answered a text differently, so both stay")
        else:
            same[number] = email
            notes.append(f"'{number}' is '{email}', says the export: {earlier[number]} earlier answers go by that name")
    if twice := sum(n for name, n in differ.items() if _is_nobody(name)):
        notes.append(f"{NOBODY!r} answered {twice} texts differently before, and the later answer counts: if these are "
                     "several people, give each file its --annotator NAME")  # fmt: skip
    called: set[str] = {same.get(name, name) for name in earlier}
    called.update(one.annotator for one in new)
    return Joined(_renamed(before, same), [*notes, *_doubtful(called)])


def _renamed(records: Sequence[Answered], names: Mapping[str, str]) -> Sequence[Answered]:
    if not names:
        return records

    def renamed(place: int) -> Answered:
        one = records[place]
        return dataclasses.replace(one, annotator=names.get(one.annotator, one.annotator))

    return Lazy(renamed, range(len(records)))


def _is_nobody(name: str) -> bool:
    return name == NOBODY or name.startswith(f"{NOBODY}-")


def _answer(one: Label | Comparison) -> object:
    return one.label if isinstance(one, Label) else (one.tie, one.tie or one.chosen)


def _doubtful(names: set[str]) -> list[str]:
    numbers = sorted(name for name in names if NUMBERED.fullmatch(name))
    emails = sorted(name for name in names if "@" in name)
    if not numbers or not emails:
        return []
    listed = f"{', '.join(map(repr, numbers[:5]))} and {', '.join(map(repr, emails[:5]))}"
    return [f"{listed}: by number and by e-mail, so one person may count twice; import exports of one kind"]
