"""Tokenizers as the hub has them, each built here in memory, and tiny models for them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PhiConfig, PhiForCausalLM, PreTrainedTokenizerFast

from rlhf.language_model.tokenizer import train_tokenizer

WORDS = ["good", "morning", "the", "sun", "is", "up", "not", "rain", "a", "joy"]
CORPUS = ["good morning the sun is up", "the rain is not a joy", "not a good morning", "the sun is a joy \n up"] * 4
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ m['role'] }}\n{{ m['content'] | trim }}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>assistant\n{% endif %}"
)
MARK = "\N{LOWER ONE EIGHTH BLOCK}"
BYTES = [f"<0x{i:02X}>" for i in range(256)]


@dataclass(frozen=True)
class Kind:
    """`spare` are rows of the model beyond the tokenizer's ids; `ends` the tokens that generation_config lists."""

    build: Callable[[], PreTrainedTokenizerFast]
    spare: int = 0
    ends: tuple[str, ...] = ()
    chat: bool = False


def _metaspace(pad: str | None) -> PreTrainedTokenizerFast:
    """Sentencepiece's unigram: a space before the text, bytes for what has no piece, BOS by the post-processor."""
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), *((name, -20.0) for name in BYTES)]
    pieces += [(MARK, -4.0), *((MARK + word, -2.0) for word in WORDS), *((word, -3.0) for word in WORDS)]
    pieces += [(letter, -8.0) for letter in "abcdefghijklmnopqrstuvwxyz.,!" if letter != "a"]
    core = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    core.pre_tokenizer = pre_tokenizers.Metaspace(replacement=MARK, prepend_scheme="first")
    core.decoder = decoders.Sequence(
        [decoders.Replace(MARK, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    _frame(core, "<s>", None, {"<s>": 1})
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token=pad
    )


def _llama() -> PreTrainedTokenizerFast:
    """Llama 2: byte-pair merges over a text whose spaces a normaliser has written as marks."""
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.normalizer = normalizers.Sequence([normalizers.Prepend(MARK), normalizers.Replace(" ", MARK)])
    trained.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=400, special_tokens=["<unk>", "<s>", "</s>", *BYTES], show_progress=False, max_token_length=8
        ),
    )
    vocabulary = trained.get_vocab(with_added_tokens=True)
    merges = [tuple(pair) for pair in json.loads(trained.to_str())["model"]["merges"]]
    core = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    core.normalizer = trained.normalizer
    core.decoder = decoders.Sequence(
        [decoders.Replace(MARK, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    _frame(core, "<s>", None, {"<s>": vocabulary["<s>"]})
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def _frame(core: Tokenizer, front: str | None, back: str | None, ids: dict[str, int]) -> None:
    template = " ".join(filter(None, [front, "$A", back]))
    core.post_processor = processors.TemplateProcessing(single=template, special_tokens=[*ids.items()])


def _byte_level(special: Sequence[str], **named: Any) -> PreTrainedTokenizerFast:
    """Byte-level byte-pair merges, as in GPT-2; nothing is put in front."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300 + len(special),
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, **named)


def _gpt2() -> PreTrainedTokenizerFast:
    return _byte_level(["<|endoftext|>"], bos_token="<|endoftext|>", eos_token="<|endoftext|>")


def _chatml() -> PreTrainedTokenizerFast:
    """Qwen: no BOS, the end of a turn is the end token and the pad token."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    return _byte_level(special, eos_token="<|im_end|>", pad_token="<|im_end|>", chat_template=CHATML)


def _gemma() -> PreTrainedTokenizerFast:
    """The turn's end is not the tokenizer's end token; generation_config lists both. Its template trims contents."""
    special = ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"]
    own = _byte_level(special, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", chat_template=GEMMA)
    _frame(own.backend_tokenizer, "<bos>", None, {"<bos>": 2})
    return own


def _no_bos() -> PreTrainedTokenizerFast:
    return _byte_level(["</s>"], eos_token="</s>", pad_token="</s>")


def _both_sides() -> PreTrainedTokenizerFast:
    """Puts BOS before and EOS behind every text by itself."""
    own = _byte_level(["<s>", "</s>"], bos_token="<s>", eos_token="</s>")
    _frame(own.backend_tokenizer, "<s>", "</s>", {"<s>": 0, "</s>": 1})
    return own


def _bert() -> PreTrainedTokenizerFast:
    """WordPiece in lower case between [CLS] and [SEP]: a text does not come back letter by letter."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    pieces = [*special, *WORDS, *"bcdefghijklmnopqrstuvwxyz.,!", "##s", "##y", "##ing", "##up"]
    core = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    core.normalizer, core.pre_tokenizer = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece()
    _frame(core, "[CLS]", "[SEP]", {"[CLS]": 2, "[SEP]": 3})
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="[CLS]", eos_token="[SEP]", pad_token="[PAD]", unk_token="[UNK]"
    )


def _characters(**named: Any) -> PreTrainedTokenizerFast:
    vocabulary = {c: i for i, c in enumerate(["<end>", "\n", *"abcdefghijklmnopqrstuvwxyz .,!"])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<end>"))
    core.pre_tokenizer, core.decoder = pre_tokenizers.Split("", "isolated"), decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>", pad_token="<end>", **named)


def _newline_begins() -> PreTrainedTokenizerFast:
    return _characters(bos_token="\n")


def _newline_special() -> PreTrainedTokenizerFast:
    own = _characters(bos_token="<end>")
    own.add_tokens([AddedToken("\n", special=True, normalized=False)])
    return own


def _own() -> PreTrainedTokenizerFast:
    return train_tokenizer(CORPUS, vocab_size=320)


KINDS: dict[str, Kind] = {
    "metaspace": Kind(lambda: _metaspace(None)),
    "llama": Kind(_llama),
    "gpt2": Kind(_gpt2),
    "bert": Kind(_bert),
    "pad is unk": Kind(lambda: _metaspace("<unk>")),
    "chatml": Kind(_chatml, spare=40, chat=True),
    "no bos": Kind(_no_bos),
    "both sides": Kind(_both_sides),
    "gemma": Kind(_gemma, ends=("<eos>", "<end_of_turn>"), chat=True),
    "newline begins": Kind(_newline_begins),
    "newline is special": Kind(_newline_special),
    "own": Kind(_own),
}
MORNING = [{"role": "user", "content": "good morning"}]
CONTINUED = [*MORNING, {"role": "assistant", "content": "the sun"}]


def tiny_model(tokenizer: Any, kind: Kind, *, seed: int = 0) -> PhiForCausalLM:
    """A causal LM whose output layer has a bias: an end at about one token in ten, rows without a token hardly ever."""
    torch.manual_seed(seed)
    rows = max(tokenizer.get_vocab().values()) + 1 + kind.spare
    config = PhiConfig(
        vocab_size=rows, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=160, initializer_range=0.2, tie_word_embeddings=False, resid_pdrop=0.0,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    model = PhiForCausalLM(config).eval()
    ends = tokenizer.convert_tokens_to_ids([*kind.ends, tokenizer.eos_token])
    with torch.no_grad():
        model.lm_head.bias[rows - kind.spare :] = -9.0
        model.lm_head.bias[ends] = math.log(0.1 * rows / len(ends))
    model.generation_config.eos_token_id = ends if kind.ends else tokenizer.eos_token_id
    return model
