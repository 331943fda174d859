"""What this project relies on in TRL, each with what to do when it is gone. `make check-trl TRL=1.14.2` runs it."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path

import pytest
import trl

from rlhf.commands.command_line import parse
from rlhf.foundation.errors import InputError
from rlhf.foundation.options import option

VERSION = tuple(int(part) for part in trl.__version__.split(".")[:2])
needs_1_16 = pytest.mark.skipif(VERSION < (1, 16), reason="--use_vllm is for TRL 1.16 and its vLLM classes")


@dataclasses.dataclass
class Example:
    """Options of a made-up command."""

    output_dir: str = option(help="a directory")
    learning_rate: float = option(1e-3, help="a rate, 100 %")
    names: list[str] = option([], help="names")


def test_the_version_is_one_that_was_tested() -> None:
    major, minor = (int(part) for part in trl.__version__.split(".")[:2])
    assert (major, minor) >= (1, 14), "older than what was tested: raise the floor in pyproject.toml or test it"


def test_the_parser_takes_dataclasses_and_words() -> None:
    parameters = inspect.signature(trl.TrlParser.parse_args_and_config).parameters
    fix = "TrlParser.parse_args_and_config changed: adapt rlhf/commands/command_line.py, the one file that calls it"
    assert {"args", "return_remaining_strings"} <= parameters.keys(), fix
    config = parse(Example, ["--output_dir", "x", "--names", "a", "b"], prog="rlhf example", description="")
    assert (config.output_dir, config.learning_rate, config.names) == ("x", 1e-3, ["a", "b"]), fix


def test_mistakes_still_surface_as_we_wrap_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fix = "TrlParser reports mistakes in another way: adapt rlhf.commands.command_line.parse"
    for words in (["--output_dir", "x", "--learning_rate", "fast"], ["--output_dir", "x", "stray"], []):
        with pytest.raises(InputError):
            parse(Example, words, prog="rlhf example", description="")
    assert capsys.readouterr().err == "", fix


def test_reward_functions_have_the_signature_that_trl_calls() -> None:
    source = inspect.getsource(trl.GRPOTrainer)
    fix = "GRPO calls reward functions with other names: adapt rlhf/ppo/reward_functions.py and docs/reward_models.md"
    for word in ("prompts=prompts", "completions=completions", "completion_ids="):
        assert word in source.replace(" ", ""), fix


@needs_1_16
def test_vllm_is_reached_as_it_was() -> None:
    from trl.generation import vllm_client, vllm_generation

    fix = "TRL's vLLM classes changed: adapt rlhf/ppo/vllm_engine.py and vllm_server.py, and run `make test-vllm`"
    generation = vllm_generation.VLLMGeneration
    asked = {"mode", "tensor_parallel_size", "gpu_memory_utilization", "max_model_length", "temperature", "top_p"}
    asked |= {"top_k", "min_p", "repetition_penalty", "max_completion_length", "logprobs", "generation_kwargs"}
    assert asked <= inspect.signature(generation.__init__).parameters.keys(), fix
    assert "self._iter_named_params()" in inspect.getsource(generation.sync_weights), fix
    assert "self.llm = LLM(" in inspect.getsource(generation._init_vllm), fix
    assert list(inspect.signature(generation.generate).parameters)[1:4] == ["prompts", "images", "num_generations"], fix
    client = vllm_client.VLLMClient
    assert {"base_url", "group_port", "connection_timeout"} <= inspect.signature(client.__init__).parameters.keys(), fix
    for method in (
        "init_communicator",
        "update_named_params",
        "reset_prefix_cache",
        "get_server_info",
        "_get",
        "_post",
    ):
        assert hasattr(client, method), fix


@needs_1_16
def test_vllm_options_have_the_names_of_trl() -> None:
    from rlhf import PPOConfig

    ours = {field.name for field in dataclasses.fields(PPOConfig) if "vllm" in field.name} - {"vllm_dtype"}
    theirs = {field.name for field in dataclasses.fields(trl.GRPOConfig)}
    assert len(ours) == 9
    assert ours <= theirs, "TRL renamed options of vLLM: follow it, and say so in rlhf/foundation/trl_names.py"


def test_reward_training_is_there() -> None:
    fix = "TRL moved its reward trainer: adapt rewards/preference_training.py, the one file that imports it"
    parameters = inspect.signature(trl.RewardTrainer.__init__).parameters
    assert {"model", "args", "train_dataset", "processing_class"} <= parameters.keys(), fix
    fields = {field.name for field in dataclasses.fields(trl.RewardConfig)}
    assert {"use_cpu", "bf16", "gradient_checkpointing", "save_strategy", "report_to"} <= fields, fix


def test_other_methods_take_ids_of_ours() -> None:
    fix = "TRL renamed what rlhf/methods/trl_trainers.py overrides, the one file that does: adapt it"
    for trainer in (trl.DPOTrainer, trl.KTOTrainer):
        assert callable(getattr(trainer, "_prepare_dataset", None)), fix
    for trainer in (trl.GRPOTrainer, trl.RLOOTrainer):
        source = inspect.getsource(trainer)
        assert "prompt_ids, images, multimodal_fields = self._tokenize_prompts(prompts)" in source, fix
    for name in ("prompt_ids", "chosen_ids", "rejected_ids"):
        assert name in inspect.getsource(trl.DPOTrainer._set_signature_columns_if_needed), fix
    for name in ("prompt_ids", "completion_ids", "KL_completion_ids", "label"):
        assert name in inspect.getsource(trl.KTOTrainer._set_signature_columns_if_needed), fix
