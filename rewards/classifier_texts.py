"""Prompts and completions as a classifier of the field reads them: its own tokenizer, special tokens and template.

A plain text is what the tokenizer makes of it, with the special tokens that it puts around a text ([CLS] and [SEP],
BOS, or none); a conversation is what the chat template writes, and nothing besides. So the ids of a text are those of
`tokenizer(text)`, which the classifier was trained on. Of an over-long text the end is kept, between its special
tokens: that is where the completion stands.

Shapes: N texts.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from typing import Any, Literal, get_args

from rewards.template import completion_text
from rlhf.foundation.conversation import Text, joined
from rlhf.foundation.encoding import render
from rlhf.foundation.errors import InputError
from rlhf.foundation.layouts import require_encodable
from rlhf.foundation.terminal import shown

Reads = Literal["whole", "completion"]
READS: tuple[Reads, ...] = get_args(Reads)
_NO_LIMIT = 10**9  # tokenizers without a limit say 1e30


class ClassifierTexts:
    """Encodes for a classifier; `n_cut` counts the texts that were longer than `max_length` tokens so far."""

    def __init__(
        self, tokenizer: Any, *, max_length: int | None, reads: Reads = "whole", append_eos: bool = False
    ) -> None:
        """`tokenizer` is copied. Raises InputError for `append_eos` without an EOS, or an unknown `reads`."""
        if reads not in READS:
            raise InputError("classifier: reads", got=repr(reads), expected=" or ".join(READS), fix="choose one")
        if append_eos and tokenizer.eos_token_id is None:
            raise InputError(
                "classifier: append_eos", got="a tokenizer without EOS", expected="one", fix="leave it out"
            )
        self.tokenizer = copy.deepcopy(tokenizer)
        self.tokenizer.truncation_side = "left"
        limits = [max_length, getattr(tokenizer, "model_max_length", None)]
        known = [int(limit) for limit in limits if limit is not None and limit < _NO_LIMIT]
        self.max_length = min(known, default=None)
        self.reads, self.append_eos = reads, append_eos
        self.n_cut = 0

    def encode(self, prompts: Sequence[Text], completions: Sequence[Text]) -> list[list[int]]:
        """Ids of each of N texts, at least one a text. Raises InputError for a conversation without a template."""
        texts = [self._text(p, c) for p, c in zip(prompts, completions, strict=True)]
        cut_before = self.n_cut
        encoded = [self._ids(text) for text in texts]
        if self.n_cut and not cut_before:
            told = f"texts longer than its {self.max_length} tokens are cut, their end is kept"
            print(f"rlhf: classifier: {told}", file=sys.stderr)
        return encoded

    def _text(self, prompt: Text, completion: Text) -> Text:
        if self.reads == "whole":
            return joined(prompt, completion)
        return completion_text(completion)

    def _ids(self, text: Text) -> list[int]:
        if isinstance(text, str):
            require_encodable(text, f"the text {shown(ascii(text), 60)}")
            ids = self._tokenized(text, special=True)
        elif self.tokenizer.chat_template is None:
            raise InputError(
                "classifier",
                got="a conversation, and a tokenizer without a chat template",
                expected="a template that writes conversations as the classifier was trained on them",
                fix="set `tokenizer.chat_template` and save it again, or score the answer alone: `reads: completion`",
            )
        else:
            ids = self._tokenized(render(self.tokenizer, text), special=False)
        return ids or [self._some_id()]

    def _tokenized(self, text: str, *, special: bool) -> list[int]:
        ids = self._called(text, special)
        end = [self.tokenizer.eos_token_id] if self.append_eos and special else []
        end = end if ids[-1:] != end else []
        if self.max_length is None or len(ids) + len(end) <= self.max_length:
            return [*ids, *end]
        self.n_cut += 1
        if special:
            return [*self._called(text, special, truncation=True, max_length=self.max_length - len(end)), *end]
        first = 1 if ids[0] in self.tokenizer.all_special_ids else 0
        return [*ids[:first], *ids[len(ids) - self.max_length + first :]]

    def _called(self, text: str, special: bool, **options: Any) -> list[int]:
        called = self.tokenizer(text, add_special_tokens=special, verbose=False, **options)
        return [int(i) for i in called["input_ids"]]

    def _some_id(self) -> int:
        """What stands for a text without any token."""
        for name in ("bos_token_id", "cls_token_id", "eos_token_id", "pad_token_id"):
            if getattr(self.tokenizer, name, None) is not None:
                return int(getattr(self.tokenizer, name))
        raise InputError(
            "classifier",
            got="an empty text, and a tokenizer without any special token",
            expected="at least one token",
            fix="set `tokenizer.bos_token` and save the tokenizer again",
        )
