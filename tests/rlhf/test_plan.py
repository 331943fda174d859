"""`rlhf plan`: figures by hand on a tiny model, what each option takes off, and bad input in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig

import rlhf
from rlhf.foundation.errors import InputError
from rlhf.planning.meter import Meter

V, H, L, F, HEADS = 500, 32, 3, 64, 4
GIB = 2**30


@pytest.fixture(scope="module")
def config_alone(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    LlamaConfig(
        vocab_size=V, hidden_size=H, num_hidden_layers=L, intermediate_size=F, num_attention_heads=HEADS,
        num_key_value_heads=HEADS, tie_word_embeddings=False, architectures=["LlamaForCausalLM"],
    ).save_pretrained(folder)  # fmt: skip
    return str(folder)


def planned(model: str, **options: Any) -> Any:
    given = {"gpu_memory_gib": 1.0, "minibatch_size": 32, "iteration_batch_size": 64, "max_completion_length": 12}
    return rlhf.plan(model_name_or_path=model, **{**given, **options})


# Embedding and head, and of each block four projections of attention, three of the MLP and two norms; the last norm.
PARAMETERS = 2 * V * H + L * (4 * H * H + 3 * H * F + 2 * H) + H


def test_parts_by_hand(config_alone: str) -> None:
    found = planned(config_alone)
    buffer = found.parts["weights"] * GIB - 4 * PARAMETERS  # rotary frequencies
    assert 0 <= buffer <= 8 * H
    assert found.parts["reference"] == found.parts["weights"]
    assert found.parts["gradients"] * GIB == 4 * PARAMETERS
    assert found.parts["Adam"] * GIB == 8 * PARAMETERS
    assert found.parts["KV cache"] * GIB == 2 * L * 64 * (8 + 12) * H * 4  # keys and values of 64 rows of 20 places
    assert found.parts["critic"] == 0
    assert found.fits
    assert found.change == {}


@pytest.mark.slow
def test_what_options_take_off(config_alone: str) -> None:
    whole, last, adapter = (planned(config_alone, **o) for o in ({}, {"train_scope": "last_layer"}, {"use_peft": True}))
    block = 4 * H * H + 3 * H * F + 2 * H
    assert last.parts["Adam"] * GIB == 8 * (block + H)
    assert last.parts["reference"] == whole.parts["reference"]
    assert adapter.parts["reference"] == 0
    assert adapter.parts["Adam"] < whole.parts["Adam"]
    again = planned(config_alone, gradient_checkpointing=True)
    assert again.parts["activations"] < 0.8 * whole.parts["activations"]
    critic = planned(config_alone, critic="separate")
    assert critic.parts["critic"] * GIB == pytest.approx(4 * (PARAMETERS - V * H), rel=0.01)  # no head
    cut = planned(config_alone, num_processes=4, sharding="fsdp2")
    assert cut.parts["Adam"] == pytest.approx(whole.parts["Adam"] / 4, rel=0.01)
    plain = planned(config_alone, num_processes=4)
    assert plain.parts["gradients"] == 2 * whole.parts["gradients"]  # and DDP's buckets


def test_a_base_in_four_bits_by_hand(config_alone: str) -> None:
    """Of each block 4 projections of attention and 3 of the MLP in half a byte, and 4 bytes more for each 64 numbers;
    embedding, head, norms and adapter in four bytes."""
    linear = L * (4 * H * H + 3 * H * F)
    adapter = L * 16 * (4 * (H + H) + 3 * (H + F))
    bits = linear // 2 + linear // 64 * 4
    found, whole = (planned(config_alone, use_peft=True, **o) for o in ({"load_in_4bit": True}, {}))
    buffer = found.parts["weights"] * GIB - (bits + 4 * (PARAMETERS - linear + adapter))
    assert 0 <= buffer <= 8 * H
    assert (whole.parts["weights"] - found.parts["weights"]) * GIB == 4 * linear - bits
    assert found.parts["Adam"] * GIB == 8 * adapter
    assert found.parts["reference"] == 0
    assert found.parts["KV cache"] == whole.parts["KV cache"]


@pytest.mark.slow
def test_four_bits_are_offered_where_nothing_that_changes_less_fits(config_alone: str) -> None:
    given: dict[str, Any] = {"use_peft": True, "minibatch_size": 1, "gradient_checkpointing": True}
    given |= {"logits_memory_mb": 1, "per_device_generation_batch_size": 1, "max_completion_length": 4}
    whole, small = (planned(config_alone, **given, **o) for o in ({}, {"load_in_4bit": True}))
    between = (whole.peak + small.peak) / 2 * 1.15
    assert planned(config_alone, **{**given, "gpu_memory_gib": between}).change == {"load_in_4bit": True}


@pytest.mark.slow
def test_what_does_not_fit_says_what_would(config_alone: str, capsys: pytest.CaptureFixture[str]) -> None:
    whole = planned(config_alone)
    small = planned(config_alone, gpu_memory_gib=whole.peak * 1.1)
    assert not small.fits
    assert small.change is not None
    assert small.changed_peak < whole.peak
    assert "would fit" in small.text
    hopeless = planned(config_alone, gpu_memory_gib=1e-5, use_peft=True, gradient_checkpointing=True, minibatch_size=1)
    assert hopeless.change is None
    assert "no change" in hopeless.text


def test_the_command_prints_it(config_alone: str, capsys: pytest.CaptureFixture[str]) -> None:
    from rlhf.cli import main

    words = ["plan", "--model_name_or_path", config_alone, "--config", "full_stop", "--gpu_memory_gib", "24"]
    assert main(words) == 0
    assert "fits: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"gpu_memory_gib": 0.0}, "--gpu_memory_gib"),
        ({"num_processes": 0}, "--num_processes"),
        ({"num_processes": 5}, "--num_processes"),
        ({"prompt_tokens": 0}, "--prompt_tokens"),
        ({"sharding": "fsdp2"}, "--sharding"),
        ({"sharding": "fsdp2", "num_processes": 2, "use_peft": True, "load_in_4bit": True}, "--sharding"),
    ],
)
def test_bad_options_are_one_line(config_alone: str, options: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        planned(config_alone, **options)


@pytest.mark.parametrize("text", [None, "{", json.dumps({"model_type": "no such"}), json.dumps({"model_type": "clip"})])
def test_a_model_without_a_config_of_a_language_model_is_one_line(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match="model"):
        planned(str(tmp_path))


def test_the_meter_counts_what_is_held() -> None:
    kept = torch.zeros(100)
    meter = Meter()
    meter.overlook([kept])
    with meter:
        first = torch.ones(1000)  # 4,000 bytes
        second = first * 2  # 4,000 more
        view = second[10:]
        del first, second
        assert (meter.now, meter.peak) == (4000, 8000)
        kept.add_(1)
        del view
    assert (meter.now, meter.peak) == (0, 8000)
