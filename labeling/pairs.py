"""Pairs of completions to be compared: made from samples of one prompt, shown in a random order, put back after."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rlhf.foundation.records import Comparison, Origin, Sample, content_uid

Answer = Literal["first", "second", "tie"]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two completions of one prompt; `uid` is the same whichever comes first in the file."""

    uid: str
    prompt: str
    first: str
    second: str

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


def fraction(*key: object) -> float:
    """A uniform number in [0, 1) that depends on the key alone, so never on order or batch."""
    digest = hashlib.blake2b("\x1f".join(map(str, key)).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def pair_samples(samples: Sequence[Sample]) -> tuple[list[Pair], int]:
    """Pair the samples of each prompt, neighbours in file order; each sample is used at most once.

    Returns the pairs and the number of samples left over: odd ones out, and pairs of two equal completions, which
    nobody can tell apart.
    """
    by_prompt: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_prompt[sample.prompt].append(sample)
    pairs: list[Pair] = []
    left_over = 0
    for prompt, group in by_prompt.items():
        for one, two in zip(group[::2], group[1::2], strict=False):
            if one.completion == two.completion:
                left_over += 2
                continue
            pairs.append(Pair(content_uid(*sorted((one.uid, two.uid))), prompt, one.completion, two.completion))
        left_over += len(group) % 2
    return pairs, left_over
