"""The tokenizer: whatever ids are sampled, their text encodes again without an unknown token."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from rlhf.foundation.errors import InputError
from rlhf.language_model.grammar import generate_corpus
from rlhf.language_model.tokenizer import END_OF_TEXT, UNSEEN, train_tokenizer

WORDS = train_tokenizer(generate_corpus(0, 2000), 2000)
CUT = train_tokenizer(generate_corpus(0, 2000), 400)  # no room for the rarer words
# 600 Chinese characters alone would fill a quarter of 1,200 tokens: byte-level BPE.
BPE = train_tokenizer([*generate_corpus(0, 2000), "".join(chr(0x4E00 + i) for i in range(600))], 1200)
EACH = pytest.mark.parametrize("tokenizer", [WORDS, CUT, BPE], ids=["words", "cut", "bpe"])


@pytest.mark.parametrize("tokenizer", [WORDS, CUT], ids=["words", "cut"])
@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_any_sequence_of_word_tokens_encodes_again(tokenizer: PreTrainedTokenizerFast, data: st.DataObject) -> None:
    ids = data.draw(st.lists(st.integers(1, len(tokenizer) - 1), max_size=24))
    text = tokenizer.decode(ids)
    again = tokenizer(text, add_special_tokens=False).input_ids
    assert tokenizer.decode(again) == text
    assert tokenizer.eos_token_id not in again
    unseen = tokenizer.convert_tokens_to_ids(UNSEEN)
    assert again.count(unseen) == ids.count(unseen)  # nothing became unknown


@given(ids=st.lists(st.integers(1, len(BPE) - 1), max_size=24))
@settings(max_examples=400, deadline=None)
def test_any_sequence_of_bpe_tokens_encodes_again(ids: list[int]) -> None:
    text = BPE.decode(ids)  # bytes that are no UTF-8 decode to the replacement character
    again = BPE(text, add_special_tokens=False).input_ids
    assert BPE.decode(again) == text
    assert BPE.eos_token_id not in again
    assert None not in again


@EACH
@pytest.mark.parametrize("text", ["....", "theend", "The  end", "OSRIC:\nWhat ho\n\n", "...!?;\n\n\n.", " ", ""])
def test_awkward_texts_come_back(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids) == text


@EACH
def test_documents_come_back_and_use_no_spelling_when_words_fit(tokenizer: PreTrainedTokenizerFast) -> None:
    document = "HERALD:\nWhat ho, townsmen, five oxen went near the cellar!"
    assert tokenizer.decode(tokenizer(document, add_special_tokens=False).input_ids) == document
    if tokenizer is WORDS:
        # HERALD : \n What ho , townsmen , five oxen went near the cellar !
        assert len(tokenizer(document, add_special_tokens=False).input_ids) == 15
    if tokenizer is CUT:
        assert len(tokenizer) == 400
        assert len(tokenizer(document, add_special_tokens=False).input_ids) > 15


def test_one_special_token_begins_ends_and_pads() -> None:
    for tokenizer in (WORDS, CUT, BPE):
        assert tokenizer.bos_token_id == tokenizer.eos_token_id == tokenizer.pad_token_id == 0
        assert tokenizer.decode([0]) == END_OF_TEXT
        assert tokenizer.all_special_tokens == [END_OF_TEXT]


def test_a_prompt_begins_a_document() -> None:
    for tokenizer in (WORDS, CUT, BPE):
        assert tokenizer("Osric").input_ids[0] == tokenizer.bos_token_id
        assert tokenizer.bos_token_id not in tokenizer("Osric").input_ids[1:]


def test_a_character_outside_the_corpus_is_seen_in_the_text() -> None:
    assert WORDS.decode(WORDS("Osric €", add_special_tokens=False).input_ids) == "Osric " + UNSEEN
    assert BPE.decode(BPE("Osric €", add_special_tokens=False).input_ids) == "Osric €"


@EACH
def test_saved_and_loaded_by_auto_tokenizer(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = "OSRIC:\nTheend... What ho"
    assert loaded(text, add_special_tokens=False).input_ids == tokenizer(text, add_special_tokens=False).input_ids
    assert loaded.decode(loaded(text, add_special_tokens=False).input_ids) == text
    assert (loaded.bos_token_id, loaded.eos_token_id, loaded.pad_token_id) == (0, 0, 0)
    assert loaded.padding_side == "left"


def test_same_corpus_same_ids() -> None:
    again = train_tokenizer(generate_corpus(0, 2000), 2000)
    assert again.get_vocab() == WORDS.get_vocab()


def test_vocabulary_too_small_is_the_users_mistake() -> None:
    with pytest.raises(InputError, match="vocab_size: got 10; expected at least 300"):
        train_tokenizer(["a b c"], 10)
