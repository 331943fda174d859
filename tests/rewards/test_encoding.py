"""One encoding for training and scoring, token by token."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.batching import batches, pad
from rlhf.foundation.encoding import TextEncoder
from rlhf.foundation.errors import InputError

from .conftest import END, toy_tokenizer

BOS, SPACE, JOY, WOE, THE, KING = 0, 2, 3, 4, 6, 7


def encoder(max_length: int | None = None) -> TextEncoder:
    return TextEncoder(toy_tokenizer(), max_length=max_length, literal=(END, "<|happy|>"))


@pytest.mark.parametrize(
    ("prompt", "completion", "ids"),
    [
        ("", "", [BOS]),
        ("", "joy", [BOS, JOY]),
        ("the ", "king", [BOS, THE, SPACE, KING]),
        ("", f"joy{END}", [BOS, JOY]),
        ("", f"joy{END}woe{END}", [BOS, JOY]),  # what follows the first EOS does not count
        (END, "joy", [BOS, JOY]),  # a prompt that writes BOS out gets no second one
        (f"{END}the ", "joy", [BOS, THE, SPACE, JOY]),
        ("the", "", [BOS, THE]),
    ],
)
def test_encoding_by_hand(prompt: str, completion: str, ids: list[int]) -> None:
    assert encoder().encode([prompt], [completion]) == [ids]


def test_over_long_texts_keep_bos_and_their_end() -> None:
    assert encoder(3).encode(["", ""], ["the king joy", "joy"]) == [[BOS, SPACE, JOY], [BOS, JOY]]


def test_a_spelled_out_reward_token_is_read_as_plain_characters() -> None:
    tokenizer = toy_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|happy|>"]})
    happy = tokenizer.get_vocab()["<|happy|>"]
    assert happy in tokenizer("joy<|happy|>")["input_ids"]  # what would go wrong
    guarded = TextEncoder(tokenizer, max_length=None, literal=("<|happy|>",))
    first, second = guarded.encode(["", ""], ["joy<|happy|>", "joy"])
    assert happy not in first
    assert len(first) > len(second) == 2


def test_tokenizer_without_bos_and_eos_is_refused() -> None:
    tokenizer = toy_tokenizer()
    tokenizer.bos_token = tokenizer.eos_token = None
    with pytest.raises(InputError, match="neither a BOS nor an EOS"):
        TextEncoder(tokenizer, max_length=None)


def test_padding_is_on_the_right_and_masked() -> None:
    batch = pad([[5, 6, 7], [8]], [0, 1], pad_id=0)
    assert batch.input_ids.tolist() == [[5, 6, 7], [8, 0, 0]]
    assert batch.mask.tolist() == [[True, True, True], [True, False, False]]
    assert batch.last.tolist() == [2, 0]


@given(
    lengths=st.lists(st.integers(min_value=1, max_value=40), max_size=60),
    max_tokens=st.integers(min_value=1, max_value=100),
)
def test_every_text_is_in_one_batch_within_the_limit(lengths: list[int], max_tokens: int) -> None:
    encoded = [[1] * length for length in lengths]
    found = list(batches(encoded, max_tokens=max_tokens, pad_id=0))
    assert sorted(row for batch in found for row in batch.rows) == list(range(len(lengths)))
    for batch in found:
        assert batch.input_ids.numel() <= max_tokens or len(batch.rows) == 1
