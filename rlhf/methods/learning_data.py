"""Labels or comparisons as what each method learns from, in the ids that the policy reads and samples.

TRL's own preparation is passed by: it would write an unconditional text without its beginning token, and end texts
that were cut. Here a text shorter than a completion may be ended by itself, and is followed by the end token; others
are cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from rlhf.foundation.conversation import Text, prompt_from_text
from rlhf.foundation.encoding import encode_continued, encode_prompt
from rlhf.foundation.errors import InputError
from rlhf.methods.config import AlignConfig

Ids = list[int]


class Judged(NamedTuple):
    """One text and whether it is wanted."""

    prompt: Text
    completion: str
    wanted: bool


class Pair(NamedTuple):
    """Two completions of one prompt."""

    prompt: Text
    chosen: str
    rejected: str


@dataclass(frozen=True)
class Judgements:
    """What people said, once as texts one by one and once as pairs; `count` labels or comparisons stand behind it."""

    judged: list[Judged]
    pairs: list[Pair]
    count: int
    place: str
    sha256: str

    @property
    def prompts(self) -> list[Text]:
        """Each prompt once, in order of appearance."""
        return list({repr(one.prompt): one.prompt for one in self.judged}.values())


def read_judgements(config: AlignConfig) -> Judgements:
    """From labels or comparisons. Raises InputError on a bad row, and where nothing is wanted or nothing is not."""
    from rewards.steps.reward_data import DataOptions, load_reward_data

    data = load_reward_data(DataOptions(labels=config.labels, comparisons=config.comparisons), quiet=config.quiet)
    found = of_comparisons(data) if data.is_comparisons else of_labels(data, config)
    kinds = {one.wanted for one in found.judged}
    if kinds != {True, False}:
        got = "none that is wanted" if True not in kinds else "none that is not wanted"
        raise InputError(found.place, got=got, expected="some of each", fix="label more texts")
    return found


def of_labels(data: Any, config: AlignConfig) -> Judgements:
    """Pooled labels; pairs are of one prompt, every judged text in at least one, drawn by the seed."""
    from rewards.targets import pool_labels

    pooled = pool_labels(data.labels, config.pooling, data.place)
    told = [text for text in pooled.texts if text.verdict != "neutral"]
    judged = [Judged(prompt_from_text(t.prompt), t.completion, t.verdict == "positive") for t in told]
    return Judgements(
        judged, pairs_of(judged, config.seed), sum(t.n_labels for t in pooled.texts), data.place, data.sha256
    )


def pairs_of(judged: Sequence[Judged], seed: int) -> list[Pair]:
    """Wanted against unwanted completions of the same prompt; the fewer are taken again in turn."""
    by_prompt: dict[str, tuple[list[Judged], list[Judged]]] = {}
    for one in judged:
        by_prompt.setdefault(repr(one.prompt), ([], []))[0 if one.wanted else 1].append(one)
    generator, pairs = np.random.default_rng(seed), []
    for wanted, others in by_prompt.values():
        if not wanted or not others:
            continue
        orders = [generator.permutation(len(side)) for side in (wanted, others)]
        for i in range(max(len(wanted), len(others))):
            better, worse = (s[o[i % len(s)]] for s, o in zip((wanted, others), orders, strict=True))
            pairs.append(Pair(better.prompt, better.completion, worse.completion))
    return pairs


def of_comparisons(data: Any) -> Judgements:
    """Each answer but ties; the chosen text counts as wanted, the other as not, as TRL's KTO has it."""
    pairs = []
    for one in data.answers:
        if one.target != 0.5:
            first, second = (one.first, one.second) if one.target > 0.5 else (one.second, one.first)
            pairs.append(Pair(prompt_from_text(one.prompt) if isinstance(one.prompt, str) else one.prompt,
                              _said(first), _said(second)))  # fmt: skip
    judged = [Judged(p.prompt, text, wanted) for p in pairs for text, wanted in ((p.chosen, True), (p.rejected, False))]
    return Judgements(judged, pairs, len(data.answers), data.place, data.sha256)


def _said(text: Any) -> str:
    return text if isinstance(text, str) else str(text[-1]["content"])


class Encoded:
    """Prompts and completions as ids, each prompt encoded once."""

    def __init__(self, tokenizer: Any, end: int, length: int) -> None:
        """`end` is the end token, `length` the tokens of a completion at most, the end token included."""
        self.tokenizer, self.end, self.length = tokenizer, end, length
        self.cut: set[tuple[str, str]] = set()  # prompts and completions that were longer

    def prompt(self, prompt: Text) -> Ids:
        """As a policy reads it before it goes on."""
        return encode_prompt(self.tokenizer, prompt)

    def completion(self, prompt: Text, completion: str) -> Ids:
        """What follows the prompt's ids; with the end token where it is short enough to have ended."""
        before, whole = self.prompt(prompt), encode_continued(self.tokenizer, prompt, completion)
        if whole[: len(before)] == before:
            ids = whole[len(before) :]
        else:  # tokens that merge across the border: the completion by itself
            ids = [int(i) for i in self.tokenizer(completion, add_special_tokens=False)["input_ids"]]
        if len(ids) > self.length:
            self.cut.add((repr(prompt), completion))
        return [*ids, self.end] if len(ids) < self.length else ids[: self.length]


def left_out(given: Judgements, encode: Encoded, *, pairs: bool) -> list[str]:
    """What a person must know of the rows that were made: texts that were cut, and with `pairs` those in no pair."""
    told, texts = [], len({(repr(one.prompt), one.completion) for one in given.judged})
    if encode.cut:
        told.append(
            f"{given.place}: {len(encode.cut)} of {texts} texts are longer than --max_completion_length "
            f"{encode.length} tokens; what lies beyond is not learnt"
        )
    paired = {(repr(p.prompt), text) for p in given.pairs for text in (p.chosen, p.rejected)}
    alone = sum((repr(one.prompt), one.completion) not in paired for one in given.judged)
    if pairs and alone:
        told.append(f"{given.place}: {alone} of {texts} texts are in no pair: their prompts have one kind alone")
    return told


def sft_rows(given: Judgements, encode: Encoded) -> list[dict[str, Any]]:
    """TRL's prepared columns of the wanted texts; of the prompt nothing is learnt (-100)."""
    return [
        sft_row(encode.prompt(j.prompt), encode.completion(j.prompt, j.completion)) for j in given.judged if j.wanted
    ]


def sft_row(prompt: Ids, completion: Ids) -> dict[str, Any]:
    """One text."""
    return {"input_ids": [*prompt, *completion], "labels": [*[-100] * len(prompt), *completion]}


def dpo_rows(given: Judgements, encode: Encoded) -> list[dict[str, Any]]:
    """TRL's prepared columns of the pairs. Raises InputError where no prompt has both a wanted and another text."""
    if not given.pairs:
        fix = "label several completions of one prompt, or compare them"
        raise InputError(given.place, got="no pair", expected="texts of both kinds for one prompt", fix=fix)
    return [
        {
            "prompt_ids": encode.prompt(pair.prompt),
            "chosen_ids": encode.completion(pair.prompt, pair.chosen),
            "rejected_ids": encode.completion(pair.prompt, pair.rejected),
        }
        for pair in given.pairs
    ]


def kto_rows(given: Judgements, encode: Encoded) -> list[dict[str, Any]]:
    """TRL's prepared columns of the texts one by one; the completion that its KL estimate pairs a prompt with is the
    one of the row before."""
    texts = [encode.completion(one.prompt, one.completion) for one in given.judged]
    return [
        {
            "prompt_ids": encode.prompt(one.prompt), "completion_ids": texts[i], "KL_completion_ids": texts[i - 1],
            "label": one.wanted,
        }
        for i, one in enumerate(given.judged)
    ]  # fmt: skip
