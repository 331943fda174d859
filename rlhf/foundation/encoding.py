"""From (prompt, completion) to token ids and back: the one encoding of sampling, labels, rewards and reports.

1. A plain text is the beginning token, then prompt and completion tokenized as one text.
2. A conversation is what the tokenizer's chat template writes, tokenized as it stands: the template's own special
   tokens, none besides.
3. A completion counts up to its first end token, which is left out. A completion's text is what stands after the
   prompt in the decoded whole, so that the first space of a sentencepiece token is not lost; of special tokens only
   the beginning token in front and the end token go.

Shapes: N texts.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Sequence
from typing import Any, Literal

from jinja2 import TemplateError

from rlhf.foundation.conversation import Messages, Text, as_messages, joined, prompt_from_text
from rlhf.foundation.errors import InputError
from rlhf.foundation.layouts import require_encodable
from rlhf.foundation.terminal import shown

LINE_END = re.compile("\r\n?")
ANSWERABLE = ("user", "tool", "assistant")
Kind = Literal["plain", "conversation"]
UNREADABLE = "\N{REPLACEMENT CHARACTER}"  # how a decoder spells bytes that are no whole character
# What an encoding is told by, beside vocabulary and template: whatever changes one of these ids changes scores.
SPECIMENS = ("Good morning.", " a  b\n\nc\t1234", "naïve café – 你好 🙂", "<|im_end|></s><s>", "")


def beginning_token(tokenizer: Any) -> int:
    """The id that starts a plain text: BOS, or EOS where a tokenizer has no BOS. Raises InputError without both."""
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise InputError(
        "tokenizer",
        got="neither a BOS nor an EOS token",
        expected="at least one of them",
        fix="set `tokenizer.bos_token` and save the tokenizer again",
    )


def encode_prompt(tokenizer: Any, prompt: Text) -> list[int]:
    """A prompt as the ids that a policy continues; "" is exactly one beginning token.

    Text gets what the tokenizer puts in front of a text (once, where the text spells it out too), and no end; a
    conversation goes through the chat template up to where the assistant's turn begins, and an assistant's last
    message is continued. Raises InputError when a text has no token or ends with the end token, or a conversation
    cannot be written.
    """
    prompt = prompt_from_text(prompt) if isinstance(prompt, str) else prompt
    if not isinstance(prompt, str):
        return _some(_token_ids(tokenizer, _open_turn(tokenizer, prompt)), prompt)
    return _open_text(tokenizer, prompt)


def _open_text(tokenizer: Any, prompt: str) -> list[int]:
    """A text, whatever it looks like, as the ids that a policy continues."""
    text = without_beginning(tokenizer, prompt)
    if not text:
        return [beginning_token(tokenizer)]
    ids = _some(_token_ids(tokenizer, text), prompt)
    if ids[-1] == tokenizer.eos_token_id:
        raise InputError(
            "prompt",
            got=f"{prompt[-60:]!r}, which ends with the end token {tokenizer.eos_token}",
            expected="a text to go on with",
            fix="leave the end token out",
        )
    front = _put_in_front(tokenizer, text, ids)
    return [*(front or [beginning_token(tokenizer)] * (text != prompt)), *ids]


def without_beginning(tokenizer: Any, text: str) -> str:
    """A text less the beginning token, where it spells that out at its start: once, what follows is text."""
    mark = tokenizer.bos_token if tokenizer.bos_token is not None else tokenizer.eos_token
    return text.removeprefix(str(mark)) if mark is not None else text


def until_end(tokenizer: Any, completion: str) -> str:
    """A completion up to where it spells the end token out, if it does."""
    return completion if tokenizer.eos_token is None else completion.split(str(tokenizer.eos_token), 1)[0]


def _some(ids: list[int], prompt: Text) -> list[int]:
    if not ids:
        got = f"{prompt!r}"[:60] + ", which has no token"
        raise InputError("prompt", got=got, expected="at least one token", fix="mend that row")
    return ids


def _put_in_front(tokenizer: Any, prompt: str, ids: list[int]) -> list[int]:
    """What the tokenizer adds before a text; what it adds after one (some add EOS) is of no use in a prompt."""
    full = [int(i) for i in _tokenized(tokenizer, prompt)]
    for start in range(len(full) - len(ids) + 1):
        if full[start : start + len(ids)] == ids:
            return full[:start]
    raise InputError(
        "tokenizer",
        got=f"other ids for {prompt[:60]!r} with special tokens than without",
        expected="special tokens that stand before and after a text",
        fix="save the tokenizer with another post-processor",
    )


def encode_continued(tokenizer: Any, prompt: Text, completion: str) -> list[int]:
    """Prompt and completion, tokenized as one text, as the ids that a policy reads, up to the first end token."""
    prompt = prompt_from_text(prompt) if isinstance(prompt, str) else prompt
    completion = until_end(tokenizer, completion)
    if isinstance(prompt, str):
        alone = [beginning_token(tokenizer), *_token_ids(tokenizer, completion)]
        return _open_text(tokenizer, prompt + completion) if prompt else alone
    return _token_ids(tokenizer, _open_turn(tokenizer, prompt) + completion)


def _open_turn(tokenizer: Any, messages: Messages) -> str:
    """A conversation as text, up to where the assistant goes on."""
    messages = as_messages(messages, "prompt")
    role = messages[-1]["role"]
    if role not in ANSWERABLE:
        raise InputError(
            "prompt",
            got=f"a conversation that ends with the role {role!r}",
            expected="user, tool, or an assistant's message to continue",
            fix="end it with a user's message",
        )
    content = messages[-1]["content"]
    if role != "assistant" or not content:  # an empty turn begins; "continued", a template may cut off its header's end
        return render(tokenizer, messages[:-1] if role == "assistant" else messages, add_generation_prompt=True)
    text = render(tokenizer, messages, add_generation_prompt=False, continue_final_message=True)
    if content[-1].isspace() and not text.endswith(content.lstrip() or content):
        raise InputError(
            "prompt",
            got=f"an assistant's message to continue that ends with {content[-1]!r}, which the chat template cuts off",
            expected="a message that the model sees as it stands",
            fix="leave the white space at its end out",
        )
    return text


def render(tokenizer: Any, messages: Messages, **options: Any) -> str:
    """A conversation as its chat template writes it. Raises InputError without a template, or when it refuses."""
    if getattr(tokenizer, "chat_template", None) is None:
        raise InputError(
            "tokenizer",
            got="no chat template, but a conversation to read",
            expected="a chat template",
            fix="set `tokenizer.chat_template` and save the tokenizer again, or give plain text",
        )
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, **options))
    except (TemplateError, ValueError, TypeError) as error:
        raise InputError(
            "chat template", got=str(error), expected="messages that the template can write", fix="mend that row"
        ) from error


def _tokenized(tokenizer: Any, texts: str | list[str], **options: bool) -> Any:
    """The tokenizer's ids of a text, or of each of several. Raises InputError for half a character."""
    for text in [texts] if isinstance(texts, str) else texts:
        require_encodable(text, f"the text {shown(ascii(text), 60)}")
    return tokenizer(texts, **options)["input_ids"]


def _token_ids(tokenizer: Any, text: str) -> list[int]:
    return [int(i) for i in _tokenized(tokenizer, text, add_special_tokens=False)]


def completion_texts(
    tokenizer: Any, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]
) -> list[str]:
    """The texts of N sampled completions, as ids (their end tokens already cut off) after the ids of their prompts.

    Each is what the decoded whole has after the decoded prompt. Special tokens are spelled out, but for beginning
    tokens in front. Where the two do not share the prompt's text, the completion's ids are decoded alone.
    """
    first = beginning_token(tokenizer)
    spelled: dict[tuple[int, ...], str] = {}
    texts = []
    for prompt, completion in zip(prompts, completions, strict=True):
        before = tuple(itertools.dropwhile(lambda i: i == first, prompt))
        if before not in spelled:
            spelled[before] = _spelled(tokenizer, before)
        whole = _spelled(tokenizer, [*before, *completion])
        same = whole.startswith(spelled[before])
        texts.append(whole[len(spelled[before]) :] if same else _spelled(tokenizer, completion))
    return texts


def token_texts(tokenizer: Any, prompt: Sequence[int], completion: Sequence[int]) -> list[str]:
    """What each of T sampled tokens adds to the completion's text; put together they are that text.

    A character of several tokens stands with its last one.
    """
    parts = [completion[:t] for t in range(1, len(completion) + 1)]
    texts = completion_texts(tokenizer, [prompt] * len(parts), parts)
    places = [0, *itertools.accumulate((len(text.rstrip(UNREADABLE)) for text in texts[:-1]), max)]
    return [texts[-1][start:stop] for start, stop in itertools.pairwise([*places, len(texts[-1])])] if texts else []


def _spelled(tokenizer: Any, ids: Sequence[int]) -> str:
    options = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
    return str(tokenizer.decode(list(ids), **options)) if ids else ""


class TextEncoder:
    """Encodes prompts and completions for a model that reads them; `literal` are tokens that a text may only spell.

    `kinds` says what it has been given (or may be given, after `only`): plain texts, conversations, or both.
    """

    def __init__(self, tokenizer: Any, *, max_length: int | None, literal: Sequence[str] = ()) -> None:
        """`max_length` in tokens, the first included; None for no limit. Raises InputError without BOS and EOS."""
        self.tokenizer, self.max_length = tokenizer, max_length
        self.first_id = beginning_token(tokenizer)
        self.kinds: set[Kind] = set()
        self.n_cut = 0
        self._allowed: set[Kind] | None = None
        self._literal = re.compile("(" + "|".join(map(re.escape, literal)) + ")") if literal else None

    def only(self, kinds: Sequence[Kind]) -> None:
        """Refuse from now on what is not of these kinds: a reward model knows only what it was fitted on."""
        self._allowed = set(kinds) or None

    def _text(self, prompt: Text, completion: Text) -> tuple[str, Kind]:
        """The one text that is tokenized: no end token and what follows it in the completion, no BOS before the prompt.

        A BOS that begins a completion was sampled, and stays.
        """
        whole = joined(prompt, self._until_end(completion))
        if isinstance(prompt, str) and isinstance(whole, str):
            return without_beginning(self.tokenizer, prompt) + whole[len(prompt) :], self._seen("plain")
        assert not isinstance(whole, str)  # where the prompt is a conversation, so is the whole
        return render(self.tokenizer, whole), self._seen("conversation")

    def _until_end(self, completion: Text) -> Text:
        if isinstance(completion, str):
            return until_end(self.tokenizer, completion)
        *before, last = as_messages(completion, "completion")
        return [*before, {**last, "content": until_end(self.tokenizer, last["content"])}]

    def _seen(self, kind: Kind) -> Kind:
        if self._allowed is not None and kind not in self._allowed:
            raise InputError(
                "reward model",
                got=f"{_NAMES[kind]} to score",
                expected=f"{' or '.join(_NAMES[k] for k in sorted(self._allowed))}, as it was fitted on",
                fix=f"fit a reward model on {_NAMES[kind]}, or give it the prompts that it knows",
            )
        self.kinds.add(kind)
        return kind

    def encode(self, prompts: Sequence[Text], completions: Sequence[Text]) -> list[list[int]]:
        """Ids of each of N texts, at most `max_length` of them: of an over-long text the end is kept (and BOS).

        `n_cut` counts the texts cut so far.
        """
        pairs = [self._text(p, c) for p, c in zip(prompts, completions, strict=True)]
        spelled = [self._literal is not None and bool(self._literal.search(text)) for text, _ in pairs]
        batch = [text for (text, _), split in zip(pairs, spelled, strict=True) if not split]
        found = iter(_tokenized(self.tokenizer, batch, add_special_tokens=False) if batch else [])
        encoded = []
        for (text, kind), split in zip(pairs, spelled, strict=True):
            ids = self._pieces(text) if split else next(found)
            encoded.append(self._shorten([self.first_id, *ids] if kind == "plain" else list(ids)))
        return encoded

    def completion_lengths(self, completions: Sequence[str]) -> list[int]:
        """Tokens of each of N completions by itself, without its end."""
        return [len(_token_ids(self.tokenizer, until_end(self.tokenizer, text))) for text in completions]

    def _pieces(self, text: str) -> list[int]:
        """A text that spells a reward token out must not be read as holding it: that would be a loophole."""
        assert self._literal is not None
        ids: list[int] = []
        for i, piece in enumerate(self._literal.split(text)):
            options = {"add_special_tokens": False, "split_special_tokens": bool(i % 2)}
            ids += _tokenized(self.tokenizer, piece, **options) if piece else []
        return ids

    def _shorten(self, ids: list[int]) -> list[int]:
        if self.max_length is None or len(ids) <= self.max_length:
            return ids
        self.n_cut += 1
        kept = 1 if ids[0] == self.first_id else 0
        return [*ids[:kept], *ids[len(ids) - self.max_length + kept :]]

    def describe(self) -> dict[str, Any]:
        """For reward_model.json: which texts were encoded, and the fingerprint of how."""
        return {"texts": sorted(self.kinds | (self._allowed or set())), "fingerprint": self.fingerprint()}

    def fingerprint(self) -> str:
        """A digest of vocabulary, special tokens, chat template, length, and the ids of a few texts (`SPECIMENS`).

        The template counts as it is written, not by what it writes: that may hold today's date (Llama 3.2). Its line
        ends are those that a file would hold, as Jinja reads them anyway.
        """
        special = " ".join(map(str, self.tokenizer.all_special_tokens))
        ids = [_token_ids(self.tokenizer, specimen) for specimen in (*SPECIMENS, special)]
        marks = [self.first_id, self.tokenizer.bos_token, self.tokenizer.eos_token, self.max_length]
        template = getattr(self.tokenizer, "chat_template", None)
        if isinstance(template, str):
            template = LINE_END.sub("\n", template)
        told = [sorted(self.tokenizer.get_vocab().items()), marks, template, ids]
        return hashlib.sha256(json.dumps(told).encode("utf-8", "surrogatepass")).hexdigest()


_NAMES: dict[Kind, str] = {"plain": "plain text", "conversation": "conversations"}


def require_encoding(encoder: TextEncoder, recorded: Any, place: str) -> None:
    """Hold an encoder to what `describe` recorded. Raises InputError naming `place` when it is another encoding."""
    if not isinstance(recorded, dict) or recorded.get("fingerprint") != encoder.fingerprint():
        raise InputError(
            place,
            got="no record of its encoding"
            if not isinstance(recorded, dict)
            else "another encoding than it was fitted in",
            expected="the tokenizer and chat template that it was fitted with",
            fix="put them back, or fit it anew with `rlhf reward`",
        )
    encoder.only(recorded["texts"])
