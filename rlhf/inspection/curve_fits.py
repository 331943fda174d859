"""Curves of reward along d = √KL: the forms of Gao, Schulman and Hilton 2022, fitted with a goodness figure.

R(d) = R₀ + d(α - β log d) for reinforcement learning, R(d) = R₀ + d(α - β d) for best-of-n ("Scaling laws for reward
model overoptimization", section 3.1). All forms are linear in their coefficients, so a fit is one weighted least
squares and thousands of bootstrap fits are one matrix product.

Differences from the paper: R₀, the reward of the original, is fitted rather than set to 0; a cubic stands by for gold
curves that the form does not describe.

Shapes: R points, P coefficients, B bootstrap draws, G points of a fine grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rlhf.foundation.terminal import plus_minus
from rlhf.inspection.estimates import Floats

Form = Literal["rl", "best_of_n", "cubic"]
FORMULAS: dict[Form, str] = {
    "rl": "R₀ + d(α − β log d)",
    "best_of_n": "R₀ + d(α − β d)",
    "cubic": "a cubic in d",
}
REJECTED = 0.05  # goodness p below which a form is not believed
COEFFICIENTS: dict[Form, int] = {"rl": 3, "best_of_n": 3, "cubic": 4}


@dataclass(frozen=True, slots=True)
class CurveFit:
    """A fitted curve. `alpha` and `beta` (None for the cubic) have bootstrap standard errors.

    `r_squared` is weighted; `p_value` is the bootstrap probability of residuals as large as these if the form were
    right, None where there are no points to spare or no samples behind the points. `grid` has rows
    (d, value, low, high) with the 95 % band of this run's samples.
    """

    form: Form
    alpha: float | None
    alpha_se: float | None
    beta: float | None
    beta_se: float | None
    r_squared: float
    p_value: float | None
    grid: list[tuple[float, float, float, float]]

    def text(self) -> str:
        """The formula with its numbers and its goodness."""
        numbers = ""
        if self.alpha is not None and self.beta is not None:
            alpha, beta = plus_minus(self.alpha_se, 3), plus_minus(self.beta_se, 3)
            numbers = f": α = {self.alpha:.3f} {alpha}, β = {self.beta:.3f} {beta}"
        goodness = "" if self.p_value is None else f", goodness p = {self.p_value:.2f}"
        return f"{FORMULAS[self.form]}{numbers}; R² = {self.r_squared:.3f}{goodness}"


def design(form: Form, d: Floats) -> Floats:
    """(R, P) columns whose coefficients are R₀, α, β (or the cubic's); d log d is 0 at d = 0."""
    one = np.ones_like(d)
    if form == "rl":
        return np.stack([one, d, -d * np.log(np.where(d > 0, d, 1.0))], axis=1)
    if form == "best_of_n":
        return np.stack([one, d, -(d**2)], axis=1)
    return np.stack([one, d, d**2, d**3], axis=1)


def believable(errors: Floats) -> Floats:
    """(R,) errors with the median of the others where one is zero or unknown: ten equal labels are not certainty.

    Ones where no error is known: all points weigh the same.
    """
    known = errors[np.isfinite(errors) & (errors > 0)]
    if not known.size:
        return np.ones_like(errors)
    return np.where(np.isfinite(errors) & (errors > 0), errors, np.median(known))


def solver(form: Form, d: Floats, errors: Floats) -> Floats:
    """(P, R) matrix that turns values into weighted least squares coefficients, weights 1/error²."""
    weights = 1 / believable(errors)
    solved: Floats = np.linalg.pinv(design(form, d) * weights[:, None]) * weights
    return solved


def fit_curve(form: Form, d: Floats, means: Floats, resampled: Floats) -> CurveFit | None:
    """Fit `form` to means (R,) at d (R,), with errors and band from bootstrap means (B, R).

    None with fewer different d than coefficients.
    """
    if len(np.unique(d)) < COEFFICIENTS[form]:
        return None
    errors = resampled.std(axis=0, ddof=1)
    solve = solver(form, d, errors)
    coefficients, drawn = solve @ means, resampled @ solve.T  # (P,), (B, P)
    grid = np.linspace(0, d.max(), 61)
    values, bands = design(form, grid) @ coefficients, np.quantile(drawn @ design(form, grid).T, [0.025, 0.975], axis=0)
    spread = drawn.std(axis=0, ddof=1)
    named = form != "cubic"
    return CurveFit(
        form=form,
        alpha=float(coefficients[1]) if named else None,
        alpha_se=float(spread[1]) if named else None,
        beta=float(coefficients[2]) if named else None,
        beta_se=float(spread[2]) if named else None,
        r_squared=weighted_r_squared(means, design(form, d) @ coefficients, errors),
        p_value=goodness(form, d, means, resampled),
        grid=[(float(a), float(b), float(c), float(e)) for a, b, c, e in zip(grid, values, *bands, strict=True)],
    )


def weighted_r_squared(means: Floats, fitted: Floats, errors: Floats) -> float:
    """1 - Σw(y-ŷ)²/Σw(y-ȳ)² with w = 1/error²; 1 for constant values met."""
    weights = 1 / believable(errors) ** 2
    centre = np.average(means, weights=weights)
    around = float(np.sum(weights * (means - centre) ** 2))
    return 1.0 if around == 0 else 1 - float(np.sum(weights * (means - fitted) ** 2)) / around


def goodness(form: Form, d: Floats, means: Floats, resampled: Floats) -> float | None:
    """P(T* ≥ T) for T = Σ(residual/error)², T* from the same fit to bootstrap noise alone.

    The noise of rungs is correlated, and the bootstrap carries that correlation, so T needs no chi-squared law.
    """
    errors = resampled.std(axis=0, ddof=1)
    if len(np.unique(d)) <= COEFFICIENTS[form] or not np.any(errors > 0):
        return None
    errors = believable(errors)
    left = np.eye(len(d)) - design(form, d) @ solver(form, d, errors)  # residual maker
    observed = np.sum((left @ means / errors) ** 2)
    noise = np.sum(((resampled - means) @ left.T / errors) ** 2, axis=1)
    return float(np.mean(noise >= observed))


def peaks(form: Form, d: Floats, errors: Floats, values: Floats, grid: Floats) -> Floats:
    """(B,) positions of the highest point of the fits to values (B, R), on `grid` (G,)."""
    curves = values @ solver(form, d, errors).T @ design(form, grid).T  # (B, G)
    highest: Floats = grid[np.argmax(curves, axis=1)]
    return highest


def fit_points(form: Form, d: Sequence[float], means: Sequence[float], errors: Sequence[float]) -> CurveFit | None:
    """Fit to points with errors of their own and no samples (best-of-n); the bootstrap is then parametric."""
    at, values, spread = (np.asarray(v, dtype=np.float64) for v in (d, means, errors))
    usable = np.isfinite(values)
    at, values, spread = at[usable], values[usable], np.nan_to_num(spread[usable])
    if not at.size:
        return None
    noise = np.random.default_rng(0).normal(size=(1000, at.size)) * spread
    fit = fit_curve(form, at, values, values + noise)
    if fit is None or math.isnan(fit.r_squared):
        return None
    return fit
