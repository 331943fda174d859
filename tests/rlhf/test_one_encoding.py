"""One text, one encoding, on tokenizers that are not ours: what is sampled, read, scored and kept is the same text."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from rewards.token_model import TokenRewardModel, add_reward_tokens
from rlhf import PPOConfig, PPOTrainer
from rlhf.foundation.conversation import prompt_to_text
from rlhf.foundation.encoding import TextEncoder, completion_texts, encode_continued, encode_prompt
from rlhf.foundation.errors import InputError
from rlhf.foundation.model_directory import load_tokenizer, save_model
from rlhf.language_model.endings import ending_of, never_sampled, pad_token
from rlhf.language_model.randomness import Stream, uniforms
from rlhf.language_model.sampler import Completions, generate, sample_texts

from .tokenizer_kinds import CHATS, KINDS, build

PLAIN = ["", "good morning", "the king, a", "merry"]
CHAT = [
    [{"role": "user", "content": "who is merry"}],
    [{"role": "user", "content": "sing"}, {"role": "assistant", "content": "the king"}],  # to be continued
]
LENGTH = 10


def independent_text(tokenizer: Any, prompt: Sequence[int], completion: Sequence[int], ends: Sequence[int]) -> str:
    """tokenizer.decode of the whole, without BOS in front and the end token, less the decoded prompt."""
    prompt, completion = list(prompt), list(completion)
    first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    while prompt and prompt[0] == first:
        del prompt[0]
    if completion and completion[-1] in ends:
        del completion[-1]
    whole = tokenizer.decode(prompt + completion) if prompt + completion else ""
    front = tokenizer.decode(prompt) if prompt else ""
    assert whole.startswith(front)
    return str(whole[len(front) :])


def rows_of(done: Completions) -> list[tuple[list[int], list[int]]]:
    """Ids of prompts and completions without padding."""
    pairs = ((done.prompt_ids, done.prompt_mask), (done.completion_ids, done.completion_mask))
    prompts, completions = ([row[kept].tolist() for row, kept in zip(*pair, strict=True)] for pair in pairs)
    return list(zip(prompts, completions, strict=True))


def draw(model: Any, tokenizer: Any, prompts: Sequence[Any]) -> list[tuple[list[int], list[int]]]:
    """The ids that `sample_texts` samples with seed 0."""
    return rows_of(
        generate(
            model,
            [encode_prompt(tokenizer, prompt) for prompt in prompts],
            uniforms(0, Stream.SAMPLE, range(len(prompts)), LENGTH),
            ending=ending_of(model, tokenizer),
            pad_token_id=pad_token(tokenizer),
            suppress_tokens=never_sampled(model, tokenizer),
        )
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_text_is_what_was_sampled_and_its_logprob_is_a_plain_forward_s(kind: str) -> None:
    tokenizer, model = build(kind)
    prompts: list[Any] = [p for p in [*PLAIN, *(CHAT if kind in CHATS else [])] for _ in range(12)]
    stored = [prompt_to_text(p) for p in prompts]
    samples = sample_texts(model, tokenizer, stored, max_new_tokens=LENGTH, seed=0, source="tiny")
    ends = ending_of(model, tokenizer).token_ids
    encoder = TextEncoder(tokenizer, max_length=None)
    known = sorted(set(tokenizer.get_vocab().values()))
    for sample, (prompt, completion) in zip(samples, draw(model, tokenizer, prompts), strict=True):
        assert sample.completion == independent_text(tokenizer, prompt, completion, ends)
        with torch.no_grad():
            logits = model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
        masked = torch.full_like(logits, -torch.inf)
        masked[:, known] = logits[:, known]
        total = masked.log_softmax(-1).gather(-1, torch.tensor(completion)[:, None]).sum()
        assert sample.logprob == pytest.approx(total.item(), abs=1e-4)
        # What a reward model reads is the text's own encoding, after the first token; here without an end.
        if not sample.prompt.startswith("["):
            read = tokenizer(sample.prompt + sample.completion, add_special_tokens=False)["input_ids"]
            assert encoder.encode([sample.prompt], [sample.completion]) == [[encoder.first_id, *read]]


def test_every_id_comes_back_where_the_tokenizer_has_one_way_to_write_a_text() -> None:
    """Single characters and special tokens: no text has two encodings, so the sampled ids themselves are read."""
    tokenizer, model = build("pad is unk")
    prompts = [prompt for prompt in PLAIN for _ in range(16)]
    samples = sample_texts(model, tokenizer, prompts, max_new_tokens=LENGTH, seed=0, source="tiny")
    encoder, odd = TextEncoder(tokenizer, max_length=None), 0
    for sample, (prompt, completion) in zip(samples, draw(model, tokenizer, prompts), strict=True):
        ids = completion[:-1] if completion[-1] == tokenizer.eos_token_id else completion
        front = prompt if prompt[0] == encoder.first_id else [encoder.first_id, *prompt]
        assert encoder.encode([sample.prompt], [sample.completion]) == [[*front, *ids]]
        odd += any(i in (tokenizer.unk_token_id, tokenizer.bos_token_id) for i in ids)
    assert odd >= 10  # the wrong way, leaving special tokens out of texts, would lose them


# The ids of "llama": <s> 1, "▁the" 290, "▁sun" 291, "▁good" 292, "▁morning" 293.
@pytest.mark.parametrize(
    ("prompt", "ids"),
    [
        ("", [1]),
        ("<s>", [1]),
        ("good morning", [1, 292, 293]),
        ("<s>good morning", [1, 292, 293]),  # one beginning, and the space in front that a text gets
    ],
)
def test_a_prompt_has_one_beginning(prompt: str, ids: list[int]) -> None:
    tokenizer = KINDS["llama"]()
    assert encode_prompt(tokenizer, prompt) == ids
    # Sampling and scoring begin alike.
    assert TextEncoder(tokenizer, max_length=None).encode([prompt], [""]) == [ids]
    assert encode_continued(tokenizer, prompt, " the sun" if ids[1:] else "the sun") == [*ids, 290, 291]


def test_the_first_space_of_a_completion_stays() -> None:
    tokenizer = KINDS["llama"]()
    assert completion_texts(tokenizer, [[1, 292, 293], [1]], [[290, 291], [290, 291]]) == [" the sun", "the sun"]
    assert tokenizer.decode([290, 291]) == "the sun"  # what decoding the completion alone would give


def test_newlines_stay_whatever_they_are_to_the_tokenizer() -> None:
    for kind in ("newline is bos", "newline is special"):
        tokenizer = KINDS[kind]()
        newline = tokenizer.convert_tokens_to_ids("\n")
        a, b = (tokenizer(c, add_special_tokens=False)["input_ids"] for c in "ab")
        assert newline in tokenizer.all_special_ids
        ids = [*a, newline, newline, *b, newline]
        for prompt in ([newline], [newline, *a], [*b]):
            assert completion_texts(tokenizer, [prompt], [ids]) == ["a\n\nb\n"]
        # A newline that begins an unconditional completion was sampled after the beginning, and is read again.
        assert completion_texts(tokenizer, [[newline]], [[newline, *a]]) == ["\na"]
        first = TextEncoder(tokenizer, max_length=None).first_id
        assert TextEncoder(tokenizer, max_length=None).encode([""], ["\na"]) == [[first, newline, *a]]


def test_an_end_that_the_tokenizer_appends_is_no_part_of_a_prompt() -> None:
    tokenizer = KINDS["appends eos"]()
    whole = tokenizer("good")["input_ids"]
    assert whole[0] == tokenizer.bos_token_id
    assert whole[-1] == tokenizer.eos_token_id
    assert encode_prompt(tokenizer, "good") == encode_prompt(tokenizer, "<s>good") == whole[:-1]
    with pytest.raises(InputError, match=r"ends with the end token </s>; expected a text to go on with"):
        encode_prompt(tokenizer, "good</s>")


def test_a_prompt_without_a_token_is_refused() -> None:
    with pytest.raises(InputError, match="' ', which has no token"):
        encode_prompt(KINDS["wordpiece"](), " ")


def test_the_assistant_s_turn_that_is_continued_is_one_turn_for_the_reward_model() -> None:
    tokenizer = KINDS["chatml"]()
    before = tokenizer.decode(encode_prompt(tokenizer, CHAT[1]))
    assert before == "<|im_start|>user\nsing<|im_end|>\n<|im_start|>assistant\nthe king"
    read = TextEncoder(tokenizer, max_length=None).encode([CHAT[1]], [" is sad"])[0]
    assert tokenizer.decode(read) == before + " is sad<|im_end|>\n"
    two = [*CHAT[1], {"role": "assistant", "content": " is sad"}]  # the wrong reading
    assert tokenizer.apply_chat_template(two, tokenize=False) != tokenizer.decode(read)


def test_a_text_that_goes_on_stays_a_text_up_to_its_end() -> None:
    """Prompt and completion together may look like a conversation, or spell the end token out; neither changes them."""
    tokenizer, _ = build("llama")
    whole = '[{"role": "user", "content": "good morning"}]'
    assert encode_continued(tokenizer, whole[:20], whole[20:]) == [
        1,
        *tokenizer(whole, add_special_tokens=False)["input_ids"],
    ]
    assert encode_continued(tokenizer, "good", " morning</s> sun") == encode_continued(tokenizer, "good", " morning")


def test_an_empty_assistant_s_turn_is_a_turn_to_begin() -> None:
    """Continued, a template may cut the end of the empty turn's header off."""
    tokenizer, _ = build("chatml")
    asked = [{"role": "user", "content": "who is merry"}]
    assert encode_prompt(tokenizer, [*asked, {"role": "assistant", "content": ""}]) == encode_prompt(tokenizer, asked)


def test_a_message_that_the_template_trims_cannot_be_continued() -> None:
    """The policy would go on after "the king", the reward model would read "the king " and what follows."""
    asked = [{"role": "user", "content": "sing"}, {"role": "assistant", "content": "the king "}]
    with pytest.raises(InputError, match=r"ends with ' ', which the chat template cuts off"):
        encode_prompt(KINDS["several ends"](), asked)
    kept = KINDS["chatml"]()
    assert kept.decode(encode_prompt(kept, asked)).endswith("the king ")


# -- the fingerprint -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded_again_a_tokenizer_encodes_alike(kind: str, tmp_path: Path) -> None:
    tokenizer, model = build(kind)
    save_model(model, tokenizer, tmp_path / "model")
    again = load_tokenizer(str(tmp_path / "model"))
    save_model(model, again, tmp_path / "twice")
    encoders = [TextEncoder(t, max_length=32) for t in (tokenizer, again, load_tokenizer(str(tmp_path / "twice")))]
    assert len({encoder.fingerprint() for encoder in encoders}) == 1
    texts = [*PLAIN, "naïve 🙂\r\n\tb", "Ann <s></s>"]
    assert len({str(encoder.encode(texts, texts)) for encoder in encoders}) == 1


def changed_template(tokenizer: Any) -> None:
    tokenizer.chat_template += " "


def added_token(tokenizer: Any) -> None:
    tokenizer.add_tokens(["king!"])


def another_beginning(tokenizer: Any) -> None:
    tokenizer.bos_token = "<|im_start|>"


def another_split(tokenizer: Any) -> None:
    from tokenizers import pre_tokenizers

    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)


def test_whatever_changes_the_ids_changes_the_fingerprint() -> None:
    prints = [TextEncoder(KINDS["chatml"](), max_length=32).fingerprint()]
    for change in (changed_template, added_token, another_beginning, another_split):
        tokenizer = KINDS["chatml"]()
        change(tokenizer)
        prints.append(TextEncoder(tokenizer, max_length=32).fingerprint())
    prints.append(TextEncoder(KINDS["chatml"](), max_length=31).fingerprint())
    assert len(set(prints)) == len(prints)


def test_a_template_that_writes_today_s_date_is_the_same_tomorrow(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.utils import chat_template_utils

    tokenizer = KINDS["chatml"]()
    tokenizer.chat_template = "{{ strftime_now('%d %b %Y') }}" + tokenizer.chat_template
    asked = [{"role": "user", "content": "hm"}]
    today = TextEncoder(tokenizer, max_length=32).fingerprint(), encode_prompt(tokenizer, asked)

    class Tomorrow(chat_template_utils.datetime):  # type: ignore[misc, name-defined]
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return cls(2031, 1, 2)

    monkeypatch.setattr(chat_template_utils, "datetime", Tomorrow)
    other = copy.deepcopy(tokenizer)
    assert encode_prompt(other, asked) != today[1]
    assert TextEncoder(other, max_length=32).fingerprint() == today[0]


def test_a_template_that_wants_other_turns_keeps_no_reward_model_from_being_saved() -> None:
    tokenizer = KINDS["chatml"]()
    tokenizer.chat_template = "{{ raise_exception('a system turn first') }}"
    assert TextEncoder(tokenizer, max_length=32).fingerprint()


# -- a reward model is held to the encoding it was fitted in ---------------------------------------------------------


@pytest.fixture
def chat_reward(tmp_path: Path) -> Path:
    """A token reward model that has read conversations, on the disk."""
    tokenizer, model = build("chatml")
    add_reward_tokens(model, tokenizer, seed=0)
    reward = TokenRewardModel(model, tokenizer, target="positive")
    reward([CHAT[0]], ["the king"])
    return reward.save(tmp_path / "reward", {"kind": "token", "target": "positive"})


def test_a_reward_model_with_another_encoding_is_refused(chat_reward: Path) -> None:
    assert TokenRewardModel.from_pretrained(chat_reward, device="cpu")([CHAT[0]], ["the king"])
    for change in (changed_template, added_token):
        tokenizer = load_tokenizer(str(chat_reward))
        change(tokenizer)
        tokenizer.save_pretrained(chat_reward)
        with pytest.raises(InputError, match="got another encoding than it was fitted in") as error:
            TokenRewardModel.from_pretrained(chat_reward, device="cpu")
        assert "\n" not in str(error.value)


def test_what_it_was_fitted_on_survives_loading_and_saving(chat_reward: Path, tmp_path: Path) -> None:
    again = TokenRewardModel.from_pretrained(chat_reward, device="cpu")
    again.save(tmp_path / "again", {"kind": "token", "target": "positive"})
    third = TokenRewardModel.from_pretrained(tmp_path / "again", device="cpu")
    with pytest.raises(InputError, match=r"got plain text to score; expected conversations, as it was fitted on"):
        third(["good"], ["morning"])


@pytest.mark.parametrize("prompts", [["good morning"], [CHAT[0], "good morning"]])
def test_ppo_with_plain_prompts_on_a_reward_of_conversations_is_refused_before_anything(
    prompts: list[Any], chat_reward: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer, model = build("chatml")
    scored: list[int] = []
    reward = TokenRewardModel.from_pretrained(chat_reward, device="cpu")
    encode = TextEncoder.encode
    monkeypatch.setattr(TextEncoder, "encode", lambda own, p, c: (scored.append(len(p)), encode(own, p, c))[1])
    config = PPOConfig(
        output_dir=str(tmp_path / "run"), iteration_batch_size=16, minibatch_size=16, max_completion_length=4,
        normalization_samples=4096, use_cpu=True, quiet=True,
    )  # fmt: skip
    rows = [{"prompt": p} for p in prompts]
    with pytest.raises(InputError, match="got plain text to score"):
        PPOTrainer(model, reward, config, rows, processing_class=tokenizer)
    assert sum(scored) <= 4 * len({type(p) for p in prompts})
    assert not (tmp_path / "run").exists()
