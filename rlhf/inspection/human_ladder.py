"""Human quality along the ladder, from blind ratings: its curve against √KL and where it stops rising.

Intervals come from a bootstrap of samples within each rung and of raters over the whole study: another rater would
have used the scale differently. Samples of different rungs have different seeds here, so that no rater sees nearly
the same text twice; rungs are therefore independent given the raters.

Shapes: R rungs, A raters, n samples of a rung, B bootstrap draws.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from labeling.blind import Unblinded
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_json
from rlhf.inspection.blind_power import Raters
from rlhf.inspection.estimates import Floats, percentile_interval
from rlhf.inspection.overoptimisation import FEWEST_RUNGS, Status, resolved, shape_of


@dataclass(frozen=True, slots=True)
class RatedRung:
    """Mean rating (points) of one rung with its 95 % interval over samples and raters."""

    name: str
    sqrt_kl: float
    mean: float
    interval: tuple[float, float]
    samples: int


@dataclass(frozen=True, slots=True)
class HumanLadder:
    """The human course of a ladder. `d` is √KL at the highest point of the fitted curve, with its 95 % interval."""

    rungs: list[RatedRung]
    status: Status
    d: float
    interval: tuple[float, float]
    fall: float
    fall_se: float
    raters: int
    ratings: int
    partial: bool

    def statement(self) -> str:
        """The finding in one or two sentences, KL in nats."""
        here, low, high = (value**2 for value in (self.d, *self.interval))
        far = self.rungs[-1].sqrt_kl ** 2
        scope = f"{self.ratings} ratings of {self.raters} rater{'s' if self.raters > 1 else ''}"
        loss = f"{self.fall:.2f} ± {self.fall_se:.2f} points"
        told = {
            "none_seen": f"Human quality: no overoptimisation seen up to {far:.1f} nats ({scope}).",
            "onset": f"Human quality stops rising at {here:.1f} nats (95 % interval {low:.1f} to {high:.1f}; {scope}) "
            f"and loses {loss} by {far:.1f} nats.",
            "not_resolved": f"Human quality: not resolved with {scope}; the curve is highest at {here:.1f} nats "
            f"(95 % interval {low:.1f} to {high:.1f}) and loses {loss} afterwards.",
            "too_few_rungs": f"Human quality: fewer than {FEWEST_RUNGS} rungs, so nothing can be said of its course.",
        }[self.status]
        if self.status == "onset":
            best = min(self.rungs, key=lambda rung: abs(rung.sqrt_kl - self.d))
            told += f" Confirm {best.name} on samples that did not choose it: `rlhf rate push RUN --rung {best.name}`."
        return told + (" PARTIAL: ratings are missing." if self.partial else "")

    def statements(self) -> list[str]:
        """Every rung with its interval, then the finding."""
        rungs = [
            f"{rung.name}  {rung.sqrt_kl**2:6.2f} nats  {rung.mean:.2f} "
            f"(95 % interval {rung.interval[0]:.2f} to {rung.interval[1]:.2f}, {rung.samples} samples)"
            for rung in self.rungs
        ]
        return [*rungs, self.statement()]


def score_ladder(
    rows: Sequence[Unblinded], sqrt_kl: Mapping[str, float], *, draws: int = 2000, partial: bool = False, seed: int = 0
) -> HumanLadder:
    """The human course from unblinded ratings; `sqrt_kl` gives the rungs (their order is made ascending).

    Raises InputError when a rung has fewer than two rated samples.
    """
    names = sorted(sqrt_kl, key=lambda name: sqrt_kl[name])
    raters = sorted({row.annotator for row in rows})
    tables = [rating_table([row for row in rows if row.source == name], raters) for name in names]
    for name, table in zip(names, tables, strict=True):
        if len(table) < 2:
            raise InputError(
                "ratings",
                got=f"{len(table)} rated samples of {name}",
                expected="at least two of every rung",
                fix="rate more, or push another packet",
            )
    d = np.array([sqrt_kl[name] for name in names])
    means = np.array([sample_averages(table).mean() for table in tables])
    resampled = bootstrap(tables, draws, seed)
    rungs = [
        RatedRung(name, float(at), float(mean), percentile_interval(drawn), len(table))
        for name, at, mean, drawn, table in zip(names, d, means, resampled.T, tables, strict=True)
    ]
    if len(names) < FEWEST_RUNGS:
        best = float(d[int(np.argmax(means))])
        return HumanLadder(rungs, "too_few_rungs", best, (best, best), 0.0, 0.0, len(raters), len(rows), partial)
    shape = shape_of(d, means, resampled)
    return HumanLadder(
        rungs=rungs,
        status=resolved(shape, float(d.max())),
        d=shape.top,
        interval=shape.interval,
        fall=shape.fall,
        fall_se=shape.fall_se,
        raters=len(raters),
        ratings=len(rows),
        partial=partial,
    )


def read_human_ladder(path: Path) -> HumanLadder | None:
    """The human course that `rlhf rate score` left in a run; None when there is none. Raises InputError."""
    if not path.exists():
        return None
    value = read_json(path)
    try:
        rungs = [RatedRung(**{**row, "interval": tuple(row["interval"])}) for row in value["rungs"]]
        rest = {key: value[key] for key in HumanLadder.__dataclass_fields__ if key not in ("rungs", "interval")}
        return HumanLadder(rungs=rungs, interval=tuple(value["interval"]), **rest)
    except (KeyError, TypeError) as error:
        raise InputError(
            str(path), got=f"another shape ({error})", expected="the file of `rlhf rate score`", fix="score again"
        ) from error


def rating_table(rows: Sequence[Unblinded], raters: Sequence[str]) -> Floats:
    """(n, A) ratings of one rung's samples, NaN where a rater gave none."""
    place = {name: i for i, name in enumerate(raters)}
    uids = {uid: i for i, uid in enumerate(dict.fromkeys(row.sample_uid for row in rows))}
    table = np.full((len(uids), len(raters)), math.nan)
    for row in rows:
        table[uids[row.sample_uid], place[row.annotator]] = row.rating
    return table


def sample_averages(table: Floats) -> Floats:
    """(n,) ratings averaged over raters."""
    averages: Floats = np.nanmean(table, axis=1)
    return averages


def bootstrap(tables: Sequence[Floats], draws: int, seed: int = 0) -> Floats:
    """(B, R) mean ratings of every rung: raters drawn with return once for all rungs, then each rung's samples."""
    generator = np.random.default_rng(seed)
    raters = tables[0].shape[1]
    weights = generator.multinomial(raters, np.full(raters, 1 / raters), size=draws).astype(np.float64)  # (B, A)
    columns = []
    for table in tables:
        count = len(table)
        given = np.isfinite(table)
        totals = np.where(given, table, 0.0) @ weights.T  # (n, B)
        with np.errstate(invalid="ignore"):
            averages = totals / (given @ weights.T)  # NaN where none of the drawn raters rated the sample
        picks = generator.multinomial(count, np.full(count, 1 / count), size=draws).T  # (n, B)
        known = np.isfinite(averages)
        with np.errstate(invalid="ignore"):
            columns.append((picks * np.where(known, averages, 0.0)).sum(axis=0) / (picks * known).sum(axis=0))
    means = np.stack(columns, axis=1)
    kept: Floats = means[np.isfinite(means).all(axis=1)]
    return kept


def simulate_ladder(
    quality: Sequence[float], per_rung: int, raters: Raters, generator: np.random.Generator, rater_bias: float = 0.0
) -> list[Unblinded]:
    """Ratings of a made-up study: rung i has mean quality `quality[i]`; each rater's scale is shifted by a bias."""
    bias = generator.normal(0, rater_bias, size=raters.count)
    rows = []
    for number, mean in enumerate(quality):
        qualities = mean + generator.normal(0, raters.sample_sd, per_rung)
        noise = generator.normal(0, raters.rater_sd, size=(per_rung, raters.count))
        ratings = np.clip(np.rint(qualities[:, None] + noise + bias), 1, 5).astype(int)
        rows += [
            Unblinded(f"{number}-{i}", str(number), int(ratings[i, a]), f"rater {a}", "", None)
            for i in range(per_rung)
            for a in range(raters.count)
        ]
    return rows


def ladder_power(rungs: int, per_rung: int, fall: float, raters: Raters, *, studies: int = 200, seed: int = 0) -> float:
    """Share of simulated studies that resolve an onset in the middle of the ladder when quality falls by `fall` points.

    Quality is a parabola along √KL, highest in the middle and `fall` points lower at both ends.
    """
    d = np.linspace(0, 1, rungs)
    quality = 3 + fall / 2 - fall * (2 * d - 1) ** 2
    names = {str(i): float(at) for i, at in enumerate(d)}
    found = 0
    for study in range(studies):
        generator = np.random.default_rng([seed, study])
        rows = simulate_ladder(list(quality), per_rung, raters, generator)
        found += score_ladder(rows, names, draws=300).status == "onset"
    return found / studies
