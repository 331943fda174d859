"""The options of `rlhf pretrain`, apart from the training, so that `--help` need not load torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rlhf.foundation.errors import InputError
from rlhf.foundation.options import REQUIRED, Options, option

SMALLEST_VOCABULARY = 300
"""256 bytes, the end token and some room for merges."""


@dataclass(kw_only=True)
class PretrainConfig(Options):
    """Which text, which model, how long."""

    output_dir: str | None = option(None, help="directory of the new model", written=REQUIRED)
    corpus: str | Sequence[str] = option(
        "embedded", help="`embedded` (a generated play), a UTF-8 text file, a data-set directory or a hub data set"
    )
    document_separator: str = option("\\n\\n", help="what stands between the documents of a text file; \\n: new line")
    text_column: str = option("text", help="the column of a data set that holds the text")
    dataset_split: str = option("train", help="the split of a data set, slices too: train[:1000]")
    held_out_fraction: float = option(0.05, help="share of the documents held out for the reported loss; 0 to 0.5")
    vocab_size: int = option(2048, help="tokens at most, at least 300: the most frequent words and every character")
    block_size: int = option(128, help="tokens of a training block, and the model's context; at least 8")
    hidden_size: int = option(96, help="width; a multiple of twice --num_attention_heads")
    num_hidden_layers: int = option(2, help="layers")
    num_attention_heads: int = option(4, help="attention heads")
    max_steps: int = option(640, help="optimizer steps")
    per_device_train_batch_size: int = option(8, help="blocks a step")
    learning_rate: float = option(8e-3, help="AdamW's peak rate, after a warm-up over 10 % of the steps; above 0")
    weight_decay: float = option(0.1, help="AdamW's weight decay, on matrices only; at least 0")
    seed: int = option(0, help="initial weights, batches and held-out documents; at least 0")
    overwrite: bool = option(False, help="replace a model that is already in --output_dir")

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least = {
            "vocab_size": SMALLEST_VOCABULARY,
            "block_size": 8,
            "hidden_size": 2,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "max_steps": 1,
            "per_device_train_batch_size": 1,
            "seed": 0,
            "weight_decay": 0,
        }
        for name, least in at_least.items():
            self._require(name, getattr(self, name) >= least, f"at least {least}")
        self._require("learning_rate", 0 < self.learning_rate < 1, "a number between 0 and 1")
        self._require("held_out_fraction", 0 < self.held_out_fraction <= 0.5, "more than 0 and at most 0.5")
        self._require("document_separator", bool(self.document_separator), "at least one character")
        self._require(
            "hidden_size",
            self.hidden_size % (2 * self.num_attention_heads) == 0,
            f"a multiple of {2 * self.num_attention_heads}, twice --num_attention_heads",
        )

    def _require(self, name: str, ok: bool, expected: str) -> None:
        if not ok:
            raise InputError(f"--{name}", got=getattr(self, name), expected=expected, fix="choose another value")
