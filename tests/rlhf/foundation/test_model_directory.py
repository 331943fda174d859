"""Model directories: what loads, what is refused in one line, and that a save is whole or absent."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPT2Model,
    PreTrainedTokenizerFast,
)

from rlhf.foundation.errors import InputError
from rlhf.foundation.model_directory import load_causal_lm, load_tokenizer, replacing_directory, save_model


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({"<unk>": 0, "<bos>": 1, "joy": 2, "woe": 3}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<bos>", eos_token="<bos>", unk_token="<unk>")


def tiny_config() -> GPT2Config:
    return GPT2Config(
        vocab_size=4, n_embd=8, n_layer=1, n_head=2, n_positions=16, bos_token_id=1, eos_token_id=1, resid_pdrop=0.5
    )


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_model(GPT2LMHeadModel(tiny_config()), tiny_tokenizer(), tmp_path / "model")
    return tmp_path / "model"


def test_a_saved_model_comes_back_whole_and_without_dropout(directory: Path) -> None:
    torch.manual_seed(0)
    expected = GPT2LMHeadModel(tiny_config()).state_dict()
    model = load_causal_lm(str(directory))
    assert not model.training
    assert model.config._attn_implementation == "sdpa"
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, expected[name]), name
    ids = torch.tensor([[1, 2, 3]])
    assert torch.equal(model(ids).logits, model(ids).logits)  # dropout of 0.5 would differ
    assert load_tokenizer(str(directory)).get_vocab() == tiny_tokenizer().get_vocab()


def test_dtype(directory: Path) -> None:
    assert load_causal_lm(str(directory), dtype=torch.bfloat16).dtype == torch.bfloat16


def damage(directory: Path, kind: str) -> None:
    weights = directory / "model.safetensors"
    if kind == "torn":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif kind == "empty":
        weights.write_bytes(b"")
    elif kind == "pickle only":
        weights.unlink()
        torch.save({}, directory / "pytorch_model.bin")
    elif kind == "torn config":
        (directory / "config.json").write_text('{"model_type": "gp')
    elif kind == "unknown type":
        (directory / "config.json").write_text('{"model_type": "nosuch"}')
    elif kind == "config is a list":
        (directory / "config.json").write_text("[]")
    elif kind == "config is null":
        (directory / "config.json").write_text("null")
    elif kind == "type is a list":
        (directory / "config.json").write_text('{"model_type": ["gpt2"]}')
    elif kind == "layers are a word":
        (directory / "config.json").write_text('{"model_type": "gpt2", "n_layer": "two"}')
    elif kind == "generation config is a list":
        (directory / "generation_config.json").write_text("[]")
    elif kind == "no config":
        (directory / "config.json").unlink()
    elif kind == "other shape":
        (directory / "config.json").write_text(
            (directory / "config.json").read_text().replace('"n_embd": 8', '"n_embd": 4')
        )


KINDS = [
    "torn", "empty", "pickle only", "torn config", "config is a list", "config is null", "type is a list",
    "layers are a word", "generation config is a list", "unknown type", "no config", "other shape",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_models_are_refused_in_one_line(directory: Path, kind: str) -> None:
    damage(directory, kind)
    with pytest.raises(InputError) as caught:
        load_causal_lm(str(directory))
    assert str(directory) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_without_its_head_is_not_filled_with_random_weights(tmp_path: Path) -> None:
    config = tiny_config()
    config.tie_word_embeddings = False
    GPT2Model(config).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"no weights for lm_head\.weight"):
        load_causal_lm(str(tmp_path))


def test_an_absent_output_layer_is_named_with_what_ties_it(tmp_path: Path) -> None:
    """GPT-2's class names the tie; a config that denies it makes the output layer absent."""
    config = tiny_config()
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace('"tie_word_embeddings": true', '"tie_word_embeddings": false'))
    with pytest.raises(InputError) as caught:
        load_causal_lm(str(tmp_path))
    expected = 'one matrix with transformer.wte.weight, say so: `"tie_word_embeddings": true` in config.json; else save'
    assert expected in str(caught.value)


class Untied(GPT2LMHeadModel):
    """As a class of one's own that has not heard of the tie."""

    _tied_weights_keys = None


def test_a_class_that_does_not_name_its_tie_is_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    GPT2LMHeadModel(tiny_config()).save_pretrained(tmp_path)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", Untied.from_pretrained)
    with pytest.raises(InputError) as caught:
        load_causal_lm(str(tmp_path))
    assert "say so: `_tied_weights_keys = {'lm_head.weight': 'transformer.wte.weight'}` in Untied; else" in str(
        caught.value
    )


def test_a_trunk_that_lacks_more_than_its_output_layer_is_no_language_model(tmp_path: Path) -> None:
    config = tiny_config()
    config.tie_word_embeddings = False
    model = GPT2LMHeadModel(config)
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    kept = {name: w for name, w in weights.items() if name not in ("lm_head.weight", "transformer.ln_f.bias")}
    save_file(kept, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"and 1 more; .* name a directory that holds a language model, not a"):
        load_causal_lm(str(tmp_path))


IN_A_NOTEBOOK = """
import sys
from pathlib import Path
from huggingface_hub.utils import are_progress_bars_disabled
from transformers.utils import logging
from rlhf.foundation.model_directory import load_causal_lm, load_tokenizer, save_model
save_model(load_causal_lm(sys.argv[1]), load_tokenizer(sys.argv[1]), Path(sys.argv[2]))
print(logging.is_progress_bar_enabled(), are_progress_bars_disabled())
"""


def test_loading_and_saving_say_nothing_and_leave_the_bars_as_they_were(directory: Path, tmp_path: Path) -> None:
    """In a process that set nothing up, as a notebook's does not."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("HF_HUB", "TRANSFORMERS"))}
    words = [sys.executable, "-c", IN_A_NOTEBOOK, str(directory), str(tmp_path / "again")]
    done = subprocess.run(words, env={**bare, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("True False\n", "")


def test_weights_that_the_config_has_no_place_for_are_not_left_out(tmp_path: Path) -> None:
    config = tiny_config()
    config.n_layer = 2
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace('"n_layer": 2', '"n_layer": 1'))
    with pytest.raises(InputError, match=r"no place for: transformer\.h\.1\.\S+ and 10 more"):
        load_causal_lm(str(tmp_path))


def test_attention_is_torch_s_where_the_architecture_has_it_and_its_own_where_not(tmp_path: Path) -> None:
    config = BloomConfig(vocab_size=4, hidden_size=8, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=1)
    BloomForCausalLM(config).save_pretrained(tmp_path)
    assert load_causal_lm(str(tmp_path)).config._attn_implementation == "eager"


@pytest.mark.parametrize("content", ["[]", "null", "3"])
@pytest.mark.parametrize("name", ["tokenizer_config.json", "tokenizer.json", "special_tokens_map.json"])
def test_tokenizer_files_of_another_shape(directory: Path, name: str, content: str) -> None:
    (directory / name).write_text(content)
    with pytest.raises(InputError):
        load_tokenizer(str(directory))


@pytest.mark.parametrize(
    ("content", "message"),
    [("[]", "names no base model"), ('{"peft_type": "LORA"}', "names no base model"), ("{", "unusable files")],
)
def test_adapter_configs_of_another_shape(directory: Path, content: str, message: str) -> None:
    (directory / "adapter_config.json").write_text(content)
    with pytest.raises(InputError, match=message):
        load_causal_lm(str(directory))


def test_an_adapter_without_all_its_weights(directory: Path, tmp_path: Path) -> None:
    adapted = get_peft_model(load_causal_lm(str(directory)), LoraConfig(target_modules=["c_attn"], fan_in_fan_out=True))
    adapted.save_pretrained(tmp_path / "adapter")
    weights = tmp_path / "adapter" / "adapter_model.safetensors"
    tensors = load_file(weights)
    save_file(dict(sorted(tensors.items())[1:]), weights)
    with pytest.raises(InputError, match=r"no weights for .*lora_A\.weight; expected every weight"):
        load_causal_lm(str(tmp_path / "adapter"))
    weights.unlink()
    with pytest.raises(InputError, match=r"no adapter_model\.safetensors"):
        load_causal_lm(str(tmp_path / "adapter"))


@pytest.mark.parametrize("name", ["/nowhere/model", "./nowhere", "a/b/c", "some-hub-name", "owner/some-hub-name", ""])
def test_missing_models_are_refused_in_one_line(name: str) -> None:
    for load in (load_causal_lm, load_tokenizer):
        with pytest.raises(InputError) as caught:
            load(name)
        assert "\n" not in str(caught.value)


def test_missing_and_damaged_tokenizers(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError):
        load_tokenizer(str(tmp_path / "empty"))
    (directory / "tokenizer.json").write_text('{"torn')
    with pytest.raises(InputError):
        load_tokenizer(str(directory))


def test_saving_replaces_a_model_but_nothing_else(directory: Path, tmp_path: Path) -> None:
    (directory / "left-over.txt").write_text("of the old model")
    save_model(GPT2LMHeadModel(tiny_config()), tiny_tokenizer(), directory)
    assert not (directory / "left-over.txt").exists()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="other files"):
        save_model(GPT2LMHeadModel(tiny_config()), tiny_tokenizer(), tmp_path / "home")
    assert (tmp_path / "home" / "thesis.txt").read_text() == "years of work"
    (tmp_path / "a file").touch()
    with pytest.raises(InputError, match="a file"):
        save_model(GPT2LMHeadModel(tiny_config()), tiny_tokenizer(), tmp_path / "a file")


def test_an_interrupted_save_leaves_the_old_model_and_no_litter(directory: Path) -> None:
    before = (directory / "model.safetensors").read_bytes()

    def interrupted() -> None:
        with replacing_directory(directory) as temporary:
            (temporary / "model.safetensors").write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (directory / "model.safetensors").read_bytes() == before
    assert [path.name for path in directory.parent.iterdir()] == ["model"]


def test_pickles_are_not_shipped(tmp_path: Path) -> None:
    with replacing_directory(tmp_path / "out") as temporary:
        (temporary / "training_args.bin").write_bytes(b"pickle")
        (temporary / "config.json").write_text("{}")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["config.json"]


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A file that grows beyond `size` bytes fails to be written, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_told_in_the_systems_words_whoever_writes(tmp_path: Path) -> None:
    """Copying a directory raises a list of errors, tokenizers an exception without a class, safetensors its own."""
    tokenizer = Tokenizer(models.WordLevel({f"word {i}": i for i in range(500)}, unk_token="word 0"))
    (tmp_path / "source").mkdir()
    for name in ("a", "b"):
        (tmp_path / "source" / name).write_bytes(b"0" * 5000)
    writers: dict[str, Callable[[Path], object]] = {
        "copytree": lambda to: shutil.copytree(tmp_path / "source", to, dirs_exist_ok=True),
        "tokenizers": lambda to: tokenizer.save(str(to / "tokenizer.json")),
        "safetensors": lambda to: save_file({"w": torch.zeros(5000)}, to / "model.safetensors"),
    }
    for name, write in writers.items():
        with pytest.raises(InputError) as caught, files_of_at_most(1000), replacing_directory(tmp_path / name) as to:
            write(to)
        assert str(caught.value).startswith(f"writing {tmp_path / name}: got File too large; expected a writable disk")
        assert not (tmp_path / name).exists()
    with pytest.raises(Exception, match="another thing"), replacing_directory(tmp_path / "model"):
        raise Exception("another thing")
