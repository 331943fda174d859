"""Scores for `rlhf label push --select`: P(positive) of each sample by each model of an ensemble."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from labeling.errors import InputError
from labeling.files import read_jsonl


def p_positive(files: Sequence[str], uids: Sequence[str]) -> list[list[float]]:
    """P(positive) by file and uid (models × samples). Raises InputError for a missing uid or field."""
    return [_of_file(Path(name), uids) for text in files for name in text.split(",") if name]


def _of_file(path: Path, uids: Sequence[str]) -> list[float]:
    scores: dict[str, float] = {}
    for number, row in enumerate(read_jsonl(path), start=1):
        value = row.get("p_positive")
        if not isinstance(row.get("uid"), str) or not isinstance(value, (int, float)) or isinstance(value, bool):
            raise InputError(
                f"{path}, record {number}",
                got=f"uid {row.get('uid')!r}, p_positive {value!r}",
                expected="a uid and a probability",
                fix="mend that row",
            )
        scores[row["uid"]] = float(value)
    missing = [uid for uid in uids if uid not in scores]
    if missing:
        raise InputError(
            str(path),
            got=f"no score for {len(missing)} samples, the first {missing[0]}",
            expected="a score for every sample",
            fix="score the same samples file",
        )
    return [scores[uid] for uid in uids]
