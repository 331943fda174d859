"""SIGKILL before every file operation of every command that writes, and at random moments: nothing is lost.

A killed command is given again, as a person would (`--resume` for PPO); in the end the folder must hold, byte for byte,
what stands there when nobody kills anything, and none of the temporaries of the dead.
"""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path

import pytest

from .deeds import DEEDS, LONG, SWEPT, Deed, Deeds, Done
from .faults import Commands, Outcome, contents, differences, evenly
from .tally import Tally


def go_on(commands: Commands, done: Done, folder: Path) -> list[str]:
    """Give the command again after it was killed; what is then not as it should be.

    It may say, with status 2, that its work is already there, if it is.
    """
    outcome = commands.run(folder, *done.deed.again)
    wrong = done.differences(folder)
    if outcome.status not in (0, 2) or (outcome.status == 2 and wrong):
        return [f"exit {outcome.status}: {outcome.errors.strip()[-300:]}", *wrong]
    return wrong


def killed(commands: Commands, done: Done, folder: Path, at: int, action: str) -> list[str]:
    """Do the deed in a fresh copy, killed at an operation, and again; what is then wrong."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(done.before, folder)
    outcome = commands.run(folder, *done.deed.argv, at=at, action=action)
    assert outcome.status in (-9, 0), outcome.errors  # 0: another number of operations this time
    return go_on(commands, done, folder)


def duration(commands: Commands, done: Done, folder: Path, processes: int = 1) -> float:
    """Seconds that the deed takes when nobody kills it, in a fresh copy at `folder`."""
    shutil.copytree(done.before, folder)
    began = time.monotonic()
    outcome = commands.run(folder, *done.deed.argv, processes=processes)
    assert not any(outcome.statuses), outcome.errors
    return time.monotonic() - began


def operations_of(commands: Commands, done: Done, folder: Path) -> list[int]:
    shutil.copytree(done.before, folder)
    return [operation.number for operation in commands.operations(folder, *done.deed.argv)]


KILLS = 7
QUICK = ("label import, appended", "label page, answers", "ppo, critic and adaptive KL", "export")


@pytest.mark.parametrize("name", QUICK)
def test_killed_before_some_operations(
    commands: Commands, deeds: Deeds, tmp_path: Path, tally: Tally, name: str
) -> None:
    numbers = evenly(operations_of(commands, deeds[name], tmp_path / "counted"), 8)
    wrong = {n: found for n in numbers if (found := killed(commands, deeds[name], tmp_path / "cut", n, "kill"))}
    tally.add(f"killed before an operation: {name}", len(numbers), wrong)
    assert not wrong


@pytest.mark.campaign
@pytest.mark.parametrize("action", ["kill", "tear"])
@pytest.mark.parametrize("deed", SWEPT, ids=lambda deed: deed.name)
def test_killed_before_every_operation(
    commands: Commands, deeds: Deeds, tmp_path: Path, tally: Tally, deed: Deed, action: str
) -> None:
    done = deeds[deed.name]
    shutil.copytree(done.before, tmp_path / "counted")
    operations = commands.operations(tmp_path / "counted", *deed.argv)
    chosen = [o for o in operations if action == "kill" or o.name == "write"]
    wrong = {str(o): found for o in chosen if (found := killed(commands, done, tmp_path / "cut", o.number, action))}
    tally.add(f"{action} at every operation: {deed.name}", len(chosen), wrong)
    assert not wrong


@pytest.mark.campaign
@pytest.mark.parametrize("deed", [*DEEDS, *LONG], ids=lambda deed: deed.name)
def test_killed_at_random_moments(commands: Commands, deeds: Deeds, tmp_path: Path, tally: Tally, deed: Deed) -> None:
    done, folder, wrong, kills = deeds[deed.name], tmp_path / "cut", {}, 0
    seed = random.randrange(10_000)
    moments = random.Random(seed)
    seconds = duration(commands, done, tmp_path / "timed")
    while kills < KILLS:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(done.before, folder)
        moment = moments.uniform(0, seconds)
        ended = commands.run(folder, *deed.argv, kill_after=moment).status
        kills += ended == -9
        if found := go_on(commands, done, folder):
            wrong[moment] = found
    tally.add(f"killed at a random moment (seed {seed}): {deed.name}", kills, wrong)
    assert not wrong


PAIR = ("ppo, all weights", "ppo, LoRA", "ppo, reward model")


@pytest.mark.campaign
@pytest.mark.parametrize("rank", [0, 1, None], ids=["rank 0", "rank 1", "both"])
@pytest.mark.parametrize("name", PAIR)
def test_two_processes_of_which_one_or_both_are_killed(
    commands: Commands, deeds: Deeds, tmp_path: Path, tally: Tally, name: str, rank: int | None
) -> None:
    done, wrong, kills = deeds[name], {}, 0
    moments = random.Random(rank)
    seconds = duration(commands, done, tmp_path / "whole", processes=2)
    whole = contents(tmp_path / "whole")
    while kills < 4:
        folder = tmp_path / f"cut-{kills}"
        shutil.copytree(done.before, folder)
        moment = moments.uniform(0, seconds)
        ended = commands.run(folder, *done.deed.argv, processes=2, rank=rank, kill_after=moment)
        kills += -9 in ended.statuses
        if -9 in ended.statuses and rank is not None:
            left = ended.statuses[1 - rank]
            assert left in (2, 0), ended  # told in a line, or done already
        outcome: Outcome = commands.run(folder, *done.deed.again, processes=2)
        if found := differences(whole, contents(folder)) or [s for s in outcome.statuses if s]:
            wrong[moment] = [*found, outcome.errors[-300:]]
        shutil.rmtree(folder)
    tally.add(f"two processes, {'both' if rank is None else f'rank {rank}'} killed: {name}", kills, wrong)
    assert not wrong
