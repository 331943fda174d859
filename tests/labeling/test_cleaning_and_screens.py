"""Cleaning, chat turns, screens and selection: literal inputs, values by hand."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from pathlib import Path

import pytest

from labeling.campaign import comparison_tasks, judgement_tasks, mix_in
from labeling.chat import chat_turns, prompt_form
from labeling.cleaning import clean_text
from labeling.folder import Task
from labeling.pairs import Pair
from labeling.screens import COMPARISON, SENTIMENT, config_differences, label_config, own_question
from labeling.selection import entropy, select, uncertainty
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_json, write_json
from rlhf.foundation.records import Sample


@pytest.mark.parametrize("text", ["<b>bold</b>", "\u202eabc", "😀", "a\nb\u2028c", "x\u0000y\ud800z"])
def test_cleaning_touches_only_what_breaks(text: str) -> None:
    got = clean_text(text)
    assert got.text == text.replace("\0", "\ufffd").replace("\ud800", "\ufffd")
    assert len(got.changes) == ("\0" in text) + ("\ud800" in text)


def test_cleaning_cuts_and_refuses() -> None:
    assert clean_text("x" * 30, max_characters=20).text == "x" * 20
    assert clean_text(" \n\t").refused == "empty text"


def test_chat_turns() -> None:
    prompt = "\n\nHuman: Hi.\nThere.\n\nAssistant: Yes?\n\nHuman: Bye\n\nAssistant:"
    assert chat_turns(prompt, "hh") == [
        {"role": "Human", "content": "Hi.\nThere."},
        {"role": "Assistant", "content": "Yes?"},
        {"role": "Human", "content": "Bye"},
    ]
    messages = [{"role": "user", "content": "Hi"}]
    assert chat_turns(json.dumps(messages), "messages") == messages
    with pytest.raises(InputError, match="another --prompt_format"):
        chat_turns("Hello", "hh")
    # A plain prompt among conversations is a turn of its own.
    assert chat_turns("Hello", "messages") == [{"role": "prompt", "content": "Hello"}]


def test_conversations_are_shown_in_turns_unless_told_otherwise() -> None:
    chat = json.dumps([{"role": "user", "content": "Hi"}])
    assert prompt_form(["Hello", chat]) == "messages"
    assert prompt_form(["Hello", "", "[1, 2]"]) == "text"


ESCAPED = r'[{"role": "user", "content": "a\ud800b\u0000c"}, {"role": "assistant", "content": "\ud83d\ude00"}]'


def test_what_json_escapes_is_cleaned_too() -> None:
    """A lone surrogate written as an escape is plain ASCII until the turns are read: then it would go up."""
    assert ESCAPED.isascii()
    (task,), counts = judgement_tasks([Sample("a", ESCAPED, "reply", "m")])
    pairs, _ = comparison_tasks([Pair("p", ESCAPED, "one", "two")], seed=0)
    assert counts == {"lone surrogate replaced": 1, "NUL replaced": 1}
    for prompt in (task.prompt, pairs[0].prompt):
        assert chat_turns(prompt, "messages") == [
            {"role": "user", "content": "a\ufffdb\ufffdc"},
            {"role": "assistant", "content": "😀"},
        ]


def test_a_long_chat_is_cut_by_turns_and_stays_a_chat() -> None:
    chat = [{"role": "user", "content": "x" * 300}, {"role": "assistant", "content": "short"}]
    (task,), counts = judgement_tasks([Sample("a", json.dumps(chat), "reply", "m")], max_characters=100)
    assert [len(turn["content"]) for turn in chat_turns(task.prompt, "messages")] == [100, 5]
    assert counts == {"cut to 100 characters": 1}
    untouched = '[{"role":  "user", "content": "spaced as it came"}]'
    assert judgement_tasks([Sample("a", untouched, "r", "m")])[0][0].prompt == untouched
    nested = "[" * 10_000  # no conversation, and no end of recursion
    assert judgement_tasks([Sample("a", nested, "r", "m")])[0][0].prompt == nested


def test_a_sample_without_a_prompt_among_others() -> None:
    """An empty list of turns would leave Label Studio waiting for ever."""
    screen = own_question("Good?", ["Yes", "No"], {"Yes": "positive", "No": "negative"}, prompt_format="messages")
    for prompt in ("", " \n", json.dumps([{"role": "user", "content": " "}])):
        shown = Task("a", prompt, "a text").data(screen, shows_prompt=True)
        assert shown == {"uid": "a", "text": "a text", "turns": [{"role": "prompt", "content": "(no prompt)"}]}
    assert Task("a", "", "a text").data(SENTIMENT, shows_prompt=True)["prompt"] == "(no prompt)"
    assert Task("a", "Say: ", "a text").data(SENTIMENT, shows_prompt=True)["prompt"] == "Say: "


def test_snippets_that_would_stand_out_are_refused() -> None:
    pairs, _ = comparison_tasks([Pair("p", "", "one", "two")], seed=0)
    prompted, _ = judgement_tasks([Sample("a", "Say:", "reply", "m")])
    for tasks, message in ((pairs, "got comparisons"), (prompted, "samples that all have prompts")):
        with pytest.raises(InputError, match=message):
            mix_in(tasks, ["a snippet"], share=0.2, seed=0)


def test_json_holds_what_utf8_cannot(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"name": "a\ud800"})
    assert read_json(tmp_path / "a.json") == {"name": "a\ud800"}


def test_own_question_needs_a_meaning_for_each_choice() -> None:
    screen = own_question("Helpful?", ["Yes", "No"], {"Yes": "positive", "No": "negative"})
    assert 'hotkey="2"' in label_config(screen, shows_prompt=False)
    for choices, meaning in [
        (["Yes"], {"Yes": "positive"}),
        (["Yes", "Yes"], {"Yes": "positive"}),
        (["Yes", "No"], {"Yes": "positive"}),
        (["Yes", "No"], {"Yes": "positive", "No": "negative", "Maybe": "neutral"}),
        (["Yes", "No"], {"Yes": "positive", "No": "bad"}),
    ]:
        with pytest.raises(InputError, match=r"--choices|--map"):
            own_question("Helpful?", choices, meaning)


def test_config_differences_name_what_matters_and_pass_over_what_does_not() -> None:
    config = label_config(SENTIMENT, shows_prompt=False)
    assert config_differences(config, config) == []
    assert config_differences(config, config.replace('hotkey="1"', 'hotkey="7"').replace("Is the", "What")) == []
    assert config_differences(config, config.replace('value="Neutral"', 'value="Meh"')) == [
        "choice 'Neutral' became 'Meh'"
    ]
    assert config_differences(config, "<View>") == ["the configuration is no longer valid XML"]
    assert config_differences(config, label_config(COMPARISON, shows_prompt=False))
    extra = config.replace("</Choices>", '<Choice value="Mixed"/></Choices>')
    assert config_differences(config, extra) == ["choice 'Mixed' is new"]


def test_uncertainty_by_hand() -> None:
    assert entropy(0.5) == pytest.approx(math.log(2))
    assert entropy(0.0) == 0.0
    assert uncertainty([0.5]) == pytest.approx(math.log(2))
    assert uncertainty([0.5, 0.5, 0.5]) == pytest.approx(0.0, abs=1e-12)  # a neutral text: members agree
    assert uncertainty([0.0, 1.0]) == pytest.approx(math.log(2))  # members contradict each other
    # H(.5) - (H(.9) + H(.1))/2 = .6931 - .3251 = .3681
    assert uncertainty([0.9, 0.1]) == pytest.approx(0.3681, abs=1e-4)


UIDS = [f"u{i}" for i in range(100)]


def test_selection_takes_the_most_uncertain_and_a_random_share() -> None:
    p = [i / 99 for i in range(100)]
    chosen = select(UIDS, "uncertainty", 20, p_positive=[p], random_share=0.25, seed=1)
    by_chance = [c for c in chosen if c.reason == "random"]
    best = [c for c in chosen if c.reason != "random"]
    assert (len(by_chance), len(best), len({c.uid for c in chosen})) == (5, 15, 20)
    ranks = sorted(UIDS, key=lambda uid: abs(p[int(uid[1:])] - 0.5))
    taken = {c.uid for c in by_chance}
    left = [uid for uid in ranks if uid not in taken]
    assert {c.uid for c in best} <= set(left[:17])
    priorities = [c.priority for c in chosen]
    assert all(a is not None and 0 <= a <= 1 for a in priorities)
    assert chosen == select(UIDS, "uncertainty", 20, p_positive=[p], random_share=0.25, seed=1)


def test_selection_by_reward_and_at_random() -> None:
    p = [i / 99 for i in range(100)]
    top = select(UIDS, "top_reward", 10, p_positive=[p], random_share=0.0)
    assert [c.uid for c in top] == [f"u{i}" for i in range(99, 89, -1)]
    assert top[0].reason == "top_reward: mean P(positive) 1.000"
    some = select(UIDS, "random", 50, seed=3)
    assert {c.reason for c in some} == {"random"}
    assert abs(sum(int(c.uid[1:]) for c in some) / 50 - 49.5) < 15  # mean of 50 draws: standard error 4.1 / sqrt 2


@pytest.mark.parametrize(
    ("count", "members", "share", "message"),
    [
        (0, [], 0.2, "--num_tasks"),
        (101, [], 0.2, "1 to 100"),
        (10, [], 0.2, "no scores"),
        (10, [[0.5] * 99], 0.2, "99 scores for 100"),
        (10, [[0.5] * 99 + [math.nan]], 0.2, "a score of nan"),
        (10, [[0.5] * 100], 1.5, "--random_share"),
    ],
)
def test_selection_refuses(count: int, members: list[list[float]], share: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        select(UIDS, "uncertainty", count, p_positive=members, random_share=share)


def test_snippets_are_mixed_in_and_marked_only_locally() -> None:
    tasks, _ = judgement_tasks([Sample(f"u{i}", "", f"text {i}", "model") for i in range(80)])
    snippets = [f"passage {i}" for i in range(30)] + ["", "passage 0"]
    mixed = mix_in(tasks, snippets, share=0.2, seed=0)
    corpus = [task for task in mixed if task.source == "corpus"]
    assert (len(mixed), len(corpus)) == (100, 20)
    assert mixed == mix_in(tasks, snippets, share=0.2, seed=0)  # a push after a crash mixes in the same
    assert all("corpus" not in json.dumps(t.data(SENTIMENT, shows_prompt=False)) for t in corpus)
    with pytest.raises(InputError, match="30 different snippets"):
        mix_in(tasks, snippets, share=0.5, seed=0)


def test_help_answers_in_under_half_a_second() -> None:
    times = []
    for _ in range(3):
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "rlhf.cli", "label", "--help"],
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        times.append(time.monotonic() - started)
        assert done.returncode == 0
        assert "push" in done.stdout
    assert min(times) < 0.5


@pytest.mark.parametrize("swapped", [False, True])
def test_a_comparison_is_unswapped_whatever_was_shown(swapped: bool) -> None:
    task = Task("p", "Say:", "one", "two", swapped=swapped)
    shown = task.data(COMPARISON, shows_prompt=True)
    assert (shown["answer1"], shown["answer2"]) == (("two", "one") if swapped else ("one", "two"))
    left = task.comparison("first", annotator="ana", origin="manual")
    right = task.comparison("second", annotator="ana", origin="manual")
    tie = task.comparison("tie", annotator="ana", origin="manual")
    assert (left.chosen, left.rejected) == (shown["answer1"], shown["answer2"])
    assert (right.chosen, right.rejected) == (shown["answer2"], shown["answer1"])
    assert (tie.chosen, tie.rejected, tie.tie) == ("one", "two", True)
