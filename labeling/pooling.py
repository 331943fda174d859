"""Several raters' labels become one soft target a text: P(positive) + P(neutral)/2.

`dawid_skene` weighs raters by how well each one's labels fit the others' (A. P. Dawid and A. M. Skene 1979, "Maximum
likelihood estimation of observer error-rates using the EM algorithm", https://doi.org/10.2307/2346806, eqs. 2.3-2.5);
`share` counts every label the same.

How ours differs from the paper: each rater's confusions are smoothed towards that rater's own share of right labels
(with few texts nine free cells a rater learn noise), and a text with a single label keeps that label's share, since
nobody else looked at it. As in the paper a rater may have labelled a text several times.

Shapes: U texts, R raters, V labels, C = 3 labels in the order of `LABELS`.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from rlhf.foundation.errors import InputError
from rlhf.foundation.records import LABELS, SOFT_TARGETS, Label, LabelName
from rlhf.foundation.terminal import shown

Floats = npt.NDArray[np.float64]
Method = Literal["dawid_skene", "share"]
POOLING_HELP = (
    "how several raters become one target: dawid_skene (raters no better than chance are left out, the others weigh "
    "by how well they fit each other) or share (every label of everyone counts the same)"
)
# Labels' worth of smoothing in each row of a confusion, towards the rater's own share of right labels: a few hundred
# texts cannot tell nine cells of each rater apart, and a biased rater is still learned. Of 0 to 1,000, over 30 seeds of
# 100 and 300 texts, 50 pools a rater with 5 % errors and two with 30 % best among those that still learn a bias.
OWN = 50.0
TOLERANCE, ROUNDS = 1e-6, 500
ENOUGH_SHARED = 20  # tasks that others labelled too, before a rater may be called no better than chance
NAMED = 12  # raters named in a line; the rest are counted
Votes = list[tuple[str, str]]  # (annotator, label), in the order of the file


class Kappa(NamedTuple):
    """A rater's agreement with the others beyond chance, its standard error over tasks, and the tasks it rests on."""

    value: float
    se: float
    shared: int

    @property
    def at_chance(self) -> bool:
        """At most 0, or below 0.1 with 97.5 % certainty, on at least 20 shared tasks."""
        return self.shared >= ENOUGH_SHARED and (self.value <= 0.0 or self.value + 1.96 * self.se < 0.1)

    def text(self) -> str:
        """`kappa 0.02 ± 0.05 on 60 tasks that others labelled too`."""
        return f"kappa {self.value:.2f} ± {self.se:.2f} on {self.shared} tasks that others labelled too"


@dataclass(frozen=True, slots=True)
class Pooled:
    """Labels pooled by text.

    `posterior[uid]` is P(label) in the order of LABELS, of `counts[uid]` labels; `accuracy[rater]` is the estimated
    share of right labels, None where it was not estimated; `left_out` has the raters no better than chance.
    """

    posterior: dict[str, tuple[float, ...]]
    accuracy: dict[str, float | None]
    left_out: dict[str, Kappa]
    counts: dict[str, int]
    method: Method

    @property
    def targets(self) -> dict[str, float]:
        """uid -> P(positive) + P(neutral)/2."""
        worth = [SOFT_TARGETS[name] for name in LABELS]
        return {uid: sum(w * p for w, p in zip(worth, ps, strict=True)) for uid, ps in self.posterior.items()}

    @property
    def verdicts(self) -> dict[str, LabelName]:
        """uid -> the side that is as probable as all else together (and the other is not), else neutral: undecided."""
        return {uid: _verdict(*ps) for uid, ps in self.posterior.items()}

    def kept(self, labels: Sequence[Label]) -> list[Label]:
        """The labels of raters who count."""
        return [label for label in labels if label.annotator not in self.left_out]

    def weight(self, rater: str) -> float | None:
        """What one label of a rater adds to its label's log-odds against another one, ln 2a/(1 - a) nats for accuracy
        a and errors that are alike; None where the rater was not estimated.
        """
        right = self.accuracy.get(rater)
        return None if right is None else math.log(2 * right / (1 - right))

    def require_someone(self, place: str) -> None:
        """Raises InputError when every rater is at chance: who of them is right cannot be told from the labels."""
        if self.posterior or not self.left_out:
            return
        names = _first(f"{shown(name, 40)} ({kappa.text()})" for name, kappa in self.left_out.items())
        raise InputError(
            place,
            got=f"raters who agree no better than chance: {names}",
            expected="raters who agree, since nothing else tells who is right",
            fix="let one more person label the same tasks, or count everyone with --pooling share",
        )

    def lines(self) -> list[str]:
        """What was done with the raters, for the terminal; none where a single rater labelled everything."""
        told = []
        if self.method == "share" and len(self.accuracy) > 1:
            told.append(f"{len(self.accuracy)} raters, every label counting the same (--pooling share)")
        weighed = [(name, right) for name, right in self.accuracy.items() if right is not None]
        if weighed:
            named = _first(
                f"{shown(name, 40)} right on about {right:.0%}, a label weighs {self.weight(name):.1f} nats"
                for name, right in weighed
            )
            told.append(f"raters weighed (Dawid-Skene): {named}")
        if self.left_out:
            named = _first(f"{shown(name, 40)} ({kappa.text()})" for name, kappa in self.left_out.items())
            told.append(f"left out, no better than chance: {named}")
        return told

    def report(self) -> dict[str, Any]:
        """The same for JSON: the method, each rater's accuracy and weight, who was left out and why."""
        return {
            "method": self.method,
            "raters": {
                name: {"accuracy": right, "weight_nats": self.weight(name)} for name, right in self.accuracy.items()
            },
            "left_out": {
                name: {**kappa._asdict(), "why": "no better than chance"} for name, kappa in self.left_out.items()
            },
        }


def _verdict(positive: float, neutral: float, negative: float) -> LabelName:
    if (positive >= 0.5) == (negative >= 0.5):
        return "neutral"
    return "positive" if positive >= 0.5 else "negative"


def _first(texts: Iterable[str]) -> str:
    """The first dozen, and how many more there are."""
    listed = list(texts)
    rest = f"; and {len(listed) - NAMED} more" if len(listed) > NAMED else ""
    return "; ".join(listed[:NAMED]) + rest


def pool(labels: Sequence[Label], method: Method = "dawid_skene", *, drop_chance_raters: bool = True) -> Pooled:
    """Pool labels by uid, as `labeling.counting.count_once` leaves them; a rater may have several on one text.

    With `dawid_skene` raters no better than chance are left out first (their texts may then have none left); `share`
    counts everyone.
    """
    left_out = chance_raters(labels) if method == "dawid_skene" and drop_chance_raters else {}
    units = by_text([label for label in labels if label.annotator not in left_out])
    posterior = {uid: tuple(map(float, _share([label for _, label in votes]))) for uid, votes in units.items()}
    accuracy: dict[str, float | None] = dict.fromkeys(sorted({name for votes in units.values() for name, _ in votes}))
    several = {uid: votes for uid, votes in units.items() if len({name for name, _ in votes}) >= 2}
    if method == "dawid_skene" and several:
        found, right = dawid_skene(several)
        posterior |= {uid: tuple(map(float, p)) for uid, p in found.items()}
        accuracy |= right
    return Pooled(posterior, accuracy, left_out, {uid: len(votes) for uid, votes in units.items()}, method)


def by_text(labels: Sequence[Label]) -> dict[str, Votes]:
    """uid -> its labels with their annotators."""
    units: dict[str, Votes] = defaultdict(list)
    for label in labels:
        units[label.uid].append((label.annotator, label.label))
    return dict(units)


def dawid_skene(units: Mapping[str, Votes]) -> tuple[dict[str, Floats], dict[str, float]]:
    """EM over texts with several labels: posteriors by uid, and each rater's accuracy Σ_c π_c θ_r(c, c).

    E: P(c | text) ∝ π_c Π_v θ_r(v)(c, label_v) over the text's labels v;  M: π_c ∝ Σ_u P_u(c),
    θ_r(c, k) ∝ OWN·q_r(c, k) + n_r(c, k) with n_r(c, k) = Σ_{v of r: label_v = k} P_u(v)(c), q_r = a_r on the diagonal
    and (1 − a_r)/2 beside it, and a_r the rater's share of right labels, (1 + Σ_c n_r(c, c))/(1.5 + Σ n_r). Starts
    from the shares, stops when no posterior moves by more than 1e-6.
    """
    uids, classes = sorted(units), len(LABELS)
    raters = sorted({name for votes in units.values() for name, _ in votes})
    place = {name: r for r, name in enumerate(raters)}
    text = np.array([u for u, uid in enumerate(uids) for _ in units[uid]])  # (V,) of the votes
    rater = np.array([place[name] for uid in uids for name, _ in units[uid]])
    said = np.array([LABELS.index(label) for uid in uids for _, label in units[uid]])
    posterior: Floats = np.zeros((len(uids), classes))
    np.add.at(posterior, (text, said), 1.0)
    posterior /= posterior.sum(axis=1, keepdims=True)
    prior: Floats
    theta: Floats
    prior, theta = np.empty(0), np.empty(0)
    same = np.eye(classes)
    for _ in range(ROUNDS):
        prior = posterior.mean(axis=0)  # (C,)
        counts = np.zeros((len(raters), classes, classes))  # (R, C, C)
        np.add.at(counts.transpose(0, 2, 1), (rater, said), posterior[text])
        own = (1.0 + np.einsum("rcc->r", counts)) / (1.5 + counts.sum(axis=(1, 2)))
        theta = counts + OWN * np.where(same, own[:, None, None], (1.0 - own[:, None, None]) / (classes - 1))
        theta /= theta.sum(axis=2, keepdims=True)
        log_joint = np.tile(np.log(prior + 1e-12), (len(uids), 1))
        np.add.at(log_joint, text, np.log(theta)[rater, :, said])
        updated = np.exp(log_joint - log_joint.max(axis=1, keepdims=True))
        updated /= updated.sum(axis=1, keepdims=True)
        moved = float(np.abs(updated - posterior).max())
        posterior = updated
        if moved < TOLERANCE:
            break
    right = np.einsum("c,rcc->r", prior, theta)
    return dict(zip(uids, posterior, strict=True)), dict(zip(raters, map(float, right), strict=True))


def chance_raters(labels: Sequence[Label]) -> dict[str, Kappa]:
    """Raters whose labels say nothing: agreement with the others not above what their own habits give by chance.

    Cohen's kappa of a rater against the others' labels is (p − q)/(1 − q), with q the agreement expected when label
    and answer are independent; a rater is named when kappa's 95 % upper bound (normal, over tasks) is below 0.1, or
    kappa is at most 0 on at least 20 shared tasks.
    """
    several = [votes for votes in by_text(labels).values() if len({name for name, _ in votes}) >= 2]
    seen = Counter(name for votes in several for name in {name for name, _ in votes})
    tasks: dict[str, list[Votes]] = defaultdict(list)
    for votes in several:
        for name in {name for name, _ in votes}:
            if seen[name] >= ENOUGH_SHARED:
                tasks[name].append(votes)
    kappas = {name: kappa_of(name, tasks[name]) for name in sorted(tasks)}
    return {name: kappa for name, kappa in kappas.items() if kappa.at_chance}


def kappa_of(annotator: str, tasks: Sequence[Votes]) -> Kappa:
    """Cohen's kappa of one rater against the others, over tasks that both labelled."""
    agreements, mine, theirs = [], np.zeros(len(LABELS)), np.zeros(len(LABELS))
    for votes in tasks:
        own = _share([label for name, label in votes if name == annotator])
        others = _share([label for name, label in votes if name != annotator])
        agreements.append(float(own @ others))
        mine += own
        theirs += others
    shared = len(agreements)
    by_chance = float(mine @ theirs) / shared**2
    if by_chance >= 1.0:  # everyone gives one label: there is nothing to tell a good rater by
        return Kappa(1.0, 0.0, 0)
    kappa = (float(np.mean(agreements)) - by_chance) / (1.0 - by_chance)
    return Kappa(kappa, float(np.std(agreements) / np.sqrt(shared) / (1.0 - by_chance)), shared)


def _share(labels: Sequence[str]) -> Floats:
    counts: Floats = np.array([labels.count(name) for name in LABELS], dtype=float)
    shares: Floats = counts / counts.sum()
    return shares


def second_look(labels: Sequence[Label], pooled: Pooled, *, count: int = 10) -> list[tuple[str, float, list[str]]]:
    """The texts that most deserve another rater: uid, entropy of the pooled posterior (nats), the labels so far.

    Only texts whose raters disagree; the most doubtful first.
    """
    rows = []
    for uid, votes in by_text(labels).items():
        said = sorted(label for _, label in votes)
        if len(set(said)) > 1 and uid in pooled.posterior:
            p = np.array(pooled.posterior[uid])
            rows.append((uid, float(-(p[p > 0] * np.log(p[p > 0])).sum()), said))
    return sorted(rows, key=lambda row: (-row[1], row[0]))[:count]
