"""From what stands and what each phase makes beside it to the peaks of a process."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

from rlhf.foundation.causal_lm import language_model_in, width
from rlhf.foundation.frozen_trunk import blocks_of
from rlhf.planning.config import PlanConfig
from rlhf.planning.traces import Pieces, Tracer, states_bytes
from rlhf.planning.weightless import Weightless, bytes_of, config_of, weightless
from rlhf.ppo.forward import ACCELERATOR_LOGITS_MB, CPU_LOGITS_MB
from rlhf.ppo.passing import MOST_HELD
from rlhf.ppo.recomputing import trunk_of

# What a config says of a head whose logits are scaled or capped behind it; such a model is read as a whole.
BEHIND_THE_HEAD = ("final_logit_softcapping", "logits_scaling", "logit_scale")


class Estimate(NamedTuple):
    """Of one process, bytes."""

    parts: dict[str, int]
    peaks: dict[str, int]  # of each phase
    pieces: Pieces

    @property
    def peak(self) -> int:
        """Of the whole run."""
        return max(self.peaks.values())


def estimate(config: PlanConfig, *, on_cpu: bool) -> Estimate:
    """What a process of the run would hold. Raises InputError where the model cannot be built from its config."""
    config = with_logits_memory(config, on_cpu=on_cpu)
    models = weightless(config)
    tracer = Tracer(models, config, apart=config.sharding == "none" and not _scales(config))
    sampling, scoring, update = tracer.sampling(), tracer.scoring(), tracer.update()
    parts = standing(models, config, on_cpu=on_cpu)
    stands, gathered = sum(parts.values()), gathered_bytes(models, config)
    gradients = cut(update.named["gradients"], config)
    buckets = update.named["gradients"] if config.num_processes > 1 and config.sharding == "none" else 0
    peaks = {
        "sampling": stands + sampling.peak + gathered,
        "scoring": stands + scoring.peak + gathered,
        "update": stands + update.peak - update.named["gradients"] + gradients + buckets + 2 * gathered,
        "saving": stands + saving_bytes(models, config, on_cpu=on_cpu),
    }
    parts |= {
        "gradients": gradients + buckets,
        "activations": max(scoring.named["activations"], update.named["activations"]),
        "logits": max(sampling.named["logits"], scoring.named["logits"]),
        "KV cache": sampling.named["KV cache"],
        "gathered blocks": gathered,
    }
    return Estimate(parts, peaks, tracer.pieces)


def with_logits_memory(config: PlanConfig, *, on_cpu: bool) -> PlanConfig:
    """The options with the memory for logits that the device would give (forward.py)."""
    default = CPU_LOGITS_MB if on_cpu else ACCELERATOR_LOGITS_MB
    return dataclasses.replace(config, logits_memory_mb=config.logits_memory_mb or default)


def _scales(config: PlanConfig) -> bool:
    described = config_of(config.model_name_or_path)
    return any(getattr(described, name, None) not in (None, 1, 1.0) for name in BEHIND_THE_HEAD)


def cut(size: int, config: PlanConfig) -> int:
    """A process's part of what FSDP2 cuts."""
    return -(-size // config.num_processes) if config.sharding == "fsdp2" else size


def standing(models: Weightless, config: PlanConfig, *, on_cpu: bool) -> dict[str, int]:
    """What is there in every phase once the first update is done."""
    trained = bytes_of(models.model, trained=True)
    of_critic = bytes_of(models.critic)
    parts = {
        "weights": cut(bytes_of(models.model), config),
        "reference": cut(bytes_of(models.reference), config),
        "critic": cut(of_critic, config),
        "Adam": cut(2 * (trained + of_critic), config),
        "reward models": reward_bytes(config),
    }
    if on_cpu:  # elsewhere these lie in the CPU's memory
        inner = language_model_in(models.model)
        size = next(inner.parameters()).element_size()
        parts["weights to step back to"] = trained + of_critic
        parts["kept states"] = states_bytes(config, width(inner), size, MOST_HELD)
        parts["whole copy"] = bytes_of(models.model) if config.sharding == "fsdp2" else 0
    return parts


def reward_bytes(config: PlanConfig) -> int:
    """Weights of the reward models, in float32."""
    import torch
    from transformers import AutoModel

    total = 0
    for name in config.reward_model_path:
        if isinstance(name, str):
            with torch.device("meta"):
                factory: Any = AutoModel
                total += bytes_of(factory.from_config(config_of(name), dtype=torch.float32))
    return total


def gathered_bytes(models: Weightless, config: PlanConfig) -> int:
    """What FSDP2 puts together for a pass: the root's own weights, a block, and the next one fetched meanwhile."""
    if config.sharding != "fsdp2":
        return 0
    blocks: Any = blocks_of(trunk_of(models.model)) or []
    sizes = [bytes_of(block) for block in blocks]
    return bytes_of(models.model) - sum(sizes) + 2 * max(sizes, default=0)


def saving_bytes(models: Weightless, config: PlanConfig, *, on_cpu: bool) -> int:
    """Copies that saving makes on the device: none on an accelerator; on a CPU the larger of a state's (trained weights
    and two moments) and those that prove the first rung (checkpoints.py): the model loaded again (below an adapter too
    where it is in four bits), or below an adapter its base twice, once merged, which makes each adapted weight anew
    beside the file's."""
    if not on_cpu:
        return 0
    trained = bytes_of(models.model, trained=True) + bytes_of(models.critic)
    proof = bytes_of(models.model)
    if config.use_peft and not config.load_in_4bit:
        adapter = bytes_of(models.model, trained=True)
        blocks: Any = blocks_of(trunk_of(models.model)) or []
        proof = 2 * (proof - adapter) + sum(map(bytes_of, blocks)) - adapter
    return max(3 * trained, proof)
