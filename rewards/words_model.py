"""A language model as it is, asked about a text by two words: log P(first) between them, in nats, as the reward.

    r(x) = log σ(z_first - z_second)        after the text, or after a question about it

No token is added and nothing is trained: a judge that costs one forward pass a text.

Shapes: N texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from rewards.batching import batches
from rewards.template import completion_text, prompt_text, require_fields
from rewards.token_model import evaluating, pick_device
from rlhf.foundation.conversation import Text
from rlhf.foundation.encoding import encode_prompt
from rlhf.foundation.errors import InputError
from rlhf.foundation.model_digests import identity_of
from rlhf.foundation.model_directory import load_causal_lm, load_tokenizer

_TOKENS_PER_BATCH = 4096


class WordsReward:
    """A causal language model, two words of one token each, and a template; a reward function in TRL's signature."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        words: Sequence[str],
        *,
        template: str = "{prompt}{completion}",
        chat: bool = False,
        name: str = "words",
    ) -> None:
        """`template` has {prompt} and {completion}; with `chat` it is a user's message, and a word begins the answer.

        Raises InputError for words of several tokens, and another field in the template.
        """
        self.model, self.tokenizer, self.words, self.template, self.chat = model, tokenizer, list(words), template, chat
        self.place, self.__name__ = name, name.rstrip("/").rsplit("/", 1)[-1]
        if len(self.words) != 2 or self.words[0] == self.words[1]:
            raise _refuse(name, f"words: {self.words}", "two that differ", "the good one first")
        require_fields(template, f"language model {name} as a reward", ["completion"], ["prompt"])
        self.ids = [self._one_token(word) for word in self.words]
        self.max_length = getattr(model.config, "max_position_embeddings", None)

    @classmethod
    def from_pretrained(
        cls, name_or_path: str, words: Sequence[str], *, device: torch.device | str | None = None, **options: Any
    ) -> WordsReward:
        """Load a directory or hub name. Raises InputError as loading a language model does."""
        model = load_causal_lm(name_or_path)
        torch.nn.Module.to(model, pick_device(device))
        return cls(model, load_tokenizer(name_or_path), words, **{"name": name_or_path, **options})

    def identity(self) -> dict[str, Any]:
        """What its numbers depend on, for a run's provenance."""
        asked = {"words": self.words, "template": self.template, "as_user": self.chat}
        return identity_of(self.model, self.tokenizer, **asked)

    @torch.no_grad()
    def log_odds(self, prompts: Sequence[Text], completions: Sequence[Text]) -> Tensor:
        """log P(first word) - log P(second word) after each text, (N,) on the CPU, in nats."""
        encoded = [self._encode(p, c) for p, c in zip(prompts, completions, strict=True)]
        found = torch.empty(len(encoded))
        first, second = self.ids
        padded = batches(encoded, max_tokens=_TOKENS_PER_BATCH, pad_id=0, device=self.model.device)
        with evaluating(self.model):
            for batch in padded:
                ids, mask = batch.input_ids, batch.mask.long()
                logits = self.model(input_ids=ids, attention_mask=mask, use_cache=False).logits  # (B, T, V)
                last = logits[torch.arange(len(logits), device=logits.device), batch.last].float()
                found[batch.rows] = (last[:, first] - last[:, second]).cpu()
        return found

    def __call__(
        self,
        prompts: Sequence[Text],
        completions: Sequence[Text],
        completion_ids: Sequence[Sequence[int]] | None = None,
        **kwargs: Any,
    ) -> list[float]:
        """TRL's reward function: log P of the first word between the two, in nats."""
        return [float(score) for score in logsigmoid(self.log_odds(prompts, completions)).tolist()]

    def _encode(self, prompt: Text, completion: Text) -> list[int]:
        text = self.template.format(prompt=prompt_text(prompt), completion=completion_text(completion))
        ids = encode_prompt(self.tokenizer, [{"role": "user", "content": text}] if self.chat else text)
        limit = self.max_length
        if limit is None or len(ids) <= limit:
            return ids
        raise _refuse(self.place, f"a text of {len(ids)} tokens", f"at most {limit}, its context", "shorten the texts")

    def _one_token(self, word: str) -> int:
        ids = self.tokenizer(word, add_special_tokens=False)["input_ids"]
        if len(ids) != 1:
            raise _refuse(
                self.place,
                f"the word {word!r}, {len(ids)} tokens",
                "words of one token each",
                "choose another, with or without the space before it",
            )
        return int(ids[0])


def _refuse(name: str, got: str, expected: str, fix: str) -> InputError:
    return InputError(f"language model {name} as a reward", got=got, expected=expected, fix=fix)
