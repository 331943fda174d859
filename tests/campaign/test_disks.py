"""A disk that is full from some write on, that cannot flush, that is read-only, and a clock that jumps.

The command ends with status 2 and one line, or does not notice; what stood there before stands there still; and with a
disk that works again the same command brings the folder to what it would have been.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import need_real

from .deeds import SWEPT, Deed, Deeds, Done
from .faults import Commands, Operation, Outcome, contents, evenly, used
from .tally import Tally

QUICK = ("label import, appended", "ppo, all weights", "reward")
DAY = 24 * 60 * 60


def told(outcome: Outcome) -> list[str]:
    """What is wrong with how a command ended that met a bad disk: it may succeed, or say one line with status 2."""
    lines = [line for line in outcome.errors.splitlines() if line.strip()]
    news = [line for line in lines if not line.startswith(("rlhf: removed", "rlhf: put ", "rlhf: moved to"))]
    if outcome.status == 0:
        return []
    if outcome.status != 2:
        return [f"exit {outcome.status}: {outcome.errors.strip()[-400:]}"]
    return [] if len(news) == 1 and news[0].startswith("rlhf: ") else [f"told in {len(news)} lines: {news}"]


def met(commands: Commands, done: Done, folder: Path, operation: Operation, action: str) -> list[str]:
    """Do the deed on a disk that goes bad at an operation, then on one that works; what is then wrong."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(done.before, folder)
    before = contents(folder)
    outcome = commands.run(folder, *done.deed.argv, at=operation.number, action=action)
    wrong = told(outcome)
    now = contents(folder)
    wrong += [f"{name} was lost" for name in before.keys() - now.keys() if name in done.after]
    wrong += [f"{name} is neither old nor new" for name in before.keys() & now.keys()
              if now[name] not in (before[name], done.after.get(name))]  # fmt: skip
    again = commands.run(folder, *done.deed.again) if outcome.status else outcome
    missing = done.differences(folder)
    if again.status not in (0, 2) or (again.status == 2 and missing):
        wrong.append(f"again: exit {again.status}: {again.errors.strip()[-300:]}")
    return wrong + missing


def operations(commands: Commands, done: Done, folder: Path) -> list[Operation]:
    """What the deed does to the disk."""
    shutil.copytree(done.before, folder)
    return commands.operations(folder, *done.deed.argv)


def needing_space(found: list[Operation]) -> list[Operation]:
    """Those that a full disk refuses."""
    return [operation for operation in found if operation.name in ("open", "write", "mkdir", "truncate")]


@pytest.mark.parametrize("name", QUICK)
def test_a_disk_that_is_full_at_some_writes(
    commands: Commands, deeds: Deeds, tmp_path: Path, tally: Tally, name: str
) -> None:
    chosen = evenly(needing_space(operations(commands, deeds[name], tmp_path / "counted")), 5)
    wrong = {str(o): found for o in chosen if (found := met(commands, deeds[name], tmp_path / "cut", o, "full"))}
    tally.add(f"full disk: {name}", len(chosen), wrong)
    assert not wrong


@pytest.mark.campaign
@pytest.mark.parametrize("action", ["full", "fsync"])
@pytest.mark.parametrize("deed", SWEPT, ids=lambda deed: deed.name)
def test_a_disk_that_fails_at_every_operation(
    commands: Commands, deeds: Deeds, tmp_path: Path, tally: Tally, deed: Deed, action: str
) -> None:
    done = deeds[deed.name]
    found = operations(commands, done, tmp_path / "counted")
    chosen = needing_space(found) if action == "full" else [o for o in found if o.name == "fsync"]
    wrong = {str(o): bad for o in chosen if (bad := met(commands, done, tmp_path / "cut", o, action))}
    tally.add(f"{'full disk' if action == 'full' else 'failing fsync'} at every operation: {deed.name}",
              len(chosen), wrong)  # fmt: skip
    assert not wrong


@pytest.mark.campaign
@pytest.mark.parametrize("deed", SWEPT, ids=lambda deed: deed.name)
def test_a_disk_that_turns_read_only(
    commands: Commands, deeds: Deeds, tmp_path: Path, tally: Tally, deed: Deed
) -> None:
    done = deeds[deed.name]
    chosen = evenly(operations(commands, done, tmp_path / "counted"), 8)
    wrong = {str(o): bad for o in chosen if (bad := met(commands, done, tmp_path / "cut", o, "readonly"))}
    tally.add(f"read-only disk: {deed.name}", len(chosen), wrong)
    assert not wrong


@pytest.mark.campaign
@pytest.mark.parametrize("jump", [-DAY, 3650 * DAY], ids=["a day back", "ten years forward"])
@pytest.mark.parametrize("deed", SWEPT, ids=lambda deed: deed.name)
def test_a_clock_that_jumps(
    commands: Commands, deeds: Deeds, tmp_path: Path, tally: Tally, deed: Deed, jump: int
) -> None:
    done, wrong = deeds[deed.name], {}
    chosen = evenly(operations(commands, done, tmp_path / "counted"), 4)
    for operation in chosen:
        shutil.rmtree(tmp_path / "cut", ignore_errors=True)
        shutil.copytree(done.before, tmp_path / "cut")
        at = {"at": operation.number, "action": "clock", "seconds": jump}
        outcome = commands.run(tmp_path / "cut", *deed.argv, **at)  # type: ignore[arg-type]
        bad = done.differences(tmp_path / "cut")
        if bad or outcome.status != 0:
            wrong[str(operation)] = [*bad, outcome.errors[-300:]]
    tally.add(f"clock jumps: {deed.name}", len(chosen), wrong)
    assert not wrong


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system in memory whose size can be set (`resize`)."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "rlhf-campaign", place], check=False)
    need_real(mounted.returncode == 0, "the right to mount a tmpfs (root)")
    yield place
    subprocess.run(["umount", place], check=True)


def resize(place: Path, size: int) -> None:
    """Give the file system `size` bytes."""
    subprocess.run(["mount", "-o", f"remount,size={size}", place], check=True)


@pytest.mark.campaign
@pytest.mark.real
@pytest.mark.parametrize("name", ["pretrain", "sample", "reward", "ppo, all weights", "evaluate", "export"])
def test_a_small_disk(commands: Commands, deeds: Deeds, small_disk: Path, tally: Tally, name: str) -> None:
    done, wrong, sizes = deeds[name], {}, 6
    for number in range(sizes):
        resize(small_disk, 64 << 20)
        folder = small_disk / "folder"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(done.before, folder)
        have = used(folder)
        resize(small_disk, have + round((done.bytes - have) * number / sizes) + 4096)
        outcome = commands.run(folder, *done.deed.argv)
        bad = told(outcome)
        resize(small_disk, 64 << 20)
        if outcome.status:
            commands.run(folder, *done.deed.again)
        if bad := bad + done.differences(folder):
            wrong[number] = bad
    tally.add(f"a tmpfs too small: {name}", sizes, wrong)
    assert not wrong
