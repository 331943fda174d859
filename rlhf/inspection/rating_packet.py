"""A blind study in a folder: which samples go out, and what came back.

study.json    what is compared, so that the verdict can be given; it never leaves the folder
key.jsonl     which opaque uid stands for which sample of which model
ratings.jsonl what came back, still blind
verdict.json  the verdict, once unblinded
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from labeling.blind import Unblinded, read_key, unblind, unrated
from labeling.folder import Folder
from labeling.returned import Rating
from rlhf.foundation.digests import SEAL, digest_files, seal_holds, write_sealed
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_json, read_jsonl, write_jsonl
from rlhf.foundation.recorded_paths import locate, recorded_paths
from rlhf.foundation.records import Sample
from rlhf.inspection.blind_verdict import Verdict, judge
from rlhf.inspection.human_ladder import HumanLadder, score_ladder
from rlhf.runs.ladder import Rung
from rlhf.runs.reading import sqrt_kl

Kind = Literal["models", "ladder"]
LADDER_RUNGS = 8


@dataclass(frozen=True, slots=True)
class Study:
    """What is compared: `sqrt_kl` (√nats) by source for a ladder, empty for models; `run` is the run directory as it
    was given and `paths` where that is (run_paths.py), `draw` the number of the samples' draw (None for samples stored
    by the trainer).
    """

    kind: Kind
    original: str
    run: str
    title: str
    sqrt_kl: dict[str, float]
    draw: int | None
    paths: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)

    def run_directory(self, folder: Path) -> Path:
        """Where the run is today, seen from the study's `folder`; the place that was given where it is at none."""
        return Path(locate({"paths": self.paths}, folder, self.run))


def require_same_study(folder: Path, study: Study) -> None:
    """Raise InputError when the folder holds another study."""
    if (folder / "study.json").exists():
        known = read_study(folder)
        same_run = known.run_directory(folder).resolve() == Path(study.run).resolve()
        if not same_run or dataclasses.replace(known, run=study.run, paths={}) != dataclasses.replace(study, paths={}):
            raise InputError(
                "--output_dir",
                got=f"{folder}, with another study",
                expected="a folder of its own",
                fix="choose another",
            )


def write_study(folder: Path, study: Study) -> None:
    """Write study.json."""
    paths = recorded_paths({"run": study.run}, folder, {"run"})
    write_sealed(folder / "study.json", dataclasses.asdict(dataclasses.replace(study, paths=paths)))


def read_study(folder: Path) -> Study:
    """Read study.json. Raises InputError when the folder holds no study, or what is compared was changed."""
    path = folder / "study.json"
    if not path.exists():
        raise InputError(
            str(folder), got="no study.json", expected="a folder that `rlhf rate push` made", fix="push a packet first"
        )
    value = read_json(path)
    if isinstance(value, dict) and seal_holds(value) is False:
        raise InputError(
            str(path), got="changed since it was written", expected="the file of `rlhf rate push`", fix="restore it"
        )
    try:
        return Study(**{key: part for key, part in value.items() if key != SEAL})
    except (AttributeError, TypeError) as error:
        raise InputError(
            str(path), got="another shape", expected="the file of `rlhf rate push`", fix="push a new packet"
        ) from error


def ladder_rungs(rungs: Sequence[Rung]) -> list[Rung]:
    """At most eight rungs evenly spread along √KL, the original and the last among them.

    Raises InputError with fewer than two.
    """
    if len(rungs) < 2:
        raise InputError("--ladder", got=f"{len(rungs)} rungs", expected="at least two", fix="let the run go further")
    roots = np.array([sqrt_kl(rung.kl_per_completion) for rung in rungs])
    wanted = np.linspace(roots[0], roots[-1], LADDER_RUNGS)
    return [rungs[i] for i in sorted({int(np.argmin(np.abs(roots - at))) for at in wanted})]


def draws_that_chose(run: Path) -> set[int]:
    """Draws of samples that may have chosen a rung: those of the run's evaluation and of its human ladder.

    A rung is confirmed on others: the best of several is partly the luckiest on the samples that chose it.
    """
    found = set()
    for path in (run / "evaluation.json", run / "human_ladder.json"):
        value = read_json(path) if path.exists() else {}
        draw = value.get("draw") if isinstance(value, dict) else None
        if isinstance(draw, int):
            found.add(draw)
    return found


def different_rows(samples: Mapping[str, Sequence[Sample]], count: int) -> list[Sample]:
    """`count` samples of every source, each source from rows of its own, so that no rater meets nearly the same text
    twice (neighbouring rungs often say the same with the same seed).

    Raises InputError when there are too few rows.
    """
    chosen: list[Sample] = []
    for place, (source, rows) in enumerate(samples.items()):
        block = rows[place * count : (place + 1) * count]
        if len(block) < count:
            raise InputError(
                f"samples of {source}",
                got=f"{len(rows)}",
                expected=f"at least {(place + 1) * count} ({count} a model, no row twice)",
                fix="ask for fewer, or draw more with `rlhf evaluate`",
            )
        chosen += [dataclasses.replace(row, source=source) for row in block]
    return chosen


def write_ratings(folder: Path, ratings: Sequence[Rating]) -> None:
    """Keep what came back, blind."""
    write_jsonl(folder / "ratings.jsonl", (dataclasses.asdict(rating) for rating in ratings))


def read_ratings(folder: Path) -> list[Rating]:
    """Read ratings.jsonl. Raises InputError for a row that is no rating of 1 to 5, or when there is none."""
    path = folder / "ratings.jsonl"
    fields = {field.name for field in dataclasses.fields(Rating)}
    rows = read_jsonl(path) if path.exists() else []
    if not rows:
        raise InputError(
            str(path), got="no ratings yet", expected="ratings that came back", fix="run `rlhf rate pull` first"
        )
    for number, row in enumerate(rows, start=1):
        value = row.get("rating")
        if row.keys() != fields or not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 5:
            raise InputError(
                f"{path}, record {number}",
                got=f"rating {value!r}" if row.keys() == fields else f"fields {', '.join(row)}",
                expected=f"fields {', '.join(sorted(fields))}, rating 1 to 5",
                fix="pull the ratings again",
            )
    return [Rating(**row) for row in rows]


def score_study(folder: Path, *, partial: bool = False) -> Verdict | HumanLadder:
    """Unblind the folder's ratings and write verdict.json.

    Raises InputError while ratings are missing (unless `partial`, and then the verdict says so), for an unknown uid,
    one rated twice, or a packet of another study.
    """
    study, ratings, key = read_study(folder), read_ratings(folder), read_key(folder / "key.jsonl")
    strangers = {row.source for row in key} ^ (set(study.sqrt_kl) if study.kind == "ladder" else set())
    if study.original not in {row.source for row in key} or (study.kind == "ladder" and strangers):
        raise InputError(
            str(folder / "key.jsonl"), got="a packet of another study", expected="the key of this study's packet",
            fix="restore the folder",
        )  # fmt: skip
    rows = unblind(ratings, key)
    missing = missing_ratings(folder, ratings)
    if missing and not partial:
        raise InputError(
            str(folder / "ratings.jsonl"),
            got=f"{missing} ratings missing",
            expected="every text rated by every rater before unblinding",
            fix="wait and pull again, or give --partial, which the verdict then says",
        )
    verdict = verdict_of(study, rows, missing)
    files = digest_files(folder, "key.jsonl", "ratings.jsonl")
    write_sealed(folder / "verdict.json", {"kind": study.kind, **dataclasses.asdict(verdict), "files": files})
    return verdict


def keep_verdict(run: Path, folder: Path, verdict: Verdict) -> None:
    """Note a verdict in RUN/blind_verdicts.json; the same study scored again replaces its own."""
    known = read_verdicts(run)
    write_sealed(run / "blind_verdicts.json", {**known, str(folder): verdict.statements()})


def read_verdicts(run: Path) -> dict[str, list[str]]:
    """What blind ratings said of the run, by study. Raises InputError when the file is torn or of another shape."""
    path = run / "blind_verdicts.json"
    value = read_json(path) if path.exists() else {}
    value = {name: said for name, said in value.items() if name != SEAL} if isinstance(value, dict) else value
    listed = isinstance(value, dict) and all(isinstance(said, list) for said in value.values())
    if not listed or any(not isinstance(line, str) for said in value.values() for line in said):
        raise InputError(
            str(path), got="another shape", expected="the file of `rlhf rate score`", fix="delete it, then score again"
        )
    return dict(value)


def verdict_of(study: Study, rows: Sequence[Unblinded], missing: int) -> Verdict | HumanLadder:
    """The verdict of a study over unblinded ratings, of which `missing` are still to come."""
    if study.kind == "ladder":
        return score_ladder(rows, study.sqrt_kl, partial=missing > 0)
    return judge(rows, study.original, unrated=missing)


def missing_ratings(folder: Path, ratings: Sequence[Rating]) -> int:
    """Texts that raters have not rated yet; a rater with a project who has not begun counts for the whole packet."""
    key = read_key(folder / "key.jsonl")
    plan = Folder(folder).read_plan()
    asked = len([project for project in plan.projects if project.rater]) if plan else 0
    begun = len({rating.annotator for rating in ratings})
    return sum(unrated(ratings, key).values()) + len(key) * max(0, asked - begun)
