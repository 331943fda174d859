"""Combined rewards by hand-counted values, and every way their file can be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from rewards.combination import CombinedReward
from rewards.loading import load_reward
from rewards.rules import full_stop_at_16_to_24
from rlhf.foundation.errors import InputError
from rlhf.ppo.reward_functions import Rewards, veto_share

FILE = """
weights: {full_stop: 2.0, length: -0.5}
constraints:
  - {reward: length, at_least: 2, at_most: 4}
penalty: -3
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "short_and_stopped.yaml"
    path.write_text(text)
    return path


def test_weighted_sum_and_penalty_by_hand(tmp_path: Path) -> None:
    reward = load_reward(str(write(tmp_path, FILE)))
    assert reward.__name__ == "short_and_stopped"
    texts = ["Hail. Farewell.", "one", "a b c d", "a b c d e.", ""]
    # 2·2 - 0.5·2 = 3; one word breaks at_least; 0 - 0.5·4 = -2; five words break at_most; none breaks at_least.
    assert reward([""] * 5, texts) == [3.0, -3.0, -2.0, -3.0, -3.0]
    assert isinstance(reward, CombinedReward)
    assert reward.violations([""] * 5, texts) == [False, True, False, True, True]
    assert veto_share([reward], [""] * 5, texts) == pytest.approx(3 / 5)
    assert veto_share([load_reward("full_stop")], [""] * 5, texts) is None
    assert Rewards([reward], [1.0]).values([""] * 5, texts, [[]] * 5)[0].tolist() == [3.0, -3.0, -2.0, -3.0, -3.0]


def test_a_part_that_does_not_apply_adds_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def odd(prompts, completions, **kwargs):\n    return [1.0 if len(c) % 2 else None for c in completions]\n"
    )
    reward = load_reward(write(tmp_path, f"weights: {{'{tmp_path}/mine.py:odd': 2, full_stop: 1}}"))
    assert reward(["", ""], ["a..", "ab.."]) == [4.0, 2.0]
    alone = load_reward(write(tmp_path, f"weights: {{'{tmp_path}/mine.py:odd': 2}}"))
    assert alone(["", ""], ["a..", "ab.."]) == [2.0, None]


def test_conversations_are_judged_by_their_content(tmp_path: Path) -> None:
    reward = load_reward(str(write(tmp_path, FILE)))
    assert reward([[]], [[{"role": "assistant", "content": "Hail. Farewell."}]]) == [3.0]


def test_a_full_stop_between_tokens_16_and_24() -> None:
    words = [f"w{i}" for i in range(40)]  # one token each, with the space before it

    def stopped(after: int) -> str:  # the stop is token after + 1
        return " ".join(words[:after]) + ". " + " ".join(words[after:])

    found = full_stop_at_16_to_24([""] * 5, [stopped(14), stopped(15), stopped(23), stopped(24), " ".join(words)])
    assert found == [0.0, 1.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("weights: [", "no valid YAML"),
        ("- 1", "a YAML list"),
        ("weights: {}", "no weights"),
        ("weights: {full_stop: many}", "full_stop: many; expected a number"),
        ("weights: {full_stops: 1}", "an unknown name; expected one of full_stop"),
        ("weights: {full_stop: 1}\nconstraint: []", "the key constraint"),
        ("weights: {full_stop: 1}\nconstraints: [length]", "the constraint length"),
        ("weights: {full_stop: 1}\nconstraints: [{reward: length}]", "at_least, at_most or both"),
        ("weights: {full_stop: 1}\nconstraints: [{reward: length, at_least: 3, at_most: 2}]", "in this order"),
        ("weights: {full_stop: 1}\nconstraints: [{reward: length, under: 2}]", "the constraint"),
        ("weights: {full_stop: 1}\npenalty: .nan", "penalty: nan"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_reward(str(write(tmp_path, text)))
    assert "\n" not in str(caught.value)
