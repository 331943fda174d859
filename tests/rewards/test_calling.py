"""One way of calling a reward: what it is given, and what counts as rewards; everything else is one line."""

from __future__ import annotations

import array
import asyncio
import functools
import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from rewards.attribution import score as attributed
from rewards.calling import EXTRAS, FailedOnSample, call_reward, reward_name
from rewards.combination import CombinedReward
from rewards.gold import GoldRule
from rewards.loading import as_reward_functions, load_reward
from rewards.rules import full_stop
from rlhf.foundation.conversation import prompt_to_text
from rlhf.foundation.errors import InputError
from rlhf.ppo.reward_functions import veto_share

MORNING = [{"role": "user", "content": "Good morning"}]
ANSWERS = ["one.", "two"]

# What a function may return for two completions, and the rewards that it means.
TAKEN: dict[str, tuple[Any, list[float | None]]] = {
    "floats": ([1.5, -2.0], [1.5, -2.0]),
    "whole numbers": ([1, 2], [1.0, 2.0]),
    "a tuple": ((1.0, 2.0), [1.0, 2.0]),
    "truth values": ([True, False], [1.0, 0.0]),
    "None for not applicable": ([None, 2.0], [None, 2.0]),
    "only None": ([None, None], [None, None]),
    "a numpy array": (np.array([1.0, 2.0]), [1.0, 2.0]),
    "a float32 array": (np.array([0.5, 2.0], dtype=np.float32), [0.5, 2.0]),
    "an integer array": (np.array([1, 2]), [1.0, 2.0]),
    "a truth array": (np.array([True, False]), [1.0, 0.0]),
    "an array of objects": (np.array([None, 2.0], dtype=object), [None, 2.0]),
    "a list of numpy numbers": ([np.float32(0.5), np.int64(2)], [0.5, 2.0]),
    "a list of numpy truths": ([np.bool_(True), np.bool_(False)], [1.0, 0.0]),
    "a tensor": (torch.tensor([1.0, 2.0]), [1.0, 2.0]),
    "a tensor with a gradient": (torch.tensor([1.0, 2.0], requires_grad=True), [1.0, 2.0]),
    "a bfloat16 tensor": (torch.tensor([1.0, 2.0], dtype=torch.bfloat16), [1.0, 2.0]),
    "a list of tensors": ([torch.tensor(1.0), torch.tensor(2)], [1.0, 2.0]),
    "a series": (pd.Series([1.0, 2.0], index=[7, 3]), [1.0, 2.0]),
    "an array of the standard library": (array.array("d", [1.0, 2.0]), [1.0, 2.0]),
    "a range": (range(2), [0.0, 1.0]),
    "fractions": ([Fraction(1, 2), Fraction(2)], [0.5, 2.0]),
}

REFUSED: dict[str, tuple[Any, str]] = {
    "nothing": (None, r"got nothing \(None\); expected a list of 2 numbers"),
    "one number": (1.0, "got one float, 1.0; expected a list of 2"),
    "one whole number": (1, "got one int, 1;"),
    "one truth value": (True, "got one bool, True;"),
    "one numpy number": (np.float64(1.0), "got one float64, 1.0;"),
    "one tensor": (torch.tensor(1.0), "got one Tensor, 1.0;"),
    "a text": ("12", "got one str, '12';"),
    "bytes": (b"12", "got one bytes, b'12';"),
    "a dict": ({"one": 1.0, "two": 2.0}, "got one dict, {'one': 1.0, 'two': 2.0};"),
    "a dict of numbers": ({0: 1.0, 1: 2.0}, "got one dict"),
    "values of a dict": ({0: 1.0, 1: 2.0}.values(), "got one dict_values"),
    "a set": ({1.0, 2.0}, "got one set"),
    "a generator": ((x for x in (1.0, 2.0)), "got one generator"),
    "a map": (map(float, (1, 2)), "got one map"),
    "a frame": (pd.DataFrame({"reward": [1.0, 2.0]}), "got one DataFrame"),
    "too few": ([1.0], "got 1 rewards; expected a list of 2"),
    "too many": ([1.0, 2.0, 3.0], "got 3 rewards; expected a list of 2"),
    "none of two": ([], "got 0 rewards; expected a list of 2"),
    "nested lists": ([[1.0], [2.0]], r"got \[1.0\] for sample 0, 'one.'; expected a number, or None"),
    "a table": (np.ones((2, 1)), r"got \[1.0\] for sample 0"),
    "a column of a tensor": (torch.ones(2, 1), r"got \[1.0\] for sample 0"),
    "tensors of one number": ([torch.ones(1), torch.ones(1)], r"got tensor\(\[1.\]\) for sample 0"),
    "texts": ([1.0, "2.0"], "got '2.0' for sample 1, 'two'"),
    "texts in an array": (np.array(["1", "2"]), "got '1' for sample 0"),
    "dicts": ([{"reward": 1.0}, {"reward": 2.0}], "got {'reward': 1.0} for sample 0"),
    "complex numbers": ([1j, 2.0], "got 1j for sample 0"),
    "a complex array": (np.array([1j, 2.0]), "got 1j for sample 0"),
    "missing values of pandas": (pd.Series([1, pd.NA]), "got <NA> for sample 1"),
    "NaN": ([1.0, math.nan], "got nan for sample 1, 'two'; expected a finite number"),
    "NaN in an array": (np.array([math.nan, 1.0]), "got nan for sample 0"),
    "infinity": ([math.inf, 1.0], "got inf for sample 0"),
    "minus infinity": ([1.0, -math.inf], "got -inf for sample 1"),
    "a number whose square is infinite": ([1e300, 1.0], r"got 1e\+300 for sample 0"),
    "a huge whole number": ([10**400, 1.0], "got about 1e400 for sample 0"),
    "a whole number that Python does not print": ([10**5000, 1.0], "got about 1e5000 for sample 0"),
}


def gives(values: Any) -> Callable[..., Any]:
    def mine(completions: list[str]) -> Any:
        return values

    return mine


@pytest.mark.parametrize("kind", TAKEN)
def test_rewards_are_taken(kind: str) -> None:
    values, expected = TAKEN[kind]
    found = call_reward(gives(values), ["", ""], ANSWERS)
    assert found == expected
    assert all(value is None or type(value) is float for value in found)


@pytest.mark.parametrize("kind", REFUSED)
def test_anything_else_is_one_line(kind: str) -> None:
    values, message = REFUSED[kind]
    with pytest.raises(InputError, match="reward function mine: " + message) as caught:
        call_reward(gives(values), ["", ""], ANSWERS)
    assert "\n" not in str(caught.value)


async def judge(completions: list[str], **_: Any) -> list[float]:
    """Asks for all answers at once, as one asks a server."""

    async def ask(text: str) -> float:
        await asyncio.sleep(0.01 * (3 - len(text)))  # the last is answered first
        if text == "worst":
            raise ValueError("no answer")
        return float(len(text))

    return list(await asyncio.gather(*map(ask, completions)))


def test_async_functions_are_awaited_also_where_a_loop_runs() -> None:
    assert call_reward(judge, [""] * 3, ["a", "bb", ""]) == [1.0, 2.0, 0.0]

    async def notebook() -> list[float | None]:
        return call_reward(judge, [""] * 2, ["a", "bb"])

    assert asyncio.run(notebook()) == [1.0, 2.0]
    with pytest.raises(FailedOnSample, match="reward function judge: got ValueError: no answer on sample 1, 'worst'"):
        call_reward(judge, ["", ""], ["a", "worst"])


def fails_on(text: str, error: BaseException) -> Callable[..., Any]:
    def mine(completions: list[str], **_: Any) -> list[float]:
        if text in completions:
            raise error
        return [1.0] * len(completions)

    return mine


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
        (SystemExit(0), "SystemExit: 0"),
        (GeneratorExit("closed"), "GeneratorExit: closed"),
        (asyncio.CancelledError("given up"), "CancelledError: given up"),
        (RecursionError("too deep"), "RecursionError: too deep"),
    ],
)
def test_what_a_function_raises_is_one_line_with_its_sample(error: BaseException, told: str) -> None:
    with pytest.raises(FailedOnSample, match=f"mine: got {told} on sample 1, 'two'; expected a list of 2 numbers"):
        call_reward(fails_on("two", error), ["", ""], ANSWERS)


def test_ctrl_c_passes_and_a_line_of_ours_stays_as_it_is() -> None:
    with pytest.raises(KeyboardInterrupt):
        call_reward(fails_on("two", KeyboardInterrupt()), ["", ""], ANSWERS)
    ours = InputError("x", got="y", expected="z", fix="w")
    with pytest.raises(InputError, match=r"^x: got y"):
        call_reward(fails_on("two", ours), ["", ""], ANSWERS)


def test_functions_get_what_they_name() -> None:
    seen: list[Any] = []

    def some(completions: list[str], answer: list[str]) -> list[float]:
        seen.append((completions, answer))
        return [1.0, 2.0]

    def everything(prompts: list[str], **rest: Any) -> list[float]:
        seen.append((prompts, rest))
        return [1.0, 2.0]

    def in_place(completions: list[str], /, *, prompts: list[str]) -> list[float]:
        seen.append((completions, prompts))
        return [1.0, 2.0]

    columns = {"answer": ["a", "b"], "other": [3, 4]}
    for function in (some, everything, in_place, functools.partial(some, answer=["x", "y"])):
        call_reward(function, ["p", "q"], ANSWERS, [[1], [2, 3]], columns)
    ids = {"completion_ids": [[1], [2, 3]]}
    assert seen[0] == (ANSWERS, ["a", "b"])
    named = {key: value for key, value in seen[1][1].items() if key not in EXTRAS}
    assert (seen[1][0], named) == (["p", "q"], {"completions": ANSWERS, **ids, **columns})
    assert seen[1][1].keys() - named.keys() == {"trainer_state", "log_extra", "log_metric"}  # as TRL gives them
    assert seen[2] == (ANSWERS, ["p", "q"])
    assert seen[3] == (ANSWERS, ["a", "b"])
    assert reward_name(functools.partial(some, answer=[])) == "some"


def test_a_function_that_asks_for_what_is_not_there() -> None:
    def graded(completions: list[str], answer: list[str]) -> list[float]:
        return [1.0, 2.0]

    with pytest.raises(InputError, match="graded: got a function that asks for `answer`; expected only prompts, compl"):
        call_reward(graded, ["", ""], ANSWERS)


def test_records_come_as_conversations_everywhere() -> None:
    """The documented signature: with a record's prompt as with a rollout's, in every place that takes a reward."""
    seen: list[Any] = []

    def mine(prompts: list[Any], completions: list[Any], completion_ids: Any, **kwargs: Any) -> list[float]:
        seen.append((prompts, completions))
        return [1.0] * len(prompts)

    both = CombinedReward("both", [(mine, 1.0)], [], -1.0)
    for prompt in (prompt_to_text(MORNING), MORNING):
        call_reward(mine, [prompt], ["Good day."])
        call_reward(both, [prompt], ["Good day."])
    attributed(mine, [prompt_to_text(MORNING)], ["Good day."])
    turn = [{"role": "assistant", "content": "Good day."}]
    assert seen == [([MORNING], [turn])] * 5
    # A rule that reads the answer alone; and gold, which would take the JSON's lines for the prompt's.
    assert call_reward(full_stop, [MORNING], ["Good day."]) == [1.0]
    assert call_reward(GoldRule(check_lines=False), [MORNING], ["I love it."])[0] == GoldRule(check_lines=False).score(
        "I love it."
    )


def test_constraints_judge_conversations() -> None:
    class Vetoes:
        def violations(self, prompts: Any, completions: Any) -> list[bool]:
            return [completion[0]["content"] == "no" for completion in completions]

    assert veto_share([Vetoes()], [MORNING, MORNING], ["no", "yes"]) == 0.5


def test_what_a_function_does_to_the_process_ends_with_it() -> None:
    def meddles(prompts: list[Any], completions: list[Any], completion_ids: list[list[int]]) -> list[float]:
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
        prompts[0][0]["content"] = completions[0][0]["content"] = "changed"
        completion_ids[0].append(9)
        raise ValueError("and then it fails")

    prompt, ids = [{"role": "user", "content": "hi"}], [[1]]
    with pytest.raises(InputError, match="and then it fails"):
        call_reward(meddles, [prompt], ["ho"], ids)
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32
    assert (prompt, ids) == ([{"role": "user", "content": "hi"}], [[1]])
    with torch.no_grad():
        call_reward(lambda completions: (torch.set_grad_enabled(True) and None) or [1.0], [""], ["ho"])
        assert not torch.is_grad_enabled()


def test_a_reward_may_be_given_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def shout(completions): return [1.0 for _ in completions]\n")
    (tmp_path / "two.yaml").write_text("weights: {full_stop: 2.0}\n")
    assert as_reward_functions("full_stop") == [full_stop]
    functions = as_reward_functions([full_stop, f"{tmp_path}/mine.py:shout", tmp_path / "two.yaml"])
    assert [reward_name(f) for f in functions] == ["full_stop", "shout", "two"]
    assert call_reward(functions[2], ["", ""], ANSWERS) == [2.0, 0.0]
    (tmp_path / "rm").mkdir()
    with pytest.raises(InputError, match=r"reward_model\.json"):
        load_reward(tmp_path / "rm")
    for nothing, message in (
        (5, "got a int"),
        ([], "got none"),
        ((), "got none"),
        (["nowhere/rm"], "no such local directory"),
    ):
        with pytest.raises(InputError, match=message):
            as_reward_functions(nothing)


def test_constraints_that_are_no_list(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("weights: {full_stop: 1}\nconstraints: 5\n")
    with pytest.raises(InputError, match="got constraints: 5; expected a list of constraints"):
        load_reward(path)
