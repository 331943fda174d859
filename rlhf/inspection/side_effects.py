"""What else changed: words and phrases that became more or less common than under the original model.

Effect sizes are log-odds ratios with an informative Dirichlet prior (Monroe, Colaresi and Quinn 2008, "Fightin'
Words", equation 16), the prior being the pooled counts scaled to PRIOR_WORDS words.

How this differs from the paper:
1. Significance is a score test over samples, not equation 19: words of one completion are not independent (a policy
   that repeats itself would otherwise make every word it repeats significant), and both models' completions share
   seeds, so they are paired.
2. False discoveries are controlled over all terms of a rung (Benjamini and Hochberg 1995).
3. Words that the reward plainly pays for are set apart and taken out of the counts, so that the rest is seen: if
   full stops triple, every other word's share falls for no reason of its own.

Shapes: N samples of either model in the same order, W terms.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, stats

from rlhf.inspection.diversity import words
from rlhf.inspection.estimates import Floats

PRIOR_WORDS = 500.0
FALSE_DISCOVERY_RATE = 0.05
REWARDED_CORRELATION = 0.5
FEWEST_SAMPLES = 5  # terms in fewer samples of both models together are not tested
BREAK = "\u23ce"  # a line break counts as a word, since rewards have been gamed with it


@dataclass(frozen=True, slots=True)
class Term:
    """One word or two-word phrase that changed. Rates are per 1,000 words; `samples_*` count completions with it.

    `log_odds` is shrunk by the prior; `q` is the false discovery rate at which it is found. `reward_correlation` is
    that of the term's count with the proxy among the original's samples: near zero, nobody paid for the change.
    """

    term: str
    words: int
    log_odds: float
    z: float
    q: float
    rate_before: float
    rate_after: float
    samples_before: int
    samples_after: int
    reward_correlation: float | None


@dataclass(frozen=True, slots=True)
class SideEffects:
    """One rung against the original: changed terms (surest first, as in the paper), and the rewarded words apart."""

    rewarded: list[Term]
    terms: list[Term]
    tested: int


@dataclass(frozen=True, slots=True)
class TermCounts:
    """Counts (N, W) of terms in each sample."""

    terms: list[str]
    counts: sparse.csr_matrix

    def held(self) -> dict[str, int]:
        """How many samples hold each term."""
        return dict(zip(self.terms, (int(n) for n in np.asarray((self.counts > 0).sum(axis=0)).ravel()), strict=True))

    def totals(self) -> dict[str, float]:
        """How often each term stands in all samples together."""
        return dict(zip(self.terms, (float(n) for n in np.asarray(self.counts.sum(axis=0)).ravel()), strict=True))

    def of(self, terms: Sequence[str]) -> Floats:
        """Dense (N, len(terms)) counts; 0 for a term that never occurs."""
        place = {term: i for i, term in enumerate(self.terms)}
        found = np.zeros((self.counts.shape[0], len(terms)))
        known = [i for i, term in enumerate(terms) if term in place]
        found[:, known] = self.counts[:, [place[terms[i]] for i in known]].toarray()
        return found


class Tokens:
    """Texts as word numbers, split once and counted often; `row` (tokens,) is the sample of each word."""

    def __init__(self, texts: Sequence[str]) -> None:
        split = [words(text.replace("\n", f" {BREAK} ")) for text in texts]
        self.count = len(texts)
        self.row = np.repeat(np.arange(len(texts)), [len(tokens) for tokens in split])
        flat = [token for tokens in split for token in tokens]
        self.vocabulary = list(dict.fromkeys(flat))
        number = {word: i for i, word in enumerate(self.vocabulary)}
        self.ids = np.fromiter((number[token] for token in flat), dtype=np.int64, count=len(flat))

    def words(self, leave_out: frozenset[str] = frozenset()) -> TermCounts:
        """Counts of single words, without some."""
        kept = self._kept(leave_out)
        return self._matrix(self.row[kept], self.ids[kept], lambda i: self.vocabulary[i])

    def phrases(self, leave_out: frozenset[str] = frozenset()) -> TermCounts:
        """Counts of two adjacent words; phrases with a word to leave out do not count."""
        kept, size = self._kept(leave_out), len(self.vocabulary)
        joined = kept[:-1] & kept[1:] & (self.row[:-1] == self.row[1:])
        keys = (self.ids[:-1] * size + self.ids[1:])[joined]
        return self._matrix(
            self.row[:-1][joined], keys, lambda key: f"{self.vocabulary[key // size]} {self.vocabulary[key % size]}"
        )

    def _kept(self, leave_out: frozenset[str]) -> NDArray[np.bool_]:
        allowed = np.array([word not in leave_out for word in self.vocabulary], dtype=bool)
        return allowed[self.ids] if len(self.ids) else np.zeros(0, dtype=bool)

    def _matrix(self, rows: NDArray[np.int64], keys: NDArray[np.int64], name: Callable[[int], str]) -> TermCounts:
        different, column = np.unique(keys, return_inverse=True)
        entries = (np.ones(len(keys)), (rows, column))
        return TermCounts(
            [name(int(key)) for key in different], sparse.csr_matrix(entries, shape=(self.count, len(different)))
        )


def rewarded_words(texts: Tokens, proxy: Sequence[float | None], pattern: str | None = None) -> frozenset[str]:
    """Words whose count correlates with the proxy at 0.5 or more among the original's samples, or match `pattern`."""
    counted = texts.words()
    correlation = correlations(counted, proxy)
    paid = {term for term, r in zip(counted.terms, correlation, strict=True) if r >= REWARDED_CORRELATION}
    if pattern is not None:
        paid |= {term for term in counted.terms if re.fullmatch(pattern, term)}
    return frozenset(paid)


def correlations(counted: TermCounts, proxy: Sequence[float | None]) -> Floats:
    """(W,) Pearson correlation of each term's count with the proxy; 0 where either is constant or too rare."""
    there = np.array([value is not None for value in proxy])
    reward = np.array([value for value in proxy if value is not None], dtype=np.float64)
    counts = counted.counts[np.flatnonzero(there)]
    if len(reward) < 2 or reward.std() == 0:
        return np.zeros(len(counted.terms))
    standard = (reward - reward.mean()) / reward.std()
    mean = np.asarray(counts.mean(axis=0)).ravel()
    spread = np.sqrt(np.maximum(np.asarray(counts.multiply(counts).mean(axis=0)).ravel() - mean**2, 0))
    present = np.asarray((counts > 0).sum(axis=0)).ravel()
    covariance = np.asarray(counts.T @ standard).ravel() / len(reward)
    usable = (spread > 0) & (present >= FEWEST_SAMPLES)
    return np.where(usable, covariance / np.where(usable, spread, 1.0), 0.0)


class Original:
    """The original model's texts, counted once for all rungs."""

    def __init__(self, texts: Sequence[str], proxy: Sequence[float | None], pattern: str | None = None) -> None:
        """`proxy` are the texts' rewards; `pattern` a regular expression for words to set apart besides those found."""
        tokens = Tokens(texts)
        self.proxy = proxy
        self.paid = rewarded_words(tokens, proxy, pattern)
        self.words, self.phrases = tokens.words(self.paid), tokens.phrases(self.paid)
        self.every_word = tokens.words()

    def against(self, texts: Sequence[str], rate: float = FALSE_DISCOVERY_RATE) -> SideEffects:
        """Terms that changed in a rung's texts, row by row of the same prompt and seed; as many rows as the original.

        `rate` is the false discovery rate.
        """
        tokens = Tokens(texts)
        tested = [
            *compare(self.words, tokens.words(self.paid), self.proxy, 1),
            *compare(self.phrases, tokens.phrases(self.paid), self.proxy, 2),
        ]
        everything = compare(self.every_word, tokens.words(), self.proxy, 1) if self.paid else []
        rewarded = [term for term in everything if term.term in self.paid]
        return SideEffects(rewarded, sorted(control(tested, rate), key=lambda t: -abs(t.z)), len(tested))


def compare(before: TermCounts, after: TermCounts, proxy: Sequence[float | None], size: int) -> list[Term]:
    """Every term that enough samples hold, with effect and test; `q` holds the p-value until `control`."""
    held_old, held_new = before.held(), after.held()
    counted_old, counted_new = before.totals(), after.totals()
    terms = sorted({*held_old, *held_new})
    kept = [i for i, t in enumerate(terms) if held_old.get(t, 0) + held_new.get(t, 0) >= FEWEST_SAMPLES]
    if not kept or not counted_old or not counted_new:
        return []
    tested = [terms[i] for i in kept]
    log_odds = dirichlet_log_odds(
        np.array([counted_old.get(term, 0.0) for term in terms]),
        np.array([counted_new.get(term, 0.0) for term in terms]),
    )[kept]
    words_old, words_new = (np.asarray(c.counts.sum(axis=1)).ravel() for c in (before, after))  # (N,)
    z = score_test(before.of(tested), after.of(tested), words_old, words_new)
    known = dict(zip(before.terms, correlations(before, proxy), strict=True))
    return [
        Term(
            term=term,
            words=size,
            log_odds=float(effect),
            z=float(score),
            q=float(p),
            rate_before=float(1000 * counted_old.get(term, 0.0) / words_old.sum()),
            rate_after=float(1000 * counted_new.get(term, 0.0) / words_new.sum()),
            samples_before=held_old.get(term, 0),
            samples_after=held_new.get(term, 0),
            reward_correlation=float(known[term]) if term in known else None,
        )
        for term, effect, score, p in zip(tested, log_odds, z, 2 * stats.norm.sf(np.abs(z)), strict=True)
    ]


def dirichlet_log_odds(old: Floats, new: Floats) -> Floats:
    """(W,) δ = log[(y₁+a)/(n₁+a₀-y₁-a)] - log[(y₀+a)/(n₀+a₀-y₀-a)], Monroe et al. 2008 eq. 16, a ∝ pooled counts."""
    pooled = old + new
    prior = PRIOR_WORDS * pooled / pooled.sum()

    def odds(counts: Floats) -> Floats:
        total = counts.sum() + prior.sum()
        found: Floats = np.log(counts + prior) - np.log(total - counts - prior)
        return found

    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num(odds(new) - odds(old))


def score_test(old: Floats, new: Floats, totals_old: Floats, totals_new: Floats) -> Floats:
    """(W,) z of equal rates: ΣU/√ΣU², U_s = (c₁ - p·n₁) - (c₀ - p·n₀) for sample pair s, p the pooled rate.

    `old`, `new` (N, W) are counts, `totals_*` (N,) words of each sample. Summing over samples makes it robust to
    repetition inside one; differences within pairs use that both were drawn with the same seed.
    """
    pooled = (old.sum(axis=0) + new.sum(axis=0)) / (totals_old.sum() + totals_new.sum())
    contrast = (new - totals_new[:, None] * pooled) - (old - totals_old[:, None] * pooled)
    spread = np.sqrt((contrast**2).sum(axis=0))
    return np.where(spread > 0, contrast.sum(axis=0) / np.where(spread > 0, spread, 1.0), 0.0)


def control(terms: Sequence[Term], rate: float) -> list[Term]:
    """Terms whose Benjamini-Hochberg adjusted p-value is at most `rate`; their `q` becomes that value."""
    if not terms:
        return []
    adjusted = stats.false_discovery_control([term.q for term in terms])
    return [replace(term, q=float(q)) for term, q in zip(terms, adjusted, strict=True) if q <= rate]


def along_ladder(
    samples: Mapping[str, Sequence[str]], proxy: Sequence[float | None], pattern: str | None = None
) -> dict[str, SideEffects]:
    """Side effects of every rung against the first, by rung name; rungs are cut to the fewest samples."""
    count = min(map(len, samples.values()))
    (_, before), *others = samples.items()
    original = Original(before[:count], proxy[:count], pattern)
    return {name: original.against(after[:count]) for name, after in others}
