"""The console script `rlhf`: finds the command, and turns what goes wrong into an exit status and one line.

0 done, 2 the user's mistake, 130 Ctrl-C, 1 a fault of ours.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence

from rlhf import __version__, environment
from rlhf.foundation.errors import InputError, Told
from rlhf.foundation.terminal import without_secrets

# command -> (module with `main(argv)`, one line of help)
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("rlhf.commands.demo", "the whole loop on the embedded corpus with a simulated annotator"),
    "pretrain": ("rlhf.commands.pretrain", "train a small language model from scratch"),
    "sample": ("rlhf.commands.sample", "batched samples of any causal language model"),
    "label": ("rlhf.commands.label", "labels: simulate, import, Label Studio, an offline page"),
    "reward": ("rlhf.commands.reward", "fit a reward model and check it before anyone trusts it"),
    "compare": ("rlhf.commands.compare", "how far two rewards are apart"),
    "probe": ("rlhf.commands.probe", "what a reward pays for, and the texts it loves most"),
    "plan": ("rlhf.commands.plan", "what a run would take of a device's memory, before it"),
    "ppo": ("rlhf.ppo.__main__", "finetune with PPO while KL and clip fraction are watched"),
    "align": ("rlhf.commands.align", "SFT, DPO, KTO, rejection, GRPO or RLOO, kept as a ladder like PPO's"),
    "doctor": ("rlhf.commands.doctor", "whether samples come from the policy, and why not"),
    "evaluate": ("rlhf.commands.evaluate", "fresh samples of every rung, scored by proxy and gold"),
    "inspect": ("rlhf.commands.inspect", "one self-contained HTML report of a run"),
    "rate": ("rlhf.commands.rate", "blind ratings: plan, push, pull, score"),
    "export": ("rlhf.commands.export", "one rung out as a model directory with a card"),
    "loop": ("rlhf.commands.loop", "rounds of label, reward, PPO"),
    "study": ("rlhf.commands.study", "many runs over a grid: where overoptimisation starts"),
    "reproduce": ("rlhf.commands.reproduce", "do recorded work again and compare every number"),
}
# The map: where each command stands in the loop.
MAP: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("all at once", ("demo", "loop", "study")),
    ("1 a language model and its samples", ("pretrain", "sample")),
    ("2 labels", ("label",)),
    ("3 a reward, checked before it is trusted", ("reward", "compare", "probe")),
    ("4 a policy, along a ladder of KL", ("plan", "ppo", "align", "doctor")),
    ("5 what became of it", ("evaluate", "inspect", "rate", "export", "reproduce")),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status (see the module's docstring)."""
    environment.prepare()
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print_usage()
        return 0
    if arguments[0] == "--version":
        print(f"rlhf {__version__}")
        return 0
    return run(find_command, arguments)


def find_command(arguments: list[str]) -> None:
    """Import the named command's module and call its `main` with the remaining arguments."""
    name, *rest = arguments
    if name not in COMMANDS:
        raise InputError(
            f"rlhf {name}",
            got="an unknown command",
            expected=f"one of {', '.join(COMMANDS)}",
            fix="see `rlhf --help`",
        )
    importlib.import_module(COMMANDS[name][0]).main(rest)


def run(command: Callable[[list[str]], None], arguments: list[str]) -> int:
    """Call `command` and map its outcome to an exit status; also used by `python -m rlhf.ppo`."""
    # A plain `kill` ends like Ctrl-C: the run's state stays whole and resumable.
    signal.signal(signal.SIGTERM, terminated)
    try:
        try:
            command(arguments)
        finally:  # what ended it is being told: a launcher's signal to the survivors comes too late
            signal.signal(signal.SIGTERM, lambda *_: None)
    except InputError as error:
        if first_to_tell():
            print(f"rlhf: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        if not first_to_tell():
            return 130
        if (lost := why_terminated(interrupt)) is not None:
            print(f"rlhf: {lost}", file=sys.stderr)
            return 2
        how = str(interrupt) or "run the same command again"
        print(f"\nrlhf: stopped; {how}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Told as end:
        return int(end.code or 0)
    except SystemExit as request:  # no command of ours ends so: the work is not done
        print(f"rlhf: {exited(request)}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.filename is None:
            return unexpected(error)
        print(f"rlhf: {unusable(error)}", file=sys.stderr)
        return 2
    except Exception as error:
        return unexpected(error)
    return 0


class PeerEnded(KeyboardInterrupt):
    """The launcher ends this process, since another one ended; `line` says which."""

    def __init__(self, line: InputError) -> None:
        super().__init__()
        self.line = line


def terminated(*_: object) -> None:
    """End like Ctrl-C. The launcher's signal may be here before a collective notices that its peer is gone."""
    if "WORLD_SIZE" in os.environ:
        from rlhf.ppo.siblings import ended_peer

        if (line := ended_peer()) is not None:
            raise PeerEnded(line)
    raise KeyboardInterrupt


def why_terminated(interrupt: BaseException | None) -> InputError | None:
    """The line on the process that ended first, where a launcher's signal told of it."""
    while interrupt is not None and not isinstance(interrupt, PeerEnded):
        interrupt = interrupt.__context__
    return interrupt.line if interrupt is not None else None


def unexpected(error: Exception) -> int:
    """The exit status of what no command foresaw, after the word that another process or we are to blame."""
    lost = peer_lost(error)
    if lost is not None:
        if first_to_tell():
            print(f"rlhf: {lost}", file=sys.stderr)
        return 2
    print(without_secrets("".join(traceback.format_exception(error))), file=sys.stderr, end="")
    print("rlhf: this is a fault of ours, please report it with the lines above", file=sys.stderr)
    return 1


def unusable(error: OSError) -> InputError:
    """The line for a file or directory that the system refuses: a name too long, a loop of links, no permission."""
    return InputError(
        str(error.filename),
        got=(error.strerror or type(error).__name__).lower(),
        expected="a file or directory that can be used",
        fix="check the path and its permissions",
    )


def exited(request: SystemExit) -> InputError:
    """The line on a function of the user's, such as a reward, that ended the process."""
    return InputError(
        "a function that this command called",
        got=f"sys.exit({'' if request.code is None else repr(request.code)})",
        expected="a function that returns",
        fix="let it raise an exception instead",
    )


def peer_lost(error: Exception) -> InputError | None:
    """The line on another process of a run that ended, where that is what `error` means."""
    if "WORLD_SIZE" not in os.environ:
        return None
    from rlhf.ppo.distributed import lost_peer

    return lost_peer(error)


def first_to_tell() -> bool:
    """Whether this process speaks, where a launcher started several: one line is enough for all of them."""
    if "WORLD_SIZE" not in os.environ:
        return True
    from rlhf.ppo import distributed

    return distributed.first_to_tell()


def print_usage() -> None:
    """Print the commands as the map of the loop that they make."""
    width = max(map(len, COMMANDS))
    print("usage: rlhf COMMAND [options]\n\nFrom human labels to a finetuned policy, with the KL bill in view.\n")
    print("  pretrain -> sample -> label -> reward -> ppo -> evaluate -> inspect -> (sample again)")
    for stage, names in MAP:
        print(f"\n{stage}")
        for name in names:
            print(f"  {name:<{width}}  {COMMANDS[name][1]}")
    print("\nEach command has --help. Options may also stand in a YAML file: --config FILE or a recipe's name.")
    print("In Python each is a function: rlhf.sample(model, num_samples=64), labeling.push(...), rewards.fit(...)")


if __name__ == "__main__":
    sys.exit(main())
