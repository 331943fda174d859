"""Labels of people as gold: met by text, pooled, silent where nobody labelled, refused when they are of other texts."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from rlhf.evaluation.evaluate import EvaluateConfig, evaluate
from rlhf.foundation.errors import InputError
from rlhf.foundation.records import LABELS, Label, LabelName, Sample, read_samples, write_records
from rlhf.inspection.labelled_gold import LabelledGold
from rlhf.inspection.recommendation import recommend

from .conftest import MakeRun


def label(sample: Sample, name: LabelName, annotator: str = "ana") -> Label:
    return Label(sample.uid, sample.prompt, sample.completion, name, annotator)


def test_labels_are_pooled_and_met_by_text(tmp_path: Path) -> None:
    good, bad, mixed = (Sample(f"s{i}", "", text, "m") for i, text in enumerate(("good", "bad", "mixed")))
    rows = [label(good, "positive", r) for r in ("ana", "ben")] + [label(bad, "negative", r) for r in ("ana", "ben")]
    rows += [label(mixed, "positive"), label(mixed, "negative", "ben")]
    write_records(tmp_path / "people.jsonl", rows)
    gold = LabelledGold(tmp_path / "people.jsonl")
    assert gold.__name__ == "people"
    scores = gold(["", "", "", "other"], ["good", "bad", "never seen", "good"])
    assert scores[0] is not None
    assert scores[1] is not None
    assert scores[0] > 0.9 > 0.1 > scores[1]
    assert scores[2:] == [None, None]  # another prompt is another text
    (between,) = gold([""], ["mixed"])
    assert between is not None
    assert 0.1 < between < 0.9


def test_a_ladder_by_labels_of_some_samples(make_run: MakeRun, tmp_path: Path) -> None:
    directory = make_run(samples=60, gold=None)
    rungs = sorted(path.stem for path in (directory / "samples").iterdir())
    rows: list[Label] = []
    for place, rung in enumerate(rungs):  # ten labels a rung, of other rows each: better and better up to the fourth
        share = (0, 3, 6, 9, 6, 3, 0)[place]
        samples = read_samples(directory / "samples" / f"{rung}.jsonl")[place * 8 : place * 8 + 10]
        rows += [label(sample, "positive" if i < share else "negative") for i, sample in enumerate(samples)]
    write_records(tmp_path / "people.jsonl", rows)
    evaluation = evaluate.run(
        EvaluateConfig(run=str(directory), stored_samples=True, gold_labels=[str(tmp_path / "people.jsonl")])
    )
    means = [rung.gold["people"] for rung in evaluation.rungs]
    assert [round(m.mean, 9) if m else None for m in means] == [0, 0.3, 0.6, 0.9, 0.6, 0.3, 0]
    assert [m.n for m in means if m] == [10] * 7
    onset = evaluation.onsets["people"]
    assert "Mind of people: 70 labels on 70 texts by 1 annotators." in onset.statement()
    assert onset.status == "onset"
    assert onset.interval[0] <= math.sqrt(2.5) <= onset.interval[1]  # the fourth rung's √KL
    assert evaluation.best_of_n[-1].n == 32  # ten labels do not shrink the pool of 60 for the proxy
    assert evaluation.best_of_n[-1].gold == {}
    advice = recommend(evaluation)
    assert advice is not None
    assert advice.rung == rungs[3]


def test_labels_of_other_texts_are_refused(make_run: MakeRun, tmp_path: Path) -> None:
    write_records(tmp_path / "others.jsonl", [label(Sample("a", "", "nothing of this run", "m"), "positive")])
    config = EvaluateConfig(
        run=str(make_run(rungs=2, samples=4)), stored_samples=True, gold_labels=[str(tmp_path / "others.jsonl")]
    )
    with pytest.raises(InputError, match="reward 'others': got no score for any sample"):
        evaluate.run(config)


def test_a_rater_at_chance_is_left_out_of_gold_too_and_named(make_run: MakeRun, tmp_path: Path) -> None:
    """60 samples labelled by three: ana and ben agree, coin goes round the labels by threes."""
    directory = make_run(rungs=2, samples=60, gold=None)
    samples = read_samples(directory / "samples" / "kl-00.00.jsonl")
    rows = [label(s, LABELS[i % 3], who) for i, s in enumerate(samples) for who in ("ana", "ben")]
    rows += [label(s, LABELS[i // 3 % 3], "coin") for i, s in enumerate(samples)]
    write_records(tmp_path / "people.jsonl", rows)
    gold = LabelledGold(tmp_path / "people.jsonl")
    first, _, third = gold([""] * 3, [s.completion for s in samples[:3]])
    assert first is not None
    assert third is not None
    assert first > 0.99  # with coin, who called both positive, the plain shares would be 1 and 1/3
    assert third < 0.01
    shares = LabelledGold(tmp_path / "people.jsonl", "share")
    assert shares([""], [samples[2].completion]) == [pytest.approx(1 / 3)]
    assert "180 labels on 60 texts by 3 annotators" in gold.note
    assert "left out, no better than chance: coin" in gold.note
