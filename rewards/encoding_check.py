"""What becomes of texts when they are encoded: cut to the context, empty, or no longer different; told before fitting.

A pair whose texts differ only beyond the context has one encoding twice: no answer to it can be learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rewards.preferences import MINIMUM_PAIRS, Preference
from rlhf.foundation.conversation import Text
from rlhf.foundation.encoding import TextEncoder
from rlhf.foundation.errors import InputError
from rlhf.foundation.records import Sample


@dataclass(frozen=True, slots=True)
class EncodingCheck:
    """Counts of `texts` encodings of at most `max_length` tokens (None: no limit).

    `cut` were longer and lost their beginning, `empty` had no completion; `merged` texts have another one's ids, of
    pairs those whose two texts have the same ids.
    """

    texts: int
    cut: int
    empty: int
    merged: int
    max_length: int | None
    of: str = "texts"

    def lines(self) -> list[str]:
        """What a person should know, a line each."""
        told = []
        if self.cut:
            told.append(
                f"texts cut to {self.max_length} tokens of context: {self.cut} of {self.texts}; their end is kept"
            )
        if self.merged:
            left_out = ", left out" if self.of == "pairs" else ""
            told.append(f"{self.of} that the model cannot tell apart (the same tokens): {self.merged}{left_out}")
        if self.empty:
            told.append(f"texts with an empty completion: {self.empty} of {self.texts}")
        return told

    def report(self) -> dict[str, Any]:
        """The same for reward_model.json."""
        merged = "pairs_encoded_equal" if self.of == "pairs" else "texts_encoded_equal"
        counts = {"texts": self.texts, "cut": self.cut, "empty": self.empty, merged: self.merged}
        return {"max_tokens": self.max_length, **counts}


def check_texts(encoder: TextEncoder, prompts: Sequence[Text], completions: Sequence[Text]) -> EncodingCheck:
    """The counts of N different texts."""
    encoded = encoder.encode(prompts, completions)
    merged = len(encoded) - len(set(map(tuple, encoded)))
    empty = sum(map(_is_empty, completions))
    return EncodingCheck(len(encoded), encoder.n_cut, empty, merged, encoder.max_length)


def check_pairs(
    encoder: TextEncoder, pairs: Sequence[Preference], place: str
) -> tuple[list[Preference], EncodingCheck]:
    """The pairs whose two texts the model can tell apart, and the counts.

    Raises InputError naming `place` when too few decided pairs are left.
    """
    prompts = [pair.prompt for pair in pairs]
    first = encoder.encode(prompts, [pair.first for pair in pairs])
    second = encoder.encode(prompts, [pair.second for pair in pairs])
    kept = [pair for pair, one, two in zip(pairs, first, second, strict=True) if one != two]
    empty = sum(_is_empty(text) for pair in pairs for text in (pair.first, pair.second))
    check = EncodingCheck(2 * len(pairs), encoder.n_cut, empty, len(pairs) - len(kept), encoder.max_length, "pairs")
    decided = sum(pair.said != 0.5 for pair in kept)
    if decided < MINIMUM_PAIRS:
        raise InputError(
            place,
            got=f"{decided} pairs with a preference whose two texts differ: {check.merged} have the same tokens, cut "
            f"to {check.max_length} tokens of context",
            expected=f"at least {MINIMUM_PAIRS}",
            fix="shorten the texts, or choose a base model of a longer context",
        )
    return kept, check


def require_same_kind(encoder: TextEncoder, samples: Sequence[Sample]) -> None:
    """Hold the encoder to the kinds of text it has seen (plain, conversations), and samples of the base policy to it.

    Raises InputError where the samples are of another kind: their scores would say nothing of what was fitted.
    """
    encoder.only(sorted(encoder.kinds))
    encoder.encode([sample.prompt for sample in samples], [sample.completion for sample in samples])


def _is_empty(completion: Text) -> bool:
    return not (completion if isinstance(completion, str) else any(turn["content"] for turn in completion))
