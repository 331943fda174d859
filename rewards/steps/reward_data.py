"""What `rlhf reward` is fitted to: a file of ours or of TRL's, or a data set; labels or comparisons by its columns."""

from __future__ import annotations

import functools
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from labeling.reviewing import SUFFIX, reference_file
from rlhf.foundation.data_sets import Placed, load_data_set, read_rows, renamed
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import iter_jsonl
from rlhf.foundation.given_records import Comparisons, Labels, records_of
from rlhf.foundation.held import place_of
from rlhf.foundation.layouts import HIDDEN, Texts
from rlhf.foundation.lazy import Lazy
from rlhf.foundation.options import Options, option
from rlhf.foundation.progress import reading
from rlhf.foundation.records import Comparison, Label, to_row
from rlhf.foundation.terminal import shown

if TYPE_CHECKING:
    from rewards.preferences import Preference

COLUMNS = ("prompt", "chosen", "rejected", "completion", "label")


@dataclass(kw_only=True)
class DataOptions(Options):
    """Where labels or comparisons come from, and how they are laid out."""

    NEEDS: ClassVar[Mapping[str, str]] = {
        "dataset_config": "dataset_name",
        "dataset_split": "dataset_name",
        "answer": "labels comparisons",
    }

    labels: Labels | None = option(None, help="labels.jsonl, one row an annotator and text: a token reward model")
    comparisons: Comparisons | None = option(
        None, help="comparisons.jsonl, or TRL's preference columns as JSON lines: a comparison reward model"
    )
    answer: Literal["final", "first"] = option(
        "final", help="of raters who were shown a reward model's reasons: what they said after them, or first, blind"
    )
    dataset_name: str | None = option(
        None,
        help="instead a data set: a hub name, a directory or a file; with columns chosen and rejected comparisons, "
        "with completion and label (true or false) labels",
    )
    dataset_config: str | None = option(None, help="the data set's subset, where it has several")
    dataset_split: str = option("train", help="the data set's split")
    prompt_column: str | None = option(None, help="column of the prompt; default prompt, question or instruction")
    chosen_column: str | None = option(None, help="column of the preferred text; default chosen")
    rejected_column: str | None = option(None, help="column of the other text; default rejected")
    completion_column: str | None = option(None, help="column of the judged text; default completion")
    label_column: str | None = option(None, help="column of the judgement; default label")
    texts: Texts = option(
        "auto",
        help="plain answers beside a prompt: completions of it, or whole, with the prompt in them; auto: told from "
        "whether they begin with it",
    )

    def __post_init__(self) -> None:
        """Raises InputError unless there is exactly one source."""
        super().__post_init__()
        given = [name for name in ("labels", "comparisons", "dataset_name") if getattr(self, name) is not None]
        if len(given) != 1:
            raise InputError(
                "--labels, --comparisons and --dataset_name",
                got=" and ".join(f"--{name}" for name in given) or "none",
                expected="one of them",
                fix="name what to fit to",
            )
        layout = [f.name for f in fields(DataOptions) if f.name.endswith("_column") or f.name == "texts"]
        changed = [name for name in layout if getattr(self, name) not in (None, "auto")]
        if self.labels is not None and changed:
            raise InputError(
                "--labels",
                got=f"--{changed[0]} beside it",
                expected="a file of our records",
                fix=f"read it with --dataset_name {place_of(self.labels)}, or bring it in with `rlhf label import`",
            )


@dataclass(frozen=True)
class RewardData:
    """Labels, or answers to pairs; `place` names them, `sha256` is the digest of their rows."""

    place: str
    labels: Sequence[Label] = ()
    answers: Sequence[Preference] = field(default=())
    sha256: str = ""

    @property
    def is_comparisons(self) -> bool:
        """Whether a comparison reward model is fitted to them."""
        return bool(self.answers)


def load_reward_data(options: DataOptions, *, quiet: bool = True) -> RewardData:
    """Read what the options name. Raises InputError naming the row that cannot be read, or columns that say nothing."""
    from rewards.preferences import answers_of
    from rewards.targets import hash_labels, labels_of

    _leave_out_references(options.labels or options.comparisons, quiet=quiet)
    if options.labels is not None:
        place = place_of(options.labels)
        with reading(place, quiet=quiet, times=3) as advance:  # hashing reads them twice again
            own = records_of(Label, options.labels, advance)
            if options.answer == "first":
                own = Lazy(functools.partial(_first_label, own), range(len(own)))
            sha256 = hash_labels(own)
        return RewardData(place, own, sha256=sha256)
    place, rows = _rows(options)
    columns = {key for _, row in rows for key in row}
    if options.comparisons is not None or {"chosen", "rejected"} <= columns:
        if options.answer == "first":
            rows = [(where, _first_choice(row)) for where, row in rows]
        return RewardData(place, answers=answers_of(rows, options.texts), sha256=_digest(rows))
    if {"completion", "label"} <= columns:
        labels = labels_of(rows, options.texts)
        return RewardData(place, labels, sha256=hash_labels(labels))
    raise InputError(
        f"data set {place}",
        got=f"the columns {', '.join(sorted(columns))}",
        expected="chosen and rejected, or completion and label",
        fix="name them with --chosen_column and --rejected_column, or --completion_column and --label_column",
    )


def _first_label(labels: Sequence[Label], place: int) -> Label:
    """A label as it was before the reasons; where none were shown as it is."""
    label = labels[place]
    return replace(label, label=label.first or label.label)


def _first_choice(row: Mapping[str, Any]) -> dict[str, Any]:
    """A comparison's row as it was before the reasons; where none were shown as it is."""
    first = row.get("first")
    if first is None:
        return dict(row)
    swapped = {"chosen": row.get("rejected"), "rejected": row.get("chosen")} if first == "rejected" else {}
    return {**row, **swapped, "tie": first == "tie"}


def _leave_out_references(given: Labels | Comparisons | None, *, quiet: bool) -> None:
    """Say that a reviewer's answers, which stand beside the labels, are not among them.

    Raises InputError where they are what is to be trained on: raters and models are measured by them.
    """
    if not isinstance(given, str):
        return
    if given.endswith(SUFFIX):
        raise InputError(
            given,
            got="answers that raters are measured by",
            expected="the raters' own",
            fix=f"name {Path(given).name.removesuffix(SUFFIX)}.jsonl; copy the file if its answers shall be labels",
        )
    beside = reference_file(Path(given))
    if not quiet and beside.is_file():
        names = [str(row.row.get("annotator", "")) for row in iter_jsonl(beside)]
        if names:
            who = ", ".join(shown(name, 40) for name in sorted(set(names)))
            print(f"rlhf: {len(names)} answers of {who} in {beside} are left out: they measure raters", file=sys.stderr)


def _rows(options: DataOptions) -> tuple[str, list[Placed]]:
    """The name and the rows of comparisons or a data set, at least one, with our names for the columns."""
    place = place_of(options.comparisons or options.dataset_name)
    if isinstance(options.comparisons, str):
        rows = read_rows(Path(place))
    elif options.comparisons is not None:
        found = records_of(Comparison, options.comparisons)
        rows = [(f"{place}, item {number}", to_row(one)) for number, one in enumerate(found, start=1)]
    else:
        rows = load_data_set(place, options.dataset_split, options.dataset_config)
    if not rows:
        raise InputError(place, got="no row", expected="at least one", fix="check the file or the split")
    chosen = {name: getattr(options, f"{name}_column") for name in COLUMNS}
    return place, renamed(rows, chosen, HIDDEN if options.prompt_column else ())


def _digest(rows: Sequence[Placed]) -> str:
    lines = (json.dumps(row, sort_keys=True, default=str) for _, row in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
