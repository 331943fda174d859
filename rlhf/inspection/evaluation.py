"""Scoring a ladder: proxy and gold by rung, onset, best-of-n, variety, copying; written to RUN/evaluation.json.

Gold rewards come in only here, after training: no part of the trainer reads them. Two things are kept apart: golds,
the judgement that labels stand for, whose fall is overoptimisation; and qualities nobody labelled, whose fall is a
side effect.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from rewards.gold import GoldRule
from rewards.rules import RewardFunc, lexicon_sentiment
from rlhf.foundation.digests import digest_files, write_sealed
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_json
from rlhf.foundation.records import Sample, now
from rlhf.inspection.best_of_n import BestOfN, best_of_n_curve, share_of_ties
from rlhf.inspection.curve_fits import CurveFit, fit_curve, fit_points
from rlhf.inspection.diversity import distinct_n, top_completion_share, verbatim_lines
from rlhf.inspection.estimates import Estimate, Floats, bootstrap_means, mean_estimate, score_matrix
from rlhf.inspection.gibbs_frontier import GibbsPoint, gibbs_frontier
from rlhf.inspection.labelled_gold import LabelledGold
from rlhf.inspection.memorisation import Corpus, compression_ratio
from rlhf.inspection.overoptimisation import Course, Onset, find_onset
from rlhf.inspection.scoring import PROXY, Scores, score_rung
from rlhf.inspection.side_effects import SideEffects, Term, along_ladder
from rlhf.runs.reading import Run, read_ladder_samples, read_run, sqrt_kl


@dataclass(frozen=True, slots=True)
class RungEvaluation:
    """What is known of one rung's samples. KL in nats per completion; length in characters.

    `longest_run` is the mean number of words of a sample's longest run that stands in the corpus, `longest_run_max`
    the largest; `heldout` the loss on held-out text in nats per token; `sentiment` VADER's compound score.
    """

    name: str
    kl: float
    kl_se: float | None
    proxy: Estimate | None
    gold: dict[str, Estimate | None]
    quality: dict[str, Estimate | None]
    unscored: dict[str, int]
    length: Estimate | None
    distinct_1: float | None
    distinct_2: float | None
    top_completion_share: float
    compression_ratio: float | None
    verbatim_share: float | None
    verbatim_lines: int | None
    longest_run: Estimate | None
    longest_run_max: int | None
    sentiment: Estimate | None
    heldout: Estimate | None

    @property
    def sqrt_kl(self) -> float:
        """√KL in √nats."""
        return sqrt_kl(self.kl)

    def reward(self, name: str) -> Estimate | None:
        """The proxy, a gold or a quality by name; None where it was not scored."""
        return self.proxy if name == PROXY else self.gold.get(name, self.quality.get(name))


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The whole ladder scored; `scores[rung][reward]` has one value a sample ("proxy" or a function's name).

    `samples` is the run's folder with the samples that were scored, `draw` the number of their draw (None for those
    the trainer stored). `ppo_fits` has the form d(α - β log d) by reward, `best_of_n_fits` d(α - β d);
    `best_of_n_pool` is the number of samples of the original behind best-of-n, `best_of_n_ties` the share of them
    whose proxy ties; `frontier` is the most proxy at each KL, by the same samples; `accepted_changes` names what was no
    longer as the run had it, and was accepted.
    """

    created_at: str
    samples: str
    draw: int | None
    rungs: list[RungEvaluation]
    ppo_fits: dict[str, CurveFit]
    best_of_n: list[BestOfN]
    best_of_n_pool: int
    best_of_n_ties: float
    best_of_n_fits: dict[str, CurveFit]
    onsets: dict[str, Onset]
    side_effects: dict[str, SideEffects]
    scores: dict[str, Scores] = field(default_factory=dict)
    accepted_changes: list[str] = field(default_factory=list)
    frontier: list[GibbsPoint] = field(default_factory=list)

    @property
    def golds(self) -> list[str]:
        """Names of the gold rewards."""
        return list(self.onsets)

    @property
    def telling_golds(self) -> list[str]:
        """The golds that tell samples apart; a constant one has no peak, no win rate and no say in what to keep."""
        return [name for name, onset in self.onsets.items() if onset.status != "constant"]

    @property
    def qualities(self) -> list[str]:
        """Names of the qualities that nobody labelled."""
        return list(self.rungs[0].quality)


def evaluate_run(
    run_dir: Path,
    gold_funcs: Mapping[str, RewardFunc] | None = None,
    *,
    quality_funcs: Mapping[str, RewardFunc] | None = None,
    corpus: str | None = None,
    pool: Sequence[Sample] | None = None,
) -> Evaluation:
    """Score the stored samples of every rung and write RUN/evaluation.json.

    Gold scores that the samples already carry are used too, under the name "gold". `quality_funcs` are scored beside
    them as qualities nobody labelled. With `corpus`, the share of sampled lines that stand verbatim in it is counted.
    `pool`: as in `evaluate_samples`.
    Raises InputError when the run has no ladder samples or a function fails on all of them; single failures are
    counted as unscored. Damaged files are told by whoever read the run before.
    """
    run = read_run(run_dir, tell=False)
    evaluation = evaluate_samples(
        run, read_ladder_samples(run), gold_funcs or {}, quality_funcs=quality_funcs, corpus=corpus, pool=pool
    )
    write_evaluation(run_dir, evaluation)
    return evaluation


def write_evaluation(run_dir: Path, evaluation: Evaluation) -> None:
    """Write RUN/evaluation.json atomically, with the digests of the samples that it was made from."""
    names = [f"{evaluation.samples}/{rung.name}.jsonl" for rung in evaluation.rungs]
    names += [name for name in (f"{evaluation.samples}/heat.json",) if (run_dir / name).is_file()]
    files = digest_files(run_dir, *(name for name in names if (run_dir / name).is_file()))
    write_sealed(run_dir / "evaluation.json", {**asdict(evaluation), "files": files})


def evaluate_samples(
    run: Run,
    samples: Mapping[str, Sequence[Sample]],
    gold_funcs: Mapping[str, RewardFunc],
    *,
    quality_funcs: Mapping[str, RewardFunc] | None = None,
    corpus: str | None = None,
    folder: str = "samples",
    draw: int | None = None,
    pool: Sequence[Sample] | None = None,
    kl: Mapping[str, Estimate] | None = None,
    heldout: Mapping[str, Estimate] | None = None,
    rewarded_pattern: str | None = None,
) -> Evaluation:
    """Score samples by rung without writing anything; see `evaluate_run`.

    `pool` are the original's samples for best-of-n, by default those of its rung; `draw` is the number of the
    samples' draw; `kl` replaces the ladder's own figures; `heldout` is the loss on held-out text by rung;
    `rewarded_pattern` is a regular expression for words that the side effects set apart.
    """
    if not samples:
        raise InputError(
            str(run.directory / "samples"),
            got="no samples of any rung",
            expected="samples/NAME.jsonl for the rungs of ladder.json",
            fix="let the run reach its first rung, or draw fresh ones with `rlhf evaluate`",
        )
    qualities = quality_funcs or {}
    functions = {**gold_funcs, **qualities}
    scores = {name: score_rung(rows, functions) for name, rows in samples.items()}
    refuse_mute(functions, scores)
    known = Corpus(corpus) if corpus is not None else None
    measured = {r.name: Estimate(r.kl_per_completion, r.kl_per_completion_se, r.n) for r in run.rungs} | dict(kl or {})
    rungs = [
        _rung(rung.name, samples[rung.name], scores[rung.name], measured[rung.name], set(qualities), known, heldout)
        for rung in run.rungs
        if rung.name in samples
    ]
    rungs.sort(key=lambda rung: rung.kl)
    original = scores[rungs[0].name]
    pooled = original if pool is None else score_rung(pool, functions)
    best = _best_of_n(pooled)
    asked = [row.prompt for row in (pool if pool is not None else samples[rungs[0].name])]
    onsets = _onsets(rungs, scores, _notes(gold_funcs, samples))
    constant = {name for name, onset in onsets.items() if onset.status == "constant"}
    texts = {rung.name: [row.completion for row in samples[rung.name]] for rung in rungs}
    return Evaluation(
        created_at=now(),
        samples=folder,
        draw=draw,
        rungs=rungs,
        ppo_fits=_ppo_fits(rungs, scores, constant),
        best_of_n=best,
        best_of_n_pool=len(pooled[PROXY]),
        best_of_n_ties=share_of_ties(_floats(pooled[PROXY])),
        best_of_n_fits=_best_of_n_fits(best, constant),
        onsets=onsets,
        side_effects=along_ladder(texts, original[PROXY], rewarded_pattern),
        scores=scores,
        frontier=gibbs_frontier(*_columns(pooled), asked),
    )


def refuse_mute(functions: Mapping[str, RewardFunc], scores: Mapping[str, Scores]) -> None:
    """Raises InputError for a reward that has no score for any sample of the run, such as labels of another one."""
    for name in functions:
        if all(value is None for rung in scores.values() for value in rung[name]):
            raise InputError(
                f"reward '{name}'",
                got="no score for any sample of the run",
                expected="a score for some",
                fix="check that the function, or the labels, and the --draw belong to these samples",
            )


def _rung(
    name: str,
    rows: Sequence[Sample],
    scores: Scores,
    kl: Estimate,
    qualities: set[str],
    corpus: Corpus | None,
    heldout: Mapping[str, Estimate] | None,
) -> RungEvaluation:
    texts = [row.completion for row in rows]
    copied = verbatim_lines(texts, corpus.lines) if corpus else None
    runs = [float(corpus.longest_run(text)) for text in texts] if corpus else []
    means = {reward: mean_estimate(values) for reward, values in scores.items()}
    return RungEvaluation(
        name=name,
        kl=kl.mean,
        kl_se=kl.se,
        proxy=means[PROXY],
        gold={reward: mean for reward, mean in means.items() if reward != PROXY and reward not in qualities},
        quality={reward: mean for reward, mean in means.items() if reward in qualities},
        unscored={reward: sum(v is None for v in values) for reward, values in scores.items()},
        length=mean_estimate([float(len(text)) for text in texts]),
        distinct_1=distinct_n(texts, 1),
        distinct_2=distinct_n(texts, 2),
        top_completion_share=top_completion_share(texts),
        verbatim_share=copied.value if copied else None,
        verbatim_lines=copied.n if copied else None,
        longest_run=mean_estimate(runs),
        longest_run_max=int(max(runs)) if runs else None,
        sentiment=mean_estimate(lexicon_sentiment([""] * len(texts), texts)),
        heldout=(heldout or {}).get(name),
        compression_ratio=compression_ratio(texts),
    )


def _floats(values: Sequence[float | None]) -> Floats:
    return np.array([math.nan if v is None else v for v in values], dtype=np.float64)


def _best_of_n(base: Scores) -> list[BestOfN]:
    return best_of_n_curve(*_columns(base))


def _columns(base: Scores) -> tuple[Floats, dict[str, Floats]]:
    """The proxy of the original's samples, and other rewards that scored most of them: one that scored few (labels of
    people, say) would shrink the pool of all the others."""
    others = {name: _floats(values) for name, values in base.items() if name != PROXY and _mostly_scored(values)}
    return _floats(base[PROXY]), others


def _mostly_scored(values: Sequence[float | None]) -> bool:
    return 2 * sum(value is not None for value in values) >= len(values)


def _notes(gold_funcs: Mapping[str, RewardFunc], samples: Mapping[str, Sequence[Sample]]) -> dict[str, str]:
    """What the built-in gold rules do not know of the samples, and whose labels count, by gold."""
    rows = [row for rung in samples.values() for row in rung]
    texts, prompts = [row.completion for row in rows], [row.prompt for row in rows]
    option = "--gold_reward_func lexicon"
    rules = {name: rule for name, rule in gold_funcs.items() if isinstance(rule, GoldRule)}
    people = {name: gold.note for name, gold in gold_funcs.items() if isinstance(gold, LabelledGold)}
    return people | {name: rule.ignorance(texts, prompts, option) for name, rule in rules.items()}


def _ppo_fits(rungs: Sequence[RungEvaluation], scores: Mapping[str, Scores], constant: set[str]) -> dict[str, CurveFit]:
    """R₀ + d(α - β log d) through the means of every reward that varies; none where there are too few rungs."""
    fits = {}
    for reward in [name for name in scores[rungs[0].name] if name not in constant]:
        there = [rung for rung in rungs if rung.reward(reward) is not None]
        along = course(there, scores, reward) if there else None
        fit = fit_curve("rl", along.d, along.means, bootstrap_means(along.scores)) if along else None
        if fit is not None and math.isfinite(fit.r_squared):
            fits[reward] = fit
    return fits


def _best_of_n_fits(best: Sequence[BestOfN], constant: set[str]) -> dict[str, CurveFit]:
    firm = [point for point in best if point.firm]
    fits = {}
    for reward in [name for name in (PROXY, *(firm[0].gold if firm else [])) if name not in constant]:
        values = [point.reward(reward) for point in firm]
        fit = fit_points("best_of_n", [sqrt_kl(p.kl) for p in firm], [v for v, _ in values], [e for _, e in values])
        if fit is not None:
            fits[reward] = fit
    return fits


def _onsets(
    rungs: Sequence[RungEvaluation], scores: Mapping[str, Scores], notes: Mapping[str, str]
) -> dict[str, Onset]:
    found = {}
    for gold in rungs[0].gold:
        there = [rung for rung in rungs if rung.reward(gold) is not None and rung.proxy is not None]
        if there:
            names = [rung.name for rung in there]
            onset = find_onset(gold, names, [course(there, scores, gold)], course(there, scores, PROXY))
            found[gold] = replace(onset, note=notes.get(gold, ""))
    return found


def course(rungs: Sequence[RungEvaluation], scores: Mapping[str, Scores], reward: str) -> Course:
    """One reward's course along the given rungs."""
    d = np.array([rung.sqrt_kl for rung in rungs])
    return Course(d, score_matrix([scores[rung.name][reward] for rung in rungs]))


def read_evaluation(path: Path) -> Evaluation:
    """Read evaluation.json back. Raises InputError when it is torn or of another shape."""
    value = read_json(path)
    try:
        return _from_json(value)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            str(path), got=f"another shape ({error})", expected="the file of `rlhf evaluate`", fix="run it again"
        ) from error


def stored_evaluation(run: Run) -> Evaluation | None:
    """What evaluation.json says of a run; None before it was made, or where the ladder no longer has its rungs.

    Raises InputError like `read_evaluation`.
    """
    path = run.directory / "evaluation.json"
    evaluation = read_evaluation(path) if path.exists() else None
    known = {rung.name for rung in run.rungs}
    return evaluation if evaluation and {rung.name for rung in evaluation.rungs} <= known else None


def _from_json(value: Any) -> Evaluation:
    rungs = [
        RungEvaluation(
            **{
                **row,
                **{key: _estimate(row[key]) for key in ("proxy", "length", "longest_run", "sentiment", "heldout")},
                **{key: {name: _estimate(e) for name, e in row[key].items()} for key in ("gold", "quality")},
            }
        )
        for row in value["rungs"]
    ]
    onsets = {
        name: Onset(**{**row, "interval": tuple(row["interval"]), "fit": _fit(row["fit"])})
        for name, row in value["onsets"].items()
    }
    fits, ppo_fits = (
        {name: fit for name, row in value[key].items() if (fit := _fit(row))} for key in ("best_of_n_fits", "ppo_fits")
    )
    best = [BestOfN(**row) for row in value["best_of_n"]]
    effects = {
        name: SideEffects(_terms(row["rewarded"]), _terms(row["terms"]), row["tested"])
        for name, row in value["side_effects"].items()
    }
    return Evaluation(
        rungs=rungs,
        ppo_fits=ppo_fits,
        best_of_n=best,
        best_of_n_fits=fits,
        onsets=onsets,
        side_effects=effects,
        accepted_changes=value.get("accepted_changes", []),
        frontier=[GibbsPoint(**row) for row in value.get("frontier", [])],
        **{key: value[key] for key in AS_THEY_ARE},
    )


AS_THEY_ARE = ("created_at", "samples", "draw", "best_of_n_pool", "best_of_n_ties", "scores")


def _terms(rows: Sequence[dict[str, Any]]) -> list[Term]:
    return [Term(**row) for row in rows]


def _estimate(row: dict[str, Any] | None) -> Estimate | None:
    return None if row is None else Estimate(**row)


def _fit(row: dict[str, Any] | None) -> CurveFit | None:
    return None if row is None else CurveFit(**{**row, "grid": [tuple(point) for point in row["grid"]]})
