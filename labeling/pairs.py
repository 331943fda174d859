"""Pairs of completions to be compared: made from samples of one prompt, shown in a random order, put back after.

Of one file's samples: neighbours, or K different pairs a prompt; of two files' (model A against model B) one of each.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal

from labeling.counting import plain
from rlhf.foundation.records import Comparison, FirstChoice, Origin, Sample, content_uid

Answer = Literal["first", "second", "tie"]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two completions of one prompt; `uid` is the same whichever comes first in the file.

    `uids` and `sources` are those of the two samples, "" where the pair was not made of samples.
    """

    uid: str
    prompt: str
    first: str
    second: str
    uids: tuple[str, str] = ("", "")
    sources: tuple[str, str] = ("", "")

    @classmethod
    def of(cls, uid: str, one: Sample, two: Sample) -> Pair:
        """The pair of two samples of one prompt."""
        texts = (one.completion, two.completion)
        return cls(uid, one.prompt, *texts, (one.uid, two.uid), (one.source, two.source))

    def answered(
        self,
        answer: Answer,
        *,
        annotator: str,
        origin: Origin,
        created_at: str = "",
        lead_time: float | None = None,
    ) -> Comparison:
        """The comparison that `answer` makes of this pair; `lead_time` is in seconds."""
        chosen, rejected = (self.second, self.first) if answer == "second" else (self.first, self.second)
        return Comparison(
            uid=self.uid,
            prompt=self.prompt,
            chosen=chosen,
            rejected=rejected,
            annotator=annotator,
            tie=answer == "tie",
            created_at=created_at,
            lead_time=lead_time,
            origin=origin,
        )


def with_first(made: Comparison, blind: Comparison) -> Comparison:
    """A comparison, with what the same rater chose of the same pair before any reasons were shown."""
    side: FirstChoice = "tie" if blind.tie else "chosen" if blind.chosen == made.chosen else "rejected"
    return replace(made, first=side)


def fraction(*key: object) -> float:
    """A uniform number in [0, 1) that depends on the key alone, so never on order or batch."""
    digest = hashlib.blake2b("\x1f".join(map(str, key)).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def pair_samples(samples: Sequence[Sample], per_prompt: int = 0, *, seed: int = 0) -> tuple[list[Pair], int]:
    """Pair the samples of each prompt: neighbours in file order, each sample used at most once.

    With `per_prompt` K it is K different pairs of different texts (all there are, at most k (k - 1) / 2 of k texts),
    drawn by `seed` so that the texts of a prompt stand in about equally many. Returns the pairs and the number of
    samples left over: odd ones out, and those that repeat another's text, which nobody can tell apart.
    """
    pairs: list[Pair] = []
    left_over = 0
    for group in _by_prompt(samples).values():
        if per_prompt:
            texts = _different(group, seed)
            made = [(texts[i], texts[j]) for i, j in islice(_around(len(texts)), per_prompt)]
            left_over += len(group) - len({sample.uid for pair in made for sample in pair})
        else:
            made = [
                two
                for two in zip(group[::2], group[1::2], strict=False)
                if plain(two[0].completion) != plain(two[1].completion)
            ]
            left_over += len(group) - 2 * len(made)
        pairs += [Pair.of(content_uid(*sorted((one.uid, two.uid))), one, two) for one, two in made]
    return pairs, left_over


def pair_against(
    samples: Sequence[Sample], against: Sequence[Sample], per_prompt: int = 0, *, seed: int = 0
) -> tuple[list[Pair], Counter[str]]:
    """Pairs of a sample and one of `against` for the same prompt, K a prompt; and counts of what gave none.

    K is `per_prompt`, at most the number of pairs of different texts; 0: each text at most once. Which are drawn by
    `seed`. A pair's uid is that of its prompt and texts, since two files may use one uid twice.
    """
    one, two = _by_prompt(samples), _by_prompt(against)
    counts = Counter({"prompts of one file only": len(one.keys() ^ two.keys())})
    pairs: list[Pair] = []
    for prompt in (prompt for prompt in one if prompt in two):
        mine, theirs = _different(one[prompt], seed), _different(two[prompt], seed)
        wanted = per_prompt or min(len(mine), len(theirs))
        made: dict[str, Pair] = {}  # two texts that both files hold meet twice
        for i, j in _across(len(mine), len(theirs)):
            if len(made) == wanted:
                break
            if plain(mine[i].completion) != plain(theirs[j].completion):
                uid = content_uid(prompt, *sorted((mine[i].completion, theirs[j].completion)))
                made.setdefault(uid, Pair.of(uid, mine[i], theirs[j]))
        counts["prompts whose texts are all the same"] += not made
        pairs += made.values()
    return pairs, counts


def _by_prompt(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        found[sample.prompt].append(sample)
    return found


def _different(samples: Sequence[Sample], seed: int) -> list[Sample]:
    """Samples of different texts, the first of each, in an order drawn by seed and uid."""
    first: dict[str, Sample] = {}
    for sample in samples:
        first.setdefault(plain(sample.completion), sample)
    return sorted(first.values(), key=lambda sample: (fraction("pair", seed, sample.uid), sample.uid))


def _around(count: int) -> Iterator[tuple[int, int]]:
    """Every two of `count` places on a circle once, neighbours first and every other place before those between.

    So any beginning of it uses the places about equally often: the first count // 2 pairs use each at most once.
    """
    for step in range(1, count // 2 + 1):
        starts = [*range(0, count - 1, 2), *range(1, count, 2), *([count - 1] if count % 2 else [])]
        if 2 * step == count:  # each two would come from both ends
            starts = list(range(step))
        yield from ((start, (start + step) % count) for start in starts)


def _across(mine: int, theirs: int) -> Iterator[tuple[int, int]]:
    """Every place of one list with every place of another, each of the shorter and of the longer in turn."""
    for step in range(min(mine, theirs)):
        for place in range(max(mine, theirs)):
            other = (place + step) % min(mine, theirs)
            yield (place, other) if mine >= theirs else (other, place)
