"""Starts accelerate and makes sure that the processes one asked for are the processes one got.

`accelerate launch` can start several processes that each believe to be alone (a MULTI_GPU file on a machine without
GPUs) or quietly run plain DDP where FSDP was asked for (docs/design.md lists the cases seen). Counting processes
proves nothing, so the launcher's environment is compared with what the accelerator reports.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor

from labeling.errors import InputError


@dataclass(frozen=True, slots=True)
class Processes:
    """The processes of this run and what they do together."""

    accelerator: Accelerator

    @property
    def rank(self) -> int:
        """This process's number, 0 to world_size - 1."""
        return int(self.accelerator.process_index)

    @property
    def world_size(self) -> int:
        """How many processes there are."""
        return int(self.accelerator.num_processes)

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files."""
        return bool(self.accelerator.is_main_process)

    @property
    def distributed_type(self) -> str:
        """What accelerate really does: NO, MULTI_CPU, MULTI_GPU, FSDP or DEEPSPEED."""
        return str(self.accelerator.distributed_type.value)

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over processes, on the CPU; where each row is non-zero on one process only it is exact."""
        if self.world_size == 1:
            return tensor
        summed: Tensor = self.accelerator.reduce(tensor.to(self.accelerator.device), reduction="sum")
        return summed.cpu()

    def max(self, value: Tensor) -> Tensor:
        """The maximum of a scalar over processes."""
        gathered: Tensor = self.accelerator.gather(value.reshape(1).to(self.accelerator.device))
        return gathered.max().cpu()

    def main_does(self, action: Callable[[], None]) -> None:
        """Run `action` on the main process while the others wait; if it fails there, the others end quietly."""
        failure: BaseException | None = None
        if self.is_main:
            try:
                action()
            except BaseException as error:
                failure = error
        failed = bool(self.sum(torch.tensor(float(failure is not None))))
        if failure is not None:
            raise failure
        if failed:
            raise SystemExit(2)

    def wait(self) -> None:
        """Wait for all processes."""
        self.accelerator.wait_for_everyone()


def start(*, use_cpu: bool) -> Processes:
    """The processes of this run. Raises InputError when they are not what the launcher was asked for.

    Every process finds the same fault; only the first one tells it, the others raise SystemExit.
    """
    try:
        return _start(use_cpu)
    except InputError:
        if os.environ.get("RANK", "0") != "0":
            raise SystemExit(2) from None
        raise


def _start(use_cpu: bool) -> Processes:
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    accelerator = Accelerator(cpu=use_cpu)
    got = str(accelerator.distributed_type.value)
    if launched != accelerator.num_processes:
        raise InputError(
            "accelerate launch",
            got=f"{launched} processes that each see only {accelerator.num_processes}",
            expected="processes that see each other",
            fix="on a machine without GPUs set ACCELERATE_USE_CPU=true, or start one process",
        )
    for variable, wanted in (("ACCELERATE_USE_FSDP", "FSDP"), ("ACCELERATE_USE_DEEPSPEED", "DEEPSPEED")):
        if os.environ.get(variable, "").lower() == "true" and got != wanted:
            raise InputError(
                "accelerate launch",
                got=f"distributed type {got}",
                expected=f"{wanted}, as the file asks for",
                fix="run it on GPUs, or take accelerate_config.yaml (plain DDP)",
            )
    processes = Processes(accelerator)
    if processes.world_size > 1:
        seen = processes.sum(torch.ones(1))
        if int(seen) != launched:
            raise InputError(
                "accelerate launch",
                got=f"a gather over {int(seen)} processes",
                expected=str(launched),
                fix="check the network between the processes",
            )
    return processes
