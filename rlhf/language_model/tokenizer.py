"""Word-level tokens that survive any sampled sequence: whatever ids a model emits, their text encodes again.

Text falls into pieces ` ?\\w+|[^\\w\\s]|\\s` (a word carries the space before it, every punctuation mark and every
further space is alone). The most frequent pieces are tokens, and single characters stand by for what no word covers:
a rare word, or two tokens "The" and "Osric" sampled in a row, which decode to "TheOsric" and which the Viterbi search
of a Unigram model (Kudo 2018, https://arxiv.org/abs/1804.10959) splits into known parts. On Shakespeare with 2,048 and
4,096 tokens this took 2.01 and 1.92 bits per character, byte-level BPE inside the same pieces 2.04 and 1.95
(docs/log.md). Where the characters alone would fill a quarter of the vocabulary (Chinese), byte-level BPE it is.

One special token, `<|endoftext|>`, begins, ends and pads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from rlhf.foundation.errors import InputError
from rlhf.language_model.grammar import PIECES
from rlhf.language_model.pretrain_config import SMALLEST_VOCABULARY

END_OF_TEXT = "<|endoftext|>"
"""Begins, ends and pads a text; its id is 0."""

UNSEEN = "\N{REPLACEMENT CHARACTER}"
"""What a whole-word vocabulary encodes a character as that its corpus never showed: not lost without a word."""

# Unigram scores (log-probabilities up to a constant): any split into words beats one with a spelled-out character.
_WORD_SCORE, _CHARACTER_SCORE = -1.0, -100.0


def train_tokenizer(documents: Sequence[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A tokenizer for `documents` with at most `vocab_size` tokens, for `AutoTokenizer` to load once saved.

    Raises InputError when `vocab_size` has no room for the bytes.
    """
    if vocab_size < SMALLEST_VOCABULARY:
        raise InputError(
            "vocab_size",
            got=vocab_size,
            expected=f"at least {SMALLEST_VOCABULARY} (the 256 bytes and room for words)",
            fix="raise it",
        )
    pieces = Counter(piece for document in documents for piece in PIECES.findall(document))
    alphabet = {*"".join(pieces), UNSEEN}
    if len(alphabet) > vocab_size // 4:
        return _wrap(_byte_level_bpe(documents, vocab_size))
    # Most frequent first: an id then says how common a word is, and the order depends on the corpus alone.
    ranked = sorted((piece for piece in pieces if len(piece) > 1), key=lambda piece: (-pieces[piece], piece))
    return _wrap(whole_words(ranked[: vocab_size - 1 - len(alphabet)], sorted(alphabet)))


def whole_words(words: Sequence[str], characters: Sequence[str]) -> Tokenizer:
    """A Unigram model whose tokens are the given words and characters; one of them must be `UNSEEN`."""
    vocabulary = [
        (END_OF_TEXT, 0.0),
        *((word, _WORD_SCORE) for word in words),
        *((character, _CHARACTER_SCORE) for character in characters),
    ]
    unseen = [token for token, _ in vocabulary].index(UNSEEN)
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=unseen))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(PIECES.pattern), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


def _byte_level_bpe(documents: Sequence[str], vocab_size: int) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES.pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents, trainer)
    return tokenizer


def _wrap(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    # A prompt begins a document, as every document of the training text does.
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{END_OF_TEXT} $A", special_tokens=[(END_OF_TEXT, tokenizer.token_to_id(END_OF_TEXT))]
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        padding_side="left",  # a prompt ends where its completion begins
        clean_up_tokenization_spaces=False,
    )
