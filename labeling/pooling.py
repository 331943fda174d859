"""Several raters' labels become one soft target a text: P(positive) + P(neutral)/2.

`dawid_skene` weighs raters by how well each one's labels fit the others' (A. P. Dawid and A. M. Skene 1979, "Maximum
likelihood estimation of observer error-rates using the EM algorithm", https://doi.org/10.2307/2346806, eqs. 2.3-2.5);
`share` counts every label the same.

How ours differs from the paper: each rater's confusions are smoothed towards that rater's own share of right labels
(with few texts nine free cells a rater learn noise), and a text with a single label keeps that label's share, since
nobody else looked at it.

Shapes: U texts, R raters, C = 3 labels in the order of `LABELS`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from labeling.agreement import by_unit
from rlhf.foundation.records import LABELS, SOFT_TARGETS, Label

Floats = npt.NDArray[np.float64]
Method = Literal["dawid_skene", "share"]
# Labels' worth of smoothing in each row of a confusion, towards the rater's own share of right labels: a few hundred
# texts cannot tell nine cells of each rater apart, and a biased rater is still learned. Of 0 to 1,000, over 30 seeds of
# 100 and 300 texts, 50 pools a rater with 5 % errors and two with 30 % best among those that still learn a bias.
OWN = 50.0
TOLERANCE, ROUNDS = 1e-6, 500


@dataclass(frozen=True, slots=True)
class Pooled:
    """Labels pooled by text.

    `posterior[uid]` is P(label) in the order of LABELS; `accuracy[rater]` is the estimated share of right labels, None
    where it was not estimated; `left_out` names raters no better than chance.
    """

    posterior: dict[str, tuple[float, ...]]
    accuracy: dict[str, float | None]
    left_out: tuple[str, ...] = ()

    @property
    def targets(self) -> dict[str, float]:
        """uid -> P(positive) + P(neutral)/2."""
        worth = [SOFT_TARGETS[name] for name in LABELS]
        return {uid: sum(w * p for w, p in zip(worth, ps, strict=True)) for uid, ps in self.posterior.items()}

    @property
    def verdicts(self) -> dict[str, str]:
        """uid -> the most probable label; of equally probable ones the first of positive, neutral, negative."""
        return {uid: LABELS[int(np.argmax(ps))] for uid, ps in self.posterior.items()}


def pool(labels: Sequence[Label], method: Method = "dawid_skene", *, drop_chance_raters: bool = True) -> Pooled:
    """Pool labels by uid; raters no better than chance are left out first (their texts may then have none left).

    Of two labels by one annotator on one uid the later row counts.
    """
    left_out = tuple(chance_raters(labels)) if drop_chance_raters else ()
    units = by_unit([label for label in labels if label.annotator not in left_out])
    shares = {uid: _share(list(unit.values())) for uid, unit in units.items()}
    raters = sorted({name for unit in units.values() for name in unit})
    several = {uid: unit for uid, unit in units.items() if len(unit) >= 2}
    accuracy: dict[str, float | None] = dict.fromkeys(raters)
    if method == "share" or not several:
        return Pooled({uid: tuple(map(float, p)) for uid, p in shares.items()}, accuracy, left_out)
    posterior, right = dawid_skene(several)
    shares.update(posterior)
    return Pooled({uid: tuple(map(float, p)) for uid, p in shares.items()}, {**accuracy, **right}, left_out)


def dawid_skene(units: Mapping[str, Mapping[str, str]]) -> tuple[dict[str, Floats], dict[str, float]]:
    """EM over texts with several labels: posteriors by uid, and each rater's accuracy Σ_c π_c θ_r(c, c).

    E: P(c | text) ∝ π_c Π_r θ_r(c, label_r);  M: π_c ∝ Σ_u P_u(c),  θ_r(c, k) ∝ OWN·q_r(c, k) + n_r(c, k) with
    n_r(c, k) = Σ_{u: label_r = k} P_u(c), q_r = a_r on the diagonal and (1 − a_r)/2 beside it, and a_r the rater's
    share of right labels, (1 + Σ_c n_r(c, c))/(1.5 + Σ n_r). Starts from the shares, stops when no posterior moves
    by more than 1e-6.
    """
    uids = sorted(units)
    raters = sorted({name for unit in units.values() for name in unit})
    votes = np.zeros((len(uids), len(raters), len(LABELS)))  # (U, R, C), one-hot or zero
    for u, uid in enumerate(uids):
        for name, label in units[uid].items():
            votes[u, raters.index(name), LABELS.index(label)] = 1.0
    posterior = votes.sum(axis=1)
    posterior /= posterior.sum(axis=1, keepdims=True)
    prior, theta = np.empty(0), np.empty(0)
    for _ in range(ROUNDS):
        prior = posterior.mean(axis=0)  # (C,)
        counts = np.einsum("uc,urk->rck", posterior, votes)  # (R, C, C)
        own = (1.0 + np.einsum("rcc->r", counts)) / (1.5 + counts.sum(axis=(1, 2)))
        same = np.eye(len(LABELS))
        theta = counts + OWN * np.where(same, own[:, None, None], (1.0 - own[:, None, None]) / (len(LABELS) - 1))
        theta /= theta.sum(axis=2, keepdims=True)
        log_joint = np.log(prior + 1e-12) + np.einsum("urk,rck->uc", votes, np.log(theta))
        updated = np.exp(log_joint - log_joint.max(axis=1, keepdims=True))
        updated /= updated.sum(axis=1, keepdims=True)
        moved = float(np.abs(updated - posterior).max())
        posterior = updated
        if moved < TOLERANCE:
            break
    right = np.einsum("c,rcc->r", prior, theta)
    return dict(zip(uids, posterior, strict=True)), dict(zip(raters, map(float, right), strict=True))


def chance_raters(labels: Sequence[Label]) -> list[str]:
    """Raters whose labels say nothing: agreement with the others not above what their own habits give by chance.

    Cohen's kappa of a rater against the others' labels is (p − q)/(1 − q), with q the agreement expected when label
    and answer are independent; a rater is named when kappa's 95 % upper bound (normal, over tasks) is below 0.1, or
    kappa is at most 0 on at least 20 shared tasks.
    """
    units = by_unit(labels)
    named = []
    for name in sorted({label.annotator for label in labels}):
        kappa, error, shared = _kappa(units, name)
        if shared >= 20 and (kappa <= 0.0 or kappa + 1.96 * error < 0.1):
            named.append(name)
    return named


def _kappa(units: Mapping[str, Mapping[str, str]], annotator: str) -> tuple[float, float, int]:
    agreements, mine, theirs = [], np.zeros(len(LABELS)), np.zeros(len(LABELS))
    for unit in units.values():
        others = [label for name, label in unit.items() if name != annotator]
        if annotator in unit and others:
            agreements.append(others.count(unit[annotator]) / len(others))
            mine += _share([unit[annotator]])
            theirs += _share(others)
    shared = len(agreements)
    if not shared:
        return 0.0, 0.0, 0
    by_chance = float(mine @ theirs) / shared**2
    if by_chance >= 1.0:  # everyone gives one label: there is nothing to tell a good rater by
        return 1.0, 0.0, 0
    kappa = (float(np.mean(agreements)) - by_chance) / (1.0 - by_chance)
    return kappa, float(np.std(agreements) / np.sqrt(shared) / (1.0 - by_chance)), shared


def _share(labels: Sequence[str]) -> Floats:
    counts: Floats = np.array([labels.count(name) for name in LABELS], dtype=float)
    shares: Floats = counts / counts.sum()
    return shares


def second_look(labels: Sequence[Label], pooled: Pooled, *, count: int = 10) -> list[tuple[str, float, list[str]]]:
    """The texts that most deserve another rater: uid, entropy of the pooled posterior (nats), the labels so far.

    Only texts whose raters disagree; the most doubtful first.
    """
    units = by_unit(labels)
    rows = []
    for uid, unit in units.items():
        if len(set(unit.values())) > 1 and uid in pooled.posterior:
            p = np.array(pooled.posterior[uid])
            rows.append((uid, float(-(p[p > 0] * np.log(p[p > 0])).sum()), sorted(unit.values())))
    return sorted(rows, key=lambda row: (-row[1], row[0]))[:count]
