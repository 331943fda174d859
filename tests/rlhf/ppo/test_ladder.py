"""Which policies become rungs, and what they are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlhf.foundation.errors import InputError
from rlhf.runs.ladder import Ladder, Rung, read_rungs, rung_name


def rung(target: float, iteration: int) -> Rung:
    name = rung_name(target)
    return Rung(
        name, target, target**2, 0.01, iteration, 0, 0, 0.0, 0.1, 8, f"checkpoints/{name}", f"samples/{name}.jsonl"
    )


def test_names_are_targets_in_nats() -> None:
    assert [rung_name(t) for t in (0.0, 0.25, 1.5, 2.5, 10**0.5)] == [
        "kl-00.00",
        "kl-00.06",
        "kl-02.25",
        "kl-06.25",
        "kl-10.00",
    ]


def test_one_rung_for_two_steps_passed_at_once(tmp_path: Path) -> None:
    ladder = Ladder(tmp_path / "ladder.json", step=0.5, budget=10.0)
    assert ladder.target_passed(0.0) == 0.0
    ladder.add(rung(0.0, 0))
    assert ladder.target_passed(0.24) is None  # sqrt = 0.49
    assert ladder.target_passed(1.3) == 1.0  # sqrt = 1.14 passes 0.5 and 1.0: the last counts
    ladder.add(rung(1.0, 3))
    assert ladder.target_passed(2.2) is None  # sqrt = 1.483
    assert ladder.target_passed(2.26) == 1.5


def test_the_budget_is_a_step_of_its_own(tmp_path: Path) -> None:
    ladder = Ladder(tmp_path / "ladder.json", step=0.5, budget=10.0)
    ladder.add(rung(3.0, 9))
    assert ladder.target_passed(9.9) is None
    assert ladder.target_passed(10.4) == pytest.approx(10**0.5)
    assert ladder.target_passed(13.0) == pytest.approx(10**0.5)  # 3.5 lies beyond the budget


def test_a_rung_far_beyond_the_budget_is_named_by_its_own_kl(tmp_path: Path) -> None:
    ladder = Ladder(tmp_path / "ladder.json", step=0.25, budget=10.0)
    root = 10**0.5  # 3.162; a step further is 3.412, 11.64 nats
    assert ladder.name_for(root, 11.6) == "kl-10.00"
    assert ladder.name_for(root, 28.6) == "kl-28.60"
    assert ladder.name_for(None, 28.6) == "final"
    assert not ladder.overshot(11.6)
    assert ladder.overshot(11.7)


def test_steps_that_round_to_one_name_do_not_replace_each_other(tmp_path: Path) -> None:
    ladder = Ladder(tmp_path / "ladder.json", step=0.05, budget=10.0)
    ladder.add(rung(0.0, 0))
    assert ladder.name_for(0.05, 0.0025) == "kl-00.003"
    assert rung_name(0.05) == rung_name(0.0) == "kl-00.00"  # what both would be called


@pytest.mark.parametrize("text", ['{"rungs": [{"name": "x"}]}', "{}", '{"rungs": [', "[]"])
def test_a_torn_or_foreign_ladder_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "ladder.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"ladder\.json"):
        read_rungs(path)
