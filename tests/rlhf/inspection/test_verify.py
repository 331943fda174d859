"""`rlhf inspect --verify`: every file of a run has a digest, and whatever is changed or gone is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf import cli
from rlhf.evaluation.evaluate import EvaluateConfig, evaluate
from rlhf.evaluation.export import ExportConfig, export
from rlhf.evaluation.rate_push import RatePushConfig, rate_push
from rlhf.foundation.digests import SEAL, digest_files, write_sealed
from rlhf.foundation.errors import InputError
from rlhf.runs.reading import read_run
from rlhf.whole_loop.inspect_runs import InspectConfig, inspect
from rlhf.whole_loop.verification import verify


@pytest.fixture(scope="module")
def evaluated(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with its model beside it, and fresh samples."""
    place = tmp_path_factory.mktemp("evaluated")
    shutil.copytree(trained_run.parent, place / "work")
    run = place / "work" / "run"
    evaluate.run(EvaluateConfig(run=str(run), num_samples=8, heat_samples=2, best_of_n_samples=0, quiet=True))
    return run


@pytest.fixture
def run(evaluated: Path, tmp_path: Path) -> Path:
    shutil.copytree(evaluated.parent, tmp_path / "work")
    return tmp_path / "work" / "run"


def turn_a_bit(path: Path, at: int = -5) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(bytes(content))


def test_a_whole_run_is_whole(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["inspect", "--verify", str(run)]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    rung = read_run(run).rungs[-1]
    lines = (run / "metrics.jsonl").read_text().count("\n")
    for line in (
        "run.json: whole",
        f"rung {rung.name}: {len(rung.files or {})} files whole",
        f"metrics.jsonl: {lines} lines, whole",
        "evaluation.json: made from samples that are unchanged",
        "original model: unchanged",
        "prompts: unchanged",
        "reward 1, full_stop: unchanged",
    ):
        assert line in printed.out.splitlines()
    assert "GB/s" in printed.out
    assert sum(line.startswith("state ") for line in printed.out.splitlines()) == 2


FILES = {
    "weights": "checkpoints/{rung}/model.safetensors",
    "config": "checkpoints/{rung}/config.json",
    "samples": "samples/{rung}.jsonl",
    "metrics": "metrics.jsonl",
    "adam": "state/{state}/optimizer.safetensors",
    "fresh samples": "evaluation/{rung}.jsonl",
    "heat": "evaluation/heat.json",
}


@pytest.mark.parametrize("name", FILES.values(), ids=FILES.keys())
@pytest.mark.parametrize("spoil", [turn_a_bit, Path.unlink], ids=["bit", "gone"])
def test_every_file_counts(run: Path, name: str, spoil: Callable[[Path], None]) -> None:
    state = max(path.name for path in (run / "state").iterdir())
    path = run / name.format(rung=read_run(run).rungs[-1].name, state=state)
    spoil(path)
    (wrong,) = verify(run).wrong
    assert path.name in wrong
    assert "is gone" in wrong if spoil is Path.unlink else "was changed" in wrong


RECORDS: dict[str, Callable[[dict[str, object]], object]] = {
    "run.json": lambda value: value.update(seed=7),
    "ladder.json": lambda value: value["rungs"][0].update(reward=0.25),  # type: ignore[index]
    "evaluation.json": lambda value: value["rungs"][0].update(kl=0.1),  # type: ignore[index]
}


@pytest.mark.parametrize(("name", "change"), RECORDS.items(), ids=RECORDS.keys())
def test_a_number_changed_in_a_record_is_noticed(
    run: Path, name: str, change: Callable[[dict[str, object]], object]
) -> None:
    value = json.loads((run / name).read_text())
    (run / name).write_text(json.dumps(value))  # written otherwise, the same content
    assert verify(run).wrong == []
    change(value)
    (run / name).write_text(json.dumps(value))
    (wrong,) = verify(run).wrong
    assert f"{name} was changed since it was written" in wrong


def test_the_first_damage_and_the_count_are_one_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, *_, last = read_run(run).rungs
    turn_a_bit(run / first.path / "model.safetensors")
    (run / last.samples).unlink()
    assert cli.main(["inspect", "--verify", str(run)]) == 2
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert f"rung {first.name}: {first.path}/model.safetensors was changed since it was written" in line
    assert "2 things changed or gone in all" in line
    assert f"rung {last.name}: {last.samples} is gone" in printed.out


def test_inputs_are_found_moved_changed_or_gone(run: Path, tmp_path: Path) -> None:
    shutil.move(run.parent, tmp_path / "moved")
    run, model = tmp_path / "moved" / "run", tmp_path / "moved" / "model"
    said = {part.name: part for part in verify(run).parts}
    assert said["original model"].says == "unchanged"
    turn_a_bit(model / "model.safetensors")
    (wrong,) = verify(run).wrong
    assert wrong == "original model: changed (original model's weights)"
    shutil.rmtree(model)
    assert verify(run).wrong == []  # it stands where it was when the run began
    info = json.loads((run / "run.json").read_text())
    info["resolved"]["model_name_or_path"] = "gone"
    info["paths"] = {"gone": {"absolute": str(tmp_path / "nowhere"), "relative_to_run": "../gone"}}
    write_sealed(run / "run.json", info)
    (wrong,) = verify(run).wrong
    assert wrong.startswith("original model: not found: --model_name_or_path, neither ")


def test_an_old_run_says_what_has_no_digest(run: Path) -> None:
    for name in ("run.json", "ladder.json", "evaluation.json"):
        value = json.loads((run / name).read_text())
        for key in (SEAL, "files", "inputs", "sessions", "reward_origins"):
            value.pop(key, None)
        for rung in value["rungs"] if name == "ladder.json" else []:
            rung.pop("files")
        (run / name).write_text(json.dumps(value))
    shutil.rmtree(run / "state")
    found = verify(run)
    assert found.wrong == []
    assert {part.says for part in found.parts} == {"no digest was recorded (an older version wrote it)"}


def test_a_running_run_is_whole_up_to_its_last_state(run: Path) -> None:
    value = json.loads((run / "run.json").read_text())
    *whole, last = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(whole))
    files = digest_files(run, "metrics.jsonl")
    (run / "metrics.jsonl").write_text("".join([*whole, last]))
    write_sealed(run / "run.json", {**value, "files": files, "status": "running"})
    said = {part.name: part.says for part in verify(run).parts}
    assert said["metrics.jsonl"] == f"{len(whole)} lines up to the last state, whole"
    turn_a_bit(run / "metrics.jsonl")  # beyond the state: nothing is known of it
    assert verify(run).wrong == []
    turn_a_bit(run / "metrics.jsonl", 20)
    assert verify(run).wrong == ["metrics.jsonl: metrics.jsonl was changed since it was written"]


def test_what_is_no_work_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no record of work"):
        verify(tmp_path)


# What each command reads of a run besides checkpoints; `evaluate` writes the evaluation anew and reads no metrics.
READ = {
    "inspect": ("run.json", "ladder.json", "metrics.jsonl", "samples", "evaluation"),
    "evaluate": ("run.json", "ladder.json", "samples"),
    "export": ("run.json", "ladder.json", "evaluation.json"),
    "rate": ("run.json", "ladder.json", "samples", "evaluation.json"),
}
CASES = [(command, part) for command, parts in READ.items() for part in parts]


def call(command: str, run: Path, out: Path, *, accept: bool) -> object:
    name = read_run(run, tell=False).rungs[-1].name
    calls: dict[str, Callable[[], object]] = {
        "inspect": lambda: inspect.run(InspectConfig(runs=[str(run)], accept_changes=accept)),
        "evaluate": lambda: evaluate.run(EvaluateConfig(run=str(run), stored_samples=True, accept_changes=accept)),
        "export": lambda: export.run(ExportConfig(run=str(run), rung=name, output_dir=str(out), accept_changes=accept)),
        "rate": lambda: rate_push.run(
            RatePushConfig(
                run=str(run), output_dir=str(out), page=True, stored_samples=True, num_samples=4, accept_changes=accept
            )
        ),
    }
    return calls[command]()


@pytest.mark.parametrize(("command", "part"), CASES)
def test_what_a_command_reads_is_compared(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, part: str
) -> None:
    rung = read_run(run).rungs[-1]
    if part in ("samples", "evaluation"):
        path = run / part / f"{rung.name}.jsonl"
        path.write_text(path.read_text().replace('"completion": "', '"completion": "x', 1))
    elif part == "metrics.jsonl":
        path = run / part
        path.write_text(path.read_text().replace('"kl_per_completion": 0.0', '"kl_per_completion": 0.5', 1))
    else:
        path = run / part
        value = json.loads(path.read_text())
        path.write_text(json.dumps({**value, "changed": True} if part != "evaluation.json" else {**value, "draw": 5}))
    with pytest.raises(InputError, match=rf"{path.name}.* (was changed since it was written|bytes where).*; .*accept"):
        call(command, run, tmp_path / "out", accept=False)
    assert capsys.readouterr().err == ""
    assert not (tmp_path / "out").exists()
    assert call(command, run, tmp_path / "out", accept=True)


def test_accepted_changes_stand_in_evaluation_and_report(run: Path) -> None:
    rung = read_run(run).rungs[-1]
    turn_a_bit(run / rung.samples, -10)
    found = evaluate.run(EvaluateConfig(run=str(run), stored_samples=True, accept_changes=True))
    assert found.accepted_changes == [f"{rung.samples} was changed since it was written"]
    report = inspect(str(run), accept_changes=True).report
    assert report is not None
    page = report.read_text()
    assert "evaluated though this had changed, which was accepted" in page
