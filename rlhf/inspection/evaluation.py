"""Scoring a ladder: proxy and gold by rung, best-of-n, variety, copying; written to RUN/evaluation.json.

Gold rewards come in only here, after training: no part of the trainer reads them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from labeling.errors import InputError
from labeling.files import read_json, write_json
from labeling.records import Sample, now
from rewards.rules import RewardFunc
from rlhf.inspection.best_of_n import BestOfN, best_of_n_curve
from rlhf.inspection.diversity import distinct_n, lines_of, top_completion_share, verbatim_lines
from rlhf.inspection.estimates import Estimate, Floats, mean_estimate, score_matrix
from rlhf.inspection.overoptimisation import Onset, find_onset
from rlhf.inspection.run_directory import Run, read_ladder_samples, read_run, sqrt_kl

Scores = dict[str, list[float | None]]


@dataclass(frozen=True, slots=True)
class RungEvaluation:
    """What is known of one rung's samples. KL in nats per completion; length in characters."""

    name: str
    kl: float
    kl_se: float | None
    proxy: Estimate | None
    gold: dict[str, Estimate | None]
    unscored: dict[str, int]
    length: Estimate | None
    distinct_1: float | None
    distinct_2: float | None
    top_completion_share: float
    verbatim_share: float | None
    verbatim_lines: int | None

    @property
    def sqrt_kl(self) -> float:
        """√KL in √nats."""
        return sqrt_kl(self.kl)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The whole ladder scored; `scores[rung][reward]` has one value a sample ("proxy" or a gold's name)."""

    created_at: str
    samples: str
    rungs: list[RungEvaluation]
    best_of_n: list[BestOfN]
    onsets: dict[str, Onset]
    scores: dict[str, Scores] = field(default_factory=dict)

    @property
    def golds(self) -> list[str]:
        """Names of the gold rewards."""
        return list(self.onsets)


def evaluate_run(
    run_dir: Path, gold_funcs: Mapping[str, RewardFunc] | None = None, *, corpus: str | None = None
) -> Evaluation:
    """Score the stored samples of every rung and write RUN/evaluation.json.

    Gold scores that the samples already carry are used too, under the name "gold". With `corpus`, the share of
    sampled lines that stand verbatim in it is counted. Raises InputError when the run has no ladder samples or a
    gold function fails on all of them; single failures are counted as unscored.
    """
    run = read_run(run_dir)
    evaluation = evaluate_samples(run, read_ladder_samples(run), gold_funcs or {}, corpus=corpus)
    write_json(run_dir / "evaluation.json", asdict(evaluation))
    return evaluation


def evaluate_samples(
    run: Run,
    samples: Mapping[str, Sequence[Sample]],
    gold_funcs: Mapping[str, RewardFunc],
    *,
    corpus: str | None = None,
    folder: str = "samples",
) -> Evaluation:
    """Score samples by rung without writing anything; see `evaluate_run`."""
    if not samples:
        raise InputError(
            str(run.directory / "samples"),
            got="no samples of any rung",
            expected="samples/NAME.jsonl for the rungs of ladder.json",
            fix="let the run reach its first rung, or draw fresh ones with `rlhf evaluate`",
        )
    scores = {name: score_rung(rows, gold_funcs) for name, rows in samples.items()}
    corpus_lines = lines_of(corpus) if corpus is not None else None
    rungs = [
        _rung(name, samples[name], scores[name], kl, kl_se, corpus_lines)
        for name, kl, kl_se in ((r.name, r.kl_per_completion, r.kl_per_completion_se) for r in run.rungs)
        if name in samples
    ]
    return Evaluation(now(), folder, rungs, _best_of_n(scores[rungs[0].name]), _onsets(rungs, scores), scores)


def score_rung(rows: Sequence[Sample], gold_funcs: Mapping[str, RewardFunc]) -> Scores:
    """Proxy and every gold of one rung's samples, None where there is no score."""
    scores: Scores = {"proxy": [row.reward for row in rows]}
    if any(row.gold is not None for row in rows):
        scores["gold"] = [row.gold for row in rows]
    for name, function in gold_funcs.items():
        scores[name] = score_gold(name, function, rows)
    return scores


def score_gold(name: str, function: RewardFunc, rows: Sequence[Sample]) -> list[float | None]:
    """A gold reward of every sample; where the batch fails, samples are scored one by one and failures are None.

    Raises InputError when it fails on every sample or returns the wrong number of values.
    """
    try:
        return _call(name, function, rows)
    except InputError:
        raise
    except Exception as failure:
        scores: list[float | None] = []
        for row in rows:
            try:
                scores += _call(name, function, [row])
            except InputError:
                raise
            except Exception:
                scores.append(None)
        if any(score is not None for score in scores):
            return scores
        raise InputError(
            f"gold reward '{name}'",
            got=f"{type(failure).__name__}: {failure}",
            expected="a score for at least one sample",
            fix="run the function on one text and mend it",
        ) from failure


def _call(name: str, function: RewardFunc, rows: Sequence[Sample]) -> list[float | None]:
    values = function(
        prompts=[row.prompt for row in rows],
        completions=[row.completion for row in rows],
        completion_ids=None,  # stored samples are text; a function that needs ids fails and says so
    )
    if len(values) != len(rows):
        raise InputError(
            f"gold reward '{name}'",
            got=f"{len(values)} values for {len(rows)} completions",
            expected="one float or None a completion",
            fix="mend the function",
        )
    return [float(value) if value is not None and math.isfinite(value) else None for value in values]


def _rung(
    name: str, rows: Sequence[Sample], scores: Scores, kl: float, kl_se: float | None, corpus_lines: set[str] | None
) -> RungEvaluation:
    texts = [row.completion for row in rows]
    copied = verbatim_lines(texts, corpus_lines) if corpus_lines is not None else None
    return RungEvaluation(
        name=name,
        kl=kl,
        kl_se=kl_se,
        proxy=mean_estimate(scores["proxy"]),
        gold={gold: mean_estimate(values) for gold, values in scores.items() if gold != "proxy"},
        unscored={reward: sum(v is None for v in values) for reward, values in scores.items()},
        length=mean_estimate([float(len(text)) for text in texts]),
        distinct_1=distinct_n(texts, 1),
        distinct_2=distinct_n(texts, 2),
        top_completion_share=top_completion_share(texts),
        verbatim_share=copied.value if copied else None,
        verbatim_lines=copied.n if copied else None,
    )


def _floats(values: Sequence[float | None]) -> Floats:
    return np.array([math.nan if v is None else v for v in values], dtype=np.float64)


def _best_of_n(base: Scores) -> list[BestOfN]:
    golds = {name: _floats(values) for name, values in base.items() if name != "proxy"}
    return best_of_n_curve(_floats(base["proxy"]), golds)


def _onsets(rungs: Sequence[RungEvaluation], scores: Mapping[str, Scores]) -> dict[str, Onset]:
    proxy = score_matrix([scores[rung.name]["proxy"] for rung in rungs])
    found = {}
    for gold in rungs[0].gold:
        there = [i for i, rung in enumerate(rungs) if rung.gold.get(gold) is not None]
        matrix = score_matrix([scores[rungs[i].name][gold] for i in there])
        names, sqrt_kl = [rungs[i].name for i in there], [rungs[i].sqrt_kl for i in there]
        if there:
            found[gold] = find_onset(gold, names, sqrt_kl, matrix, proxy[there])
    return found


def read_evaluation(path: Path) -> Evaluation:
    """Read evaluation.json back. Raises InputError when it is torn or of another shape."""
    value = read_json(path)
    try:
        return _from_json(value)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            str(path), got=f"another shape ({error})", expected="the file of `rlhf evaluate`", fix="run it again"
        ) from error


def _from_json(value: Any) -> Evaluation:
    rungs = [
        RungEvaluation(
            **{
                **row,
                "proxy": _estimate(row["proxy"]),
                "length": _estimate(row["length"]),
                "gold": {name: _estimate(gold) for name, gold in row["gold"].items()},
            }
        )
        for row in value["rungs"]
    ]
    onsets = {name: Onset(**{**row, "interval": tuple(row["interval"])}) for name, row in value["onsets"].items()}
    best = [BestOfN(**row) for row in value["best_of_n"]]
    return Evaluation(value["created_at"], value["samples"], rungs, best, onsets, value["scores"])


def _estimate(row: dict[str, Any] | None) -> Estimate | None:
    return None if row is None else Estimate(**row)
