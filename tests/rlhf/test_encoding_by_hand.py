"""Prompts and texts by hand on other people's tokenizers, and every text cut between any two of its tokens."""

from __future__ import annotations

import itertools
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from rlhf.foundation.conversation import Text
from rlhf.foundation.encoding import TextEncoder, completion_texts, encode_continued, encode_prompt
from rlhf.foundation.errors import InputError

from .tokenizer_kinds import CHATS, KINDS

MORNING = [{"role": "user", "content": "good morning"}]


@cache
def tokenizer_of(kind: str) -> Any:
    return _marked() if kind == "marked" else KINDS[kind]()


def _marked() -> Any:
    """Llama 2: byte-pair merges over a text whose spaces a normaliser has written as marks, one before the text."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"abcdefghijklmnopqrstuvwxyz"]
    pairs = [("▁", "t"), ("▁t", "h"), ("▁th", "e"), ("s", "u"), ("▁", "su"), ("▁su", "n"), ("e", "▁")]
    vocabulary = {piece: i for i, piece in enumerate([*pieces, *map("".join, pairs)])}
    core = Tokenizer(models.BPE(vocabulary, pairs, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


@pytest.mark.parametrize(
    ("kind", "prompt", "tokens", "text"),
    [
        # The first piece's space is that of the text before it, and none at a text's beginning.
        ("llama", "good", ["▁morning", "▁the"], " morning the"),
        ("llama", "", ["▁morning", "▁the"], "morning the"),
        ("llama", "good", ["▁the", "<unk>", "<s>", "▁sun"], " the<unk><s> sun"),
        ("llama", "good", ["<0xC3>", "<0xA9>"], "é"),
        ("marked", "the", ["▁sun", "<0x0A>", "▁"], " sun\n "),
        ("marked", "", ["▁sun", "e▁"], "sune "),
        ("pad is unk", "good", ["<unk>", "a", "<s>"], "<unk>a<s>"),
        ("gpt2", "good", ["Ã", "©"], "é"),
        ("gpt2", "good", ["Ã"], "\N{REPLACEMENT CHARACTER}"),
        ("gpt2", "", ["Ġ", "a"], " a"),
        ("wordpiece", "good", ["morning", "##s", "!"], " mornings!"),
        ("wordpiece", "", ["morning", "[UNK]", "[PAD]"], "morning [UNK] [PAD]"),
        ("chatml", "good", ["<|im_start|>", "a"], "<|im_start|>a"),
        ("newline is bos", "a\n", ["b", "!"], "b!"),
    ],
)
def test_texts_by_hand(kind: str, prompt: str, tokens: list[str], text: str) -> None:
    tokenizer = tokenizer_of(kind)
    ids = tokenizer.convert_tokens_to_ids(tokens)
    assert tokenizer.convert_ids_to_tokens(ids) == tokens
    assert completion_texts(tokenizer, [encode_prompt(tokenizer, prompt)], [ids]) == [text]


@pytest.mark.parametrize(
    ("kind", "prompt", "tokens"),
    [
        ("llama", "good", ["<s>", "▁good"]),
        ("llama", "<s>good", ["<s>", "▁good"]),  # BOS is there already: once
        ("appends eos", "<s>a", ["<s>", "a"]),  # the EOS that it would append is no part of a prompt
        ("gpt2", "<|endoftext|>a", ["<|endoftext|>", "a"]),
        ("wordpiece", "Good", ["[CLS]", "good"]),
        ("no bos", "", ["<end>"]),
        ("chatml", "", ["<|im_end|>"]),
    ],
)
def test_prompts_by_hand(kind: str, prompt: str, tokens: list[str]) -> None:
    tokenizer = tokenizer_of(kind)
    assert tokenizer.convert_ids_to_tokens(encode_prompt(tokenizer, prompt)) == tokens


@pytest.mark.parametrize("kind", ["llama", "appends eos", "gpt2", "no bos"])
def test_a_prompt_that_has_ended_is_refused(kind: str) -> None:
    tokenizer = tokenizer_of(kind)
    with pytest.raises(InputError, match="ends with the end token"):
        encode_prompt(tokenizer, f"good morning{tokenizer.eos_token}")


@pytest.mark.parametrize(
    ("prompt", "completion", "text"),
    [
        ("good", " morning</s> up", "good morning"),  # up to the end
        ("", "</s>", ""),
        (
            "[",
            '{"role": "user", "content": "up"}]',
            '[{"role": "user", "content": "up"}]',
        ),  # a text, not a conversation
    ],
)
def test_a_text_that_goes_on_by_hand(prompt: str, completion: str, text: str) -> None:
    tokenizer = tokenizer_of("appends eos")
    expected = [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]]
    assert encode_continued(tokenizer, prompt, completion) == expected
    assert TextEncoder(tokenizer, max_length=None).encode([prompt], [completion]) == [expected]


TEXTS = ["good morning the sun", "king! up, a", "a song \n\n up", " the", "é🙂 not", "morning  the", "the."]
LETTERS = [text for text in TEXTS if text.isascii()]  # all that a vocabulary of characters holds


@pytest.mark.parametrize("kind", [*(kind for kind in KINDS if kind != "wordpiece"), "marked"])
def test_cut_anywhere_a_text_is_read_back_with_its_ids(kind: str) -> None:
    """Every text, cut between any two of its tokens into prompt and completion: text and ids come back."""
    tokenizer = tokenizer_of(kind)
    encoder, n_cut = TextEncoder(tokenizer, max_length=None), 0
    texts = LETTERS if kind == "pad is unk" else TEXTS
    if kind in ("llama", "several ends"):  # a first space is the one that it would put there itself
        texts = [text for text in texts if text[0] != " "]
    for text in texts:
        prompt = encode_prompt(tokenizer, text)
        body = list(itertools.dropwhile(lambda i: i == encoder.first_id, prompt))
        front = prompt[: len(prompt) - len(body)]
        for place in range(len(body) + 1):
            (rest,) = completion_texts(tokenizer, [front + body[:place]], [body[place:]])
            if "\N{REPLACEMENT CHARACTER}" in rest:  # half a character
                continue
            assert text.endswith(rest)
            assert encoder.encode([text[: len(text) - len(rest)]], [rest]) == [[encoder.first_id, *body]]
            assert place or rest == text
            n_cut += 1
    assert n_cut > 20


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_cannot_say_a_reward_token(kind: str) -> None:
    tokenizer = KINDS[kind]()
    tokenizer.add_tokens([AddedToken("<|happy|>", special=True)])
    happy = tokenizer.convert_tokens_to_ids("<|happy|>")
    assert happy in tokenizer("song<|happy|>")["input_ids"]  # what would go wrong
    guarded = TextEncoder(tokenizer, max_length=None, literal=["<|happy|>"])
    prompts: list[Text] = ["song<|happy|>", ""]
    prompts += [[{"role": "user", "content": "song<|happy|>"}]] if kind in CHATS else []
    assert not any(happy in ids for ids in guarded.encode(prompts, ["is<|happy|>"] * len(prompts)))


@pytest.mark.parametrize("content", ["the sun ", "\n", " "])
def test_white_space_that_a_template_cuts_off_is_refused(content: str) -> None:
    turn = [*MORNING, {"role": "assistant", "content": content}]
    with pytest.raises(InputError, match="cuts off"):
        encode_prompt(tokenizer_of("several ends"), turn)
    assert tokenizer_of("chatml").decode(encode_prompt(tokenizer_of("chatml"), turn)).endswith(f"\n{content}")


@pytest.mark.parametrize("template", ["{{ messages }}\n", "{{ messages }}\r\n\r\n", "\r", "é\u2028"])
def test_a_template_reads_the_same_from_the_disk(template: str, tmp_path: Path) -> None:
    """Files may change line ends, which Jinja reads alike."""
    tokenizer = KINDS["chatml"]()
    tokenizer.chat_template = template
    tokenizer.save_pretrained(tmp_path)
    own, again = (TextEncoder(t, max_length=None) for t in (tokenizer, AutoTokenizer.from_pretrained(tmp_path)))
    assert own.fingerprint() == again.fingerprint()
