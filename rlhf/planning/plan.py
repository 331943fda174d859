"""The step `plan`: what a run would hold of a device's memory, whether it fits, and the smallest change that makes it.

What of it was measured stands in docs/many_gpus.md. Not in the figures: what a driver takes for itself, fragments of an
allocator, and workspaces inside kernels; so a run fits when its peak and `SPARE` more do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from rlhf.foundation.errors import InputError
from rlhf.foundation.steps import step
from rlhf.planning.config import PlanConfig

GIB = 2**30
SPARE = 0.15  # of the peak: the error that the prediction is meant to stay within


@dataclasses.dataclass(frozen=True)
class Plan:
    """Of one process, GiB: `parts` of what is held, `peaks` by phase, `memory` of the device; `change`, the options
    of the smallest change that makes it fit (empty where it fits, None where none was found), with its own peak."""

    parts: dict[str, float]
    peaks: dict[str, float]
    memory: float
    device: str
    pieces: dict[str, int]
    change: dict[str, Any] | None = None
    changed_peak: float | None = None

    @property
    def peak(self) -> float:
        """Of the whole run, GiB."""
        return max(self.peaks.values())

    @property
    def fits(self) -> bool:
        """Whether the peak and its error are within the device's memory."""
        return self.peak * (1 + SPARE) <= self.memory

    @property
    def text(self) -> str:
        """What a person reads."""
        lines = ["GiB of each process:"]
        lines += [f"  {name:<24}{size:8.2f}" for name, size in self.parts.items() if size >= 0.005]
        lines += ["peak of each phase:"]
        lines += [f"  {name:<24}{size:8.2f}" for name, size in self.peaks.items()]
        read = ", ".join(f"{count} in {name}" for name, count in self.pieces.items())
        return "\n".join([*lines, f"completions at once: {read}", self._verdict()])

    def _verdict(self) -> str:
        there = f"{self.peak:.2f} GiB ± {SPARE:.0%} on {self.device} with {self.memory:.1f} GiB"
        if self.fits:
            return f"fits: {there}"
        if self.change is None:
            return f"does not fit: {there}; no change that this command knows makes it fit"
        words = " ".join(
            f"--{name} {value}" if value is not True else f"--{name}" for name, value in self.change.items()
        )
        return f"does not fit: {there}\nwould fit, at {self.changed_peak:.2f} GiB, with {words}"


@step(PlanConfig)
def plan(config: PlanConfig) -> Plan:
    """Memory of a run before it: parts, peaks, whether it fits a device, and what would make it.

    Nothing is downloaded but a config, and nothing written. Raises InputError.
    """
    from rlhf.planning.estimate import estimate

    memory, device, on_cpu = device_of(config)
    first = estimate(config, on_cpu=on_cpu)
    gib = {name: {key: size / GIB for key, size in getattr(first, name).items()} for name in ("parts", "peaks")}
    pieces = {"sampling": first.pieces.sampling, "scoring": first.pieces.scoring, "the update": first.pieces.update}
    found = Plan(gib["parts"], gib["peaks"], memory, device, pieces)
    if found.fits:
        return dataclasses.replace(found, change={})
    for change in changes(config):
        peak = estimate(dataclasses.replace(config, **change), on_cpu=on_cpu).peak / GIB
        if peak * (1 + SPARE) <= memory:
            return dataclasses.replace(found, change=change, changed_peak=peak)
    return found


def device_of(config: PlanConfig) -> tuple[float, str, bool]:
    """GiB, a name, and whether it is a CPU: of the device that is meant, else of this machine's."""
    if config.gpu_memory_gib is not None:
        return config.gpu_memory_gib, "a CPU" if config.use_cpu else "a GPU", config.use_cpu
    import torch

    from rlhf.foundation.memory import available

    if torch.cuda.is_available() and not config.use_cpu:
        free, _ = torch.cuda.mem_get_info()
        return free / GIB, torch.cuda.get_device_name(), False
    return available() / GIB, "this machine's CPU", True


def changes(config: PlanConfig) -> Iterator[dict[str, Any]]:
    """Options that make a run smaller, the least change of what is learnt and of what it costs first."""
    smaller = {"per_device_generation_batch_size": 32, "logits_memory_mb": 32}
    smaller = {name: value for name, value in smaller.items() if (getattr(config, name) or value + 1) > value}
    again = {} if config.gradient_checkpointing else {"gradient_checkpointing": True}
    adapter = {} if config.use_peft or config.train_scope != "all" else {"use_peft": True}
    counts = [n for n in (2, 4, 8, 16, 32, 64) if n > config.num_processes and config.minibatch_size % n == 0]
    cuts = [{"num_processes": n, "sharding": "fsdp2"} for n in counts]
    if config.num_processes > 1 and config.sharding == "none":
        cuts.insert(0, {"sharding": "fsdp2"})
    steps: list[dict[str, Any]] = [smaller, again, {**smaller, **again}]
    steps += [{**smaller, **again, **one} for one in cuts]
    if adapter:
        steps += [adapter, {**adapter, **smaller, **again}, {**adapter, **smaller, **again, "dtype": "bfloat16"}]
    if not config.load_in_4bit:
        steps.append({**adapter, **smaller, **again, "load_in_4bit": True})
    if adapter:
        steps += [{**adapter, **smaller, **again, "dtype": "bfloat16", **one} for one in cuts]
    new = (step for number, step in enumerate(steps) if step and step not in steps[:number])
    yield from (step for step in new if _goes_with(config, step))


def _goes_with(config: PlanConfig, change: dict[str, Any]) -> bool:
    """Whether the options with the change are such as a run takes."""
    try:
        dataclasses.replace(config, **change)
    except InputError:
        return False
    return True
