"""Which of two models' answers a judge prefers: every pair asked twice, with the sides changed.

A text wins a pair when both replies prefer it. Replies that contradict each other, or of which one sees a tie, make a
tie: what a judge prefers for its place alone is no preference (Zheng et al. 2023, "Judging LLM-as-a-Judge", section
3.4). How often the text shown first is preferred is told with its error.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

from rewards.judging.asking import Asking
from rewards.judging.cost import JudgeCost
from rewards.judging.endpoint import Endpoint
from rewards.judging.replies import Verdict, read_verdict
from rewards.template import prompt_text, require_fields
from rlhf.foundation.errors import InputError
from rlhf.foundation.proportion import Proportion, wilson
from rlhf.foundation.records import Sample
from rlhf.foundation.terminal import plus_minus

TEMPLATE = """Two texts complete the same prompt. Which is the better one: more helpful, correct and well written?

<prompt>
{prompt}
</prompt>

<A>
{A}
</A>

<B>
{B}
</B>"""
INSTRUCTION = 'End your reply with one line: "Winner: A", "Winner: B", or "Winner: tie".'
Outcome = Literal["first", "second", "tie", "unreadable"]


class Judgement(NamedTuple):
    """A pair, by its samples' uids. `shown_first` and `shown_second` are the replies where the first model's text was
    A, and where it was B; None where a reply cannot be read, or the texts are equal and nothing was asked."""

    first: str
    second: str
    outcome: Outcome
    shown_first: Verdict | None
    shown_second: Verdict | None

    @property
    def contradicts_itself(self) -> bool:
        """Whether the same place was preferred both times."""
        return self.shown_first in ("A", "B") and self.shown_first == self.shown_second


@dataclasses.dataclass(frozen=True)
class PairVerdict:
    """What the judge says of all pairs. `unpaired` samples had no partner for their prompt."""

    pairs: Sequence[Judgement]
    unpaired: int
    cost: JudgeCost

    def count(self, outcome: Outcome) -> int:
        """Pairs with this outcome."""
        return sum(pair.outcome == outcome for pair in self.pairs)

    @property
    def contradictory(self) -> int:
        """Ties in which the judge preferred the same place both times."""
        return sum(pair.contradicts_itself for pair in self.pairs)

    @property
    def win_rate(self) -> Proportion:
        """Share of readable pairs that the first model wins, a tie counted as a half, with Wilson's 95 % interval."""
        n = len(self.pairs) - self.count("unreadable")
        return wilson(self.count("first") + self.count("tie") / 2, n)

    @property
    def first_place(self) -> tuple[float, float | None, int]:
        """How often the text shown first is preferred (a tie is a half): share, standard error, pairs asked.

        Without a preference for places the share is 0.5. The unit of the error is the pair: its two replies depend on
        each other.
        """
        points = {"A": 1.0, "tie": 0.5, "B": 0.0}
        replies = [(p.shown_first, p.shown_second) for p in self.pairs]
        shares = [(points[one] + points[other]) / 2 for one, other in replies if one and other]
        if not shares:
            return math.nan, None, 0
        error = statistics.stdev(shares) / math.sqrt(len(shares)) if len(shares) > 1 else None
        return statistics.fmean(shares), error, len(shares)

    def statements(self, first: str = "first", second: str = "second") -> list[str]:
        """What to tell a person."""
        rate, (share, error, asked) = self.win_rate, self.first_place
        counts = f"{self.count('first')} wins, {self.count('tie')} ties, {self.count('second')} losses"
        told = [
            f"{first} against {second}: wins {rate.share:.1%} ({rate.low:.1%} to {rate.high:.1%}, 95 % interval; "
            f"n = {rate.n:,} pairs: {counts}; a tie is a half)"
            if rate.n
            else f"{first} against {second}: no pair with readable replies"
        ]
        if asked:
            told.append(
                f"the text shown first is preferred in {share:.3f} {plus_minus(error, 3)} of replies (0.5: no matter), "
                f"and {self.contradictory:,} of {asked:,} pairs are ties because the place decided"
            )
        left_out = {
            "pairs with an unreadable reply": self.count("unreadable"),
            "samples without a partner": self.unpaired,
        }
        told += [f"left out: {count:,} {what}" for what, count in left_out.items() if count]
        cost = self.cost
        tokens = f"{cost.prompt_tokens:,} prompt and {cost.completion_tokens:,} completion tokens"
        return [
            *told,
            f"{cost.calls:,} calls, {cost.cached:,} answers from the cache, {cost.retries:,} retries; {tokens}",
        ]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        share, error, asked = self.first_place
        rate = self.win_rate
        return {
            "win_rate": {**rate._asdict(), "share": rate.share if rate.n else None},
            "wins": self.count("first"),
            "ties": self.count("tie"),
            "losses": self.count("second"),
            "contradictory": self.contradictory,
            "unreadable": self.count("unreadable"),
            "unpaired": self.unpaired,
            "first_place": {"share": share if asked else None, "standard_error": error, "pairs": asked},
            "cost": self.cost.as_dict(),
            "pairs": [pair._asdict() for pair in self.pairs],
        }


def judge_pairs(
    first: Sequence[Sample],
    second: Sequence[Sample],
    endpoint: Endpoint,
    *,
    template: str = TEMPLATE,
    instruction: str = INSTRUCTION,
) -> PairVerdict:
    """Ask about each pair of samples of one prompt, the k-th of the one model with the k-th of the other.

    `template` has {A} and {B}, and {prompt} if it is to be read. Equal texts are a tie, and nothing is asked. Raises
    InputError when no two samples have a prompt in common, for another template, and when the server fails for good.
    """
    require_fields(template, f"judge {endpoint.name}: template", ["A", "B"], ["prompt"])
    pairs = list(_paired(first, second))
    if not pairs:
        raise InputError(
            "samples",
            got="no prompt that both models have completed",
            expected="samples of both for the same prompts",
            fix="sample both from the same prompts: `rlhf sample --prompts`",
        )
    shown = [sides for a, b in pairs if a.completion != b.completion for sides in ((a, b), (b, a))]
    questions = [_question(template, instruction, *sides) for sides in shown]
    asking: Asking[Verdict] = Asking(endpoint, read_verdict, instruction)
    replies = iter(asking.ask(questions))
    judged = [_judged(a, b, replies) for a, b in pairs]
    return PairVerdict(judged, len(first) + len(second) - 2 * len(pairs), asking.cost)


def _paired(first: Sequence[Sample], second: Sequence[Sample]) -> Iterator[tuple[Sample, Sample]]:
    waiting: dict[str, list[Sample]] = defaultdict(list)
    for sample in reversed(second):
        waiting[sample.prompt].append(sample)
    for sample in first:
        if waiting[sample.prompt]:
            yield sample, waiting[sample.prompt].pop()


def _question(template: str, instruction: str, a: Sample, b: Sample) -> str:
    shown = template.format(prompt=prompt_text(a.prompt), A=a.completion, B=b.completion)
    return f"{shown}\n\n{instruction}"


def _judged(a: Sample, b: Sample, replies: Iterator[Verdict | None]) -> Judgement:
    if a.completion == b.completion:
        return Judgement(a.uid, b.uid, "tie", None, None)
    one, other = next(replies), next(replies)
    outcomes: dict[tuple[Verdict, Verdict], Outcome] = {("A", "B"): "first", ("B", "A"): "second"}
    outcome: Outcome = "unreadable" if one is None or other is None else outcomes.get((one, other), "tie")
    return Judgement(a.uid, b.uid, outcome, one, other)
