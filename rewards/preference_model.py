"""The comparison reward model: one score a text, fitted so that σ(score difference) is the chance of preference.

Bradley and Terry 1952; Christiano et al. 2017, "Deep reinforcement learning from human preferences", eq. 1. The model
is an ordinary sequence classifier of transformers with one output, so TRL loads it too (where transformers has one for
its class; score_head.py makes one where not). Its texts are encoded by rlhf/foundation/encoding.py in training and in
scoring alike: BOS first, no EOS. (TRL appends EOS in training, to plain text only, and GRPO scores without it: a model
would be asked at a position it was never trained on.)

Shapes: N texts.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from transformers import (
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoConfig,
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from rewards.batching import batches
from rewards.reward_file import REWARD_FILE, read_reward_file, write_reward_file
from rewards.score_head import has_classifier, is_scored, load_scored, scored
from rewards.token_model import evaluating, pick_device
from rlhf.foundation.adapters import adapter_base
from rlhf.foundation.causal_lm import settle, vocabulary_rows
from rlhf.foundation.conversation import Text
from rlhf.foundation.encoding import TextEncoder, require_encoding
from rlhf.foundation.errors import InputError
from rlhf.foundation.load_errors import LOAD_ERRORS, libraries_in_silence, load_failure
from rlhf.foundation.model_digests import identity_of
from rlhf.foundation.model_directory import load_causal_lm, load_tokenizer, replacing_directory
from rlhf.foundation.model_pair import LanguageModel, Model
from rlhf.foundation.tables import Report

_TOKENS_PER_BATCH = 4096


class PreferenceRewardModel:
    """A sequence classifier with one output, and its tokenizer; also a reward function in TRL's signature."""

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, report: dict[str, Any] | None = None
    ) -> None:
        """Raises InputError when the tokenizer has neither BOS nor EOS."""
        self.model, self.tokenizer = model, tokenizer
        self.report = Report(report or {})
        self.place: str | None = None
        self.__name__ = "preference_score"
        self.encoder = TextEncoder(tokenizer, max_length=getattr(model.config, "max_position_embeddings", None))
        self.pad_id = self.encoder.first_id if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id)

    @classmethod
    def from_pretrained(
        cls, directory: str | Path, *, device: torch.device | str | None = None
    ) -> PreferenceRewardModel:
        """Load what `rlhf reward --comparisons` wrote. Raises InputError as TokenRewardModel.from_pretrained does."""
        report = read_reward_file(Path(directory), kind="preference")
        model = load_classifier(str(directory), new_head=False)
        torch.nn.Module.to(model, pick_device(device))
        reward = cls(model, load_tokenizer(str(directory)), report=report)
        require_encoding(reward.encoder, report.get("encoding"), f"reward model {directory}")
        return reward

    def save(self, directory: Path, report: dict[str, Any]) -> Path:
        """Write model, tokenizer and reward_model.json atomically. Raises InputError like TokenRewardModel.save."""
        self.describe(report)
        self.model.config.get_text_config().pad_token_id = self.pad_id
        with replacing_directory(directory, marker=REWARD_FILE) as temporary:
            self.model.save_pretrained(temporary)
            self.tokenizer.save_pretrained(temporary)
            self.report = write_reward_file(temporary, self.report)
        return directory

    def describe(self, report: Mapping[str, Any]) -> None:
        """Take a report as one's own, without writing it."""
        self.report = Report({**report, "encoding": self.encoder.describe()})

    def identity(self) -> dict[str, Any]:
        """What its numbers depend on, for a run's provenance."""
        return identity_of(self.model, self.tokenizer, target=None)

    def encode(self, prompts: Sequence[Text], completions: Sequence[Text]) -> list[list[int]]:
        """Ids of each text: the one encoding of training and scoring; conversations through the chat template."""
        return self.encoder.encode(prompts, completions)

    def last_scores(self, input_ids: Tensor, mask: Tensor, model: Any = None) -> Tensor:
        """Scores (B,) at the last real token of each text, whatever its id; ids and mask (B, T), padded on the right.

        transformers' classifiers take the last id that is not the pad token for a text's end, and a pad token may well
        stand in texts (pad = unk, pad = eos): so what fills the rows is an id that none of them ends with. `model` is
        the own one as a trainer wrapped it.
        """
        ends = set(input_ids[torch.arange(len(mask), device=mask.device), mask.long().sum(1) - 1].tolist())
        free = next((i for i in (self.pad_id, *range(vocabulary_rows(self.model))) if i not in ends), None)
        if free is None:  # more texts than ids
            half = len(mask) // 2
            parts = ((input_ids[:half], mask[:half]), (input_ids[half:], mask[half:]))
            return torch.cat([self.last_scores(*part, model) for part in parts])
        self.model.config.get_text_config().pad_token_id = free
        ids = input_ids.masked_fill(~mask.bool(), free)
        called: Any = self.model if model is None else model
        logits: Tensor = called(input_ids=ids, attention_mask=mask.long(), use_cache=False).logits
        return logits.squeeze(-1)

    @torch.no_grad()
    def scores(self, prompts: Sequence[Text], completions: Sequence[Text]) -> Tensor:
        """The score of each text, (N,) on the CPU; only differences mean something. Any length and order."""
        encoded = self.encode(prompts, completions)
        found = torch.empty(len(encoded))
        padded = batches(encoded, max_tokens=_TOKENS_PER_BATCH, pad_id=self.pad_id, device=self.model.device)
        with evaluating(self.model):
            for batch in padded:
                found[batch.rows] = self.last_scores(batch.input_ids, batch.mask).float().cpu()
        return found

    def __call__(
        self,
        prompts: Sequence[Text],
        completions: Sequence[Text],
        completion_ids: Sequence[Sequence[int]] | None = None,
        **kwargs: Any,
    ) -> list[float]:
        """TRL's reward function: the score, plain text or conversations."""
        return [float(score) for score in self.scores(prompts, completions).tolist()]


def load_classifier(name_or_path: Model, *, new_head: bool) -> PreTrainedModel:
    """A sequence classifier with one output in eval mode; with `new_head` on top of a language model, a random one.

    transformers' own where its class has one, else a score on the causal language model (score_head.py). Raises
    InputError when the directory is damaged, or lacks the head although `new_head` is false.
    """
    if isinstance(name_or_path, LanguageModel):
        return classifier_on(name_or_path)
    own = not new_head and is_scored(name_or_path)
    if new_head and not has_classifier(name_or_path):
        return scored(name_or_path)
    try:
        with libraries_in_silence():
            loaded: Any = (
                load_scored(name_or_path)
                if own
                else AutoModelForSequenceClassification.from_pretrained(
                    name_or_path, num_labels=1, dtype=torch.float32, use_safetensors=True, output_loading_info=True
                )
            )
    except LOAD_ERRORS as error:
        raise load_failure(name_or_path, "a comparison reward model in safetensors", error) from error
    model, report = cast(tuple[PreTrainedModel, dict[str, Any]], loaded)
    absent = sorted(report["missing_keys"])
    if absent and not (new_head and all(name.startswith("score") for name in absent)):
        raise InputError(
            f"model {name_or_path}",
            got=f"no weights for {absent[0]}",
            expected="every weight of a " + ("language model" if new_head else "comparison reward model"),
            fix="name another directory",
        )
    return model


def classifier_on(language_model: LanguageModel) -> PreTrainedModel:
    """A classifier with a new head, at random, on a copy of a model in memory: transformers' own where it has one."""
    kinds: Any = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
    if type(language_model.model.config) not in kinds:
        return scored(language_model)
    lm = load_causal_lm(language_model)
    config = copy.deepcopy(lm.config)
    config.num_labels = 1
    model: Any = kinds[type(config)](config).float().eval()
    model.base_model.load_state_dict(lm.base_model.state_dict())
    settle(model)
    return cast(PreTrainedModel, model)


def encoder_for(name_or_path: Model, tokenizer: PreTrainedTokenizerBase) -> TextEncoder:
    """The encoder of a comparison reward model that is still to be fitted on this base model.

    Raises InputError like loading the model.
    """
    if isinstance(name_or_path, LanguageModel):
        limit = getattr(name_or_path.model.config, "max_position_embeddings", None)
        return TextEncoder(tokenizer, max_length=limit)
    try:
        config = AutoConfig.from_pretrained(adapter_base(name_or_path) or name_or_path)
    except LOAD_ERRORS as error:
        raise load_failure(name_or_path, "a language model or a classifier", error) from error
    return TextEncoder(tokenizer, max_length=getattr(config, "max_position_embeddings", None))
