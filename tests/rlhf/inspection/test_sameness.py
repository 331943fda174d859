"""Two directories number by number: what counts as the same, what is left out, what a difference says."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from rlhf.whole_loop.sameness import compare_directories


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two directories with a record, samples, a text and tensors, all the same."""
    for name in ("one", "other"):
        root = tmp_path / name
        root.mkdir()
        write(root, {"loss": 0.5, "n": 3, "rungs": [{"kl": 1.0}, {"kl": None}], "created_at": f"by {name}"})
        (root / "samples.jsonl").write_text(
            json.dumps({"completion": "my lord", "source": name, "logprob": -1.5}) + "\n"
        )
        (root / "merges.txt").write_text("a b")
        save_file(tensors(), root / "model.safetensors")
    return tmp_path / "one", tmp_path / "other"


def tensors() -> dict[str, torch.Tensor]:
    return {"w": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1.0, 2.0], dtype=torch.bfloat16)}


def write(root: Path, value: Any) -> None:
    (root / "run.json").write_text(json.dumps(value))


def test_the_same_is_counted(pair: tuple[Path, Path]) -> None:
    found = compare_directories(*pair, ["."])
    # loss, n, two kl; logprob; 6 + 2 elements. Texts: completion, merges.txt (source and created_at are left out).
    assert (found.numbers, found.equal_numbers, found.texts, found.equal_texts, found.files) == (13, 13, 2, 2, 4)
    assert found.same
    assert found.lines() == ["13 of 13 numbers bitwise equal, 2 of 2 texts, in 4 files"]


@pytest.mark.parametrize(
    ("value", "told", "largest"),
    [
        ({"loss": 0.5000000000000001, "n": 3, "rungs": [{"kl": 1.0}, {"kl": None}]}, "loss: 0.5 then, 0.5000", 1.2e-16),
        ({"loss": 0.5, "n": 3.0, "rungs": [{"kl": 1.0}, {"kl": None}]}, "n: 3 then, 3.0 now", 0.0),
        ({"loss": 0.5, "n": 3, "rungs": [{"kl": 1.0}, {"kl": 0.0}]}, "rungs[1].kl: null then, 0.0 now", 0.0),
        ({"loss": 0.5, "n": 3, "rungs": [{"kl": 3.0}, {"kl": None}]}, "rungs[0].kl: 1.0 then, 3.0 now", 2.0),
        ({"loss": 0.5, "n": 3, "rungs": [{"kl": 1.0}]}, "rungs[1].kl: null then, '(nothing)' now", 0.0),
    ],
)
def test_a_number_that_differs_is_named(pair: tuple[Path, Path], value: Any, told: str, largest: float) -> None:
    write(pair[1], value)
    found = compare_directories(*pair, ["."])
    assert found.equal_numbers == found.numbers - 1 == 12
    assert found.largest == pytest.approx(largest, rel=0.1)
    assert any(told in line for line in found.lines())


def test_a_text_and_a_file_that_is_gone(pair: tuple[Path, Path]) -> None:
    (pair[1] / "samples.jsonl").write_text('{"completion": "my lady", "source": "x", "logprob": -1.5}\n')
    (pair[1] / "merges.txt").unlink()
    found = compare_directories(*pair, ["."])
    assert found.equal_texts == found.texts - 1 == 0
    assert set(found.differences) == {"samples.jsonl", "merges.txt"}


def test_tensors_are_compared_bit_by_bit(pair: tuple[Path, Path]) -> None:
    changed = tensors()
    changed["w"][1, 2] = struct.unpack("f", struct.pack("I", struct.unpack("I", struct.pack("f", 5.0))[0] + 1))[0]
    changed["b"][0] = -1.0
    save_file(changed, pair[1] / "model.safetensors")
    found = compare_directories(*pair, ["."])
    assert found.numbers - found.equal_numbers == 2
    assert found.largest == 2.0
    assert any("w[5]: 5.0 then, 5.0000" in line for line in found.lines())
    zeros = {"w": torch.zeros(2, 3), "b": tensors()["b"]}
    save_file(zeros, pair[0] / "model.safetensors")
    save_file({**zeros, "w": -zeros["w"]}, pair[1] / "model.safetensors")
    found = compare_directories(*pair, ["."])
    assert found.numbers - found.equal_numbers == 6  # -0.0 is not 0.0
    assert found.counts == {"model.safetensors": 6}
    save_file({"w": torch.zeros(2, 3)}, pair[1] / "model.safetensors")
    assert not compare_directories(*pair, ["."]).same


def test_many_differences_stay_short(pair: tuple[Path, Path]) -> None:
    write(pair[0], {f"key {i}": i for i in range(500)})
    write(pair[1], {f"key {i}": i + 1 for i in range(500)})
    lines = compare_directories(*pair, ["."]).lines()
    assert len(lines) < 10
    assert "run.json: 500 differ" in lines


def test_places_are_left_out_and_what_bears_their_names_is_not(pair: tuple[Path, Path]) -> None:
    write(pair[0], {"samples": "runs/a/s.jsonl", "lineage": {"samples": {"n": 3, "sources": {"runs/a": 3}}}})
    write(pair[1], {"samples": "runs/b/s.jsonl", "lineage": {"samples": {"n": 3, "sources": {"runs/b": 3}}}})
    assert compare_directories(*pair, ["."]).same
    write(pair[1], {"samples": "runs/b/s.jsonl", "lineage": {"samples": {"n": 3, "sources": {"runs/b": 4}}}})
    assert not compare_directories(*pair, ["."]).same
