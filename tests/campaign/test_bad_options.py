"""Every option of every command: what it cannot hold is refused under its name, before anything is read or written."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tests.campaign.bad_values import wrong_calls, yaml_wrong
from tests.campaign.commands import COMMANDS, Command
from tests.campaign.told_in_one_line import Place

FIELDS = [(command, field) for command in COMMANDS for field in command.fields]
ids = pytest.mark.parametrize(("command", "field"), FIELDS, ids=lambda value: value.name.replace(" ", "_"))


@ids
def test_values_that_the_option_cannot_hold(bare: Place, command: Command, field: dataclasses.Field[Any]) -> None:
    for words in wrong_calls(command, field):
        bare.refused(*words, says=f"--{field.name}: got ")


@ids
def test_the_same_in_a_yaml_file(bare: Place, command: Command, field: dataclasses.Field[Any]) -> None:
    for line in yaml_wrong(command, field):
        (bare.folder / "a.yaml").write_text(line)
        bare.refused(*command.call(field.name), "--config", "a.yaml", says=field.name)
