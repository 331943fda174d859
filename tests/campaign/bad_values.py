"""Values that no option can hold, by the type of its field: every one must be refused under the option's own name."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

from rlhf.foundation.options import Expected
from tests.campaign.commands import Command

DIGITS = "1" + "0" * 400
WRONG: dict[type, list[str]] = {
    int: ["", "x", "nan", "inf", "1.5", "1e3", "-", str(2**70), DIGITS, "-" + DIGITS, "1\n2"],
    float: ["", "x", "nan", "inf", "-inf", "1e400", DIGITS, "1,5"],
    bool: ["", "perhaps", "2", "nan", "\x1b[2J"],
    str: ["a\0b"],
}
OF_NO_CHOICE = ["", "no_such_choice", "a\0b", "\x1b[2J\u202e"]
GOOD: dict[type, tuple[str, str]] = {int: ("1", "2"), float: ("1", "2"), str: ("a", "b"), bool: ("true", "false")}
# What a YAML file can say and a command line cannot, by type.
YAML_WRONG: dict[type, list[str]] = {
    int: ["true", "1.0", "[1, 2]", "{a: 1}", "2026-01-01", ".nan", "1" + "0" * 30, "''", "!!binary aGk="],
    float: ["true", "[1, 2]", "{a: 1}", "2026-01-01", ".nan", ".inf", "'x'", "1" + "0" * 400],
    bool: ["3", "[true]", "{a: true}", "perhaps", "2026-01-01", "1.5"],
    str: ["true", "3", "1.10", "{a: b}", "2026-01-01", "!!binary aGk=", "[[a]]"],
}


def expected_of(command: Command, field: dataclasses.Field[Any]) -> Expected:
    """What a field may hold."""
    return Expected.of(typing.get_type_hints(command.kind)[field.name], field.metadata.get("choices"))


def wrong_calls(command: Command, field: dataclasses.Field[Any]) -> list[list[str]]:
    """Calls whose only fault is this option."""
    expected, option = expected_of(command, field), f"--{field.name}"
    rest = command.call(field.name)
    good = (str(expected.choices[0]),) * 2 if expected.choices else GOOD[expected.item]
    calls = [[*rest, f"{option}={value}"] for value in (OF_NO_CHOICE if expected.choices else WRONG[expected.item])]
    calls.append([*rest, option, good[0], option, good[1]])  # twice
    if not expected.several and expected.item is not bool:
        calls.append([*rest, option, *good])  # several where one is meant
    if expected.item is not bool:
        calls.append([*rest, option])  # nothing
    if not expected.several and not expected.choices and expected.item in (int, float):
        calls.append([*rest, f"{option}=['1']"])
    return calls


def yaml_wrong(command: Command, field: dataclasses.Field[Any]) -> list[str]:
    """The same for a line of a YAML file."""
    expected = expected_of(command, field)
    values = YAML_WRONG[expected.item]
    return [f"{field.name}: [{value}]" if expected.several and value[0] not in "[" else f"{field.name}: {value}"
            for value in values if not (expected.several and value == "[1, 2]")]  # fmt: skip
