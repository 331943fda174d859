"""Whether two directories hold the same results: every number, tensor element and text of one beside the other's.

JSON and JSON lines are compared leaf by leaf (a number bitwise: 1 is not 1.0, -0.0 is not 0.0; null, true and false
count as numbers), safetensors element by element, other files as one text each. Left out are
1. times and dates: `created_at`, `at`, `seconds`, `seconds/...`, `tokens_per_second`;
2. what the work was made on and by: `versions`, `git_revision`, `hardware`, `sessions`, `command`, and the options
   `output_dir`, `resume`, `quiet`, `report_to`, `accept_changes`, `overwrite`;
3. places: `paths`, `made_from`, `place`, `says`; of PLACES (a sample's `source`, a model's name, options that name
   files) the texts; the keys of `sources`, whose counts are compared;
4. digests of files, which hold the above: `files`, `content_sha256`; the files are compared themselves;
5. pages (.html), which show what is compared.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from rlhf.foundation.digests import SEAL
from rlhf.foundation.files import read_json, read_jsonl

TIMES = {"created_at", "at", "seconds", "tokens_per_second"}
HOST = {"versions", "git_revision", "hardware", "sessions", "command"}
RECORDS_OF_PLACES = {"paths", "made_from", "place", "says"}
OF_THE_COMMAND = {"output_dir", "resume", "quiet", "report_to", "accept_changes", "overwrite"}
DIGESTS = {"files", SEAL}
LEFT_OUT = TIMES | HOST | RECORDS_OF_PLACES | OF_THE_COMMAND | DIGESTS
# Of these only texts are left out: they name places, and what bears the same name elsewhere is compared.
PLACES = {
    "model", "source", "file", "base_model", "model_name_or_path", "base_model_name_or_path", "_name_or_path",
    "reward_model_path", "reward_func", "prompts", "eval_prompts", "dataset_name", "critic_model_path", "labels",
    "comparisons", "samples", "labelled_samples", "corpus", "reward_config", "ppo_config",
}  # fmt: skip
UNREAD = {".html", ".lock"}
SHOWN_FILES, SHOWN_KEYS = 12, 3
GONE = "(nothing)"
Leaf = tuple[str, Any]


@dataclass
class Sameness:
    """What was compared and what differs: how many places by file, the first few of them as (key, one, other).

    `largest` is the largest absolute difference of two numbers that both are there.
    """

    numbers: int = 0
    equal_numbers: int = 0
    texts: int = 0
    equal_texts: int = 0
    files: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    differences: dict[str, list[tuple[str, Any, Any]]] = field(default_factory=dict)
    largest: float = 0.0

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return not self.differences

    def differ(self, file: str, key: str, one: Any, other: Any) -> None:
        """Note a difference."""
        self.counts[file] = self.counts.get(file, 0) + 1
        examples = self.differences.setdefault(file, [])
        if len(examples) < SHOWN_KEYS:
            examples.append((key, one, other))
        if isinstance(one, (int, float)) and isinstance(other, (int, float)):
            self.largest = max(self.largest, abs(float(one) - float(other)))

    def lines(self) -> list[str]:
        """What a person reads: the counts, then file by file what differs, shortened."""
        told = f"{self.equal_numbers:,} of {self.numbers:,} numbers bitwise equal"
        told += f", {self.equal_texts:,} of {self.texts:,} texts, in {self.files:,} files"
        lines = [told]
        if self.differences:
            lines.append(f"largest absolute difference: {self.largest:.3g}")
        for file, found in list(self.differences.items())[:SHOWN_FILES]:
            lines.append(f"{file}: {self.counts[file]:,} differ")
            lines += [f"  {key}: {_short(one)} then, {_short(other)} now" for key, one, other in found]
        more = len(self.differences) - SHOWN_FILES
        return [*lines, *([f"and {more} more files"] if more > 0 else [])]


def compare_directories(one: Path, other: Path, parts: Sequence[str]) -> Sameness:
    """Compare the files and directories `parts` of `one` with those of `other`; one that either lacks is a difference.

    Raises InputError when a JSON file cannot be read.
    """
    found = Sameness()
    for name in sorted({*_files(one, parts), *_files(other, parts)}):
        there = [root / name for root in (one, other)]
        if not all(path.is_file() for path in there):
            found.differ(name, "file", *("there" if path.is_file() else GONE for path in there))
            continue
        found.files += 1
        if name.endswith(".safetensors"):
            _compare_tensors(found, name, *there)
        elif name.endswith((".json", ".jsonl")):
            _compare_leaves(found, name, *(dict(_leaves(_read(path))) for path in there))
        else:
            _compare_leaves(found, name, *({"content": path.read_bytes().hex()} for path in there))
    return found


def _files(root: Path, parts: Sequence[str]) -> Iterator[str]:
    for part in parts:
        path = root / part
        for file in path.rglob("*") if path.is_dir() else [path]:
            name = file.relative_to(root)
            hidden = any(piece.startswith(".") for piece in name.parts)
            if file.is_file() and not hidden and file.suffix not in UNREAD:
                yield name.as_posix()


def _read(path: Path) -> Any:
    return read_jsonl(path) if path.suffix == ".jsonl" else read_json(path)


def _leaves(value: Any, key: str = "", last: str = "") -> Iterator[Leaf]:
    """Numbers, nulls and texts of a JSON value by their keys, without what is left out."""
    if isinstance(value, Mapping):
        for position, (name, part) in enumerate(value.items()):
            if name in LEFT_OUT or name.startswith("seconds/"):
                continue
            shown = f"source {position + 1}" if last == "sources" else name
            yield from _leaves(part, f"{key}.{shown}" if key else shown, name)
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from _leaves(part, f"{key}[{number}]", last)
    elif not (last in PLACES and (value is None or isinstance(value, str))):
        yield key, value


def _compare_leaves(found: Sameness, file: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    for key in dict.fromkeys([*one, *other]):
        left, right = one.get(key, GONE), other.get(key, GONE)
        same = type(left) is type(right) and repr(left) == repr(right)
        if isinstance(left, str) and isinstance(right, str):
            found.texts += 1
            found.equal_texts += same
        else:
            found.numbers += 1
            found.equal_numbers += same
        if not same:
            found.differ(file, key, left, right)


def _compare_tensors(found: Sameness, file: str, one: Path, other: Path) -> None:
    with safe_open(one, framework="pt") as first, safe_open(other, framework="pt") as second:
        names, others = list(first.keys()), list(second.keys())
        for name in dict.fromkeys([*names, *others]):
            if name not in names or name not in others:
                found.differ(file, name, *("a tensor" if name in listed else GONE for listed in (names, others)))
                continue
            _compare_tensor(found, file, name, first.get_tensor(name), second.get_tensor(name))


def _compare_tensor(found: Sameness, file: str, name: str, one: torch.Tensor, other: torch.Tensor) -> None:
    """Element by element, by their bits."""
    if one.shape != other.shape or one.dtype != other.dtype:
        found.numbers += one.numel()
        found.differ(file, name, *(f"{str(t.dtype).removeprefix('torch.')} {tuple(t.shape)}" for t in (one, other)))
        return
    bits = [tensor.contiguous().reshape(-1, 1).view(torch.uint8) for tensor in (one, other)]  # (elements, bytes)
    same = (bits[0] == bits[1]).all(-1)
    found.numbers += one.numel()
    found.equal_numbers += int(same.sum())
    places = (~same).nonzero().flatten()
    for place in places[:SHOWN_KEYS].tolist():
        found.differ(file, f"{name}[{place}]", one.flatten()[place].item(), other.flatten()[place].item())
    if len(places):
        found.counts[file] += max(0, len(places) - SHOWN_KEYS)
        found.largest = max(found.largest, float((one.double() - other.double()).abs().nan_to_num().max()))


def _short(value: Any) -> str:
    text = repr(value) if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
