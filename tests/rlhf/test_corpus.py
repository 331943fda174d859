"""Corpora: where text comes from, how it is held out and packed, and every kind of bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf.foundation.errors import InputError
from rlhf.language_model.corpus import IGNORED, attention_mask, hold_out, pack, read_corpus
from rlhf.language_model.grammar import generate_corpus


def test_embedded_corpus() -> None:
    assert read_corpus("embedded") == generate_corpus()


def test_text_file_is_cut_at_the_separator(tmp_path: Path) -> None:
    path = tmp_path / "play.txt"
    path.write_bytes("\ufeffA:\r\none\r\n\r\n\r\nB:\r\ntwo\r\n\r\n".encode())
    assert read_corpus(str(path)) == ["A:\none", "B:\ntwo"]
    assert read_corpus(str(path), document_separator="\n") == ["A:", "one", "B:", "two"]


def test_data_set_directory(tmp_path: Path) -> None:
    rows = [{"text": "one"}, {"text": " "}, {"text": "two"}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_corpus(str(tmp_path)) == ["one", "two"]
    assert read_corpus(str(tmp_path), dataset_split="train[:1]") == ["one"]
    with pytest.raises(InputError, match="--text_column: got body; expected one of the columns text"):
        read_corpus(str(tmp_path), text_column="body")
    with pytest.raises(InputError, match="--dataset_split"):
        read_corpus(str(tmp_path), dataset_split="validation")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file or directory"),
        (b"", "got no text in it"),
        (b" \n\n \n", "got no text in it"),
        (b"\x89PNG\r\n\x1a\n\x00", "not UTF-8"),
        (b"GIF\x00\x01\x02", "a binary file"),
    ],
)
def test_bad_files(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "corpus.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_corpus(str(path))
    assert str(path) in str(caught.value)


def test_hub_name_without_network_is_one_line() -> None:
    with pytest.raises(InputError, match=r"corpus nobody/nothing: got no data set .*expected.*reachable hub") as caught:
        read_corpus("nobody/nothing")
    assert "\n" not in str(caught.value)


def test_held_out_documents_are_whole_and_unseen() -> None:
    documents = [f"document {i % 40}" for i in range(100)]  # texts come more than once
    split = hold_out(documents, 0.2, seed=1)
    assert split.train
    assert split.held_out
    assert not set(split.train) & set(split.held_out)
    assert len(split.held_out) == 8  # a fifth of 40 different texts
    assert len(split.train) == 100 - sum(documents.count(text) for text in split.held_out)
    assert hold_out(documents, 0.2, seed=1) == split
    assert hold_out(documents, 0.2, seed=2) != split
    assert len(hold_out(["a", "b"], 0.05, seed=0).held_out) == 1  # at least one


@pytest.mark.parametrize("documents", [["only one"], ["same", "same", "same"]])
def test_nothing_to_hold_out(documents: list[str]) -> None:
    with pytest.raises(InputError, match="1 different document"):
        hold_out(documents, 0.1, seed=0)


def test_packing_by_hand() -> None:
    # End token 0, block size 4. Document 0 = [1, 2, 3, 4, 5]: framed 0 1 2 3 4 5 0, six labels: pieces of 4 and 2.
    # Document 1 = [6]: framed 0 6 0, two labels, which fit beside the piece of two.
    blocks = pack([[1, 2, 3, 4, 5], [6]], block_size=4, end_token=0, seed=0)
    rows = sorted(zip(blocks.input_ids.tolist(), blocks.labels.tolist(), blocks.document.tolist(), strict=True))
    # The order of the two short pieces in the second block is drawn from the seed.
    cut_first = ([4, 5, 0, 6], [5, 0, 6, 0], [0, 0, 1, 1])
    cut_last = ([0, 6, 4, 5], [6, 0, 5, 0], [1, 1, 0, 0])
    full = ([0, 1, 2, 3], [1, 2, 3, 4], [0, 0, 0, 0])
    assert rows in (sorted([full, cut_first]), sorted([full, cut_last]))


def test_padding_carries_no_loss() -> None:
    blocks = pack([[7]], block_size=5, end_token=0, seed=0)
    assert blocks.input_ids.tolist() == [[0, 7, 0, 0, 0]]
    assert blocks.labels.tolist() == [[7, 0, IGNORED, IGNORED, IGNORED]]
    assert blocks.document.tolist() == [[0, 0, -1, -1, -1]]


@given(lengths=st.lists(st.integers(0, 30), min_size=1, max_size=25), block_size=st.integers(8, 16))
@settings(max_examples=60, deadline=None)
def test_every_token_is_a_label_once_and_rows_are_full_before_they_are_many(
    lengths: list[int], block_size: int
) -> None:
    documents, token = [], 1
    for length in lengths:
        documents.append(list(range(token, token + length)))
        token += length
    blocks = pack(documents, block_size, end_token=0, seed=3)
    labels = blocks.labels[blocks.labels != IGNORED]
    assert sorted(labels[labels > 0].tolist()) == list(range(1, token))
    assert int((labels == 0).sum()) == len(documents)  # one end a document
    assert (blocks.document >= 0).eq(blocks.labels != IGNORED).all()
    for row in blocks.labels:  # no document is longer in a row than its block, and padding is at the end
        real = (row != IGNORED).tolist()
        assert real == sorted(real, reverse=True)


def test_attention_stays_inside_a_document() -> None:
    mask = attention_mask(torch.tensor([[0, 0, 1, -1]]))
    assert mask.shape == (1, 1, 4, 4)
    assert mask[0, 0].int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
