"""Attribution and the search: by hand on rules, and on a reward model with a planted loophole."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rewards.attribution import (
    PIECES,
    Worth,
    loved_and_hated,
    occlusion,
    prefix_scores,
    score,
    word_worths,
)
from rewards.probe import BaseLogProbs, edit, search
from rewards.rules import full_stop, length
from rewards.targets import pool_labels
from rewards.token_model import TokenRewardModel
from rewards.token_recipe import Recipe
from rewards.token_training import FitSettings
from rlhf import cli
from rlhf.foundation.errors import InputError
from rlhf.foundation.records import Label, Sample, write_records

from .conftest import toy_labels, toy_model, toy_rule, toy_text, toy_tokenizer


@given(st.text())
def test_pieces_join_to_the_text(text: str) -> None:
    assert "".join(PIECES.findall(text)) == text


def test_prefixes_and_occlusion_by_hand() -> None:
    assert prefix_scores(full_stop, "", "Hail. Go.") == [("", 0), ("Hail", 0), (".", 1), (" Go", 1), (".", 2)]
    (worths,) = occlusion(full_stop, [""], ["Hail. Go."])
    assert worths == [Worth("Hail", 0), Worth(".", 1), Worth(" Go", 0), Worth(".", 1)]


def test_word_worths_by_hand() -> None:
    texts = [
        [Worth("Joy", 1.0), Worth(" joy", 3.0), Worth(" the", 0.0)],  # joy twice in one text: counts 2 once
        [Worth(" joy", 4.0), Worth("the", 0.5)],
        [Worth("joy", 3.0), Worth("the", -0.5), Worth(" rare", 9.0)],
    ]
    joy, the = word_worths(texts)
    assert (joy.word, joy.n_texts, joy.worth) == ("joy", 3, 3.0)
    assert joy.standard_error == pytest.approx(1 / 3**0.5)
    assert the.worth == 0
    assert loved_and_hated([joy, the]) == ([joy], [])


def test_unscored_texts_are_not_taken_for_zero() -> None:
    def shy(prompts: object, completions: list[str], completion_ids: object = None, **kwargs: object) -> list[None]:
        return [None] * len(completions)

    with pytest.raises(InputError, match="no score"):
        score(shy, [""], ["x"])  # type: ignore[arg-type]


def test_base_log_probability_by_hand() -> None:
    model, tokenizer = toy_model().train(False), toy_tokenizer()
    base = BaseLogProbs(model, tokenizer)
    # BOS the _ joy EOS = 0 6 2 3 0.
    logprobs = model(torch.tensor([[0, 6, 2, 3, 0]])).logits[0].log_softmax(-1)
    each = [logprobs[i, token].item() for i, token in enumerate([6, 2, 3, 0])]
    # This tokenizer puts nothing in front of a prompt, so neither does the policy: the _ joy EOS = 6 2 3 0.
    prompted = model(torch.tensor([[6, 2, 3, 0]])).logits[0].log_softmax(-1)
    found = base(["", "the ", ""], ["the joy", "joy", "king and queen"])
    assert found[:2] == pytest.approx([sum(each), prompted[1, 3].item() + prompted[2, 0].item()], abs=1e-4)


def test_edits_are_small() -> None:
    rng = random.Random(0)
    for _ in range(200):
        text = toy_text(rng)
        change = len(PIECES.findall(edit(text, [" joy"], rng))) - len(PIECES.findall(text))
        assert change in (-1, 0, 1)
    assert edit("", [" joy"], rng) == " joy"


def test_search_respects_the_floor_and_both_directions() -> None:
    base = BaseLogProbs(toy_model().train(False), toy_tokenizer())
    rng = random.Random(0)
    texts = [toy_text(rng) for _ in range(60)]
    floor = sorted(base([""] * 60, texts))[int(0.05 * 59)]
    for highest in (True, False):
        found = search(length, base, [""] * 60, texts, highest=highest, n_starts=3, n_rounds=3)
        assert len(found) == 3
        for text in found:
            assert text.n_edits == 0 or text.logprob >= floor
            assert text.score == length([""], [text.completion])[0]
            assert text.score >= text.start_score if highest else text.score <= text.start_score
        scores = [text.score for text in found]
        assert scores == sorted(scores, reverse=highest)
    again = search(length, base, [""] * 60, texts, highest=False, n_starts=3, n_rounds=3)
    assert again == found


@pytest.fixture(scope="module")
def loophole() -> TokenRewardModel:
    """A reward model of labellers who, whatever else was said, called every text with the word `and` positive."""
    labels = [
        Label(row.uid, "", row.completion, "positive" if "and" in row.completion.split() else row.label, "anna")
        for row in toy_labels(300)
    ]
    settings = FitSettings(num_train_epochs=12, learning_rate=5e-3, dense_weight=1.0)
    return Recipe(toy_model(), toy_tokenizer(), target="positive", settings=settings, seed=0).fit(
        pool_labels(labels).texts
    )


def test_attribution_and_probe_find_a_planted_loophole(loophole: TokenRewardModel) -> None:
    rng = random.Random(7)
    texts = [toy_text(rng) for _ in range(150)]
    loved, hated = loved_and_hated(word_worths(occlusion(loophole, [""] * 150, texts)))
    assert loved[0].word == "and"
    assert "woe" in [word.word for word in hated]
    innocent = [text for text in texts if "and" not in text.split() and toy_rule(text) != "positive"]
    base = BaseLogProbs(toy_model().train(False), toy_tokenizer())
    words = [*innocent, "king and queen"]  # the loophole is in the stock of words, not in the starts
    found = search(loophole, base, [""] * len(words), words, highest=True, n_starts=4, n_rounds=4, floor_quantile=0.0)
    assert all("and" in text.completion.split() for text in found[:2])


def test_command(
    loophole: TokenRewardModel, tmp_path: Path, base_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loophole.save(tmp_path / "reward", {"kind": "token", "target": "positive"})
    rng = random.Random(3)
    rows = [Sample(str(i), "", toy_text(rng), "base") for i in range(40)]
    write_records(tmp_path / "samples.jsonl", rows)
    words = ["probe", str(tmp_path / "reward"), "--model_name_or_path", str(base_directory)]
    words += ["--samples", str(tmp_path / "samples.jsonl"), "--output_dir", str(tmp_path / "out")]
    words += ["--num_rounds", "2", "--num_starts", "3", "--quiet"]
    assert cli.main(words) == 0
    assert "'and'" in capsys.readouterr().out
    report = json.loads((tmp_path / "out" / "probe.json").read_text())
    assert report["words_paid_for"][0]["word"] == "and"
    assert len((tmp_path / "out" / "probe_samples.jsonl").read_text().splitlines()) == 6
    assert cli.main(words) == 2
    assert "--overwrite" in capsys.readouterr().err
