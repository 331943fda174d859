"""CPU-seconds of one PPO iteration, ours and others', on the same work, in interleaved rounds.

    python benchmarks/speed.py [--settings 1M 3M smollm2 smollm2_last_layer] [--rounds 3] [--contenders ours grpo ...]
        [--completions 1024] [--tokens 48] [--trl_ppo_python PYTHON] [--output benchmarks/results.json]

A setting is a model and an amount of work: GPT-2 shapes of 1 and 3 million parameters with random weights (1,024
completions of 48 tokens), and SmolLM2-135M-Instruct (64 of 24), all of its weights or its last layer alone. Every
contender is a process of its own that does `--iterations`, of which the first is not counted; each round lets all
of them run once, since a machine that others share has CPU-seconds that vary by a third. Told are medians over rounds,
the ratio to the plain loop of the same round, and the matrix products' peak measured in every round. Useful operations:
2 a parameter and token for sampling, 2 for the original, 6 for the update (of what is trained 4, and 2 for the pass);
scoring a policy whose states passed by in sampling needs none below its head. TRL 1.12, the last with PPO, needs an
environment of its own: `make bench` makes it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "peers")]

from work import Work, make_model, train_only

from rlhf.foundation.files import write_json
from tests.real_model.smollm2 import smollm2

SCRIPTS = {
    "ours": "ours.py", "ours_shared": "ours.py", "ours_separate": "ours.py", "plain_loop": "plain_loop.py",
    "grpo": "trl_trainers.py", "grpo_no_kl": "trl_trainers.py", "rloo": "trl_trainers.py",
    "trl_ppo": "trl_ppo.py", "trl_ppo_tiny": "trl_ppo.py",
}  # fmt: skip
OLD_TRL = ("trl_ppo", "trl_ppo_tiny")
QUIET = {
    "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false",
    "TRL_EXPERIMENTAL_SILENCE": "1", "PYTHONPATH": str(HERE.parent),
}  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """A model (a shape of work.py, or None: SmolLM2), the amount of work, and who does it where nobody is named."""

    shape: str | None
    contenders: tuple[str, ...]
    completions: int = 1024
    tokens: int = 48
    train_scope: str = "all"


ON_SMOLLM2 = ("ours", "plain_loop", "grpo", "rloo")
SETTINGS = {
    "1M": Setting("1M", tuple(SCRIPTS)),
    "3M": Setting("3M", ("ours", "ours_separate", "plain_loop", "grpo", "rloo", "trl_ppo")),
    "smollm2": Setting(None, ON_SMOLLM2, 64, 24),
    "smollm2_last_layer": Setting(None, ON_SMOLLM2, 64, 24, "last_layer"),
}


def measured(work: Work, python: str) -> list[dict[str, float]]:
    """The lines of one contender's process, without those of its first iteration."""
    command = [python, str(HERE / "peers" / SCRIPTS[work.contender]), *work.words()]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **QUIET}, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"cpu_seconds"')]
    if done.returncode or len(lines) != work.iterations:
        sys.exit(f"{work.contender}: {len(lines)} of {work.iterations} iterations\n{done.stderr[-2000:]}")
    return lines[1:]


def peak_gflop() -> float:
    """GFLOP per CPU-second of a float32 matrix product that fits the cache, on one thread."""
    import torch

    torch.set_num_threads(1)
    left, right = torch.randn(1024, 1024), torch.randn(1024, 1024)
    left @ right
    started = time.process_time()
    for _ in range(20):
        left @ right
    return 20 * 2 * 1024**3 / (time.process_time() - started) / 1e9


def numbers_of(model: str, scope: str) -> tuple[int, int, int]:
    """Numbers in the weights that multiply a token (all but the positions' embeddings), those of the output head, and
    those that are trained."""
    from transformers import AutoConfig, AutoModelForCausalLM

    built = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model))
    train_only(built, scope)
    multiplied = [p for name, p in built.named_parameters() if "wpe" not in name]
    head = built.get_output_embeddings().weight.numel()
    return sum(p.numel() for p in multiplied), head, sum(p.numel() for p in multiplied if p.requires_grad)


def operations(all_of_it: int, head: int, trained: int) -> int:
    """Of a token that is sampled, scored and learned from once, each weight read no more often than it must be.

    Below what is trained nothing but sampling; of the rest the original, the policy's head, and a step: a pass, and
    back through all of it (2 to the input, 2 to the weights that are trained).
    """
    above = all_of_it if trained == all_of_it else trained + head
    return 2 * all_of_it + 2 * above + 2 * head + (4 * above + 2 * trained)


def summary(rounds: list[dict[str, Any]], contenders: list[str]) -> dict[str, Any]:
    """Of each contender the medians over rounds, and its ratio to the plain loop round by round."""
    found = {}
    for name in contenders:
        lines = [line for one in rounds for line in one["lines"][name]]
        per_round = [statistics.median(line["cpu_seconds"] for line in one["lines"][name]) for one in rounds]
        found[name] = {key: round(statistics.median(line[key] for line in lines), 3) for key in lines[0]}
        found[name]["cpu_seconds_range"] = [round(min(per_round), 2), round(max(per_round), 2)]
        if "plain_loop" in contenders:
            plain = [statistics.median(line["cpu_seconds"] for line in one["lines"]["plain_loop"]) for one in rounds]
            ratios = [ours / theirs for ours, theirs in zip(per_round, plain, strict=True)]
            found[name]["ratio_to_plain_loop"] = round(statistics.median(ratios), 3)
            found[name]["ratio_range"] = [round(min(ratios), 3), round(max(ratios), 3)]
    return found


def table(result: dict[str, Any]) -> str:
    """The summary as a page's table."""
    lines = ["| contender | CPU-s an iteration | rounds | to the plain loop | peak GiB |", "|---|---|---|---|---|"]
    for name, row in sorted(result["contenders"].items(), key=lambda item: item[1]["cpu_seconds"]):
        low, high = row["cpu_seconds_range"]
        ratio = f"{row['ratio_to_plain_loop']:.2f}" if "ratio_to_plain_loop" in row else "-"
        lines.append(
            f"| {name} | {row['cpu_seconds']:.1f} | {low:.1f} to {high:.1f} | {ratio} | {row['peak_gib']:.2f} |"
        )
    limit = result["operations_gflop"] / result["peak_gflop_per_cpu_second"]
    lines.append(f"| useful operations at the measured peak | {limit:.1f} | | | |")
    return "\n".join(lines)


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", nargs="+", default=["1M"], choices=list(SETTINGS))
    parser.add_argument("--contenders", nargs="+", choices=list(SCRIPTS))
    parser.add_argument("--trl_ppo_python", help="a Python that has TRL 1.12; without one its PPO is left out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output")
    for name in ("completions", "tokens"):
        parser.add_argument(f"--{name}", type=int)
    for name in ("steps", "iterations"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Work, name))
    return parser.parse_args()


def compare(given: argparse.Namespace, setting: Setting, model: str) -> dict[str, Any]:
    """All rounds of a setting, told while they go."""
    asked = given.contenders or setting.contenders
    contenders = [one for one in asked if given.trl_ppo_python or one not in OLD_TRL]
    if len(contenders) < len(asked):
        print("TRL 1.12's PPO is left out: it needs --trl_ppo_python", flush=True)
    sizes: dict[str, Any] = {"completions": setting.completions, "tokens": setting.tokens}
    sizes |= {"steps": given.steps, "iterations": given.iterations, "train_scope": setting.train_scope}
    rounds = []
    for number in range(1, given.rounds + 1):
        lines = {}
        for name in contenders:
            python = given.trl_ppo_python if name in OLD_TRL else sys.executable
            lines[name] = measured(Work(name, model, **sizes), python)
            print(f"round {number}: {name}: {[line['cpu_seconds'] for line in lines[name]]} CPU-s", flush=True)
        rounds.append({"peak_gflop": peak_gflop(), "lines": lines})
    count, head, trained = numbers_of(model, setting.train_scope)
    return {
        "machine": f"{processor()}, {os.cpu_count()} cores, one thread",
        "parameters": count,
        "rounds": given.rounds,
        **sizes,
        "peak_gflop_per_cpu_second": round(statistics.median(one["peak_gflop"] for one in rounds), 1),
        "operations_gflop": round(operations(count, head, trained) * setting.completions * setting.tokens / 1e9, 1),
        "contenders": summary(rounds, contenders),
    }


def processor() -> str:
    """Its name, as Linux has it."""
    facts = Path("/proc/cpuinfo")
    named = facts.read_text(encoding="utf-8").splitlines() if facts.exists() else []
    names = [line.partition(":")[2].strip() for line in named if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def write(output: Path, name: str, result: Any) -> None:
    """Add a result to the file, beside those of other settings."""
    there = json.loads(output.read_text(encoding="utf-8")) if output.exists() else {}
    write_json(output, {**there, name: result})


def main() -> None:
    """Run the rounds of each setting, print its table, perhaps write it."""
    given = options()
    for name in given.settings:
        asked = {key: getattr(given, key) for key in ("completions", "tokens") if getattr(given, key) is not None}
        setting = replace(SETTINGS[name], **asked)
        with tempfile.TemporaryDirectory() as folder:
            model = smollm2() if setting.shape is None else str(make_model(setting.shape, Path(folder) / setting.shape))
            result = compare(given, setting, model)
        print(f"\n{name}:\n{table(result)}\n", flush=True)
        if given.output:
            write(Path(given.output), name, result)


if __name__ == "__main__":
    main()
