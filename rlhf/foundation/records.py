"""The records that pass between the parts: samples go out to be labelled, labels and comparisons come back.

`prompt` is plain text, or a conversation in its canonical JSON (conversation.py); in files it is a list of messages.

Every record validates when it is made; a file is read whole or refused with the line that is wrong.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import sys
import unicodedata
import uuid
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from rlhf.foundation.conversation import as_completion, as_prompt, assistant_turn, prompt_from_text, readable
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import Advance, iter_jsonl, unreadable, write_jsonl
from rlhf.foundation.lazy import Lazy
from rlhf.foundation.repeats import Keys
from rlhf.foundation.terminal import shown

LabelName = Literal["positive", "neutral", "negative"]
Origin = Literal["manual", "prediction", "simulated"]
LABELS: tuple[LabelName, ...] = get_args(LabelName)
ORIGINS: tuple[Origin, ...] = get_args(Origin)
FirstChoice = Literal["chosen", "rejected", "tie"]
# What a label says about P(positive); "neutral" is a soft 50 %.
SOFT_TARGETS: Mapping[str, float] = {"positive": 1.0, "neutral": 0.5, "negative": 0.0}
COMPLETIONS = ("completion", "chosen", "rejected")
REPEATED = ("label", "annotator", "origin", "source", "first")
"""Fields with few different values in a file."""
_FIRST = json.JSONDecoder()
OPTIONAL = ("reward", "gold", "first")
"""Fields that are left out of a row where they are None."""
SHARED = ("uid", "prompt", *COMPLETIONS, "created_at")
"""Fields that often say the same in neighbouring rows."""


def new_uid() -> str:
    """An opaque random id, 128 bits in hexadecimal."""
    return uuid.uuid4().hex


def content_uid(*texts: str) -> str:
    """An id (128 bits in hexadecimal) that depends on the texts alone: the same texts always get the same id."""
    return hashlib.blake2b("\x1f".join(texts).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


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
NAME = f"a name of 1 to {LONGEST_NAME} characters on one line, no control characters"


def rater_name(name: str) -> str:
    """The name under which a rater's rows are counted: without white space around it, in Unicode's form NFC."""
    return unicodedata.normalize("NFC", name.strip())


def is_name(name: object) -> bool:
    """Whether `name` may be a rater's: 1 to 200 characters on one line, not white space alone, nothing of control."""
    return isinstance(name, str) and len(name) <= LONGEST_NAME and _is_name(name)


@functools.lru_cache(maxsize=1000)  # few raters, many labels
def _is_name(name: str) -> bool:
    return bool(name.strip()) and not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in name)


def _require_name(record: Label | Comparison) -> None:
    _require(record, "annotator", is_name(record.annotator), NAME)


def _require_texts(record: object, *fields: str) -> None:
    for field in fields:
        if not isinstance(getattr(record, field), str):
            _require(record, field, False, "a string")


def _require_answer(record: Label | Comparison) -> None:
    """What labels and comparisons share: who answered, where the answer comes from and how long it took."""
    _require(record, "uid", isinstance(record.uid, str) and bool(record.uid), "a non-empty string")
    _require_name(record)
    _require(record, "origin", record.origin in ORIGINS, "manual, prediction or simulated")
    _require(record, "lead_time", _number_or_none(record.lead_time), "a finite number of seconds or null")


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
        _require_texts(self, "prompt", "completion", "source")
        for field in ("logprob", "reward", "gold", "seed"):
            if not _number_or_none(getattr(self, field)):
                _require(self, field, False, "a finite number or null")

    @property
    def text(self) -> str:
        """Prompt and completion as one text; of a conversation what was said, turn below turn."""
        return readable(self.prompt, self.completion)


@dataclasses.dataclass(frozen=True, slots=True)
class Label:
    """One annotator's judgement of one completion; `lead_time` is in seconds.

    `first` is what the annotator said before the reward model's reasons were shown, None where none were.
    """

    uid: str
    prompt: str
    completion: str
    label: LabelName
    annotator: str
    created_at: str = ""
    lead_time: float | None = None
    origin: Origin = "manual"
    first: LabelName | None = None

    def __post_init__(self) -> None:
        _require_answer(self)
        _require_texts(self, "prompt", "completion", "created_at")
        _require(self, "label", self.label in LABELS, "positive, neutral or negative")
        _require(self, "first", self.first is None or self.first in LABELS, "positive, neutral, negative or null")


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """One annotator's choice between two completions of one prompt (TRL's preference columns).

    With `tie` true, `chosen` and `rejected` are the two texts in no order of merit. `first` says which of these two the
    annotator chose before the reward model's reasons were shown, None where none were.
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
    first: FirstChoice | None = None

    def __post_init__(self) -> None:
        _require_answer(self)
        _require(self, "first", self.first in (None, *get_args(FirstChoice)), "chosen, rejected, tie or null")
        _require_texts(self, "prompt", "chosen", "rejected", "created_at")
        _require(self, "tie", isinstance(self.tie, bool), "true or false")


Record = TypeVar("Record", Sample, Label, Comparison)


_NAMES = {kind: tuple(f.name for f in dataclasses.fields(kind)) for kind in (Sample, Label, Comparison)}
_REQUIRED = {kind: {f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING} for kind in _NAMES}


def _from_row(kind: type[Record], row: Mapping[str, Any], place: str) -> Record:
    names, required = _NAMES[kind], _REQUIRED[kind]
    if not required <= row.keys():
        raise InputError(
            place,
            got=f"no field {', '.join(sorted(required - row.keys()))}",
            expected=f"the fields {', '.join(sorted(required))}",
            fix="mend that row, or bring a foreign file in with `rlhf label import`",
        )
    try:
        return kind(**_held({name: row[name] for name in names if name in row}, place))
    except InputError as error:
        raise InputError(f"{place}, {error.what}", got=error.got, expected=error.expected, fix=error.fix) from None


def _held(row: dict[str, Any], place: str) -> dict[str, Any]:
    """The fields as records hold them: conversations, which files hold as lists, become strings (conversation.py).

    What many rows say is one string in memory.
    """
    prompt = row.get("prompt")
    if isinstance(prompt, list) or (isinstance(prompt, str) and prompt.startswith("[")):
        row["prompt"] = as_prompt(prompt, f"{place}, prompt")
    for name in COMPLETIONS:
        if isinstance(row.get(name), list):
            row[name] = as_completion(row[name], f"{place}, {name}")
    for name in REPEATED:
        if type(row.get(name)) is str:
            row[name] = sys.intern(row[name])
    return row


def iter_records(kind: type[Record], path: Path, advance: Advance | None = None) -> Iterator[tuple[int, Record]]:
    """Each record of a file with the offset of its line. Raises InputError on a bad row or an empty file."""
    number = 0
    before: Record | None = None
    for number, line in enumerate(iter_jsonl(path, advance), start=1):
        record = _from_row(kind, _shared(line.row, before), f"{path}, record {number}")
        yield line.offset, record
        before = record
    if not number:
        raise InputError(
            str(path),
            got="an empty file",
            expected=f"at least one {kind.__name__.lower()}",
            fix="check the command that wrote it",
        )


def _shared(row: dict[str, Any], before: Record | None) -> dict[str, Any]:
    """The row with the strings of the record before it where they are equal: several raters' rows stand together."""
    if before is not None:
        for name in SHARED:
            if name in row and row[name] == (value := getattr(before, name, None)):
                row[name] = value
    return row


def _read(kind: type[Record], path: Path, advance: Advance | None = None) -> list[Record]:
    return [record for _, record in iter_records(kind, path, advance)]


def lazy_records(
    kind: type[Record],
    path: Path,
    advance: Advance | None = None,
    watch: Callable[[Record], object] = lambda record: None,
) -> Sequence[Record]:
    """The records of a file, each checked now and read again when it is asked for: memory holds 8 bytes a record.

    `watch` sees each once; `advance` is told of what is read later, too. The file as it stands now is meant, also when
    another takes its name. Raises InputError as `iter_records`.
    """
    if not path.is_file():  # a pipe cannot be read again; a missing file is named by the reader
        records = _read(kind, path, advance)
        for record in records:
            watch(record)
        return records
    try:
        stream = path.open("rb")
    except OSError as error:
        raise unreadable(path, error) from error
    places = array("Q")
    for offset, record in iter_records(kind, path, advance):
        places.append(offset)
        watch(record)

    def read(offset: int) -> Record:
        stream.seek(offset)
        line = stream.readline()
        if advance is not None:
            advance(len(line))
        try:
            row, _ = _FIRST.raw_decode(line.decode().lstrip())  # of lines that end in "\r" the first
        except ValueError as error:
            raise InputError(
                str(path),
                got="a file that was changed while it was read",
                expected="one that stays as it is",
                fix="run the same command again",
            ) from error
        return _from_row(kind, row, str(path))

    return Lazy(read, places)


def read_samples(path: Path, advance: Advance | None = None) -> list[Sample]:
    """Read `samples.jsonl`. Raises InputError on a bad row, an empty file, or one uid used twice."""
    return list(distinct(str(path), _read(Sample, path, advance)))


def lazy_samples(
    path: Path, advance: Advance | None = None, watch: Callable[[Sample], object] = lambda sample: None
) -> Sequence[Sample]:
    """`read_samples` as `lazy_records`: each is checked now, and read again when it is asked for."""
    keys = Keys()

    def seen(sample: Sample) -> None:
        keys.add(sample.uid)
        watch(sample)

    return distinct(str(path), lazy_records(Sample, path, advance, seen), keys)


def distinct(place: str, samples: Sequence[Sample], keys: Keys | None = None) -> Sequence[Sample]:
    """The samples, no two of one uid. Raises InputError naming the first that repeats one."""
    if keys is None:
        keys = Keys()
        for sample in samples:
            keys.add(sample.uid)
    repeats = [places[1] for places in keys.groups()]
    if repeats:
        number = int(min(repeats))
        raise InputError(
            f"{place}, record {number + 1}",
            got=f"uid {samples[number].uid} a second time",
            expected="one record a uid",
            fix="remove the duplicate",
        )
    return samples


def read_labels(path: Path, advance: Advance | None = None) -> list[Label]:
    """Read `labels.jsonl` (one row an annotator and uid). Raises InputError on a bad row or an empty file."""
    return _read(Label, path, advance)


def read_comparisons(path: Path, advance: Advance | None = None) -> list[Comparison]:
    """Read `comparisons.jsonl`. Raises InputError on a bad row or an empty file."""
    return _read(Comparison, path, advance)


def write_records(path: Path, records: Iterable[Sample] | Iterable[Label] | Iterable[Comparison]) -> None:
    """Write records as JSON lines, atomically; a sample's fields that are None and optional are left out."""
    write_jsonl(path, (to_row(record) for record in records))


def to_row(record: Sample | Label | Comparison) -> dict[str, Any]:
    """The record as a JSON object, without what is None of `reward`, `gold` (no scores) and `first` (no reasons).

    A conversation is a list of messages, and a completion of it the assistant's turn, as TRL's data sets have them.
    """
    row = {name: getattr(record, name) for name in _NAMES[type(record)]}
    prompt = prompt_from_text(record.prompt)
    if not isinstance(prompt, str):
        row["prompt"] = prompt
        row |= {name: assistant_turn(row[name]) for name in COMPLETIONS if name in row}
    for optional in OPTIONAL:
        if optional in row and row[optional] is None:
            del row[optional]
    return row
