"""Options of `rlhf plan`: those of `rlhf ppo`, and a device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from rlhf.foundation.model_pair import Model
from rlhf.foundation.options import Several, option
from rlhf.ppo.finetune import PPOCommandConfig, RewardFunction


@dataclass(kw_only=True)
class PlanConfig(PPOCommandConfig):
    """`PPOCommandConfig`, of which nothing is written and no weights are read, and the device it would run on."""

    NEEDS: ClassVar[Mapping[str, str]] = {**PPOCommandConfig.NEEDS, "sharding": "num_processes"}

    model_name_or_path: Model = option(
        help="the original: a model directory, one that holds config.json alone, or a hub name; no weights are read"
    )
    output_dir: str = option("plan", help="as in the recipe; nothing is written")
    reward_func: Several[str | RewardFunction] = option(
        ["full_stop"], help="reward functions: a built-in NAME, FILE.py:NAME, FILE.yaml; they take no memory here"
    )
    gpu_memory_gib: float | None = option(
        None, help="GiB of the device of each process; what this machine has free if not given"
    )
    num_processes: int = option(1, help="processes, one a device")
    sharding: str = option(
        "none", help="whether each process holds all (plain DDP), or its part of weights, gradients and Adam's moments",
        choices=["none", "fsdp2"],
    )  # fmt: skip
    prompt_tokens: int = option(8, help="tokens of the longest prompt")

    def __post_init__(self) -> None:
        super().__post_init__()
        memory = self.gpu_memory_gib
        self._require("gpu_memory_gib", memory is None or memory > 0, "more than 0")
        for name in ("num_processes", "prompt_tokens"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        whole = not (self.load_in_4bit and self.sharding == "fsdp2")
        self._require("sharding", whole, "none with --load_in_4bit, whose weights are not cut")
        per_process = self.minibatch_size % self.num_processes == 0
        self._require("num_processes", per_process, f"a divisor of the minibatch, {self.minibatch_size}")
