"""The records that pass between the parts: samples go out to be labelled, labels and comparisons come back.

`prompt` is plain text, or a conversation in its canonical JSON (conversation.py); in files it is a list of messages.

Every record validates when it is made; a file is read whole or refused with the line that is wrong.
"""

from __future__ import annotations

import dataclasses
import math
import unicodedata
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from rlhf.foundation.conversation import as_completion, as_prompt, assistant_turn, prompt_from_text, readable
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_jsonl, write_jsonl
from rlhf.foundation.terminal import shown

LabelName = Literal["positive", "neutral", "negative"]
Origin = Literal["manual", "prediction", "simulated"]
LABELS: tuple[LabelName, ...] = get_args(LabelName)
ORIGINS: tuple[Origin, ...] = get_args(Origin)
# What a label says about P(positive); "neutral" is a soft 50 %.
SOFT_TARGETS: Mapping[str, float] = {"positive": 1.0, "neutral": 0.5, "negative": 0.0}
COMPLETIONS = ("completion", "chosen", "rejected")


def new_uid() -> str:
    """An opaque random id, 128 bits in hexadecimal."""
    return uuid.uuid4().hex


def now() -> str:
    """The present moment, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _require(record: object, field: str, ok: bool, expected: str) -> None:
    if not ok:
        raise InputError(
            f"{type(record).__name__.lower()} field '{field}'",
            got=shown(repr(getattr(record, field)), 80),
            expected=expected,
            fix="mend that row",
        )


LONGEST_NAME = 200  # characters of a rater's name


def rater_name(name: str) -> str:
    """The name under which a rater's rows are counted: without white space around it, in Unicode's form NFC."""
    return unicodedata.normalize("NFC", name.strip())


def is_name(name: object) -> bool:
    """Whether `name` may be a rater's: 1 to 200 characters on one line, not white space alone, nothing of control."""
    if not isinstance(name, str) or not name.strip() or len(name) > LONGEST_NAME:
        return False
    return not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in name)


def _require_name(record: Label | Comparison) -> None:
    expected = f"a name of 1 to {LONGEST_NAME} characters on one line, no control characters"
    _require(record, "annotator", is_name(record.annotator), expected)


def _number_or_none(value: object) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value))


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """One completion of a language model (or a corpus snippet).

    `logprob` is in nats, summed over the completion's tokens (the end token included) at temperature 1, or None
    when unknown. `prompt` is "" for an unconditional sample. `source` names the model, checkpoint or corpus.
    `reward` (proxy, raw) and `gold` are given where a sample was scored.
    """

    uid: str
    prompt: str
    completion: str
    source: str
    logprob: float | None = None
    seed: int | None = None
    reward: float | None = None
    gold: float | None = None

    def __post_init__(self) -> None:
        # Uids go to the server, where a lone surrogate or NUL would break every listing.
        printable = isinstance(self.uid, str) and bool(self.uid) and self.uid.isprintable()
        _require(self, "uid", printable, "a non-empty string of printable characters")
        for field in ("prompt", "completion", "source"):
            _require(self, field, isinstance(getattr(self, field), str), "a string")
        for field in ("logprob", "reward", "gold", "seed"):
            _require(self, field, _number_or_none(getattr(self, field)), "a finite number or null")

    @property
    def text(self) -> str:
        """Prompt and completion as one text; of a conversation what was said, turn below turn."""
        return readable(self.prompt, self.completion)


@dataclasses.dataclass(frozen=True, slots=True)
class Label:
    """One annotator's judgement of one completion; `lead_time` is in seconds."""

    uid: str
    prompt: str
    completion: str
    label: LabelName
    annotator: str
    created_at: str = ""
    lead_time: float | None = None
    origin: Origin = "manual"

    def __post_init__(self) -> None:
        _require(self, "uid", isinstance(self.uid, str) and bool(self.uid), "a non-empty string")
        _require_name(self)
        for field in ("prompt", "completion", "created_at"):
            _require(self, field, isinstance(getattr(self, field), str), "a string")
        _require(self, "label", self.label in LABELS, "positive, neutral or negative")
        _require(self, "origin", self.origin in ORIGINS, "manual, prediction or simulated")
        _require(self, "lead_time", _number_or_none(self.lead_time), "a finite number of seconds or null")


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """One annotator's choice between two completions of one prompt (TRL's preference columns).

    With `tie` true, `chosen` and `rejected` are the two texts in no order of merit.
    """

    uid: str
    prompt: str
    chosen: str
    rejected: str
    annotator: str
    tie: bool = False
    created_at: str = ""
    lead_time: float | None = None
    origin: Origin = "manual"

    def __post_init__(self) -> None:
        _require(self, "uid", isinstance(self.uid, str) and bool(self.uid), "a non-empty string")
        _require_name(self)
        for field in ("prompt", "chosen", "rejected", "created_at"):
            _require(self, field, isinstance(getattr(self, field), str), "a string")
        _require(self, "tie", isinstance(self.tie, bool), "true or false")
        _require(self, "origin", self.origin in ORIGINS, "manual, prediction or simulated")
        _require(self, "lead_time", _number_or_none(self.lead_time), "a finite number of seconds or null")


Record = TypeVar("Record", Sample, Label, Comparison)


def _from_row(kind: type[Record], row: Mapping[str, Any], place: str) -> Record:
    fields = dataclasses.fields(kind)
    required = {f.name for f in fields if f.default is dataclasses.MISSING}
    missing = sorted(required - row.keys())
    if missing:
        raise InputError(
            place,
            got=f"no field {', '.join(missing)}",
            expected=f"the fields {', '.join(sorted(required))}",
            fix="mend that row, or bring a foreign file in with `rlhf label import`",
        )
    try:
        return kind(**{f.name: _held(row[f.name], f.name, place) for f in fields if f.name in row})
    except InputError as error:
        raise InputError(f"{place}, {error.what}", got=error.got, expected=error.expected, fix=error.fix) from None


def _held(value: Any, name: str, place: str) -> Any:
    """A field as records hold it: conversations, which files hold as lists, become strings (conversation.py)."""
    if name == "prompt" and isinstance(value, (str, list)):
        return as_prompt(value, f"{place}, prompt")
    if name in COMPLETIONS and isinstance(value, list):
        return as_completion(value, f"{place}, {name}")
    return value


def _read(kind: type[Record], path: Path) -> list[Record]:
    records = [_from_row(kind, row, f"{path}, record {i}") for i, row in enumerate(read_jsonl(path), start=1)]
    if not records:
        raise InputError(
            str(path),
            got="an empty file",
            expected=f"at least one {kind.__name__.lower()}",
            fix="check the command that wrote it",
        )
    return records


def read_samples(path: Path) -> list[Sample]:
    """Read `samples.jsonl`. Raises InputError on a bad row, an empty file, or one uid used twice."""
    samples = _read(Sample, path)
    seen: set[str] = set()
    for number, sample in enumerate(samples, start=1):
        if sample.uid in seen:
            raise InputError(
                f"{path}, record {number}",
                got=f"uid {sample.uid} a second time",
                expected="one record a uid",
                fix="remove the duplicate",
            )
        seen.add(sample.uid)
    return samples


def read_labels(path: Path) -> list[Label]:
    """Read `labels.jsonl` (one row an annotator and uid). Raises InputError on a bad row or an empty file."""
    return _read(Label, path)


def read_comparisons(path: Path) -> list[Comparison]:
    """Read `comparisons.jsonl`. Raises InputError on a bad row or an empty file."""
    return _read(Comparison, path)


def write_records(path: Path, records: Iterable[Sample] | Iterable[Label] | Iterable[Comparison]) -> None:
    """Write records as JSON lines, atomically; a sample's fields that are None and optional are left out."""
    write_jsonl(path, (to_row(record) for record in records))


def to_row(record: Sample | Label | Comparison) -> dict[str, Any]:
    """The record as a JSON object; `reward` and `gold` are left out of samples that were not scored.

    A conversation is a list of messages, and a completion of it the assistant's turn, as TRL's data sets have them.
    """
    row = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}  # asdict() copies: slow
    prompt = prompt_from_text(record.prompt)
    if not isinstance(prompt, str):
        row["prompt"] = prompt
        row |= {name: assistant_turn(row[name]) for name in COMPLETIONS if name in row}
    for optional in ("reward", "gold"):
        if optional in row and row[optional] is None:
            del row[optional]
    return row
