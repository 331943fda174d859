"""Do tokens come from a distribution? A test of many traits at once, each a set of tokens that depends on the prefix.

Shapes: n tokens, V vocabulary, K traits. Gains are in nats.

A trait's test is exact whatever the prefixes: let a_t be the probability of the set under q and h_t whether the sampled
token is in it. Making the set's tokens e^λ times as likely changes the log-likelihood by Σ_t λ h_t - log(1 + a_t (e^λ -
1)). Under q its exponential has mean 1 for every λ (a martingale), so a gain of c nats has a chance of about e^-c
(Ville 1939); sqrt(2c) is the signed root of the likelihood ratio, a number of standard errors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from rlhf.ppo.samplers import Context

# Of the policy itself one more parameter gains about half a nat; e^-12 is 4.3 standard errors' tail, and the two dozen
# traits together raise a false alarm in 1 of 10,000 looks.
MIN_GAIN = 12.0
LEVELS = (0.9, 0.5, 0.2, 0.05, 1e-2, 1e-3, 1e-4, 1e-5)


class Misfit(NamedTuple):
    """Tokens that come too often or too seldom."""

    tokens: str
    odds: float  # theirs, over those under the distribution
    gain: float  # nats

    def __str__(self) -> str:
        often = "never come" if self.odds < 1e-6 else "always come" if self.odds > 1e6 else ""
        text = often or f"come at {self.odds:.2g} times their odds"
        return f"{self.tokens} {text} ({math.sqrt(2 * self.gain):.1f} standard errors)"


class Traits:
    """Gathers the traits of sampled tokens, piece by piece."""

    def __init__(self) -> None:
        self._mass: dict[str, list[Tensor]] = {}
        self._hits: dict[str, int] = {}
        self.expected, self.observed = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.long)

    def add(self, logq: Tensor, ids: Tensor, context: Context) -> None:
        """Tokens `ids` (n,) and the distributions log q (n, V) that they are said to come from."""
        p = logq.exp()
        self.expected = self.expected + p.sum(0, dtype=torch.float64).cpu()
        self.observed = self.observed + ids.bincount(minlength=logq.shape[-1]).cpu()
        self._add_set("tokens seen before", p, ids, context.seen(logq.shape[-1]))
        for size, name in ((2, "pairs"), (3, "triples")):
            self._add_set(f"{name} seen before", p, ids, context.repeating(size, logq.shape[-1]))
        for level in LEVELS:
            self._add_set(f"tokens below {100 * level:.3g} %", p, ids, logq < math.log(level))
        start = context.position == 0
        for level in (0.2, 1e-2):
            below = logq[start] < math.log(level)
            self._add_set(f"first tokens below {100 * level:.3g} %", p[start], ids[start], below)
        ends = torch.tensor(context.end_token_ids, device=ids.device)
        self._add_ends(p[:, ends].sum(-1), torch.isin(ids, ends), context)

    def masses(self) -> dict[str, Tensor]:
        """What each set's tokens had of the distribution, (n,) a trait."""
        return {name: torch.cat(mass) for name, mass in self._mass.items()}

    def hits(self) -> dict[str, int]:
        """How many of the sampled tokens were in each set."""
        return dict(self._hits)

    def joined(self, rank: int, world_size: int, room: int, sum_over_processes: Callable[[Tensor], Tensor]) -> Traits:
        """Those that all processes gathered, of at most `room` tokens each."""
        if world_size == 1:
            return self
        whole, names = Traits(), list(self._mass)
        masses = torch.zeros(len(names), world_size, room, dtype=torch.float64)  # a set of mass 0 says nothing
        for number, name in enumerate(names):
            own = torch.cat(self._mass[name])
            masses[number, rank, : len(own)] = own
        hits = torch.tensor([self._hits[name] for name in names])
        masses, hits = sum_over_processes(masses), sum_over_processes(hits)
        whole._mass = {name: [mass.flatten()] for name, mass in zip(names, masses, strict=True)}
        whole._hits = dict(zip(names, hits.tolist(), strict=True))
        whole.expected, whole.observed = sum_over_processes(self.expected), sum_over_processes(self.observed)
        return whole

    def _add_set(self, name: str, p: Tensor, ids: Tensor, members: Tensor) -> None:
        hits = members.gather(-1, ids[:, None])
        self._add(name, torch.where(members, p, 0.0).sum(-1), hits)

    def _add_ends(self, p: Tensor, ended: Tensor, context: Context) -> None:
        length = context.length
        spans = {
            "end tokens": (0, length),
            "end tokens in the first quarter": (0, math.ceil(length / 4)),
            "end tokens in the first half": (0, math.ceil(length / 2)),
            "end tokens in the last half": (math.ceil(length / 2), length),
            "end tokens at the last place": (length - 1, length),
        }
        for name, (start, stop) in spans.items():
            within = (context.position >= start) & (context.position < stop)
            self._add(name, p[within], ended[within])

    def _add(self, name: str, mass: Tensor, hits: Tensor) -> None:
        self._mass.setdefault(name, []).append(mass.double().clamp(0, 1).cpu())
        self._hits[name] = self._hits.get(name, 0) + int(hits.sum())

    def misfits(self) -> list[Misfit]:
        """The traits that gain at least `MIN_GAIN` nats, the strongest first."""
        tilted = [Misfit(name, *tilt(mass, self._hits[name])) for name, mass in self.masses().items()]
        return sorted((m for m in [*tilted, *self._counts()] if m.gain >= MIN_GAIN), key=lambda misfit: -misfit.gain)

    def _counts(self) -> list[Misfit]:
        """Single tokens of the vocabulary, as counts: the Poisson deviance bounds the gain of a sum of rare events."""
        least = MIN_GAIN + math.log(max(2, self.expected.numel()))
        gains = torch.special.xlogy(self.observed, self.observed / self.expected) - self.observed + self.expected
        gains = torch.where(self.observed > 0, gains, self.expected).nan_to_num(posinf=0.0)
        if not len(gains) or float(gains.max()) < least:
            return []
        token = int(gains.argmax())
        odds = float(self.observed[token] / self.expected[token])
        return [Misfit(f"tokens of id {token}", odds, float(gains[token]) - math.log(len(gains)))]

    def absent(self) -> list[int]:
        """Ids of tokens never sampled that would have come by now, whatever the vocabulary."""
        least = MIN_GAIN + math.log(max(2, self.expected.numel()))
        return [int(i) for i in ((self.observed == 0) & (self.expected >= least)).nonzero().flatten()]


def tilt(mass: Tensor, hits: int) -> tuple[float, float]:
    """The odds e^λ that make `hits` of tokens with probabilities `mass` (n,) likeliest, and the gain, nats.

    λ stays within ±20: what is never, or always, sampled has no finite one.
    """
    low, high = -20.0, 20.0
    for _ in range(50):
        middle = (low + high) / 2
        odds = math.exp(middle)
        expected = float((mass * odds / (1 + mass * (odds - 1))).sum())
        low, high = (middle, high) if expected < hits else (low, middle)
    odds = math.exp(low)
    return odds, low * hits - float(torch.log1p(mass * (odds - 1)).sum())
