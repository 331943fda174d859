"""One text, one encoding, on tokenizers that are not ours: sampled, labelled, rewarded, trained on and reported."""

from __future__ import annotations

import itertools
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import AddedToken
from transformers import AutoTokenizer

from rlhf.foundation.causal_lm import require_usable
from rlhf.foundation.conversation import Text, prompt_to_text
from rlhf.foundation.encoding import TextEncoder, beginning_token, completion_texts, encode_continued, encode_prompt
from rlhf.foundation.errors import InputError
from rlhf.language_model.endings import ending_of, never_sampled, pad_token
from rlhf.language_model.randomness import Stream, uniforms
from rlhf.language_model.sampler import Completions, generate, sample_texts

from .tokenizer_kinds import CONTINUED, KINDS, MARK, MORNING, tiny_model

NAMES = sorted(KINDS)
LOSSLESS = [name for name in NAMES if name != "bert"]


@cache
def tokenizer_of(name: str) -> Any:
    return KINDS[name].build()


def prompts_of(name: str) -> list[Text]:
    return ["", "good morning", "the sun ", *([MORNING, CONTINUED] if KINDS[name].chat else [])]


@pytest.mark.parametrize(
    ("name", "prompt", "tokens", "text"),
    [
        # The first piece's space is that of the text before it, and none at a text's beginning.
        ("metaspace", "good", [MARK + "morning", MARK + "the"], " morning the"),
        ("metaspace", "", [MARK + "morning", MARK + "the"], "morning the"),
        ("metaspace", "good", ["morning", "<0xC3>", "<0xA9>"], "morningé"),
        ("metaspace", "good", [MARK + "the", "<unk>", "<s>", MARK + "sun"], " the<unk><s> sun"),
        ("pad is unk", "good", [MARK + "the", "<unk>"], " the<unk>"),
        ("llama", "good", ["morning", "\n", MARK], "morning\n "),
        ("gpt2", "good", ["Ġmorning", "Ã", "©"], " morningé"),
        ("gpt2", "", ["Ġmorning"], " morning"),
        ("gpt2", "good", ["Ã"], "\N{REPLACEMENT CHARACTER}"),
        ("bert", "good", ["morning", "##s", "!"], " mornings!"),
        ("bert", "", ["morning", "[UNK]", "[PAD]"], "morning [UNK] [PAD]"),
        ("both sides", "good", ["Ġmorning"], " morning"),
        ("chatml", "good", ["<|im_start|>", "Ġsun"], "<|im_start|> sun"),
        ("gemma", "good", ["<bos>", "up"], "<bos>up"),
        # The beginning token is a new line: one in front of the text goes, those that were sampled stay.
        ("newline begins", "", ["\n", "a", "\n", "\n"], "\na\n\n"),
        ("newline begins", "a\n", ["\n", "b"], "\nb"),
        ("newline is special", "", ["\n", "a", "\n"], "\na\n"),
    ],
)
def test_texts_by_hand(name: str, prompt: str, tokens: list[str], text: str) -> None:
    tokenizer = tokenizer_of(name)
    ids = tokenizer.convert_tokens_to_ids(tokens)
    assert tokenizer.convert_ids_to_tokens(ids) == tokens
    assert completion_texts(tokenizer, [encode_prompt(tokenizer, prompt)], [ids]) == [text]


@pytest.mark.parametrize(
    ("name", "prompt", "tokens"),
    [
        ("metaspace", "good", ["<s>", MARK + "good"]),
        ("metaspace", "<s>good", ["<s>", MARK + "good"]),  # BOS is there already: once
        ("metaspace", "<s><s>good", ["<s>", "<s>", "good"]),  # the second is text, and "good" no longer begins one
        ("both sides", "good", ["<s>", "good"]),  # the EOS that it would append is no part of a prompt
        ("both sides", "<s>good", ["<s>", "good"]),
        ("gpt2", "good", ["good"]),
        ("gpt2", "<|endoftext|>good", ["<|endoftext|>", "good"]),
        ("bert", "Good", ["[CLS]", "good"]),
        ("no bos", "", ["</s>"]),
        ("newline begins", "a", ["a"]),
        ("newline begins", "\na", ["\n", "a"]),
        ("newline is special", "\n", ["\n"]),
        ("chatml", "", ["<|im_end|>"]),
    ],
)
def test_prompts_by_hand(name: str, prompt: str, tokens: list[str]) -> None:
    tokenizer = tokenizer_of(name)
    assert tokenizer.convert_ids_to_tokens(encode_prompt(tokenizer, prompt)) == tokens


@pytest.mark.parametrize("name", ["metaspace", "both sides", "gpt2", "no bos"])
def test_a_prompt_that_has_ended_is_refused(name: str) -> None:
    tokenizer = tokenizer_of(name)
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
    tokenizer = tokenizer_of("both sides")
    expected = [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]]
    assert encode_continued(tokenizer, prompt, completion) == expected
    assert TextEncoder(tokenizer, max_length=None).encode([prompt], [completion]) == [expected]


TEXTS = ["good morning the sun", "rainup! is up", "a joy \n\n up", " the", "é🙂 not", "morning  the", "the."]
LETTERS = [text for text in TEXTS if text.isascii()]


@pytest.mark.parametrize("name", LOSSLESS)
def test_cut_anywhere_a_text_is_read_back_with_its_ids(name: str) -> None:
    """Every text, cut between any two of its tokens into prompt and completion: text and ids come back."""
    tokenizer = tokenizer_of(name)
    texts = LETTERS if "newline" in name else TEXTS
    if MARK in tokenizer.get_vocab() and name != "llama":  # a first space is the one that it would put there itself
        texts = [text for text in texts if text[0] != " "]
    encoder = TextEncoder(tokenizer, max_length=None)
    for text in texts:
        prompt = encode_prompt(tokenizer, text)
        body = list(itertools.dropwhile(lambda i: i == encoder.first_id, prompt))
        front = prompt[: len(prompt) - len(body)]
        for place in range(len(body) + 1):
            (rest,) = completion_texts(tokenizer, [front + body[:place]], [body[place:]])
            if "\N{REPLACEMENT CHARACTER}" in rest:  # half a character
                continue
            assert text.endswith(rest)
            before = text[: len(text) - len(rest)]
            assert encoder.encode([before], [rest]) == [[encoder.first_id, *body]]
            if place == 0:
                assert rest == text


def draw(name: str, prompts: list[Text], count: int, length: int, **options: Any) -> tuple[Any, Completions]:
    """Sampled completions, as PPO samples them."""
    tokenizer, kind = tokenizer_of(name), KINDS[name]
    model = tiny_model(tokenizer, kind)
    require_usable(model, tokenizer, name)
    encoded = [encode_prompt(tokenizer, prompts[i % len(prompts)]) for i in range(count)]
    done = generate(
        model, encoded, uniforms(0, Stream.SAMPLE, range(count), length),
        ending=ending_of(model, tokenizer), pad_token_id=pad_token(tokenizer),
        suppress_tokens=never_sampled(model, tokenizer), **options,
    )  # fmt: skip
    return model, done


@pytest.mark.parametrize("name", NAMES)
def test_texts_are_what_was_sampled(name: str) -> None:
    """Against `tokenizer.decode` of the whole; log-probs against a plain forward of each row alone."""
    tokenizer, kind = tokenizer_of(name), KINDS[name]
    prompts = prompts_of(name)
    model, done = draw(name, prompts, 60, 10)
    ending = ending_of(model, tokenizer)
    texts = done.texts(ending)
    n_ended = 0
    for row, text in enumerate(texts):
        prompt = done.prompt_ids[row][done.prompt_mask[row]].tolist()
        ids = done.completion_ids[row][done.completion_mask[row]].tolist()
        ends = [i for i in ids if i in ending.token_ids]
        assert ends == ids[-1:] or (not ends and len(ids) == 10)  # the first end token is the last token
        n_ended += bool(ends)
        body = ids[:-1] if ends else ids
        prompt_text = prompt[1:] if prompt[0] == beginning_token(tokenizer) else prompt
        plain = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
        whole, before = (tokenizer.decode(i, **plain) if i else "" for i in ([*prompt_text, *body], prompt_text))
        assert before + text == whole
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt, *ids]])).logits[0, len(prompt) - 1 : -1]
        logits[:, len(tokenizer) :] = float("-inf")  # rows without a token
        expected = logits.log_softmax(-1)[range(len(ids)), ids]
        assert torch.allclose(done.logprobs[row, : len(ids)], expected, atol=1e-4)
    assert 10 < n_ended < 60
    samples = sample_texts(
        model, tokenizer, [prompt_to_text(prompts[i % len(prompts)]) for i in range(60)],
        max_new_tokens=10, seed=0, source="m",
    )  # fmt: skip
    assert [sample.completion for sample in samples] == texts
    if kind.spare:
        assert int(done.completion_ids.max()) < len(tokenizer)


@pytest.mark.parametrize("name", ["newline begins", "newline is special"])
def test_sampled_ids_are_read_back(name: str) -> None:
    """Every sequence of these tokens is canonical, so the sampled ids themselves must come back."""
    tokenizer = tokenizer_of(name)
    model, done = draw(name, ["", "good ", "a\n"], 60, 10)
    encoder = TextEncoder(tokenizer, max_length=None)
    prompts = [("", "good ", "a\n")[i % 3] for i in range(60)]
    encoded = encoder.encode(prompts, done.texts(ending_of(model, tokenizer)))
    for row, ids in enumerate(encoded):
        prompt = encode_prompt(tokenizer, prompts[row])
        sampled = [i for i in done.completion_ids[row][done.completion_mask[row]].tolist() if i != 0]
        assert ids == [*([] if prompt[0] == encoder.first_id else [encoder.first_id]), *prompt, *sampled]


@pytest.mark.parametrize("name", [name for name in NAMES if KINDS[name].chat])
def test_a_conversation_is_one_turn_to_everybody(name: str) -> None:
    tokenizer = tokenizer_of(name)
    end = "<|im_end|>\n" if name == "chatml" else "<end_of_turn>\n"
    start = "<|im_start|>" if name == "chatml" else "<start_of_turn>"
    front = "" if name == "chatml" else "<bos>"
    encoder = TextEncoder(tokenizer, max_length=None)

    def ids(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    opened = f"{front}{start}user\ngood morning{end}{start}assistant\n"
    assert encode_prompt(tokenizer, MORNING) == ids(opened)
    assert encode_prompt(tokenizer, CONTINUED) == ids(opened + "the sun")
    assert encoder.encode([MORNING], ["the sun is up"]) == [ids(f"{opened}the sun is up{end}")]
    # The policy goes on with the assistant's message; so does the reward model: one turn, not two.
    assert encoder.encode([CONTINUED], [" is up"]) == [ids(f"{opened}the sun is up{end}")]
    assert encoder.encode([CONTINUED], [[{"role": "assistant", "content": " is up"}]]) == encoder.encode(
        [MORNING], ["the sun is up"]
    )
    # A turn that the assistant has opened and said nothing in is where it begins.
    assert encode_prompt(tokenizer, [*MORNING, {"role": "assistant", "content": ""}]) == ids(opened)


@pytest.mark.parametrize("name", NAMES)
def test_a_text_cannot_say_a_reward_token(name: str) -> None:
    tokenizer = KINDS[name].build()
    tokenizer.add_tokens([AddedToken("<|happy|>", special=True)])
    happy = tokenizer.convert_tokens_to_ids("<|happy|>")
    assert happy in tokenizer("joy<|happy|>")["input_ids"]  # what would go wrong
    guarded = TextEncoder(tokenizer, max_length=None, literal=["<|happy|>"])
    prompts: list[Text] = ["joy<|happy|>", ""]
    prompts += [[{"role": "user", "content": "joy<|happy|>"}]] if KINDS[name].chat else []
    assert not any(happy in ids for ids in guarded.encode(prompts, ["is<|happy|>"] * len(prompts)))


@pytest.mark.parametrize("content", ["the sun ", "\n", " "])
def test_white_space_that_a_template_cuts_off_is_refused(content: str) -> None:
    turn = [*MORNING, {"role": "assistant", "content": content}]
    with pytest.raises(InputError, match="cuts off"):
        encode_prompt(tokenizer_of("gemma"), turn)
    assert tokenizer_of("chatml").decode(encode_prompt(tokenizer_of("chatml"), turn)).endswith(f"\n{content}")


@pytest.mark.parametrize("name", NAMES)
def test_the_fingerprint_survives_the_disk_and_sees_every_change(name: str, tmp_path: Path) -> None:
    def fingerprint(tokenizer: Any, max_length: int | None = 160) -> str:
        return TextEncoder(tokenizer, max_length=max_length).fingerprint()

    tokenizer = KINDS[name].build()
    own = fingerprint(tokenizer)
    tokenizer.save_pretrained(tmp_path / "saved")
    again = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert fingerprint(again) == own
    assert fingerprint(again, 161) != own
    again.chat_template = "{{ messages }} "
    assert fingerprint(again) != own
    tokenizer.add_tokens(["zebra"])
    assert fingerprint(tokenizer) != own


@pytest.mark.parametrize("template", [CONTINUED[0]["content"], "{{ messages }}\n", "{{ messages }}\r\n\r\n", "é\u2028"])
def test_a_template_reads_the_same_from_the_disk(template: str, tmp_path: Path) -> None:
    tokenizer = KINDS["chatml"].build()
    tokenizer.chat_template = template
    tokenizer.save_pretrained(tmp_path)
    pair = [TextEncoder(t, max_length=None).fingerprint() for t in (tokenizer, AutoTokenizer.from_pretrained(tmp_path))]
    assert pair[0] == pair[1]
