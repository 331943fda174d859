"""A judge as a reward: each text is shown to a language model behind an OpenAI-style address, which gives it a score.

The reward is the score as the judge gives it, in points of `scale`: PPO normalises every reward itself, and a number
that can be read back in the judge's own words is worth more than one between 0 and 1.

Shapes: N texts.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from rewards.judging.asking import Asking
from rewards.judging.cost import JudgeCost
from rewards.judging.endpoint import Endpoint
from rewards.judging.replies import read_score
from rewards.template import completion_text, prompt_text, require_fields
from rlhf.foundation.conversation import Text
from rlhf.foundation.errors import InputError

Unreadable = Literal["none", "refuse"]
UNREADABLE: tuple[Unreadable, ...] = get_args(Unreadable)
TEMPLATE = """You judge the completion of a prompt: how helpful, correct and well written it is.

<prompt>
{prompt}
</prompt>

<completion>
{completion}
</completion>"""
INSTRUCTION = 'End your reply with the line "Score: NUMBER", where NUMBER is from {low} (worst) to {high} (best).'


class JudgeReward:
    """A judge that scores texts; a reward function in TRL's signature, in points of its scale."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        template: str = TEMPLATE,
        instruction: str = INSTRUCTION,
        scale: Sequence[float] = (1, 10),
        unreadable: Unreadable = "none",
    ) -> None:
        """Raises InputError for another template, instruction, scale or choice than can be."""
        self.endpoint, self.__name__ = endpoint, endpoint.name
        self.template, self.unreadable = template, unreadable
        if unreadable not in UNREADABLE:
            raise endpoint.refuse("unreadable", repr(unreadable)[:60], " or ".join(UNREADABLE), "choose one")
        self.low, self.high = self._checked_scale(scale)
        require_fields(template, f"judge {endpoint.name}: template", ["completion"], ["prompt"])
        require_fields(instruction, f"judge {endpoint.name}: instruction", ["low", "high"])
        self.instruction = instruction.format(low=f"{self.low:g}", high=f"{self.high:g}")
        self.cost = JudgeCost()
        self._said_unreadable = False

    def __repr__(self) -> str:
        return f"JudgeReward({self.endpoint.url!r}, model={self.endpoint.model!r}, name={self.__name__!r})"

    def identity(self) -> dict[str, Any]:
        """What its numbers depend on, for a run's provenance; never the key."""
        read = {"instruction": self.instruction, "scale": [self.low, self.high], "unreadable": self.unreadable}
        return {**self.endpoint.asked(), "template": self.template, **read}

    def scores(self, prompts: Sequence[Text], completions: Sequence[Text]) -> list[float | None]:
        """The score of each of N texts, in points; None where the judge gave none that can be read.

        Raises InputError when the server fails for good, saying how many are answered and kept, and for an unreadable
        reply where those are to be refused.
        """
        return self._judged(prompts, completions)[0]

    def __call__(
        self,
        prompts: Sequence[Text],
        completions: Sequence[Text],
        completion_ids: Sequence[Sequence[int]] | None = None,
        log_metric: Callable[[str, Any], object] | None = None,
        **kwargs: Any,
    ) -> list[float | None]:
        """TRL's reward function; `log_metric` is told what the call cost."""
        scores, cost = self._judged(prompts, completions)
        if log_metric is not None:
            cost.tell(log_metric, self.__name__)
        return scores

    def _judged(self, prompts: Sequence[Text], completions: Sequence[Text]) -> tuple[list[float | None], JudgeCost]:
        questions = [self._question(p, c) for p, c in zip(prompts, completions, strict=True)]
        asking = Asking(self.endpoint, lambda reply: read_score(reply, self.low, self.high), self.instruction)
        try:
            scores = asking.ask(questions, again=self.unreadable == "refuse")
        finally:
            self.cost += asking.cost
        if asking.cost.unreadable:
            self._tell_unreadable(scores, completions)
        return scores, asking.cost

    def _question(self, prompt: Text, completion: Text) -> str:
        shown = self.template.format(prompt=prompt_text(prompt), completion=completion_text(completion))
        return f"{shown}\n\n{self.instruction}"

    def _tell_unreadable(self, scores: Sequence[float | None], completions: Sequence[Text]) -> None:
        count, first = scores.count(None), scores.index(None)
        if self.unreadable == "refuse":
            raise InputError(
                f"judge {self.__name__}",
                got=f"{count} of {len(scores)} replies without a score, the first about {completions[first]!r}"[:300],
                expected=f"a number from {self.low:g} to {self.high:g}, as in `Score: {self.high:g}`",
                fix="make the template clearer or max_tokens larger, or let such texts be unscored: unreadable: none",
            )
        if not self._said_unreadable:
            self._said_unreadable = True
            told = f"{count} of {len(scores)} replies have no score that can be read; such texts are unscored"
            print(f"rlhf: judge {self.__name__}: {told}", file=sys.stderr)

    def _checked_scale(self, scale: Any) -> tuple[float, float]:
        ends = list(scale) if isinstance(scale, (list, tuple)) else []
        numbers = [isinstance(end, int | float) and not isinstance(end, bool) and math.isfinite(end) for end in ends]
        if len(ends) != 2 or not all(numbers) or ends[0] >= ends[1]:
            expected = "two numbers, the lower one first"
            raise self.endpoint.refuse("scale", repr(scale)[:60], expected, "write it as [1, 10]")
        return float(ends[0]), float(ends[1])


def judge(
    url: str,
    model: str,
    *,
    template: str = TEMPLATE,
    instruction: str = INSTRUCTION,
    scale: Sequence[float] = (1, 10),
    unreadable: Unreadable = "none",
    temperature: float = 0.0,
    max_tokens: int = 512,
    timeout: float = 60.0,
    retries: int = 5,
    concurrency: int = 16,
    cache_dir: str | Path | None = None,
    key_env: str = "OPENAI_API_KEY",
    request: Mapping[str, Any] | None = None,
    name: str = "judge",
) -> JudgeReward:
    """A language model behind an OpenAI-style address as a reward, in points of `scale`.

    `template` has {completion}, and {prompt} if it is to be read; `instruction`, which has {low} and {high}, asks for
    the form of the answer below it. A reply without a score that can be read is asked for again once; then the text is
    unscored (None, counted and told), or refused with `unreadable="refuse"`. Answers are kept in `cache_dir`, by
    default in the user's cache: no text is paid for twice. What it costs is `reward.cost`, and in a run the metrics
    `judge/NAME/...`. `timeout` is in seconds; `key_env` names the variable of the environment that holds the key, ""
    for a server without one; `request` has further fields of the request. See `rewards.judging.endpoint` for the rest.

    Raises InputError for what cannot be; the server is asked when there is something to score.
    """
    endpoint = Endpoint(
        url=url,
        model=model,
        temperature=temperature,
        max_tokens=max_tokens,
        timeout=timeout,
        retries=retries,
        concurrency=concurrency,
        cache_dir=cache_dir,
        key_env=key_env,
        request=request,
        name=name,
    )
    return JudgeReward(endpoint, template=template, instruction=instruction, scale=scale, unreadable=unreadable)
