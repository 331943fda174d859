"""Processes that would not do the same end before the work, with one line that names the rank and what differs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import GPT2Config, GPT2LMHeadModel

from rlhf.foundation.errors import InputError
from rlhf.foundation.model_directory import save_model
from rlhf.ppo import agreement

ROOT = Path(__file__).parents[3]
SAME = ("--model_name_or_path", "model", "--reward_func", "reward.py:dots", "--output_dir", "run")
REWARD = "def dots(prompts, completions, **kwargs):\n    return [float(c.count('{}')) for c in completions]\n"


class TwoRanks:
    """Stands where `Processes` stands: rank 1's note is given, the text of JSON that its store would hold."""

    def __init__(self, theirs: Any) -> None:
        self.theirs = theirs

    def exchange(self, note: Any) -> list[Any]:
        return [note, self.theirs]


def message(check: Callable[..., None], ours: Any, theirs: Any) -> str:
    with pytest.raises(InputError) as caught:
        check(TwoRanks(theirs), ours)
    return str(caught.value)


def test_an_option_is_named_with_both_values() -> None:
    line = message(agreement.require_same_options, {"seed": 0, "beta": 0.1}, {"seed": 0, "beta": 0.2})
    assert line.startswith("--beta: got 0.2 on rank 1, 0.1 on rank 0; expected the same options on every process;")
    agreement.require_same_options(TwoRanks({"seed": 0}), {"seed": 0})  # type: ignore[arg-type]


def test_an_option_that_one_version_lacks_is_named() -> None:
    assert "--beta: got None on rank 1, 0.1 on rank 0" in message(
        agreement.require_same_options, {"beta": 0.1}, {"seed": 0}
    )


def test_inputs_are_named_and_unreadable_ones_are_not_called_different() -> None:
    agreement.require_same_inputs(TwoRanks({"reward 1, f": None}), {"reward 1, f": None})  # type: ignore[arg-type]
    line = message(agreement.require_same_inputs, {"tokenizer": "a" * 64, "prompts": "b"}, {"tokenizer": "c" * 64})
    assert line.startswith("rank 1: got what differs from rank 0: tokenizer; prompts;")


@pytest.fixture
def places(tmp_path: Path, model: Any, tokenizer: Any) -> dict[str, dict[str, str]]:
    """A directory a rank, as on two machines, each with model and reward under the same names."""
    for rank in ("0", "1"):
        save_model(model, tokenizer, tmp_path / rank / "model")
        (tmp_path / rank / "reward.py").write_text(REWARD.format("."))
    return {rank: {"cwd": str(tmp_path / rank)} for rank in ("0", "1")}


def changed_source(tmp_path: Path) -> str:
    source = tmp_path / "source"
    for package in agreement.OUR_PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    file = source / "rlhf" / "ppo" / "objective.py"
    file.write_text(file.read_text() + "\n# another line\n")
    return str(source)


def differ(what: str, tmp_path: Path, places: dict[str, Any], build_model: Callable[..., Any], tokenizer: Any) -> str:
    """Give rank 1 something else; returns what its line must say."""
    if what == "options":
        places["1"]["words"] = ["--learning_rate", "1e-3"]
        return "--learning_rate: got 0.001 on rank 1, 0.0003 on rank 0; expected the same options on every process;"
    if what == "unknown option":
        places["1"]["words"] = ["--learning_rte", "1e-3"]
        return "rank 1: --learning_rte: got an unknown option;"
    if what == "source":
        places["1"]["source"] = changed_source(tmp_path)
        return "rank 1: got what differs from rank 0: rlhf's own source;"
    if what == "reward":
        (tmp_path / "1" / "reward.py").write_text(REWARD.format("e"))
        return "rank 1: got what differs from rank 0: reward 1, dots;"
    if what == "no reward":
        (tmp_path / "1" / "reward.py").unlink()
        return "rank 1: reward function reward.py:dots: got no file reward.py;"
    if what == "prompts":
        for rank in ("0", "1"):
            (tmp_path / rank / "prompts.txt").write_text("ab\ncd\n" if rank == "0" else "ab\nce\n")
            places[rank]["words"] = ["--prompts", "prompts.txt"]
        return "rank 1: got what differs from rank 0: prompts; evaluation prompts;"
    other = build_model()
    if what == "larger model":
        other = GPT2LMHeadModel(GPT2Config(**{**other.config.to_dict(), "n_layer": 3}))  # DDP could not pair the two
    else:
        other.transformer.wte.weight.data[3, 5] += 1e-3
    save_model(other, tokenizer, tmp_path / "1" / "model")
    also = "; original model's configuration" if what == "larger model" else ""
    return f"rank 1: got what differs from rank 0: original model's weights{also};"


CASES = ["options", "unknown option", "source", "reward", "no reward", "prompts", "model", "larger model"]
IN_EVERY_RUN = {"options", "source", "larger model", "no reward"}
MARKS = {what: [pytest.mark.slow] if what in IN_EVERY_RUN else [pytest.mark.campaign] for what in CASES}


@pytest.mark.parametrize("what", [pytest.param(what, marks=MARKS[what]) for what in CASES])
def test_what_differs_on_one_process_ends_all_with_one_line(
    what: str,
    tmp_path: Path,
    places: dict[str, Any],
    build_model: Callable[..., Any],
    tokenizer: Any,
    launch_two: Callable[..., Any],
) -> None:
    told = differ(what, tmp_path, places, build_model, tokenizer)
    done = launch_two(*SAME, by_rank=places)
    assert done.status != 0
    assert len(done.lines) == 1, done.stderr
    assert done.lines[0].startswith(f"rlhf: {told}"), done.lines
    assert "Traceback" not in done.stderr.replace('Traceback (most recent call last):\n  File "<frozen runpy>', "")
    assert not (tmp_path / "0" / "run").exists()
    assert not (tmp_path / "1" / "run").exists()


@pytest.mark.long
@pytest.mark.slow
def test_a_state_that_one_process_does_not_have_is_noticed(
    tmp_path: Path, places: dict[str, Any], launch_two: Callable[..., Any]
) -> None:
    """As on two machines without a shared disk: rank 1 would begin anew while rank 0 goes on."""
    done = launch_two(*SAME, "--max_iterations", "1", by_rank=places)
    assert done.status == 0, done.stderr
    before = sorted(path.name for path in (tmp_path / "0" / "run" / "state").iterdir())
    done = launch_two(*SAME, "--resume", by_rank=places)
    (line,) = done.lines
    assert line.startswith("rlhf: rank 1: got what differs from rank 0: state to go on from (none, not 1)"), line
    assert "--resume" in line
    assert sorted(path.name for path in (tmp_path / "0" / "run" / "state").iterdir()) == before
