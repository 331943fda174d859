"""Starts accelerate and makes sure that the processes one asked for are the processes one got.

`accelerate launch` can start several processes that each believe to be alone (a MULTI_GPU file on a machine without
GPUs) or quietly run plain DDP where FSDP was asked for (docs/design.md lists the cases seen). Counting processes
proves nothing, so the launcher's environment is compared with what the accelerator reports.
"""

from __future__ import annotations

import functools
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor

from rlhf.foundation.errors import InputError, Told
from rlhf.ppo import sharding, zero
from rlhf.ppo.arrival import await_all, meeting_within
from rlhf.ppo.company import Company, company
from rlhf.ppo.failing_together import fail_together, of_rank, outcome_of
from rlhf.ppo.siblings import ended_peer, peer_gone

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Processes:
    """The processes of this run and what they do together; `company` is None for a process that is alone."""

    accelerator: Accelerator
    company: Company | None = None

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

    def facts(self) -> dict[str, Any]:
        """What run.json says of them."""
        return {"world_size": self.world_size, "distributed_type": self.distributed_type}

    def require_divisor_of(self, minibatch_size: int) -> None:
        """Raise InputError when a minibatch cannot be shared out evenly."""
        if minibatch_size % self.world_size:
            raise InputError(
                "--minibatch_size",
                got=minibatch_size,
                fix="choose another value",
                expected=f"a multiple of the {self.world_size} processes",
            )

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over processes, on the CPU; where each row is non-zero on one process only it is exact."""
        if self.world_size == 1:
            return tensor
        with self.meeting():
            summed: Tensor = self.accelerator.reduce(tensor.to(self.accelerator.device), reduction="sum")
            return summed.cpu()

    def max(self, value: Tensor) -> Tensor:
        """The maximum of a scalar over processes."""
        with self.meeting():
            gathered: Tensor = self.accelerator.gather(value.reshape(1).to(self.accelerator.device))
            return gathered.max().cpu()

    @property
    def sharded(self) -> bool:
        """Whether the models lie in parts on the processes (FSDP2, ZeRO), so that every pass is a collective."""
        return self.distributed_type in ("FSDP", "DEEPSPEED")

    @property
    def saves(self) -> bool:
        """Whether this process has a part in saving: it writes, or what it holds is gathered."""
        return self.is_main or self.sharded

    def any(self, here: bool) -> bool:
        """Whether it is so on any process."""
        return bool(self.sum(torch.tensor(float(here))))

    def main_says(self, here: bool) -> bool:
        """What the main process says, where others act on it; else what is so here."""
        return self.any(here and self.is_main) if self.sharded else here

    def prepared(self, module: torch.nn.Module, optimizer: Any, original: Any, max_grad_norm: float) -> tuple[Any, Any]:
        """What the loss is taken of, so that gradients are joined (by DDP, by DeepSpeed, or by itself where FSDP has
        cut it), and the optimiser; DeepSpeed parts the frozen `original` as well."""
        with self.meeting():
            if self.distributed_type == "DEEPSPEED":
                plugin = self.accelerator.state.deepspeed_plugin
                return zero.start(module, optimizer, original, plugin, max_grad_norm)
            return module if self.sharded else self.accelerator.prepare_model(module), optimizer

    def backward(self, model: Any, loss: Tensor, *, last: bool) -> None:
        """Add the gradients of one piece of a minibatch, of which it is the `last` or not."""
        if self.distributed_type == "DEEPSPEED":
            zero.backward(model, loss, last=last)
        else:
            self.accelerator.backward(loss)

    def main_does(self, action: Callable[[], None]) -> None:
        """Run `action` on the main process while the others wait; if it fails there, the others end quietly."""
        failure: BaseException | None = None
        self.begin("what the main process does alone", alone=True)
        if self.is_main:
            try:
                action()
            except BaseException as error:
                failure = error
        failed = bool(self.sum(torch.tensor(float(failure is not None))))
        if failure is not None:
            raise failure
        if failed:
            raise Told(2)

    def all_do(self, action: Callable[[], Value], phase: str = "loading models, prompts or states") -> Value:
        """What `action` returns on this process. What it raises on some all raise: an InputError that names the rank.

        Where all fail alike no rank is named. Another exception is raised where it occurred; the others end quietly.
        """
        if self.world_size == 1:
            return action()
        self.begin(phase, alone=True)
        failure: Exception | SystemExit | None = None
        try:
            value = action()
        except (Exception, SystemExit) as error:
            failure = error
        fail_together(failure, self.exchange(outcome_of(failure)))
        return value

    def naming(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, which every process calls with something else, with the rank in the InputErrors it raises."""

        def named(*arguments: Any) -> Any:
            try:
                return function(*arguments)
            except InputError as error:
                raise of_rank(self.rank, error) from error

        return named if self.world_size > 1 else function

    def exchange(self, note: Any) -> list[Any]:
        """The notes (JSON) of all processes, by rank."""
        if self.company is None:
            return [note]
        name = f"exchange/{self.company.exchanges}"
        self.company.exchanges += 1
        self.company.board.post(name, note)
        self.wait()
        return self.company.board.read(name)

    def wait(self) -> None:
        """Wait for all processes."""
        self.sum(torch.ones(1))

    # -- what the others see of this process --------------------------------------------------------------------

    def meeting(self) -> AbstractContextManager[None]:
        """A collective that does not go through one of the methods above."""
        return self.company.stretches.meeting() if self.company else nullcontext()

    def begin(self, phase: str, *, alone: bool = False, share: tuple[int, int] | None = None) -> None:
        """Say what this process does from here on, for the message should it hang; see `Stretches.begin`."""
        if self.company:
            self.company.stretches.begin(phase, alone=alone, share=share)

    def watch(self, straggler_timeout: float) -> None:
        """From here on end the run when a process hangs, until `unwatch`."""
        if self.company:
            self.company.watch_over(straggler_timeout, _first_to_tell)

    def unwatch(self) -> None:
        """Watch no longer."""
        if self.company:
            self.company.watch_no_longer()


def start(*, use_cpu: bool, straggler_timeout: float) -> Processes:
    """The processes of this run, their kind said on stderr where a launcher started them.

    Raises InputError when they are not what the launcher was asked for. Every process finds the same fault; the one
    that is there first tells it (the launcher ends the others as soon as one has failed), the others raise Told.
    """
    try:
        processes = _start(use_cpu, straggler_timeout)
    except InputError:
        if not first_to_tell():
            raise Told(2) from None
        raise
    if "WORLD_SIZE" in os.environ and processes.is_main:
        _say(processes.world_size, processes.distributed_type)
    return processes


@functools.cache
def _say(world_size: int, distributed_type: str) -> None:
    """Once, however many trainers a process makes."""
    print(f"rlhf: {world_size} processes, distributed type {distributed_type}", file=sys.stderr)


def first_to_tell() -> bool:
    """Whether this process is the first of the run to come here, and its watch does not tell already."""
    return not (_in_company() and company().ending) and _first_to_tell()


@functools.cache
def _first_to_tell() -> bool:
    """The first of its launcher's, which may see each other in no other way, and of all machines' where they do."""
    if "WORLD_SIZE" not in os.environ:
        return True
    return _first_of_its_launcher() and (not _in_company() or company().first("told"))


def _tell_once(error: InputError) -> None:
    if first_to_tell():
        print(f"rlhf: {error}", file=sys.stderr, flush=True)


def _in_company() -> bool:
    return company.cache_info().currsize > 0


def _first_of_its_launcher() -> bool:
    import psutil

    launcher = psutil.Process(os.getppid())  # a process number comes again, with another time of creation
    mark = f"rlhf-{os.getuid()}-{launcher.pid}-{launcher.create_time():.2f}-told"
    try:
        os.close(os.open(os.path.join(tempfile.gettempdir(), mark), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def lost_peer(error: BaseException) -> InputError | None:
    """The line to say when another process of this run is gone, if that is what `error` (of a collective) means."""
    words = str(error)
    of_a_collective = isinstance(error, torch.distributed.DistError) or (
        isinstance(error, RuntimeError) and any(name in words for name in ("gloo", "NCCL", "Connection closed by peer"))
    )
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or not of_a_collective:
        return None
    if (gone := ended_peer()) is not None:
        return gone
    behind = company().behind() if _in_company() else None
    return peer_gone(behind or "the end of a rank that this machine does not know")


def _processes_asked_for() -> int:
    """How many processes this process's launcher was asked for, 1 without one.

    With `--cpu` or `use_cpu: true` accelerate starts one process whatever the number asked for, and leaves no trace of
    it in the environment: it stands in the launcher's own command line and file.
    """
    if "WORLD_SIZE" in os.environ:
        return int(os.environ["WORLD_SIZE"])
    import psutil
    from accelerate.commands.config.config_args import default_config_file, load_config_from_file
    from accelerate.commands.launch import launch_command_parser

    for ancestor in psutil.Process().parents():
        words = ancestor.cmdline()
        names = [os.path.basename(word) for word in words[:3]]
        start = 3 if "accelerate.commands.launch" in names else names.index("launch") + 1 if "launch" in names else 0
        if start and any(name.startswith("accelerate") for name in names):
            options, _ = launch_command_parser().parse_known_args(words[start:])
            if options.num_processes is None and (options.config_file or os.path.isfile(default_config_file)):
                return int(load_config_from_file(options.config_file).num_processes or 1)
            return int(options.num_processes or 1)
    return 1


def _start(use_cpu: bool, straggler_timeout: float) -> Processes:
    launched = _processes_asked_for()
    try:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not torch.distributed.is_initialized():
            await_all(straggler_timeout)
            with meeting_within(straggler_timeout, _tell_once):
                accelerator = Accelerator(cpu=use_cpu)
        else:
            accelerator = Accelerator(cpu=use_cpu)
    except InputError:
        raise
    except (ImportError, RuntimeError, ValueError, AssertionError) as error:  # no GPU, no deepspeed, a port in use
        raise InputError(
            "accelerate launch",
            got=str(error).splitlines()[0] if str(error) else type(error).__name__,
            expected="what the file asks for",
            fix="install or start what is missing, or take accelerate_config.yaml (plain DDP)",
        ) from error
    asked = next(
        (n for n in ("FSDP", "DEEPSPEED") if os.environ.get(f"ACCELERATE_USE_{n}", "").lower() == "true"), None
    )
    if asked is not None and launched > 1:
        (sharding.take_up_fsdp_on_cpu if asked == "FSDP" else zero.take_up_on_cpu)(accelerator)
    got = str(accelerator.distributed_type.value)
    if got == "FSDP":
        sharding.require_known_plan(accelerator.state.fsdp_plugin)
    if got == "DEEPSPEED":
        zero.take_plan(accelerator.state.deepspeed_plugin)
    if launched != accelerator.num_processes:
        alone = "WORLD_SIZE" not in os.environ
        raise InputError(
            "accelerate launch",
            got="one process" if alone else f"{launched} processes that each see only {accelerator.num_processes}",
            expected=f"the {launched} processes that were asked for" if alone else "processes that see each other",
            fix="on a machine without GPUs set ACCELERATE_USE_CPU=true and take accelerate_config.yaml without "
            "--cpu, or start one process",
        )
    if asked is not None and got != asked:
        raise InputError(
            "accelerate launch",
            got=f"distributed type {got}",
            expected=f"{asked}, as the file asks for",
            fix="start two processes or more, or take accelerate_config.yaml (plain DDP)",
        )
    processes = Processes(accelerator)
    if processes.world_size > 1:
        processes = Processes(accelerator, company())
        seen = processes.sum(torch.ones(1))
        if int(seen) != launched:
            raise InputError(
                "accelerate launch",
                got=f"a gather over {int(seen)} processes",
                expected=str(launched),
                fix="check the network between the processes",
            )
    return processes
