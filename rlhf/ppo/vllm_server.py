"""A vLLM server as the engine that samples, by TRL's `VLLMClient`. Start it as docs/vllm.md says.

Each process asks for its own completions. Weights go from the main process: over NCCL as TRL does where both sides are
on GPUs; else through a directory that both see, which vLLM's own reload reads (TRL's client knows NCCL alone).
A server's random numbers are its own: the same command samples others, `--resume` goes on from the same weights with
other completions.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from rlhf.foundation.errors import InputError
from rlhf.language_model.endings import Ending
from rlhf.ppo.config import PPOConfig
from rlhf.ppo.distributed import Processes
from rlhf.ppo.engine_weights import plain_weights
from rlhf.ppo.vllm_engine import NEUTRAL, Value, draws, sampling_settings, told
from rlhf.ppo.who_samples import Draw


class Served:
    """A server reached over HTTP."""

    even, own_seed = False, 0

    def __init__(self, config: PPOConfig, model: Any, ending: Ending, processes: Processes, room: int) -> None:
        """`room` is the most tokens of prompt and completion. Raises InputError when no fitting server answers."""
        self.model, self.processes, self.url = model, processes, str(config.vllm_server_base_url)
        self.client: Any = self._told(lambda: _client(config))
        facts = self._told(self._facts)
        require_server(facts, model, room, self._name)
        device = processes.accelerator.device
        self.over_nccl = device.type == "cuda" and facts["device"] == "cuda"
        if self.over_nccl and processes.is_main:
            self._told(lambda: self.client.init_communicator(device=device))
        self._announced: list[tuple[str, str, list[int]]] | None = None
        self.settings = {
            "n": 1,
            "temperature": config.temperature,
            "max_tokens": config.max_completion_length,
            "generation_kwargs": sampling_settings(config, ending, int(model.config.vocab_size)),
            **NEUTRAL,
        }

    @property
    def _name(self) -> str:
        return f"the vLLM server {self.url}"

    def _told(self, action: Callable[[], Value]) -> Value:
        return told(action, self._name, "see that it runs, started as docs/vllm.md says")

    def _facts(self) -> dict[str, Any]:
        """What the server says of itself."""
        info, served = self.client.get_server_info(), self.client._get(f"{self.client.base_url}/v1/models")["data"][0]
        return {
            "model": info["model_config"]["model"],
            "logprobs_mode": info["model_config"]["logprobs_mode"],
            "device": str(info["device_config"]["device"]).split(":")[0],
            "length": served["max_model_len"],
        }

    def renew(self) -> None:
        """As `Engine`."""
        self.processes.all_do(lambda: self._told(self._renew), "giving the server the policy's weights")

    def _renew(self) -> None:
        if self.over_nccl:
            self._broadcast()
        else:
            self._by_files()
        if self.processes.is_main:
            self.client.reset_prefix_cache()

    def _broadcast(self) -> None:
        """As TRL: the server is told names, types and shapes first, then every tensor is sent."""
        if self._announced is None:
            self._announced = [
                (name, str(weights.dtype).removeprefix("torch."), list(weights.shape))
                for name, weights in plain_weights(self.model)
            ]
        if self.processes.is_main:
            self.client.update_named_params(self._announced, plain_weights(self.model))
        else:
            for _ in plain_weights(self.model):  # of a cut model all processes give their parts
                pass

    def _by_files(self) -> None:
        from safetensors.torch import save_file

        with tempfile.TemporaryDirectory(prefix="rlhf-weights-") as directory:
            weights = {name: tensor.contiguous() for name, tensor in plain_weights(self.model)}
            if self.processes.is_main:
                save_file(weights, os.path.join(directory, "model.safetensors"), metadata={"format": "pt"})
                order = {"method": "reload_weights", "kwargs": {"weights_path": directory}}
                self.client._post(f"{self.client.base_url}/collective_rpc", json=order)

    def draw(self, prompts: Sequence[list[int]], seed: int) -> list[Draw]:
        """As `Engine`; the seed is left aside, since one would be every prompt's."""
        given = self._told(lambda: self.client.generate(prompts=list(prompts), **self.settings))
        return draws(given["completion_ids"], given["logprobs"])


def _client(config: PPOConfig) -> Any:
    from trl.generation.vllm_client import VLLMClient

    return VLLMClient(
        base_url=config.vllm_server_base_url,
        group_port=config.vllm_group_port,
        connection_timeout=config.vllm_server_timeout,
    )


def require_server(facts: dict[str, Any], model: Any, room: int, name: str) -> None:
    """Raise InputError when a server has another model, too little room, or log-probs of another distribution."""
    ours = str(model.name_or_path)
    if not same_model(ours, facts["model"]):
        raise InputError(
            name, got=f"the model {facts['model']}", expected=f"the policy's, {ours}", fix=f"start it with {ours}"
        )
    if facts["length"] < room:
        raise InputError(
            name,
            got=f"room for {facts['length']} tokens",
            expected=f"{room}, the longest prompt and a completion",
            fix=f"start it with --max-model-len {room}",
        )
    if facts["logprobs_mode"] != "processed_logprobs":
        raise InputError(
            name,
            got=f"--logprobs-mode {facts['logprobs_mode']}",
            expected="log-probs of the distribution that it samples from",
            fix="start it with --logprobs-mode processed_logprobs",
        )
    if facts["device"] == "cpu" and getattr(model.config, "tie_word_embeddings", False):
        raise InputError(
            name,
            got="a CPU, and a model whose output head is its embedding",
            expected="a model with a head of its own: on a CPU the server packs the head once and keeps it",
            fix="take --vllm_mode colocate, or save the model untied (tie_word_embeddings false)",
        )


def same_model(ours: str, theirs: str) -> bool:
    """Whether two names are one name, or one directory."""
    return ours == theirs or os.path.realpath(ours) == os.path.realpath(theirs)
