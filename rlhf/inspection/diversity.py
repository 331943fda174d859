"""What nobody labelled: variety of the samples and copying from the training corpus."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

WORD = re.compile(r"\w+(?:'\w+)?|[^\w\s]")
SHORTEST_LINE = 3  # words; shorter lines ("Ay, my lord") recur in any text without being copied


def words(text: str) -> list[str]:
    """Lower-cased words and punctuation marks of a text."""
    return WORD.findall(text.lower())


def distinct_n(texts: Iterable[str], n: int) -> float | None:
    """Different word n-grams over all word n-grams (Li et al. 2016, "distinct-n"); None when there is none.

    It falls as more samples are pooled, so only equal numbers of samples compare.
    """
    grams = Counter(gram for text in texts for gram in zip(*(words(text)[i:] for i in range(n)), strict=False))
    total = grams.total()
    return len(grams) / total if total else None


def top_completion_share(texts: Sequence[str]) -> float:
    """Share of the most frequent completion among all, surrounding white space aside."""
    return Counter(text.strip() for text in texts).most_common(1)[0][1] / len(texts)


@dataclass(frozen=True, slots=True)
class Share:
    """`count` of `n`; the share is None when n is 0."""

    count: int
    n: int

    @property
    def value(self) -> float | None:
        """count / n."""
        return self.count / self.n if self.n else None


def verbatim_lines(texts: Iterable[str], corpus_lines: set[str]) -> Share:
    """How many of the complete sampled lines (three words or more) stand verbatim in the corpus.

    A line is complete when a line break ends it, so the cut last line of a sample is left out.
    `corpus_lines` comes from `lines_of`.
    """
    lines = [line for text in texts for line in whole_lines(text)]
    return Share(sum(line in corpus_lines for line in lines), len(lines))


def whole_lines(text: str) -> list[str]:
    """Stripped lines that a line break ends and that have at least three words."""
    return [line.strip() for line in text.split("\n")[:-1] if len(re.findall(r"\w+", line)) >= SHORTEST_LINE]


def lines_of(corpus: str) -> set[str]:
    """The corpus' different stripped lines."""
    return {line.strip() for line in corpus.split("\n")}
