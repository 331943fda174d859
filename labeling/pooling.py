"""Several raters' labels become one soft target a text: P(positive) + P(neutral)/2.

`dawid_skene` weighs raters by how well each one's labels fit the others' (A. P. Dawid and A. M. Skene 1979, "Maximum
likelihood estimation of observer error-rates using the EM algorithm", https://doi.org/10.2307/2346806, eqs. 2.3-2.5);
`share` counts every label the same.

How ours differs from the paper: each rater's confusions are smoothed towards that rater's own share of right labels
(with few texts nine free cells a rater learn noise), and a text with a single label keeps that label's share, since
nobody else looked at it. As in the paper a rater may have labelled a text several times.

Shapes: U texts, R raters, V votes, C = 3 labels in the order of `LABELS`.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from labeling.votes import CLASSES, ByUid, Floats, Ints, Votes, counted, votes_of
from rlhf.foundation.errors import InputError
from rlhf.foundation.records import LABELS, SOFT_TARGETS, Label, LabelName
from rlhf.foundation.terminal import shown

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


@dataclass(frozen=True, slots=True, eq=False)
class Pooled:
    """Labels pooled by text.

    `uids` are the texts that someone judged who counts, in order of first appearance; `shares` (U, C) is P(label) of
    each in the order of LABELS, of `numbers` (U,) labels; `accuracy[rater]` is the estimated share of right labels,
    None where it was not estimated; `left_out` has the raters no better than chance.
    """

    uids: Sequence[str]
    shares: Floats
    numbers: Ints
    accuracy: dict[str, float | None]
    left_out: dict[str, Kappa]
    method: Method

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Pooled):
            return NotImplemented
        same = self.report() == other.report() and list(self.uids) == list(other.uids)
        return same and all(map(np.array_equal, (self.shares, self.numbers), (other.shares, other.numbers)))

    __hash__ = None  # type: ignore[assignment]

    @property
    def posterior(self) -> ByUid[tuple[float, ...]]:
        """uid -> P(label) in the order of LABELS."""
        return ByUid(self.uids, lambda place: tuple(map(float, self.shares[place])))

    @property
    def counts(self) -> ByUid[int]:
        """uid -> the number of labels behind it."""
        return ByUid(self.uids, lambda place: int(self.numbers[place]))

    @property
    def targets(self) -> ByUid[float]:
        """uid -> P(positive) + P(neutral)/2."""
        targets = self.shares @ np.array([SOFT_TARGETS[name] for name in LABELS])
        return ByUid(self.uids, lambda place: float(targets[place]))

    @property
    def verdicts(self) -> ByUid[LabelName]:
        """uid -> the side that is as probable as all else together (and the other is not), else neutral: undecided."""
        return ByUid(self.uids, lambda place: _verdict(*self.shares[place]))

    def kept(self, votes: Votes) -> Votes:
        """The votes of raters who count."""
        return _without(votes, self.left_out)

    def weight(self, rater: str) -> float | None:
        """What one label of a rater adds to its label's log-odds against another one, ln 2a/(1 - a) nats for accuracy
        a and errors that are alike; None where the rater was not estimated.
        """
        right = self.accuracy.get(rater)
        return None if right is None else math.log(2 * right / (1 - right))

    def require_someone(self, place: str) -> None:
        """Raises InputError when every rater is at chance: who of them is right cannot be told from the labels."""
        if len(self.uids) or not self.left_out:
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


def pool(labels: Sequence[Label] | Votes, method: Method = "dawid_skene", *, drop_chance_raters: bool = True) -> Pooled:
    """Pool labels by uid, as `labeling.counting.count_once` leaves them; a rater may have several on one text.

    With `dawid_skene` raters no better than chance are left out first (their texts may then have none left); `share`
    counts everyone.
    """
    votes = votes_of(labels)
    left_out = chance_raters(votes) if method == "dawid_skene" and drop_chance_raters else {}
    votes = _without(votes, left_out)
    counts = votes.tally()
    judged = np.flatnonzero(counts.sum(axis=1))
    accuracy: dict[str, float | None] = dict.fromkeys(votes.by_rater())
    shared = votes.shared()
    shares = counts / np.maximum(1.0, counts.sum(axis=1, keepdims=True))
    if method == "dawid_skene" and shared.any():
        several = votes.only(shared[votes.text])
        shares[shared], right = _expectation_maximisation(several, np.flatnonzero(shared))
        accuracy |= {name: float(right[several.raters.index(name)]) for name in several.by_rater()}
    uids = [votes.uids[place] for place in judged]
    numbers = counts[judged].sum(axis=1).astype(np.int64)
    return Pooled(uids, shares[judged], numbers, accuracy, left_out, method)


def _without(votes: Votes, raters: Mapping[str, Kappa]) -> Votes:
    gone = [place for place, name in enumerate(votes.raters) if name in raters]
    return votes.only(~np.isin(votes.rater, gone)) if gone else votes


def dawid_skene(units: Mapping[str, Sequence[tuple[str, LabelName]]]) -> tuple[dict[str, Floats], dict[str, float]]:
    """EM over texts with several labels, (annotator, label) each: posteriors by uid, and each rater's accuracy."""
    votes = votes_of([Label(uid, "", "", said, name) for uid, found in units.items() for name, said in found])
    posterior, right = _expectation_maximisation(votes, np.arange(len(votes.uids)))
    return dict(zip(votes.uids, posterior, strict=True)), dict(zip(votes.raters, map(float, right), strict=True))


def _expectation_maximisation(votes: Votes, texts: Ints) -> tuple[Floats, Floats]:
    """Posteriors (U, C) of the texts at these places, and each rater's accuracy Σ_c π_c θ_r(c, c), (R,).

    E: P(c | text) ∝ π_c Π_v θ_r(v)(c, label_v) over the text's labels v;  M: π_c ∝ Σ_u P_u(c),
    θ_r(c, k) ∝ OWN·q_r(c, k) + n_r(c, k) with n_r(c, k) = Σ_{v of r: label_v = k} P_u(v)(c), q_r = a_r on the diagonal
    and (1 − a_r)/2 beside it, and a_r the rater's share of right labels, (1 + Σ_c n_r(c, c))/(1.5 + Σ n_r). Starts
    from the shares, stops when no posterior moves by more than 1e-6. Texts of the same labels are computed once.
    """
    raters = len(votes.raters)
    kind, text, code, times = _kinds(votes, texts)
    rater, said = np.divmod(code, CLASSES)
    posterior: Floats = counted(text, said, len(times))
    posterior /= posterior.sum(axis=1, keepdims=True)
    same = np.eye(CLASSES)
    prior: Floats = np.empty(0)
    theta: Floats = np.empty(0)
    for _ in range(ROUNDS):
        weighed = posterior * times[:, None]
        prior = weighed.sum(axis=0) / times.sum()  # (C,)
        counts = np.stack([counted(rater, said, raters, weighed[text, c]) for c in range(CLASSES)], axis=1)
        own = (1.0 + np.einsum("rcc->r", counts)) / (1.5 + counts.sum(axis=(1, 2)))
        theta = counts + OWN * np.where(same, own[:, None, None], (1.0 - own[:, None, None]) / (CLASSES - 1))
        theta /= theta.sum(axis=2, keepdims=True)  # (R, C, C)
        updated = np.empty_like(posterior)
        for c in range(CLASSES):
            log_theta = np.log(theta[:, c])[rater, said]
            updated[:, c] = np.log(prior[c] + 1e-12) + np.bincount(text, log_theta, len(times))
        updated = np.exp(updated - updated.max(axis=1, keepdims=True))
        updated /= updated.sum(axis=1, keepdims=True)
        moved = float(np.abs(updated - posterior).max())
        posterior = updated
        if moved < TOLERANCE:
            break
    by_name = np.argsort(np.argsort(votes.raters))
    return posterior[kind], np.einsum("c,rcc->r", prior, theta)[by_name]


def _kinds(votes: Votes, texts: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """Texts on which the same raters said the same are one kind: a million texts of a few raters have few.

    Returns each text's kind (U,), the votes of the kinds (the kind, and C times the rater's rank by name plus what was
    said), and the number of texts of each kind. The order of texts and raters changes nothing.
    """
    place: Ints = np.zeros(len(votes.uids), np.int64)
    place[texts] = np.arange(len(texts))
    by_name = np.argsort(np.argsort(votes.raters))
    text, code = place[votes.text], by_name[votes.rater] * CLASSES + votes.said
    order = np.lexsort((code, text))
    text, code = text[order], code[order]
    sizes = np.bincount(text, minlength=len(texts))
    starts = np.cumsum(sizes) - sizes
    kind: Ints = np.zeros(len(texts), np.int64)
    for number in range(int(sizes.max())):  # one vote more tells apart what was alike so far
        further = np.flatnonzero(sizes > number)
        both = kind[further] * (len(votes.raters) * CLASSES) + code[starts[further] + number]
        kind[further] = np.unique(both, return_inverse=True)[1] + kind.max() + 1
    _, first, kind, times = np.unique(kind, return_index=True, return_inverse=True, return_counts=True)
    one_of_each = np.zeros(len(texts), bool)
    one_of_each[first] = True
    shown = np.flatnonzero(one_of_each[text])
    shown = shown[np.argsort(kind[text[shown]], kind="stable")]
    return kind, kind[text[shown]], code[shown], times


def chance_raters(labels: Sequence[Label] | Votes) -> dict[str, Kappa]:
    """Raters whose labels say nothing: agreement with the others not above what their own habits give by chance.

    Cohen's kappa of a rater against the others' labels is (p − q)/(1 − q), with q the agreement expected when label
    and answer are independent; a rater is named when kappa's 95 % upper bound (normal, over tasks) is below 0.1, or
    kappa is at most 0 on at least 20 shared tasks.
    """
    votes = votes_of(labels)
    votes = votes.only(votes.shared()[votes.text])
    pairs, pair = np.unique(votes.pairs(), return_inverse=True)  # a rater's votes on one text
    text, rater = np.divmod(pairs, max(1, len(votes.raters)))
    own, tally = counted(pair, votes.said, len(pairs)), votes.tally()
    kappas = {}
    for name in votes.by_rater():
        mine = np.flatnonzero(rater == votes.raters.index(name))
        if len(mine) >= ENOUGH_SHARED:
            kappas[name] = _kappa(own[mine], tally[text[mine]] - own[mine])
    return {name: kappa for name, kappa in kappas.items() if kappa.at_chance}


def _kappa(own: Floats, others: Floats) -> Kappa:
    """Cohen's kappa of one rater against the others, from both sides' numbers of labels (T, C) on T tasks."""
    own = own / own.sum(axis=1, keepdims=True)
    others = others / others.sum(axis=1, keepdims=True)
    agreements = (own * others).sum(axis=1)
    shared = len(agreements)
    by_chance = float(own.sum(axis=0) @ others.sum(axis=0)) / shared**2
    if by_chance >= 1.0:  # everyone gives one label: there is nothing to tell a good rater by
        return Kappa(1.0, 0.0, 0)
    kappa = (float(np.mean(agreements)) - by_chance) / (1.0 - by_chance)
    return Kappa(kappa, float(np.std(agreements) / np.sqrt(shared) / (1.0 - by_chance)), shared)


def second_look(
    labels: Sequence[Label] | Votes, pooled: Pooled, *, count: int = 10
) -> list[tuple[str, float, list[str]]]:
    """The texts that most deserve another rater: uid, entropy of the pooled posterior (nats), the labels so far.

    Only texts whose raters disagree; the most doubtful first.
    """
    votes = votes_of(labels)
    tally = votes.tally()
    judged = {uid: place for place, uid in enumerate(pooled.uids)}
    disputed = [u for u in np.flatnonzero((tally > 0).sum(axis=1) > 1) if votes.uids[u] in judged]
    shares = pooled.shares[[judged[votes.uids[u]] for u in disputed]]
    doubts = -(shares * np.log(np.where(shares > 0, shares, 1.0))).sum(axis=1)
    rows = heapq.nsmallest(
        count, ((-float(doubt), votes.uids[u], u) for u, doubt in zip(disputed, doubts, strict=True))
    )
    said: dict[int, list[str]] = {
        u: sorted(LABELS[k] for k in range(CLASSES) for _ in range(int(tally[u, k]))) for _, _, u in rows
    }
    return [(uid, -doubt, said[u]) for doubt, uid, u in rows]
