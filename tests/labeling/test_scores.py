"""Scores for the selection: from files, and from a real (toy) reward model."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from labeling.folder import Task
from labeling.steps.pair_scores import p_first
from labeling.steps.scores import p_positive
from rlhf.foundation.errors import InputError

TASKS = [Task("a", "", "x"), Task("b", "", "y")]


def test_files_in_any_order_and_several_members(tmp_path: Path) -> None:
    for name, (a, b) in {"one": (0.1, 0.9), "two": (0.3, 0.4)}.items():
        rows = [{"uid": "b", "p_positive": b}, {"uid": "a", "p_positive": a}]
        (tmp_path / name).write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    both = f"{tmp_path / 'one'},{tmp_path / 'two'}"
    assert p_positive([both], [], TASKS) == [[0.1, 0.9], [0.3, 0.4]]


@pytest.mark.parametrize(
    ("row", "message"), [({"uid": "a", "p_positive": 0.5}, "no score for 1 samples"), ({"uid": "a"}, "p_positive None")]
)
def test_missing_scores(tmp_path: Path, row: dict[str, object], message: str) -> None:
    (tmp_path / "s").write_text(json.dumps(row), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        p_positive([str(tmp_path / "s")], [], TASKS)


def test_a_reward_models_probability(tmp_path: Path) -> None:
    """P(positive) = exp(log P(positive)) of the model itself; a pair's is the logistic of the difference."""
    from rewards.token_model import TokenRewardModel, add_reward_tokens
    from tests.rewards.conftest import toy_model, toy_tokenizer

    model, tokenizer = toy_model(), toy_tokenizer()
    add_reward_tokens(model, tokenizer, seed=0)
    for target in ("positive", "negative"):
        reward = TokenRewardModel(model, tokenizer, target=target)  # type: ignore[arg-type]
        report = {"kind": "token", "target": target}
        directory = reward.save(tmp_path / target, report)
        (scores,) = p_positive([], [str(directory)], [Task("a", "", "joy"), Task("b", "", "woe")])
        own = [math.exp(x) for x in reward([""] * 2, ["joy", "woe"])]
        assert scores == pytest.approx(own if target == "positive" else [1 - p for p in own], abs=1e-5)
    (pair,) = p_first([], [str(tmp_path / "positive")], [Task("p", "", "joy", "woe")], {})
    one, two = (
        math.log(p / (1 - p))
        for p in p_positive([], [str(tmp_path / "positive")], [Task("a", "", "joy"), Task("b", "", "woe")])[0]
    )
    assert pair[0] == pytest.approx(1 / (1 + math.exp(two - one)), abs=1e-5)


PAIRS = [Task("p", "", "x", "y"), Task("q", "", "y", "z")]
OF_PAIR = {"p": ("a", "b"), "q": ("b", "c")}


def scored(path: Path, rows: list[dict[str, object]]) -> str:
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(path)


def test_a_pairs_probability_from_the_samples_own(tmp_path: Path) -> None:
    """ln(0.8/0.2) - ln(0.5/0.5) = ln 4: P = 4/5. ln(0.5/0.5) - ln(0.2/0.8) = ln 4: the same."""
    file = scored(tmp_path / "s", [{"uid": u, "p_positive": p} for u, p in (("a", 0.8), ("b", 0.5), ("c", 0.2))])
    assert p_first([file], [], PAIRS, OF_PAIR) == [[pytest.approx(0.8), pytest.approx(0.8)]]
    file = scored(tmp_path / "t", [{"uid": "q", "p_positive": 0.3}, {"uid": "p", "p_positive": 1.0}])
    assert p_first([file], [], PAIRS, OF_PAIR) == [[1.0, 0.3]]


def test_scores_of_any_unit_count_by_their_spread(tmp_path: Path) -> None:
    """Texts at hand 0, 2, 2, 4: standard deviation √2, differences -2 / √2 = -√2. Ten times the unit, the same."""
    for unit in (1.0, 10.0):
        file = scored(tmp_path / "s", [{"uid": u, "score": unit * x} for u, x in (("a", 0), ("b", 2), ("c", 4))])
        right = 1 / (1 + math.exp(math.sqrt(2)))
        assert p_first([file], [], PAIRS, OF_PAIR) == [[pytest.approx(right), pytest.approx(right)]]
    file = scored(tmp_path / "s", [{"uid": u, "score": 1.0} for u in "abc"])
    assert p_first([file], [], PAIRS, OF_PAIR) == [[0.5, 0.5]]
    longer = p_first([], [lambda prompts, completions, **rest: [float(len(c)) for c in completions]], PAIRS, {})
    assert longer == [[0.5, 0.5]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"uid": "a", "score": 1.0}, {"uid": "b", "score": 1.0}], "no score for 1 samples, the first c"),
        ([{"uid": u, "score" if u == "a" else "p_positive": 0.5} for u in "abc"], "p_positive and score mixed"),
        ([{"uid": "a", "p_positive": 1.5}], "uid 'a', p_positive 1.5"),
        ([{"uid": "a", "score": math.nan}], "s, "),
        ([{"uid": "a"}], "p_positive None"),
    ],
)
def test_scores_that_say_nothing_of_pairs(tmp_path: Path, rows: list[dict[str, object]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        p_first([scored(tmp_path / "s", rows)], [], PAIRS, OF_PAIR)


def test_what_gives_no_probability_judges_nothing() -> None:
    with pytest.raises(InputError, match="whose scores are no probabilities"):
        p_positive([], [lambda prompts, completions, **rest: [1.0] * len(completions)], TASKS)


def test_a_preference_models_scores_are_taken_as_they_are(tmp_path: Path) -> None:
    """Its loss is Bradley and Terry's, so the difference is no further divided."""
    from rewards.preference_model import PreferenceRewardModel, classifier_on
    from rlhf.foundation.model_pair import LanguageModel
    from tests.rewards.conftest import toy_model, toy_tokenizer

    tokenizer = toy_tokenizer()
    reward = PreferenceRewardModel(classifier_on(LanguageModel(toy_model(), tokenizer)), tokenizer)
    tasks = [Task("p", "", "joy", "woe"), Task("q", "", "woe woe", "joy")]
    scores = [reward(["", ""], [t.text, str(t.second)]) for t in tasks]
    right = [1 / (1 + math.exp(two - one)) for one, two in scores]
    assert p_first([], [reward], tasks, {}) == [pytest.approx(right)]
