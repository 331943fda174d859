"""Where labelled gold stops rising along √KL while the proxy goes on, or that it does not.

The onset is the highest point of the fitted gold curve. Its interval comes from a bootstrap by sample index, joint
over all rungs, because the same seeds make rungs correlated; with several runs, runs are resampled first. The curve
is R₀ + d(α - β log d), a cubic where the goodness of that form is below 5 %, and no curve but the rungs themselves
where the cubic fails too (a sharp bend). The interval covers every form that is not rejected. The rungs' own √KL is
taken as exact: its error is not in the interval.

Shapes: R rungs, N samples of a rung, B bootstrap draws. d is √KL(policy || original) in √nats per completion.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rlhf.inspection.curve_fits import (
    REJECTED,
    CurveFit,
    Form,
    design,
    fit_curve,
    goodness,
    peaks,
    solver,
    weighted_r_squared,
)
from rlhf.inspection.estimates import Floats, bootstrap_means, percentile_interval

Status = Literal["onset", "none_seen", "not_resolved", "too_few_rungs", "constant"]
GRID = 401
FEWEST_RUNGS = 4  # three coefficients and one point to spare


@dataclass(frozen=True, slots=True)
class Course:
    """One run's reward along its ladder: d (R,) ascending and scores (R, N), NaN where a sample has none."""

    d: Floats
    scores: Floats

    @property
    def means(self) -> Floats:
        """(R,) means of the scored samples."""
        means: Floats = np.nanmean(self.scores, axis=1)
        return means


@dataclass(frozen=True, slots=True)
class Onset:
    """Where the fitted gold curve is highest, and whether its fall afterwards is more than noise.

    `d` is √KL there with its 95 % interval; `rung` the rung nearest to it; `fall` what the fitted curve loses from
    there to the last rung, `fall_se` its standard error; `proxy_gain` what the proxy gains from that rung to the
    last. `fit` is the curve the onset was read from. `runs` tells what the errors include: with one run they are of
    its samples only. `note` says what the gold does not know of these samples. Of a constant gold (one value on every
    sample) there is no such point, and `d`, `fall` and the rest are 0.
    """

    gold: str
    status: Status
    rung: str
    d: float
    interval: tuple[float, float]
    last_d: float
    fall: float
    fall_se: float
    proxy_gain: float
    n: int
    runs: int
    fit: CurveFit | None
    note: str = ""

    @property
    def _curve(self) -> str:
        return "its fitted curve" if self.fit else "its course by rung (no form fits)"

    def statement(self) -> str:
        """The finding in plain sentences, KL in nats."""
        if self.status == "constant":
            why = self.note or "it tells nothing about these texts"
            return f"{self.gold} is constant, the same on every sample of every rung: {why}."
        return f"{self._finding()} Mind of {self.gold}: {self.note}." if self.note else self._finding()

    def _finding(self) -> str:
        here, low, high, far = (value**2 for value in (self.d, *self.interval, self.last_d))
        scope = "this run only" if self.runs == 1 else f"over {self.runs} runs"
        if self.status == "too_few_rungs":
            few = f"fewer than {FEWEST_RUNGS} rungs with samples"
            return f"{self.gold}: {few}, so nothing can be said about its course."
        if self.status == "none_seen":
            return (
                f"{self.gold}: no overoptimisation seen up to {far:.1f} nats; {self._curve} is still highest at the "
                f"end ({scope})."
            )
        if self.status == "not_resolved":
            end = self.interval[1] >= self.last_d * (1 - 1 / GRID)
            why = "reaches the end" if end else "ends before that"
            return (
                f"{self.gold}: no overoptimisation resolved up to {far:.1f} nats with {self.n:,} samples a rung; "
                f"{self._curve} is highest at {here:.1f} nats, the 95 % interval, {low:.1f} to {high:.1f}, {why}, and "
                f"the fall afterwards is {self.fall:.3f} ± {self.fall_se:.3f} ({scope})."
            )
        course = "goes on rising" if self.proxy_gain > 0 else "does not rise either"
        return (
            f"{self.gold} stops rising at {here:.1f} nats (95 % interval {low:.1f} to {high:.1f}, {scope}) and loses "
            f"{self.fall:.3f} ± {self.fall_se:.3f} by {far:.1f} nats, while the proxy {course} "
            f"({self.proxy_gain:+.3f})."
        )


def find_onset(gold: str, names: Sequence[str], courses: Sequence[Course], proxy: Course, draws: int = 2000) -> Onset:
    """The onset of one gold reward from the ladder of one run, or of several.

    `names` and `proxy` are those of the first run's rungs. Unscored samples are left out of every mean.
    """
    first, last = courses[0], max(float(course.d.max()) for course in courses)
    counts = int(min(np.isfinite(course.scores).sum(axis=1).min() for course in courses))
    if is_constant(courses):
        return Onset(gold, "constant", names[0], 0.0, (0.0, 0.0), last, 0.0, 0.0, 0.0, counts, len(courses), None)
    if len(first.d) < FEWEST_RUNGS:
        best = int(np.argmax(first.means))
        at = float(first.d[best])
        return Onset(gold, "too_few_rungs", names[best], at, (at, at), last, 0.0, 0.0, 0.0, counts, len(courses), None)
    if len(courses) == 1:
        shape = shape_of(first.d, first.means, bootstrap_means(first.scores, draws))
    else:
        shape = _several_runs(courses, draws)
    top, interval, fall, fall_se = shape.top, shape.interval, shape.fall, shape.fall_se
    nearest = int(np.argmin(np.abs(first.d - top)))
    return Onset(
        gold=gold,
        status=resolved(shape, last),
        rung=names[nearest],
        d=top,
        interval=interval,
        last_d=last,
        fall=fall,
        fall_se=fall_se,
        proxy_gain=float(proxy.means[-1] - proxy.means[nearest]),
        n=counts,
        runs=len(courses),
        fit=shape.fit,
    )


def is_constant(courses: Sequence[Course]) -> bool:
    """Whether a reward has one value on every sample of every rung: it can rank nothing."""
    values = np.concatenate([course.scores[np.isfinite(course.scores)] for course in courses])
    return bool(values.size) and bool((values == values[0]).all())


@dataclass(frozen=True, slots=True)
class Shape:
    """The highest point of a curve and what is lost after it."""

    top: float
    interval: tuple[float, float]
    fall: float
    fall_se: float
    fit: CurveFit | None


def resolved(shape: Shape, last: float) -> Status:
    """ "onset" where the interval of the peak ends before the last rung and the fall after it is beyond noise."""
    step = last / (GRID - 1)
    if shape.top >= last - step / 2:
        return "none_seen"
    falls = shape.fall > 1.96 * shape.fall_se
    return "onset" if shape.interval[1] < last - step / 2 and falls else "not_resolved"


def shape_of(d: Floats, means: Floats, resampled: Floats) -> Shape:
    """The curve through means (R,) at d (R,), its errors from bootstrap means (B, R).

    The point is that of the first form which the data do not reject; the interval covers the peaks of every such
    form, since few noisy rungs cannot tell forms apart whose peaks differ.
    """
    forms = forms_kept(d, means, resampled)
    if not forms:
        return _by_rung(d, means, resampled)
    errors = resampled.std(axis=0, ddof=1)
    grid = np.linspace(0, d.max(), GRID)
    top = float(peaks(forms[0], d, errors, means[None], grid)[0])
    intervals = [percentile_interval(peaks(form, d, errors, resampled, grid)) for form in forms]
    falls = fall_after(forms[0], d, errors, np.vstack([means, resampled]), top)
    return Shape(
        top=top,
        interval=(min(low for low, _ in intervals), max(high for _, high in intervals)),
        fall=float(falls[0]),
        fall_se=float(falls[1:].std(ddof=1)),
        fit=fit_curve(forms[0], d, means, resampled),
    )


def _by_rung(d: Floats, means: Floats, resampled: Floats) -> Shape:
    """The highest rung itself; its interval reaches to the neighbouring rungs, between which the peak may lie."""
    best, count = int(np.argmax(means)), len(d)
    low, high = np.quantile(np.argmax(resampled, axis=1), [0.025, 0.975], method="nearest")
    interval = float(d[max(low - 1, 0)]), float(d[min(high + 1, count - 1)])
    falls = resampled[:, best] - resampled[:, -1]
    return Shape(float(d[best]), interval, float(means[best] - means[-1]), float(falls.std(ddof=1)), None)


def _several_runs(courses: Sequence[Course], draws: int) -> Shape:
    """Peak and fall of one curve through all runs' rungs; runs are resampled first, then samples."""
    last = max(float(course.d.max()) for course in courses)
    coefficients, drawn = run_coefficients(courses, draws)
    grid = np.linspace(0, last, GRID, dtype=np.float64)
    heights, curves = design("rl", grid) @ coefficients, drawn @ design("rl", grid).T  # (G,), (B, G)
    highest = int(np.argmax(heights))
    falls = curves[:, highest] - curves[:, -1]
    return Shape(
        top=float(grid[highest]),
        interval=percentile_interval(grid[np.argmax(curves, axis=1)]),
        fall=float(heights[highest] - heights[-1]),
        fall_se=float(falls.std(ddof=1)),
        fit=curve_of_runs(courses, coefficients, drawn),
    )


def run_coefficients(courses: Sequence[Course], draws: int) -> tuple[Floats, Floats]:
    """Coefficients (P,) of R₀ + d(α - β log d) through all runs' rungs, every rung weighing the same, and (B, P) of
    the joint bootstrap.
    """

    def fitted(d: Floats, means: Floats) -> Floats:
        return solver("rl", d, np.ones_like(d)) @ means

    point = fitted(np.concatenate([c.d for c in courses]), np.concatenate([c.means for c in courses]))
    return point, np.stack([fitted(at, values) for at, values in joint_bootstrap(courses, draws)])


def curve_of_runs(courses: Sequence[Course], coefficients: Floats, drawn: Floats) -> CurveFit:
    """The curve of `run_coefficients` with errors and band over runs and samples; no goodness is known."""
    d, means = np.concatenate([c.d for c in courses]), np.concatenate([c.means for c in courses])
    grid = np.linspace(0, d.max(), 61)
    rows = design("rl", grid)
    low, high = np.quantile(drawn @ rows.T, [0.025, 0.975], axis=0)
    spread = drawn.std(axis=0, ddof=1)
    return CurveFit(
        form="rl",
        alpha=float(coefficients[1]),
        alpha_se=float(spread[1]),
        beta=float(coefficients[2]),
        beta_se=float(spread[2]),
        r_squared=weighted_r_squared(means, design("rl", d) @ coefficients, np.zeros_like(d)),
        p_value=None,
        grid=[tuple(float(v) for v in point) for point in zip(grid, rows @ coefficients, low, high, strict=True)],  # type: ignore[misc]
    )


def forms_kept(d: Floats, means: Floats, resampled: Floats) -> list[Form]:
    """The forms whose residuals are not too large for noise (5 %), that of Gao et al. first.

    With no points to spare for a test the form of Gao et al. stands alone.
    """
    tested: dict[Form, float | None] = {
        "rl": goodness("rl", d, means, resampled),
        "cubic": goodness("cubic", d, means, resampled),
    }
    return [form for form, p in tested.items() if (p is None and form == "rl") or (p is not None and p >= REJECTED)]


def fall_after(form: Form, d: Floats, errors: Floats, values: Floats, top: float) -> Floats:
    """(B,) what the curves fitted to values (B, R) lose from `top` to the last rung."""
    ends = design(form, np.array([top, d.max()]))
    heights = values @ solver(form, d, errors).T @ ends.T  # (B, 2)
    lost: Floats = heights[:, 0] - heights[:, 1]
    return lost


def joint_bootstrap(courses: Sequence[Course], draws: int, seed: int = 0) -> Iterator[tuple[Floats, Floats]]:
    """Positions and means of all rungs, once a draw: runs drawn with return, then each one's sample indices."""
    drawn = [bootstrap_means(course.scores, draws, seed + i) for i, course in enumerate(courses)]
    chosen = np.random.default_rng(seed).integers(len(courses), size=(draws, len(courses)))
    for draw in range(draws):
        runs = chosen[draw]
        # a run drawn twice must not bring the same samples twice
        yield (
            np.concatenate([courses[run].d for run in runs]),
            np.concatenate([drawn[run][(draw + place) % len(drawn[run])] for place, run in enumerate(runs)]),
        )
