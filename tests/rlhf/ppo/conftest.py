"""A character model of 30,000 parameters whose BOS, EOS and pad are one id, built in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

CHARACTERS = "abcdefghijklmnopqrstuvwxyz .,\n!"


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    vocabulary = {"<end>": 0, **{c: i for i, c in enumerate(CHARACTERS, start=1)}}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<end>"))
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<end>",
        eos_token="<end>",
        pad_token="<end>",
        clean_up_tokenization_spaces=False,
    )


@pytest.fixture(scope="session")
def four_tokens() -> Any:
    """A tokenizer for models of four ids, 0 to 3, whose completions can be enumerated."""
    core = Tokenizer(models.WordLevel({"<end>": 0, "a": 1, "b": 2, ".": 3}, unk_token="<end>"))
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<end>", eos_token="<end>", pad_token="<end>")


def _build(*, dropout: float = 0.0, dtype: torch.dtype = torch.float32) -> GPT2LMHeadModel:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(CHARACTERS) + 1,
        n_positions=48,
        n_embd=32,
        n_layer=2,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
        resid_pdrop=dropout,
        attn_pdrop=dropout,
        embd_pdrop=dropout,
        initializer_range=0.2,
    )
    return GPT2LMHeadModel(config).to(dtype).eval()


@pytest.fixture
def build_model() -> Callable[..., GPT2LMHeadModel]:
    """Builds the same weights at every call; `dropout` and `dtype` can be chosen."""
    return _build


@pytest.fixture
def model() -> GPT2LMHeadModel:
    return _build()


@pytest.fixture
def model_directory(model: GPT2LMHeadModel, tokenizer: Any, tmp_path: Path) -> Path:
    from rlhf.foundation.model_directory import save_model

    save_model(model, tokenizer, tmp_path / "model")
    return tmp_path / "model"
