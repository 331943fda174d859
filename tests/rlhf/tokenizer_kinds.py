"""Tokenizers as other people's models have them, small enough for tiny models: each built here, none downloaded.

`KINDS` names them all; `build(kind)` gives a tokenizer and a causal LM of two layers with random weights for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from rlhf.language_model.tokenizer import train_tokenizer

CORPUS = [
    "good morning, the sun is up.\n",
    "the king and the queen were sad!\n",
    "a merry song for Ann - who knows?\n",
] * 4
WORDS = ["the", "sun", "good", "morning", "king", "queen", "sad", "merry", "a", "song"]
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TURNS = (  # as Gemma writes them: BOS first, contents trimmed, the assistant is called model
    "{{ bos_token }}{% for m in messages %}{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role'])"
    " + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
PADDED_ROWS = 2  # of the model of "chatml", beyond its tokens


def _wrap(core: Tokenizer, **special: Any) -> Any:
    return PreTrainedTokenizerFast(tokenizer_object=core, clean_up_tokenization_spaces=False, **special)


def _around(core: Tokenizer, template: str, *tokens: str) -> None:
    core.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[(token, core.token_to_id(token)) for token in tokens]
    )


def _sentencepiece(specials: list[str]) -> Tokenizer:
    """Unigram with a space in front of the text, bytes for what it has no piece for, and Llama's decoder."""
    pieces = [*specials, *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"abcdefghijklmnopqrstuvwxyz.,!\n"]
    vocabulary = [(piece, -20.0) for piece in pieces] + [(f"▁{word}", -2.0) for word in WORDS]
    core = Tokenizer(models.Unigram(vocabulary, unk_id=0, byte_fallback=True))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in specials])
    return core


def _byte_level(specials: list[str]) -> Tokenizer:
    """Byte-level BPE as GPT-2's."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=256 + len(specials) + 40,
        special_tokens=specials,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator(CORPUS, trainer)
    return core


def _llama() -> Any:
    core = _sentencepiece(["<unk>", "<s>", "</s>"])
    _around(core, "<s> $A", "<s>")
    return _wrap(core, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def _gpt2(bos: str = "<|endoftext|>") -> Any:
    return _wrap(_byte_level(["<|endoftext|>"]), bos_token=bos, eos_token="<|endoftext|>")


def _wordpiece() -> Any:
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = [*specials, *letters, *(f"##{c}" for c in letters), *WORDS[:8], *".,!'?"]
    core = Tokenizer(models.WordPiece({token: i for i, token in enumerate(tokens)}, unk_token="[UNK]"))
    core.normalizer, core.pre_tokenizer = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece()
    _around(core, "[CLS] $A [SEP]", "[CLS]", "[SEP]")
    return _wrap(core, bos_token="[CLS]", eos_token="[SEP]", pad_token="[PAD]", unk_token="[UNK]")


def _pad_is_unk() -> Any:
    tokens = ["<s>", "</s>", "<unk>", *"abcdefghijklmnopqrstuvwxyz .,!\n"]
    core = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token="<unk>"))
    core.pre_tokenizer, core.decoder = pre_tokenizers.Split("", "isolated"), decoders.Fuse()
    return _wrap(core, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<unk>")


def _chatml() -> Any:
    own = _wrap(_byte_level(["<|endoftext|>", "<|im_start|>", "<|im_end|>"]), eos_token="<|im_end|>")
    own.pad_token, own.chat_template = "<|im_end|>", CHATML
    return own


def _no_bos() -> Any:
    return _wrap(_byte_level(["<end>", "<pad>"]), eos_token="<end>", pad_token="<pad>")


def _appends_eos() -> Any:
    core = _byte_level(["<s>", "</s>"])
    _around(core, "<s> $A </s>", "<s>", "</s>")
    return _wrap(core, bos_token="<s>", eos_token="</s>", pad_token="</s>")


def _several_ends() -> Any:
    specials = ["<unk>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"]
    core = _sentencepiece(specials)
    _around(core, "<bos> $A", "<bos>")
    own = _wrap(core, bos_token="<bos>", eos_token="<eos>", unk_token="<unk>", pad_token="<unk>")
    own.chat_template = TURNS
    return own


def _newline_is_bos() -> Any:
    return _gpt2(bos="\n")


def _newline_is_special() -> Any:
    own = _gpt2()
    own.add_special_tokens({"additional_special_tokens": ["\n"]})
    return own


def _own() -> Any:
    return train_tokenizer(CORPUS, 300)


KINDS: dict[str, Callable[[], Any]] = {
    "llama": _llama,
    "gpt2": _gpt2,
    "wordpiece": _wordpiece,
    "pad is unk": _pad_is_unk,
    "chatml": _chatml,
    "no bos": _no_bos,
    "appends eos": _appends_eos,
    "several ends": _several_ends,
    "newline is bos": _newline_is_bos,
    "newline is special": _newline_is_special,
    "own": _own,
}
CHATS = ("chatml", "several ends")


def build(kind: str) -> tuple[Any, GPT2LMHeadModel]:
    """A tokenizer and a model of its size (two more rows for "chatml"), in eval mode."""
    tokenizer = KINDS[kind]()
    torch.manual_seed(0)
    rows = len(tokenizer) + (PADDED_ROWS if kind == "chatml" else 0)
    config = GPT2Config(
        vocab_size=rows,
        n_positions=96,
        n_embd=16,
        n_layer=2,
        n_head=2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        initializer_range=0.3,
    )
    model = GPT2LMHeadModel(config).eval()
    if kind == "several ends":
        ends = [tokenizer.convert_tokens_to_ids(token) for token in ("<eos>", "<end_of_turn>")]
        model.generation_config.eos_token_id = ends
    return tokenizer, model
