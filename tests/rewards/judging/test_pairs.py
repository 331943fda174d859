"""Pairs judged twice with the sides changed: wins by hand, a judge that looks at places only, and what is left out."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

import rlhf
from rewards.judging.pairs import Judgement, PairVerdict
from rlhf import cli
from rlhf.foundation.errors import InputError
from rlhf.foundation.records import Sample, write_records
from tests.rewards.judging.server import KEY, MODEL, TOKENS, Asked, JudgeServer


def samples(model: str, *completions: str, prompt: str = "p") -> list[Sample]:
    return [Sample(f"{model}-{i}", prompt, text, model) for i, text in enumerate(completions)]


def sides(asked: Asked) -> tuple[str, str]:
    found = re.search(r"<A>\n(.*?)\n</A>\n\n<B>\n(.*?)\n</B>", asked.question, re.DOTALL)
    assert found
    return found[1], found[2]


def more_joy(asked: Asked) -> str:
    """Prefers more joy; with "?" in a text it always prefers A, with "!" it says nothing."""
    a, b = sides(asked)
    if "!" in a + b:
        return "Both have their merits."
    if "?" in a + b:
        return "Winner: A"
    joys = a.count("joy"), b.count("joy")
    return "Winner: tie" if joys[0] == joys[1] else f"Winner: {'A' if joys[0] > joys[1] else 'B'}"


FIRST = samples("one", "joy joy", "joy", "woe", "joy?", "joy!", "same", "woe woe")
SECOND = samples("two", "joy", "woe", "joy", "woe?", "woe!", "same", "woe")


def verdict_of(server: JudgeServer, first: Any = FIRST, second: Any = SECOND, **options: Any) -> PairVerdict:
    server.reply = more_joy
    return rlhf.rate_judge([first, second], server.url, MODEL, **options)


def test_every_outcome_by_hand(server: JudgeServer) -> None:
    found = verdict_of(server, [*FIRST, *samples("more", "joy", prompt="q")])
    assert [pair.outcome for pair in found.pairs] == ["first", "first", "second", "tie", "unreadable", "tie", "tie"]
    # 2 wins and 3 ties (of the place, of equal texts, of the judge) of 6 readable pairs: (2 + 3/2) / 6
    assert found.win_rate.n == 6
    assert found.win_rate.share == pytest.approx(3.5 / 6)
    assert (found.contradictory, found.count("unreadable"), found.unpaired) == (1, 1, 1)
    # Five pairs were asked with readable replies: 1/2 of each is the place's, but 1 of the fourth.
    share, error, asked = found.first_place
    assert (share, asked) == (pytest.approx(0.6), 5)
    assert error == pytest.approx(0.1)  # (0.4² + 4·0.1²) / 4 = 0.05; √0.05 / √5 = 0.1
    # Six pairs are asked twice; the third is the second with its sides changed; two unreadable replies once more.
    assert server.requests.total() == found.cost.calls == 6 * 2 - 2 + 2
    assert found.cost.prompt_tokens == 12 * TOKENS[0]


def test_a_judge_of_places_alone_has_no_preference(server: JudgeServer) -> None:
    found = verdict_of(server, samples("one", *(f"joy {i}?" for i in range(9))), samples("two", *["woe?"] * 9))
    assert (found.win_rate.share, found.contradictory) == (0.5, 9)
    assert found.first_place == (1.0, 0.0, 9)
    assert "preferred in 1.000 ± 0.000 of replies" in found.statements()[1]


def test_changing_the_models_changes_the_verdict(server: JudgeServer) -> None:
    one, other = verdict_of(server), verdict_of(server, SECOND, FIRST)
    assert one.win_rate.share == pytest.approx(1 - other.win_rate.share)
    assert one.first_place == pytest.approx(other.first_place)
    assert other.cost.calls == 0  # the same questions, the other way round


def test_pairs_go_by_prompt_and_in_order() -> None:
    from rewards.judging.pairs import _paired

    one = [*samples("p", "1", "2"), *samples("q", "3", prompt="q")]
    two = [*samples("q2", "4", prompt="q"), *samples("p2", "5", "6", "7")]
    assert [(a.completion, b.completion) for a, b in _paired(one, two)] == [("1", "5"), ("2", "6"), ("3", "4")]


def test_one_pair_has_no_error_and_none_no_rate() -> None:
    from rewards.judging.cost import JudgeCost

    one = PairVerdict([Judgement("a", "b", "first", "A", "B")], 0, JudgeCost())
    assert one.first_place == (0.5, None, 1)
    assert "0.500 ± ?" in one.statements()[1]
    none = PairVerdict([Judgement("a", "b", "unreadable", None, "B")], 0, JudgeCost())
    assert math.isnan(none.win_rate.share)
    assert none.statements("x", "y")[0] == "x against y: no pair with readable replies"
    assert json.loads(json.dumps(none.as_dict(), allow_nan=False))["win_rate"]["share"] is None


def test_the_command(
    server: JudgeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    server.reply = more_joy
    write_records(Path("one.jsonl"), FIRST)
    write_records(Path("two.jsonl"), SECOND)
    words = ["rate", "judge", "one.jsonl", "two.jsonl", "--url", server.url, "--model", MODEL]
    for _ in range(2):
        assert cli.main([*words, "--output_path", "verdict.json"]) == 0
    said = capsys.readouterr().out
    assert "one.jsonl against two.jsonl: wins 58.3% (" in said
    assert "n = 6 pairs: 2 wins, 3 ties, 1 losses" in said
    assert "0 calls, 10 answers from the cache" in said
    written = json.loads(Path("verdict.json").read_text())
    assert written["samples"] == ["one.jsonl", "two.jsonl"]
    assert written["pairs"][3] == {
        "first": "one-3", "second": "two-3", "outcome": "tie", "shown_first": "A", "shown_second": "A",
    }  # fmt: skip
    assert written["judge"]["model"] == MODEL
    assert KEY not in Path("verdict.json").read_text()
    Path("verdict.json").write_text("{}")
    assert cli.main([*words, "--output_path", "verdict.json"]) == 2
    assert "--output_path: got verdict.json, a file of something else" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"template": "{A} or {C}"}, "template: got a template with {A}, {C}; expected {A}, {B}, and {prompt}"),
        ({"second": samples("two", "x", prompt="another")}, "no prompt that both models have completed"),
        ({"retries": 500}, "retries: got 500"),
    ],
    ids=str,
)
def test_what_cannot_be_judged_is_one_line(server: JudgeServer, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        verdict_of(server, **options)
    assert said in str(caught.value)
