"""A score on causal language models that transformers has no classifier for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import CausalLMOutput
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from rewards.loading import load_reward_model
from rewards.preference_model import PreferenceRewardModel, load_classifier
from rewards.preference_training import PreferenceSettings, fit_preferences
from rewards.score_head import ScoredCausalLM
from rlhf.foundation.model_directory import load_causal_lm, load_tokenizer, save_model

from .conftest import toy_model, toy_tokenizer
from .test_preference_model import planted

SIZE = len(toy_tokenizer())


class SumsConfig(PretrainedConfig):
    model_type = "own-sums"


class Sums(PreTrainedModel):
    """No trunk of its own, no hidden states, no arguments but ids: logits of the running sum of the embeddings."""

    config_class = SumsConfig

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.embed, self.head = nn.Embedding(SIZE, 8), nn.Linear(8, SIZE)
        self.post_init()

    def get_input_embeddings(self) -> Any:
        return self.embed

    def get_output_embeddings(self) -> Any:
        return self.head

    def forward(self, input_ids: Any, **unused: Any) -> CausalLMOutput:
        return CausalLMOutput(logits=self.head(self.embed(input_ids).cumsum(1)))


@pytest.fixture(scope="module", autouse=True)
def own_class() -> Any:
    AutoConfig.register("own-sums", SumsConfig)
    AutoModelForCausalLM.register(SumsConfig, Sums)
    yield
    CONFIG_MAPPING._extra_content.pop("own-sums")


def build(name: str) -> Any:
    torch.manual_seed(0)
    if name == "own-sums":
        return Sums(SumsConfig(hidden_size=8, bos_token_id=0, eos_token_id=0))
    small: dict[str, Any] = {
        "vocab_size": SIZE, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "attention_hidden_size": 16, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0,
    }  # fmt: skip
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **small))


@pytest.mark.parametrize(
    "name", ["cohere", "own-sums", *(pytest.param(name, marks=pytest.mark.slow) for name in ("mamba", "rwkv"))]
)
def test_a_hidden_word_is_recovered_by_any_class(name: str, tmp_path: Path) -> None:
    save_model(build(name), toy_tokenizer(), tmp_path / "base")
    with pytest.raises(ValueError, match="Unrecognized configuration class"):
        AutoModelForSequenceClassification.from_pretrained(tmp_path / "base")
    torch.manual_seed(0)
    model: Any = load_classifier(str(tmp_path / "base"), new_head=True)
    assert isinstance(model, ScoredCausalLM)
    base = load_causal_lm(str(tmp_path / "base"))
    ids = torch.tensor([[0, 3, 2, 7]])
    assert torch.equal(model.lm(input_ids=ids).logits, base(input_ids=ids).logits)  # the head is new, the rest is not
    reward = PreferenceRewardModel(model, load_tokenizer(str(tmp_path / "base")))
    assert reward([""] * 2, ["joy", "king and queen"])[:1] == pytest.approx(reward([""], ["joy"]), abs=1e-5)
    fit_preferences(reward, planted(200, seed=0), PreferenceSettings(num_train_epochs=6, learning_rate=1e-2), seed=0)
    fresh = planted(100, seed=1)
    first, second = (
        reward([p.prompt for p in fresh], [getattr(p, side) for p in fresh]) for side in ("first", "second")
    )
    right = sum((a > b) == (p.target == 1) for a, b, p in zip(first, second, fresh, strict=True))
    assert right >= 90
    reward.save(tmp_path / "reward", {"kind": "preference"})
    again = load_reward_model(tmp_path / "reward", device="cpu")
    assert again(["p: "] * 5, [p.first for p in fresh[:5]]) == pytest.approx(first[:5], abs=1e-5)


def test_the_score_is_linear_in_what_the_output_layer_reads() -> None:
    lm = build("own-sums")
    model = ScoredCausalLM(lm.config, lm)
    with torch.no_grad():
        model.score.weight.copy_(torch.arange(8.0)[None])
        embedded = lm.embed(torch.tensor([3, 2, 7]))
        scores = model(torch.tensor([[3, 2, 7], [3, 2, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]])).logits
    # Of three tokens the sum of three embeddings, of two that of two: the pad behind them is not read.
    expected = [float(embedded.sum(0) @ torch.arange(8.0)), float(embedded[:2].sum(0) @ torch.arange(8.0))]
    assert scores.squeeze(-1).tolist() == pytest.approx(expected, abs=1e-5)


def test_an_adapter_directory_is_a_base_like_any_other(tmp_path: Path) -> None:
    save_model(toy_model("llama"), toy_tokenizer(), tmp_path / "base")
    adapted = get_peft_model(
        load_causal_lm(str(tmp_path / "base")), LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    )
    adapted.save_pretrained(tmp_path / "adapter")
    toy_tokenizer().save_pretrained(tmp_path / "adapter")
    model: Any = load_classifier(str(tmp_path / "adapter"), new_head=True)
    ids = torch.tensor([[0, 3, 2, 7]])
    with torch.no_grad():
        merged, live = model.lm(input_ids=ids).logits, adapted.eval()(input_ids=ids).logits
    torch.testing.assert_close(merged, live, rtol=0, atol=1e-5)
