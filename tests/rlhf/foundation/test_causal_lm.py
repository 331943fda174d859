"""What a model can do, found out on a few tokens: each answer with a model of which it is known."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertLMHeadModel, GPT2Config, GPT2LMHeadModel, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput, CausalLMOutputWithPast

from rlhf.foundation.causal_lm import cache_name, probe_ids, reads_left_padding, require_usable, width
from rlhf.foundation.errors import InputError

from .test_model_directory import tiny_tokenizer

SIZE = 4  # as tiny_tokenizer has


class Sums(PreTrainedModel):
    """Logits of the running sum of the embeddings: everything before a token counts, masked or not."""

    config_class = PretrainedConfig

    def __init__(self, *, masks: bool = False, rows: int = SIZE) -> None:
        super().__init__(PretrainedConfig(vocab_size=rows))
        torch.manual_seed(0)
        self.embed, self.masks = nn.Embedding(rows, rows), masks

    def get_input_embeddings(self) -> Any:
        return self.embed

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **unused: Any) -> CausalLMOutput:
        embedded = self.embed(input_ids)
        if self.masks and attention_mask is not None:
            embedded = embedded * attention_mask[..., None]
        return CausalLMOutput(logits=embedded.cumsum(1))


class Carrying(Sums):
    """The same with its sum carried on; `forgets` carries nothing and says it did."""

    forgets = False

    def forward(  # type: ignore[override]
        self, input_ids: Tensor, past_key_values: Any = None, use_cache: bool = False, **unused: Any
    ) -> CausalLMOutputWithPast:
        logits = self.embed(input_ids).cumsum(1)
        if past_key_values is not None and not self.forgets:
            logits = logits + past_key_values
        return CausalLMOutputWithPast(logits=logits, past_key_values=logits[:, -1:] if use_cache else None)


class Forgetting(Carrying):
    forgets = True


class Strict(Sums):
    def forward(self, input_ids: Tensor) -> CausalLMOutput:  # type: ignore[override]
        return CausalLMOutput(logits=self.embed(input_ids))


def gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=SIZE, n_embd=8, n_layer=1, n_head=2, n_positions=16)).eval()


def test_the_learning_rate_follows_the_width_though_a_config_does_not_name_it() -> None:
    from rewards.preference_training import PreferenceSettings
    from rewards.token_training import FitSettings

    own = Sums(rows=5)  # an embedding of 5 rows of 5
    assert not hasattr(own.config, "hidden_size")
    assert (width(gpt2()), width(own)) == (8, 5)
    for settings in (FitSettings(1.0), PreferenceSettings(1.0)):
        assert settings.rate_for(own) == pytest.approx(0.02)  # 0.1 / 5


def test_the_probe_has_different_tokens_and_fits_the_context() -> None:
    model = gpt2()
    assert probe_ids(model).tolist() == [[0, 1, 2, 3]]
    model.config.n_positions = 2
    assert probe_ids(model).tolist() == [[0, 3]]


@pytest.mark.parametrize(("model", "reads"), [(Sums(), False), (Sums(masks=True), True), (gpt2(), True)])
def test_left_padding(model: Any, reads: bool) -> None:
    assert reads_left_padding(model) == reads


@pytest.mark.parametrize(
    ("model", "name"),
    [(Sums(), None), (Carrying(), "past_key_values"), (Forgetting(), None), (gpt2(), "past_key_values")],
)
def test_what_is_carried_from_token_to_token(model: Any, name: str | None) -> None:
    assert cache_name(model) == name


def broken() -> Any:
    model = gpt2()
    with torch.no_grad():
        model.transformer.ln_f.weight[0] = float("nan")
    return model


def encoder() -> Any:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=SIZE,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        initializer_range=0.5,
        is_decoder=False,
    )
    return BertLMHeadModel(config).eval()


def test_a_model_and_its_tokenizer_are_usable() -> None:
    for model in (gpt2(), Sums(), Carrying()):
        require_usable(model, tiny_tokenizer(), "m")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (broken(), "model m: got logits that are no numbers"),
        (encoder(), "model m: got predictions of a token that change with the text after it"),
        (Sums(rows=3), "tokenizer for m: got 'woe' as id 3 of 3 embeddings"),
        (Sums(rows=400), "tokenizer for m: got 4 tokens for a model of 400, which gives (99|100)% to the others"),
        (Strict(), "model m: got .*unexpected keyword argument"),
    ],
)
def test_what_could_not_be_right_is_refused(model: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        require_usable(model, tiny_tokenizer(), "m")
    assert "\n" not in str(caught.value)


def test_an_added_token_may_lack_an_embedding_as_long_as_nothing_uses_it() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["<never>"])
    require_usable(gpt2(), tokenizer, "m")
    tokenizer.pad_token = "<never>"
    with pytest.raises(InputError, match="got '<never>' as id 4 of 4 embeddings"):
        require_usable(gpt2(), tokenizer, "m")
