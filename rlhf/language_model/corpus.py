"""Where training text comes from, and how it becomes blocks.

A corpus is a list of documents: the embedded one (a generated play), a text file cut at a separator, or a data set
that the `datasets` library loads (a hub name or a directory). Documents are held out whole; the others are packed whole
into blocks of equal length, each after the end token, with the fewest cuts (best fit; Ding et al. 2024,
https://arxiv.org/abs/2404.10830). A token attends to its own document alone, so an unconditional sample, which starts
from the end token, meets just what training showed.

Shapes: N blocks, S block_size.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from logging import CRITICAL
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_text
from rlhf.foundation.long_texts import require_short
from rlhf.language_model.grammar import generate_corpus

EMBEDDED = "embedded"
IGNORED = -100
"""The label of a place that carries no loss (padding), as in torch and transformers."""


class Split(NamedTuple):
    """Documents to train on and documents held out; no text is in both."""

    train: list[str]
    held_out: list[str]


class Blocks(NamedTuple):
    """Packed documents. `labels` are the next tokens (IGNORED on padding)."""

    input_ids: Tensor  # (N, S)
    labels: Tensor  # (N, S)
    document: Tensor  # (N, S): which document a token belongs to, -1 on padding


def read_corpus(
    corpus: str, *, document_separator: str = "\n\n", text_column: str = "text", dataset_split: str = "train"
) -> list[str]:
    """The documents of a corpus: `embedded`, a UTF-8 text file, a data-set directory, or a hub data set's name.

    `document_separator` cuts a text file; `text_column` and `dataset_split` belong to data sets. Raises InputError
    when the corpus is missing, empty, binary, not reachable, has no such column or split, or a document is too long.
    """
    path = Path(corpus)
    is_set = path.is_dir() or not (path.exists() or path.suffix or corpus.startswith((".", "/", "~")))
    if corpus == EMBEDDED or not is_set:
        for option, given, usual in (("text_column", text_column, "text"), ("dataset_split", dataset_split, "train")):
            if given != usual:
                fix = "leave it out, or name a data set"
                raise InputError(
                    f"--{option}", got=f"it with the text {corpus}", expected="it with a data set", fix=fix
                )
    if corpus == EMBEDDED:
        return generate_corpus()
    documents = _read_dataset(corpus, text_column, dataset_split) if is_set else _read_file(path, document_separator)
    if not documents:
        raise InputError(
            f"corpus {corpus}", got="no text in it", expected="at least two documents", fix="check the file"
        )
    require_short(documents, f"corpus {corpus}")
    return documents


def _read_file(path: Path, separator: str) -> list[str]:
    text = read_text(path).removeprefix("\ufeff")
    if "\0" in text:
        raise InputError(f"corpus {path}", got="a binary file", expected="a UTF-8 text file", fix="check the path")
    return [document.strip("\n") for document in text.split(separator) if document.strip()]


def _read_dataset(name: str, text_column: str, split: str) -> list[str]:
    import datasets
    import huggingface_hub

    datasets.disable_progress_bars()
    datasets.utils.logging.set_verbosity(CRITICAL)  # what failed is told in one line
    try:
        if not (Path(name).is_dir() or huggingface_hub.constants.HF_HUB_OFFLINE):
            # Asked once: `datasets` would retry for half a minute before it says that the network is down.
            huggingface_hub.HfApi().dataset_info(name, timeout=10)
        dataset = datasets.load_dataset(name, split=split)
    except Exception as error:  # the library lets its readers', its cache's and the network's errors through
        raise InputError(
            f"corpus {name}",
            got=f"no data set ({(str(error) or type(error).__name__).splitlines()[0].rstrip('.')})",
            expected="an existing text file, a data-set directory, or a reachable hub data set with that split",
            fix="check the path, or the name, --dataset_split and the network",
        ) from error
    if text_column not in dataset.column_names:
        raise InputError(
            "--text_column",
            got=text_column,
            expected=f"one of the columns {', '.join(dataset.column_names)}",
            fix="name the column that holds the text",
        )
    return [str(text) for text in dataset[text_column] if text is not None and str(text).strip()]


def hold_out(documents: Sequence[str], fraction: float, seed: int) -> Split:
    """Hold out a share of the different documents (at least one), drawn from the seed, with all their repeats.

    Raises InputError when there are fewer than two different documents.
    """
    different = list(dict.fromkeys(documents))
    if len(different) < 2:
        raise InputError(
            "corpus",
            got=f"{len(different)} different document(s)",
            expected="at least two, one of them to hold out",
            fix="give more text, or another --document_separator",
        )
    random.Random(f"held-out split {seed}").shuffle(different)
    held_out = different[: max(1, round(fraction * len(different)))]
    hidden = set(held_out)
    return Split([document for document in documents if document not in hidden], held_out)


def pack(documents: Sequence[Sequence[int]], block_size: int, end_token: int, seed: int) -> Blocks:
    """Pack encoded documents into blocks: `<end> document <end>`, the last end token only as a label.

    A document longer than a block is cut into pieces that do not overlap; every token is a label exactly once.
    """
    pieces = [piece for number, ids in enumerate(documents) for piece in _pieces(number, ids, block_size, end_token)]
    random.Random(f"packing {seed}").shuffle(pieces)
    bins = _best_fit(pieces, block_size)
    input_ids = torch.full((len(bins), block_size), end_token)
    labels = torch.full((len(bins), block_size), IGNORED)
    document = torch.full((len(bins), block_size), -1)
    for row, content in enumerate(bins):
        start = 0
        for number, ids in content:
            stop = start + len(ids) - 1
            input_ids[row, start:stop] = torch.tensor(ids[:-1])
            labels[row, start:stop] = torch.tensor(ids[1:])
            document[row, start:stop] = number
            start = stop
    return Blocks(input_ids, labels, document)


Piece = tuple[int, list[int]]
"""A document's number and consecutive ids of it, one more than the labels it gives."""


def _pieces(number: int, ids: Sequence[int], block_size: int, end_token: int) -> list[Piece]:
    framed = [end_token, *ids, end_token]
    return [(number, framed[start : start + block_size + 1]) for start in range(0, len(framed) - 1, block_size)]


def _best_fit(pieces: Sequence[Piece], block_size: int) -> list[list[Piece]]:
    """Put each piece into the fullest block that still has room for it, else into a new one."""
    bins: list[list[Piece]] = []
    with_room: defaultdict[int, list[list[Piece]]] = defaultdict(list)  # free places -> blocks
    for piece in pieces:
        length = len(piece[1]) - 1
        room = next((room for room in range(length, block_size) if with_room[room]), None)
        if room is None:
            room = block_size
            bins.append([])
            content = bins[-1]
        else:
            content = with_room[room].pop()
        content.append(piece)
        with_room[room - length].append(content)
    return bins


def attention_mask(document: Tensor) -> Tensor:
    """Which places (B, S) may look at which: (B, 1, S, S) bool, True on earlier places of the same document.

    Padding (-1) looks at padding, so that no row is empty (a softmax over nothing is not a number).
    """
    same = document[:, :, None] == document[:, None, :]  # (B, S, S)
    causal = torch.ones_like(same[0]).tril()
    return (same & causal)[:, None]


def encode_documents(tokenizer: Any, documents: Sequence[str]) -> list[list[int]]:
    """Token ids of each document, without special tokens."""
    encoded = tokenizer(list(documents), add_special_tokens=False, return_attention_mask=False)
    return [list(ids) for ids in encoded["input_ids"]]
