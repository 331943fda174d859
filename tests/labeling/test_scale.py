"""A million rows: memory below twice the file, a bar with the time left, and the results of one row at a time."""

from __future__ import annotations

import csv
import hashlib
import json
import random
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labeling.annotations import UNTIMED, Annotation, latest
from labeling.answer_table import AnswerTable, Outcome
from labeling.rater_agreement import coincidences, krippendorff_alpha
from labeling.union import union
from labeling.votes import votes_of
from rewards import targets
from rewards.steps.reward_data import DataOptions, load_reward_data
from rlhf import cli
from rlhf.commands.label.import_labels import main as label_import_command
from rlhf.commands.label.page import main as label_page_command
from rlhf.commands.label.simulate import main as label_simulate_command
from rlhf.commands.label.status import main as label_status_command
from rlhf.foundation.lazy import Lazy
from rlhf.foundation.records import LABELS, Label, Sample, content_uid, write_records

WORDS = "the moon is kind to lovers and it\u2019s a good, happy, sad or terrible night for the old river"
TIMES = ("", "2026-01-01T00:00:00Z", "2026-01-01T01:00:00+01:00", "2026-01-02T00:00:00Z")


def text(rng: random.Random) -> str:
    return " ".join(rng.choices(WORDS.split(), k=30))


def make_labels(count: int) -> list[Label]:
    """Two raters a text, as models write and people label."""
    rng = random.Random(1)
    found = []
    for number in range(0, count, 2):
        completion, truth = text(rng), rng.choice(LABELS)
        for who in rng.sample(["ana", "ben", "eva"], 2):
            at = f"2026-01-01T{number // 3600 % 24:02d}:{number // 60 % 60:02d}:{number % 60:02d}.{number % 997:03d}Z"
            said = truth if rng.random() < 0.8 else rng.choice(LABELS)
            rest: dict[str, Any] = {"created_at": at, "lead_time": rng.random() * 20}
            found.append(Label(f"{number:032x}", "", completion, said, who, **rest))
    return found


def write_csv(path: Path, rows: list[Label]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["text", "label", "annotator", "created_at", "lead_time"])
        table.writerows([x.completion, x.label, x.annotator, x.created_at, x.lead_time] for x in rows)


def write_export(path: Path, rows: list[Label]) -> None:
    tasks = []
    for one, two in zip(rows[::2], rows[1::2], strict=True):
        found = [
            {
                "id": number,
                "completed_by": {"id": number % 3, "email": f"{x.annotator}@rater.example"},
                "result": [{"from_name": "sentiment", "type": "choices", "value": {"choices": [x.label]}}],
                "updated_at": x.created_at,
                "lead_time": x.lead_time,
                "was_cancelled": False,
                "ground_truth": False,
            }
            for number, x in enumerate((one, two))
        ]
        tasks.append({"id": one.uid, "data": {"text": one.completion}, "annotations": found, "drafts": []})
    path.write_text(json.dumps(tasks), encoding="utf-8")


def import_(path: Path, *options: str) -> Callable[[], object]:
    output = str(path.with_suffix(".out"))
    return lambda: label_import_command(["--input", str(path), "--output", output, "--overwrite", "--quiet", *options])


TABLE = ["--label", "label", "--annotator_column", "annotator"]


def import_csv(path: Path, rows: list[Label]) -> Callable[[], object]:
    write_csv(path.with_suffix(".csv"), rows)
    return import_(path.with_suffix(".csv"), *TABLE)


def import_lines(path: Path, rows: list[Label]) -> Callable[[], object]:
    lines = [{"text": x.completion, "label": x.label, "annotator": x.annotator, "at": x.created_at} for x in rows]
    path.with_suffix(".jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return import_(path.with_suffix(".jsonl"), *TABLE)


def import_export(path: Path, rows: list[Label]) -> Callable[[], object]:
    write_export(path.with_suffix(".json"), rows)
    return import_(path.with_suffix(".json"))


def status(path: Path, rows: list[Label]) -> Callable[[], object]:
    write_records(path.with_suffix(".jsonl"), rows)
    return lambda: label_status_command(["--labels", str(path.with_suffix(".jsonl")), "--quiet"])


def pool(path: Path, rows: list[Label]) -> Callable[[], object]:
    write_records(path.with_suffix(".jsonl"), rows)

    def work() -> None:
        data = load_reward_data(DataOptions(labels=str(path.with_suffix(".jsonl"))))
        targets.pool_labels(data.labels)

    return work


def write_samples(path: Path, count: int) -> list[str]:
    rng = random.Random(2)
    samples = [Sample(f"{i:032x}", "", text(rng), "model", logprob=-i / 7, seed=i) for i in range(count)]
    write_records(path.with_suffix(".jsonl"), samples)
    return ["--samples", str(path.with_suffix(".jsonl")), "--quiet"]


def simulate(path: Path, rows: list[Label]) -> Callable[[], object]:
    words = [*write_samples(path, len(rows)), "--output", str(path.with_suffix(".out")), "--overwrite"]
    return lambda: label_simulate_command([*words, "--gold", "lexicon", "--annotators", "ana,ben"])


def page(path: Path, rows: list[Label]) -> Callable[[], object]:
    words = write_samples(path, len(rows))
    return lambda: label_page_command([*words, "--output_dir", str(path / "page"), "--num_tasks", "5"])


def grown(where: Path, prepare: Callable[[Path, list[Label]], Callable[[], object]], count: int) -> tuple[int, int]:
    """Peak bytes of a command that has run once, and the size of the file it reads."""
    where.mkdir()
    work = prepare(where / "file", make_labels(count))
    (size,) = (path.stat().st_size for path in where.iterdir())
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak, size


@pytest.mark.parametrize(
    "prepare", [import_csv, import_lines, import_export, status, pool, simulate, page], ids=lambda f: f.__name__
)
def test_memory_grows_by_less_than_twice_the_file(
    tmp_path: Path, prepare: Callable[[Path, list[Label]], Callable[[], object]]
) -> None:
    grown(tmp_path / "0", prepare, 100)  # what is imported and cached once
    times = 4 if prepare in (status, pool) else 1  # fast ones, of which a constant share would still be seen
    few, small = grown(tmp_path / "1", prepare, 1_000 * times)
    many, large = grown(tmp_path / "2", prepare, 4_000 * times)
    assert many - few < 2 * (large - small), (many - few) / (large - small)


def test_a_bar_tells_the_time_left_and_quiet_hides_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_csv(tmp_path / "a.csv", make_labels(100) * 400)
    words = ["--input", str(tmp_path / "a.csv"), "--output", str(tmp_path / "o"), "--overwrite", *TABLE]
    label_import_command(words)
    told = capsys.readouterr().err
    assert "read:" in told
    assert "<00:0" in told  # elapsed<remaining
    assert told.rsplit("\r", 1)[-1].strip() == ""  # gone when the work is done
    label_import_command([*words, "--quiet"])
    assert capsys.readouterr().err == ""


def test_a_bar_is_gone_before_the_line_of_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_csv(tmp_path / "a.csv", make_labels(100) * 400)
    with (tmp_path / "a.csv").open("a") as stream:
        stream.write("too,many,cells,in,this,row\n")
    words = ["label", "import", "--input", str(tmp_path / "a.csv"), "--output", str(tmp_path / "o"), *TABLE]
    assert cli.main(words) == 2
    *bar, last = capsys.readouterr().err.split("\r")
    assert last.startswith("rlhf: ")
    assert "line 40002: got 6 cells" in last
    assert last.count("\n") == 1
    assert bar[-1].strip() == ""  # the bar was wiped


def answer(rng: random.Random, uids: list[str]) -> Annotation:
    said = rng.choice(LABELS)
    outcome = rng.choice(["labelled", "labelled", "skipped"])
    choice = said if outcome == "labelled" else None
    who, at = rng.choice(["ana", "ben", "eva"]), rng.choice(TIMES)
    return Annotation(rng.choice(uids), who, outcome, choice, at, rng.choice([0, 0, 5, 7]), None, "manual")  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(20))
def test_a_table_keeps_the_answers_that_one_by_one_are_kept(seed: int) -> None:
    from rlhf.foundation.moments import microseconds

    rng = random.Random(seed)
    uids = [content_uid(str(i)) for i in range(6)]
    found = [answer(rng, uids) for _ in range(rng.choice([1, 5, 60]))]
    table, names = AnswerTable(), ["eva", "ben", "ana"]
    for one in found:
        table.add(
            one.uid,
            ["", one.uid],
            names.index(one.annotator),
            at=microseconds(one.updated_at, "here"),
            number=one.number,
            outcome=Outcome(one.choice is not None, one.choice or one.outcome),
            reference=False,
            rest=(one.updated_at,),
        )
    kept, superseded = latest(found)
    places, counts = table.latest(names, reference=False)
    got = [(table.uid(p), names[table.people[p]], table.outcome(p).said, table.content(p)[1][0]) for p in places]
    assert got == [(x.uid, x.annotator, x.choice, x.updated_at) for x in kept if x.choice]
    assert [table.content(p)[0] for p in places] == [["", x.uid] for x in kept if x.choice]
    assert +counts == +Counter({**superseded, "skipped": sum(x.choice is None for x in kept)})
    assert counts[UNTIMED] == superseded[UNTIMED]
    assert not len(table.latest(names, reference=True)[0])


def one_by_one(records: list[Label]) -> tuple[list[Label], Counter[str]]:
    """The rule of `union`, with a dictionary."""
    kept: dict[tuple[str, str], Label] = {}
    counts: Counter[str] = Counter()
    for record in records:
        other = kept.setdefault((record.uid, record.annotator), record)
        if other is record:
            continue
        if other == record:
            counts["there already"] += 1
            continue
        counts["superseded"] += 1
        ages = [TIMES.index(one.created_at) for one in (record, other)]
        ages = [1 if age == 2 else age for age in ages]  # one instant, spelled in two ways
        counts[UNTIMED] += 0 in ages
        if ages[0] >= ages[1]:
            kept[record.uid, record.annotator] = record
    return list(kept.values()), counts


@pytest.mark.parametrize("seed", range(20))
def test_union_keeps_the_records_that_one_by_one_are_kept(seed: int) -> None:
    rng = random.Random(seed)
    records = [
        Label(rng.choice("abc"), "", "t", rng.choice(LABELS), rng.choice(["ana", "ben"]), rng.choice(TIMES))
        for _ in range(rng.choice([1, 4, 25]))
    ]
    kept, counts = one_by_one(records)
    for given in (records, Lazy(records.__getitem__, range(len(records)))):
        joined, told = union(given)
        assert list(joined) == kept
        assert told == counts


def test_the_hash_of_labels_does_not_depend_on_how_many_are_sorted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = make_labels(400)
    rows = sorted(json.dumps([x.prompt, x.completion, x.label, x.annotator], ensure_ascii=False) for x in labels)
    expected = hashlib.sha256("\n".join(rows).encode()).hexdigest()
    assert targets.hash_labels(labels) == expected
    monkeypatch.setattr(targets, "PART", 7)
    for sampled in (5, 50, 5_000):
        monkeypatch.setattr(targets, "SAMPLED", sampled)
        assert targets.hash_labels(labels[::-1]) == expected
    assert targets.hash_labels([]) == hashlib.sha256(b"").hexdigest()


def test_drawing_kinds_of_units_spreads_as_drawing_units_does() -> None:
    """Units that are alike are drawn by their number: the interval is that of drawing every unit by itself."""
    rng = np.random.default_rng(5)
    truth = rng.integers(3, size=150)
    units = [[int(t if rng.random() < 0.8 else rng.integers(3)) for _ in range(1 + i % 3)] for i, t in enumerate(truth)]
    got = krippendorff_alpha(units, 3, draws=4_000)
    paired = [unit for unit in units if len(unit) > 1]
    tables = coincidences(paired, 3)
    drawn = [tables[rng.integers(len(paired), size=len(paired))].sum(axis=0) for _ in range(4_000)]
    from labeling.rater_agreement import alpha_of

    low, high = np.percentile([alpha_of(table) for table in drawn], [2.5, 97.5])  # type: ignore[type-var]
    # Standard error of a 2.5 % quantile of 4,000 draws: about 0.04 of the spread, here 0.002 on either side.
    assert got.low == pytest.approx(low, abs=0.012)
    assert got.high == pytest.approx(high, abs=0.012)
    assert got.n == len(paired)


def test_votes_of_labels() -> None:
    labels = [Label("b", "", "t", "negative", "x"), Label("a", "", "t", "neutral", "y", lead_time=2.0)]
    labels.append(Label("b", "", "t", "positive", "x"))  # of one rater's two the later one counts
    votes = votes_of(labels)
    assert (votes.uids, votes.raters) == (["b", "a"], ["x", "y"])
    assert votes.tally().tolist() == [[1, 0, 1], [0, 1, 0]]
    assert votes.latest().tally().tolist() == [[1, 0, 0], [0, 1, 0]]
    assert votes.shared().tolist() == [False, False]
