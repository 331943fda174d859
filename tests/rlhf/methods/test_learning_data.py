"""Labels as ids that a method learns from, by hand on a tokenizer of characters; and what the options refuse."""

from __future__ import annotations

from typing import Any

import pytest

from rlhf.foundation.errors import InputError
from rlhf.methods.config import AlignConfig
from rlhf.methods.learning_data import Encoded, Judged, Judgements, dpo_rows, kto_rows, left_out, pairs_of, sft_rows

END = 1


class Letters:
    """A character is its code; 0 begins a text."""

    bos_token, eos_token, bos_token_id, eos_token_id = "<", ">", 0, END

    def __call__(self, text: str, add_special_tokens: bool = True, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": [ord(letter) for letter in text]}


ENCODE = Encoded(Letters(), END, 3)
A, B, C, D = map(ord, "abcd")


def judged(*texts: tuple[str, str, bool]) -> Judgements:
    rows = [Judged(*text) for text in texts]
    return Judgements(rows, pairs_of(rows, 0), len(rows), "labels", "digest")


def test_a_short_text_ended_and_a_long_one_was_cut() -> None:
    assert ENCODE.prompt("") == [0]
    assert ENCODE.completion("", "ab") == [A, B, END]  # two tokens of three: it ended by itself
    assert ENCODE.completion("", "abc") == [A, B, C]  # three of three: nobody knows
    assert ENCODE.completion("", "abcd") == [A, B, C]
    assert ENCODE.completion("d", "ab") == [A, B, END]


def test_supervision_is_on_what_is_wanted_and_not_on_the_prompt() -> None:
    rows = sft_rows(judged(("d", "ab", True), ("d", "c", False)), ENCODE)
    assert rows == [{"input_ids": [D, A, B, END], "labels": [-100, A, B, END]}]


def test_pairs_are_of_one_prompt_and_leave_no_text_out() -> None:
    rows = [Judged("p", str(i), i < 2) for i in range(5)] + [Judged("q", "x", True), Judged("r", "y", False)]
    pairs = pairs_of(rows, 0)
    assert {pair.prompt for pair in pairs} == {"p"}  # q and r have one kind alone
    assert {pair.chosen for pair in pairs} == {"0", "1"}
    assert sorted(pair.rejected for pair in pairs) == ["2", "3", "4"]
    assert pairs == pairs_of(rows, 0)
    with pytest.raises(InputError, match="labels: got no pair; expected texts of both kinds for one prompt"):
        dpo_rows(judged(("q", "x", True), ("r", "y", False)), ENCODE)


def test_what_is_not_learnt_is_told() -> None:
    given, encode = judged(("", "abcd", True), ("", "b", False), ("q", "x", True)), Encoded(Letters(), END, 3)
    dpo_rows(given, encode)
    assert left_out(given, encode, pairs=True) == [
        "labels: 1 of 3 texts are longer than --max_completion_length 3 tokens; what lies beyond is not learnt",
        "labels: 1 of 3 texts are in no pair: their prompts have one kind alone",
    ]
    encode = Encoded(Letters(), END, 4)
    sft_rows(given, encode)
    assert left_out(given, encode, pairs=False) == []


def test_kto_measures_its_kl_on_the_completion_of_another_row() -> None:
    first, second = kto_rows(judged(("", "a", True), ("", "b", False)), ENCODE)
    assert first == {"prompt_ids": [0], "completion_ids": [A, END], "KL_completion_ids": [B, END], "label": True}
    assert second["KL_completion_ids"] == [A, END]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "dpo"}, "--method dpo: got neither; expected --labels or --comparisons"),
        ({"method": "grpo", "labels": "l"}, "--method grpo: got --labels; expected neither --labels nor --comparisons"),
        (
            {"method": "sft", "labels": "l", "beta": 0.1},
            "--beta: got --method sft; expected dpo or kto or grpo or rloo",
        ),
        ({"method": "dpo", "labels": "l", "beta": 0.0}, "--beta: got 0.0; expected more than 0 with dpo"),
        ({"method": "rloo", "num_generations": 5}, "--per_device_train_batch_size: got 32; expected a multiple"),
        ({"method": "rloo", "reward_func": []}, "reward: got none; expected --reward_model_path"),
        ({"method": "ppo"}, "--method: got 'ppo'; expected sft, dpo, kto, rejection, grpo or rloo"),
    ],
)
def test_an_option_that_says_nothing_to_the_method_is_one_line(options: dict[str, Any], message: str) -> None:
    given = {"model_name_or_path": "m", "output_dir": "run", "reward_func": ["full_stop"], **options}
    with pytest.raises(InputError, match=message):
        AlignConfig(**given)
