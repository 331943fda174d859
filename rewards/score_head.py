"""A score on any causal language model: for classes that transformers has no classifier for, one's own included.

The score is a linear function, without bias, of the last real token's final hidden state: what the output layer reads.

Shapes: B texts, T tokens, H hidden width.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import (
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import SequenceClassifierOutput

from rlhf.foundation.adapters import adapter_base
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_object
from rlhf.foundation.load_errors import LOAD_ERRORS, load_failure
from rlhf.foundation.model_directory import load_causal_lm
from rlhf.foundation.model_pair import Model

NAME = "ScoredCausalLM"


class ScoredCausalLM(PreTrainedModel):
    """`lm`, a causal language model, and `score`, H -> 1. Its directory is one of transformers', under this name."""

    base_model_prefix = "lm"
    _supports_sdpa = True  # or not: `lm` has chosen already

    def __init__(self, config: PretrainedConfig, lm: Any = None) -> None:
        """`lm` None makes one from `config`, to be filled with saved weights."""
        make: Any = AutoModelForCausalLM.from_config
        lm = make(config) if lm is None else lm
        super().__init__(lm.config)
        self.lm, self.config.num_labels = lm, 1
        self.score = nn.Linear(_output_width(self.lm), 1, bias=False)
        self.post_init()  # type: ignore[no-untyped-call]

    @classmethod
    def _can_set_experts_implementation(cls) -> bool:
        return True  # as above: transformers would look for experts in this file

    def get_input_embeddings(self) -> Any:
        """The language model's."""
        return self.lm.get_input_embeddings()

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **options: Any) -> SequenceClassifierOutput:
        """Scores as `logits` (B, 1), each read at the last token that `attention_mask` (B, T) shows."""
        hidden = self.hidden_states(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        last = (attention_mask.long() * places).argmax(1)  # (B,)
        return SequenceClassifierOutput(logits=self.score(hidden[torch.arange(len(last), device=last.device), last]))

    def hidden_states(self, **inputs: Any) -> Tensor:
        """What the output layer reads, (B, T, H): the trunk's last hidden state, or seen on the way into that layer."""
        trunk = self.lm.base_model
        found = getattr(trunk(**inputs), "last_hidden_state", None) if trunk is not self.lm else None
        if found is not None:
            return found  # type: ignore[no-any-return]
        seen: list[Tensor] = []
        watch = self.lm.get_output_embeddings().register_forward_pre_hook(lambda layer, given: seen.append(given[0]))
        try:
            self.lm(**inputs)
        finally:
            watch.remove()
        return seen[0]


def has_classifier(name_or_path: str) -> bool:
    """Whether transformers can put a classifier's head on this model's class, or has put one; never on an adapter."""
    if adapter_base(name_or_path) is not None:
        return False
    try:
        return type(AutoConfig.from_pretrained(name_or_path)) in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
    except LOAD_ERRORS as error:
        raise load_failure(name_or_path, "a language model or a classifier", error) from error


def is_scored(name_or_path: str) -> bool:
    """Whether a directory holds a `ScoredCausalLM`."""
    config = Path(name_or_path) / "config.json"
    return config.is_file() and NAME in (read_object(config).get("architectures") or [])


def scored(name_or_path: Model) -> ScoredCausalLM:
    """A new score, at random, on the language model of a directory or hub name. Raises InputError like loading it."""
    lm: Any = load_causal_lm(name_or_path)
    return nn.Module.eval(ScoredCausalLM(lm.config, lm))


def load_scored(directory: str) -> tuple[ScoredCausalLM, dict[str, Any]]:
    """What `save_pretrained` wrote, in eval mode, and transformers' report of it. Raises its LOAD_ERRORS."""
    config = AutoConfig.from_pretrained(directory)
    loaded = ScoredCausalLM.from_pretrained(
        directory, config=config, dtype=torch.float32, use_safetensors=True, output_loading_info=True
    )
    return cast(tuple[ScoredCausalLM, dict[str, Any]], loaded)


def _output_width(lm: Any) -> int:
    layer = lm.get_output_embeddings()
    if layer is None:
        raise InputError(
            f"model {type(lm).__name__}",
            got="no output layer",
            expected="a causal language model whose `get_output_embeddings` gives the layer before the logits",
            fix="define it (docs/own_model.md)",
        )
    return int(layer.weight.shape[1])
