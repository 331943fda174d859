"""vLLM asked for where it cannot be had, or not so: one line. None of this needs vLLM."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file

from rlhf import cli
from rlhf.foundation.errors import InputError
from rlhf.language_model.endings import Ending
from rlhf.ppo import vllm_server
from rlhf.ppo.__main__ import parse_command
from rlhf.ppo.config import PPOConfig
from rlhf.ppo.distributed import start
from rlhf.ppo.engine_start import require_whole_adapter
from rlhf.ppo.vllm_engine import (
    LAUNCHERS,
    NEUTRAL,
    engine_dtype,
    environment_kept,
    require_groups,
    require_named,
    sampling_settings,
    told,
)
from rlhf.ppo.vllm_server import Served, require_server
from tests.rlhf.ppo.test_engine_weights import llama

SERVER = {"use_vllm": True, "vllm_mode": "server", "vllm_server_base_url": "http://127.0.0.1:9"}
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"vllm_mode": "server"}, "--vllm_mode: got it without --use_vllm"),
    ({"use_vllm": True, "vllm_mode": "elsewhere"}, "--vllm_mode: got 'elsewhere'"),
    ({"use_vllm": True, "vllm_mode": "server"}, "--vllm_server_base_url: got None"),
    ({"use_vllm": True, "vllm_server_base_url": "http://x"}, "--vllm_server_base_url: got http://x"),
    ({**SERVER, "vllm_server_base_url": "localhost:8000"}, "begins with http"),
    ({**SERVER, "vllm_tensor_parallel_size": 2}, "the server is told its own"),
    ({"use_vllm": True, "vllm_gpu_memory_utilization": 1.5}, "more than 0, at most 1"),
    ({"use_vllm": True, "vllm_importance_sampling_mode": "token"}, "token_truncate"),
    ({"use_vllm": True, "vllm_importance_sampling_clip_max": 0.5}, "at least 1"),
    ({**SERVER, "vllm_group_port": 70000}, "1 to 65535"),
    ({**SERVER, "vllm_server_timeout": 0.0}, "more than 0"),
]


@pytest.mark.parametrize(("options", "line"), WRONG)
def test_options_that_do_not_go_together(options: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError) as failure:
        PPOConfig(output_dir="-", **options)
    assert line in str(failure.value)


@pytest.mark.parametrize("cut", ["--top_k", "--top_p=0.9", "--min_p", "--repetition_penalty"])
def test_settings_that_bias_the_kl_are_refused(cut: str) -> None:
    words = ["--model_name_or_path", "m", "--output_dir", "o", "--reward_func", "full_stop", "--use_vllm", cut, "1"]
    with pytest.raises(InputError, match=r"biases|biased"):
        parse_command(words)


@pytest.mark.skipif(bool(os.environ.get("RLHF_VLLM")), reason="vLLM is here")
def test_without_vllm_it_is_said_before_a_model_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlhf.ppo.policy.load_original", lambda *_, **__: pytest.fail("a model was loaded"))
    (tmp_path / "model").mkdir()
    words = ["--model_name_or_path", str(tmp_path / "model"), "--output_dir", str(tmp_path / "run")]
    status = cli.main(["ppo", *words, "--reward_func", "full_stop", "--use_vllm"])
    said = capsys.readouterr().err
    assert (status, said.count("\n")) == (2, 1)
    assert "--use_vllm: got no vLLM in this environment; expected vLLM 0.22 to 0.31" in said
    assert not (tmp_path / "run").exists()
    PPOConfig(output_dir="-").require_vllm()


def test_every_request_samples_from_the_policy_itself() -> None:
    args = PPOConfig(output_dir="-", suppress_tokens=[2], stop_strings=["."])
    settings = sampling_settings(args, Ending((0, 3), None, (".",)), 5)
    assert settings["stop_token_ids"] == [0, 3]
    assert settings["ignore_eos"] is True
    assert settings["allowed_token_ids"] == [0, 1, 3, 4]
    assert settings["stop"] == ["."]
    plain = sampling_settings(PPOConfig(output_dir="-"), Ending((0,)), 5)
    assert not {"allowed_token_ids", "stop"} & plain.keys()
    assert NEUTRAL == {"top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "logprobs": 0}


def test_the_engine_computes_as_the_trainer_unless_said() -> None:
    kinds = [{}, {"bf16": True}, {"dtype": "float64"}, {"bf16": True, "use_vllm": True, "vllm_dtype": "float32"}]
    found = [engine_dtype(PPOConfig(output_dir="-", **options)) for options in kinds]
    assert found == ["float32", "bfloat16", "float32", "float32"]


def test_what_cannot_be_treated_is_one_line() -> None:
    with pytest.raises(InputError, match="a model in memory alone"):
        require_named(llama())
    gone = llama()
    gone.config._name_or_path = gone.name_or_path = "/nowhere/model"
    with pytest.raises(InputError, match="/nowhere/model, which is no more"):
        require_named(gone)
    with pytest.raises(InputError, match="a divisor of the 3 processes"):
        require_groups(2, 3)
    parted: Any = SimpleNamespace(distributed_type="DEEPSPEED")
    require_whole_adapter(llama(), parted)
    adapted = get_peft_model(llama(), LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
    with pytest.raises(InputError, match="an adapter under DeepSpeed"):
        require_whole_adapter(adapted, parted)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("No available memory for the cache blocks.\nTry more"), "--vllm_gpu_memory_utilization"),
        (RuntimeError("\n  it broke  \n"), "RuntimeError: it broke"),
        (KeyError(), "KeyError: no reason given"),
    ],
)
def test_what_the_engine_raises_is_one_line(error: Exception, line: str) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(InputError) as failure:
        told(fail, "starting vLLM")
    assert line in str(failure.value)
    assert "--resume" in str(failure.value)
    assert "\n" not in str(failure.value)


def test_an_engine_leaves_no_launcher_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setenv("RANK", "3")
    with environment_kept(LAUNCHERS):
        os.environ["WORLD_SIZE"], os.environ["RANK"] = "1", "0"
    assert "WORLD_SIZE" not in os.environ
    assert os.environ["RANK"] == "3"


# -- a server, with a client that stands in for TRL's ---------------------------------------------------------------


class Client:
    """TRL's VLLMClient as far as it is used, without a server."""

    base_url = "http://server"

    def __init__(self, model: str, **facts: Any) -> None:
        self.facts = {"model": model, "logprobs_mode": "processed_logprobs", "device": "cpu", "length": 64} | facts
        self.calls, self.weights = list[str](), dict[str, torch.Tensor]()

    def get_server_info(self) -> dict[str, Any]:
        of_model = {"model": self.facts["model"], "logprobs_mode": self.facts["logprobs_mode"]}
        return {"model_config": of_model, "device_config": {"device": self.facts["device"]}}

    def _get(self, url: str) -> dict[str, Any]:
        assert url == "http://server/v1/models"
        return {"data": [{"max_model_len": self.facts["length"]}]}

    def _post(self, url: str, json: dict[str, Any]) -> None:
        assert (url, json["method"]) == ("http://server/collective_rpc", "reload_weights")
        self.calls.append("reload")
        self.weights = load_file(Path(json["kwargs"]["weights_path"]) / "model.safetensors")

    def init_communicator(self, device: torch.device) -> None:
        self.calls.append(f"communicator on {device.type}")

    def update_named_params(self, metadata: Sequence[Any], named: Any) -> None:
        self.weights = dict(named)
        assert [(n, str(w.dtype)[6:], list(w.shape)) for n, w in self.weights.items()] == list(metadata)
        self.calls.append("broadcast")

    def reset_prefix_cache(self) -> None:
        self.calls.append("reset")

    def generate(self, prompts: Sequence[list[int]], **settings: Any) -> dict[str, Any]:
        assert settings.items() >= (NEUTRAL | {"n": 1, "temperature": 1.0, "max_tokens": 4}).items()
        return {"completion_ids": [[5, 0] for _ in prompts], "logprobs": [[[-1.0], [-2.0]] for _ in prompts]}


def served(monkeypatch: pytest.MonkeyPatch, client: Client, model: Any, device: str = "cpu") -> Served:
    monkeypatch.setattr(vllm_server, "_client", lambda config: client)
    processes = start(use_cpu=True, straggler_timeout=45.0)
    on: Any = SimpleNamespace(
        accelerator=SimpleNamespace(device=torch.device(device)), is_main=True, all_do=processes.all_do
    )
    return Served(PPOConfig(output_dir="-", max_completion_length=4, **SERVER), model, Ending((0,)), on, 20)


def named(tied: bool = False) -> Any:
    model = llama(tied=tied)
    model.name_or_path = "some/model"
    return model


def test_a_server_takes_weights_by_files_where_there_is_no_nccl(monkeypatch: pytest.MonkeyPatch) -> None:
    client, model = Client("some/model"), named()
    server = served(monkeypatch, client, model)
    server.renew()
    assert client.calls == ["reload", "reset"]
    assert client.weights.keys() == dict(model.named_parameters()).keys()
    assert all(torch.equal(client.weights[name], parameter) for name, parameter in model.named_parameters())
    assert [tuple(draw) for draw in server.draw([[1], [2]], 7)] == [([5, 0], [-1.0, -2.0])] * 2


def test_between_gpus_weights_go_as_trl_sends_them(monkeypatch: pytest.MonkeyPatch) -> None:
    client, model = Client("some/model", device="cuda"), named(tied=True)
    server = served(monkeypatch, client, model, device="cuda")
    server.renew()
    server.renew()
    assert client.calls == ["communicator on cuda", *["broadcast", "reset"] * 2]
    assert client.weights.keys() == dict(model.named_parameters()).keys()


FITTING = {"model": "some/model", "logprobs_mode": "processed_logprobs", "device": "cuda", "length": 20}


@pytest.mark.parametrize(
    ("other", "line"),
    [
        ({"model": "another/model"}, "got the model another/model; expected the policy's, some/model"),
        ({"length": 19}, "start it with --max-model-len 20"),
        ({"logprobs_mode": "raw_logprobs"}, "start it with --logprobs-mode processed_logprobs"),
        ({"device": "cpu"}, "a model whose output head is its embedding"),
    ],
)
def test_a_server_that_does_not_fit(other: dict[str, Any], line: str) -> None:
    require_server(FITTING, named(tied=True), 20, "the server")
    with pytest.raises(InputError) as failure:
        require_server(FITTING | other, named(tied=True), 20, "the server")
    assert line in str(failure.value)


def test_one_directory_under_two_names_is_one_model(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "other").symlink_to(tmp_path / "model")
    model = named()
    model.name_or_path = str(tmp_path / "other")
    require_server(FITTING | {"model": str(tmp_path / "model")}, model, 20, "the server")


def test_a_server_that_dies_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client("some/model")
    server = served(monkeypatch, client, named())

    def refused(**_: Any) -> None:
        raise ConnectionError("Connection refused")

    monkeypatch.setattr(client, "generate", refused)
    with pytest.raises(InputError, match=r"the vLLM server http://127.0.0.1:9: got ConnectionError: .*--resume"):
        server.draw([[1]], 0)
