"""What does not go with a base in four bits is refused in one line."""

from __future__ import annotations

import importlib.util
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from peft import get_peft_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from rewards.rules import full_stop
from rlhf import PPOConfig, PPOTrainer
from rlhf.cli import main
from rlhf.foundation.errors import InputError
from rlhf.foundation.four_bit import FourBit
from rlhf.foundation.model_directory import load_causal_lm, save_model
from rlhf.ppo.learner import require_place_for

from .test_four_bit import SMALL, build, lora, needs_bitsandbytes

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


@pytest.fixture
def base(tokenizer: Any, tmp_path: Path) -> Path:
    save_model(build(), tokenizer, tmp_path / "base")
    return tmp_path / "base"


IN_OPTIONS: dict[str, dict[str, Any]] = {
    "--dtype float32": {"dtype": "float64"},
    "--dtype float32 with it": {"dtype": "bfloat16"},
    "no --use_vllm": {"use_vllm": True},
    "--train_scope all": {"train_scope": "last_layer"},
    "--critic shared": {"critic": "separate"},
}


@pytest.mark.parametrize(("expected", "options"), IN_OPTIONS.items(), ids=IN_OPTIONS.keys())
def test_options_that_do_not_go_with_four_bits(expected: str, options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=re.escape(expected)):
        PPOConfig(output_dir="-", load_in_4bit=True, **options)
    PPOConfig(output_dir="-", **options)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--load_in_4bit"], "--load_in_4bit: got it without --use_peft"),
        (["--use_peft", "--bnb_4bit_quant_type", "fp4"], "got it without --load_in_4bit"),
        (["--use_peft", "--load_in_4bit", "--bnb_4bit_quant_type", "int4"], "--bnb_4bit_quant_type"),
    ],
)
def test_the_command_refuses_in_one_line(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--model_name_or_path", str(tmp_path), "--reward_func", "full_stop", "--output_dir", str(tmp_path / "run")]
    assert main(["ppo", *given, *words]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert told in line


def test_without_bitsandbytes_the_extra_is_named(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "bitsandbytes" else find(name, *a)
    )
    words = ["--model_name_or_path", str(base), "--reward_func", "full_stop", "--output_dir", str(tmp_path / "run")]
    assert main(["ppo", *words, "--use_peft", "--load_in_4bit"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "pip install 'rlhf-ladder[4bit]'" in line
    with pytest.raises(InputError, match=r"rlhf-ladder\[4bit\]"):
        load_causal_lm(str(base), four_bit=FourBit())


def quantised_before(base: Path, directory: Path) -> Path:
    how: Any = BitsAndBytesConfig(load_in_4bit=True)
    AutoModelForCausalLM.from_pretrained(base, quantization_config=how).save_pretrained(directory)
    for path in base.glob("tokenizer*"):
        shutil.copy(path, directory)
    return directory


def an_adapter(base: Path, directory: Path) -> Path:
    get_peft_model(load_causal_lm(str(base)), lora()).save_pretrained(directory)
    return directory


@needs_bitsandbytes
@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda base, directory: build(), "a model in memory"),
        (an_adapter, "an adapter, and a base in four bits asked for"),
        (quantised_before, "weights that are quantised already"),
    ],
)
def test_models_that_cannot_be_quantised_here(
    make: Callable[[Path, Path], Any], told: str, base: Path, tokenizer: Any, tmp_path: Path
) -> None:
    model = make(base, tmp_path / "other")
    args = PPOConfig(output_dir=str(tmp_path / "run"), **SMALL)
    with pytest.raises(InputError, match=told):
        PPOTrainer(str(model) if isinstance(model, Path) else model, full_stop, args, processing_class=tokenizer,
                   peft_config=lora())  # fmt: skip


@needs_bitsandbytes
def test_an_object_that_is_quantised_and_four_bits_without_an_adapter(
    base: Path, tokenizer: Any, tmp_path: Path
) -> None:
    quantised = load_causal_lm(str(base), four_bit=FourBit())
    args = PPOConfig(output_dir=str(tmp_path / "run"), **{**SMALL, "load_in_4bit": False})
    with pytest.raises(InputError, match="an object whose weights are quantised"):
        PPOTrainer(quantised, full_stop, args, processing_class=tokenizer, peft_config=lora())
    with pytest.raises(InputError, match="--load_in_4bit: got no adapter"):
        PPOTrainer(str(base), full_stop, PPOConfig(output_dir=str(tmp_path / "run"), **SMALL))


def test_four_bits_are_not_cut_over_processes() -> None:
    with pytest.raises(InputError, match="--load_in_4bit: got FSDP2 or DeepSpeed"):
        require_place_for(FourBit(), adapter=True, cut=True)
    require_place_for(FourBit(), adapter=True, cut=False)
    require_place_for(None, adapter=False, cut=True)
