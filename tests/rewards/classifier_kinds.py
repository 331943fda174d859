"""Tiny classifiers of the field's shapes, saved here with a tokenizer each; random weights, nothing downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForSequenceClassification,
    BartConfig,
    BertConfig,
    DebertaV2Config,
    GPT2Config,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    RobertaConfig,
)

TEXT = [
    "It was the best of times, it was the worst of times.",
    "Good morning. A happy day!",
    "the joy of joys",
    "What sorrow is this? None, none at all; 12 of 34.",
]
CHAT = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
DECODER = {**SMALL, "num_key_value_heads": 2, "max_position_embeddings": 64}


def tokenizer_for(kind: str, *, padding_side: str = "right", pad: str | None = "<pad>") -> Any:
    """Byte-level BPE with the special tokens that the kind's real tokenizers put around a text."""
    special = ["<s>", "</s>", "<pad>", "[CLS]", "[SEP]"]
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        TEXT, trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=alphabet)
    )
    around = {
        "bert": ("[CLS]", "[SEP]"),
        "deberta": ("[CLS]", "[SEP]"),
        "roberta": ("<s>", "</s>"),
        "bart": ("<s>", "</s>"),
    }
    front, back = around.get(kind, ("<s>" if kind == "llama" else None, None))
    if front is not None:
        single = f"{front} $A" + (f" {back}" if back else "")
        marks = [(mark, core.token_to_id(mark)) for mark in (front, back) if mark]
        core.post_processor = processors.TemplateProcessing(single=single, special_tokens=marks)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>" if kind in ("llama", "roberta", "bart") else None,
        eos_token="</s>" if kind not in ("bert", "deberta") else None,
        pad_token=pad,
        cls_token="[CLS]" if kind in ("bert", "deberta") else None,
        sep_token="[SEP]" if kind in ("bert", "deberta") else None,
        padding_side=padding_side,
    )


def config_for(kind: str, vocabulary: int, labels: int, pad: int | None) -> Any:
    given: dict[str, Any] = {"vocab_size": vocabulary, "num_labels": labels, "pad_token_id": pad, "eos_token_id": 1}
    given |= {"bos_token_id": 0}
    if labels > 1:
        names = ["NEGATIVE", "NEUTRAL", "POSITIVE"][:labels]
        given |= {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    match kind:
        case "bert":
            return BertConfig(**SMALL, max_position_embeddings=64, **given)
        case "deberta":
            relative = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False}
            return DebertaV2Config(**SMALL, max_position_embeddings=64, **relative, pooler_hidden_size=32, **given)
        case "roberta":
            return RobertaConfig(**SMALL, max_position_embeddings=64 + 3, **{**given, "pad_token_id": 2})
        case "llama":
            return LlamaConfig(**DECODER, **given)
        case "qwen":
            return Qwen2Config(**DECODER, **given)
        case "gpt2":
            return GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=64, **given)
        case "bart":
            sizes = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4}
            sizes |= {"decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48}
            return BartConfig(**sizes, max_position_embeddings=64, **{**given, "pad_token_id": 2})
    raise ValueError(kind)


KINDS = ("bert", "deberta", "roberta", "llama", "qwen", "gpt2", "bart")
ENCODERS = ("bert", "deberta", "roberta", "bart")
PADS = {"own": "<pad>", "eos": "</s>", "none": None}


def make(kind: str, labels: int, *, pad: str = "own", padding_side: str = "right", seed: int = 0) -> tuple[Any, Any]:
    """A classifier with random weights, large enough that texts differ, and its tokenizer."""
    tokenizer = tokenizer_for(kind, padding_side=padding_side, pad=PADS[pad])
    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_config(
        config_for(kind, len(tokenizer), labels, tokenizer.pad_token_id)
    ).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "norm" not in name.lower():
                parameter.mul_(8)
    return model, tokenizer


def save(directory: Path, kind: str, labels: int, **options: Any) -> Path:
    model, tokenizer = make(kind, labels, **options)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory
