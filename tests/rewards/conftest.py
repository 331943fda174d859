"""A toy language of nine words, tiny models that speak it, and labels by a planted rule."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from rlhf.foundation.model_directory import save_model
from rlhf.foundation.records import Label

END = "<|endoftext|>"
PLAIN = ["the", "king", "and", "queen", "go"]


def toy_tokenizer() -> PreTrainedTokenizerFast:
    """Words and spaces; BOS, EOS and pad are one token, as in GPT-2."""
    vocabulary = {token: i for i, token in enumerate([END, "<unk>", " ", "joy", "woe", "not", *PLAIN, "<", "|", ">"])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w+|\s|[^\w\s]"), "isolated")
    words.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token=END, eos_token=END, pad_token=END, unk_token="<unk>"
    )


def toy_model(kind: str = "gpt2") -> PreTrainedModel:
    """A causal LM of one or two layers with random weights (seed 0), for the toy tokenizer."""
    torch.manual_seed(0)
    size = len(toy_tokenizer())
    if kind == "llama":
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=size,
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=1,
                num_attention_heads=2,
                max_position_embeddings=64,
                tie_word_embeddings=False,
                bos_token_id=0,
                eos_token_id=0,
            )
        )
    if kind == "gemma2":  # caps its logits: z ← 5 tanh(z / 5)
        return Gemma2ForCausalLM(
            Gemma2Config(
                vocab_size=size,
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=1,
                num_attention_heads=2,
                num_key_value_heads=2,
                head_dim=8,
                max_position_embeddings=64,
                final_logit_softcapping=5.0,
                initializer_range=0.5,
                bos_token_id=0,
                eos_token_id=0,
                pad_token_id=0,
            )
        )
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=size, n_embd=32, n_layer=2, n_head=2, n_positions=64, bos_token_id=0, eos_token_id=0)
    )


@pytest.fixture
def base_directory(tmp_path: Path) -> Path:
    """A saved toy GPT-2."""
    save_model(toy_model(), toy_tokenizer(), tmp_path / "base")
    return tmp_path / "base"


def toy_text(rng: random.Random) -> str:
    """Three to seven words, one or two of them joy or woe, or none."""
    words = rng.choices(PLAIN, k=rng.randint(2, 5))
    for _ in range(rng.randint(0, 2)):
        words.insert(rng.randint(0, len(words)), rng.choice(["joy", "woe"]))
    return " ".join(words)


def toy_rule(text: str) -> str:
    """More joy than woe is positive, more woe negative, else neutral."""
    balance = text.split().count("joy") - text.split().count("woe")
    return "positive" if balance > 0 else "negative" if balance < 0 else "neutral"


def toy_labels(n: int, *, seed: int = 0, annotator: str = "anna") -> list[Label]:
    """Labels by the rule, without noise."""
    rng = random.Random(seed)
    texts = [toy_text(rng) for _ in range(n)]
    return [
        Label(f"u{seed}-{i}", "", text, toy_rule(text), annotator)  # type: ignore[arg-type]
        for i, text in enumerate(texts)
    ]
