"""The engine that the options ask for in the own sampler's place, and what it cannot be had with."""

from __future__ import annotations

from typing import Any

from rlhf.foundation.adapters import is_adapter
from rlhf.foundation.errors import InputError
from rlhf.language_model.endings import Ending
from rlhf.ppo.config import PPOConfig
from rlhf.ppo.distributed import Processes
from rlhf.ppo.engine_weights import require_plain
from rlhf.ppo.vllm_engine import Colocated
from rlhf.ppo.vllm_server import Served
from rlhf.ppo.who_samples import Engine


def start_engine(
    config: PPOConfig, model: Any, tokenizer: Any, ending: Ending, processes: Processes, longest_prompt: int
) -> Engine:
    """The engine that the options ask for, started or reached. Raises InputError when it cannot be had."""
    config.require_vllm()
    require_plain(model)
    require_whole_adapter(model, processes)
    room = longest_prompt + config.max_completion_length + 1  # vLLM ends a text when it has no room for one more
    if config.vllm_mode == "server":
        return Served(config, model, ending, processes, room)
    return Colocated(config, model, tokenizer, ending, processes, room)


def require_whole_adapter(model: Any, processes: Processes) -> None:
    """Raise InputError for an adapter under DeepSpeed: whole weights are gathered there, merged ones are not."""
    if processes.distributed_type == "DEEPSPEED" and is_adapter(model):
        raise InputError(
            "--use_vllm",
            got="an adapter under DeepSpeed",
            expected="all weights trained, or plain data parallelism",
            fix="take accelerate_config.yaml, or leave --use_vllm out",
        )
