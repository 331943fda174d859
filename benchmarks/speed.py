"""CPU-seconds of one PPO iteration, ours and others', on the same work, in interleaved rounds.

    python benchmarks/speed.py [--shape 1M] [--rounds 3] [--contenders ours plain_loop grpo ...] [--completions 1024]
        [--tokens 48] [--model_name_or_path DIR] [--trl_ppo_python PYTHON] [--output benchmarks/results.json]

Every contender is a process of its own that does `--iterations`, of which the first is not counted; each round lets all
of them run once, since a machine that others share has CPU-seconds that vary by a third. Told are medians over rounds,
the ratio to the plain loop of the same round, and the matrix products' peak measured in every round. Useful operations:
2 a parameter and token for sampling, 2 for the original, 6 for the update; scoring a policy whose states passed by in
sampling needs none below its head. TRL 1.12, the last with PPO, needs an environment of its own:
`make bench` makes it.
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
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "peers")]

from work import Work, make_model

from rlhf.foundation.files import write_json

SCRIPTS = {
    "ours": "ours.py", "ours_separate": "ours.py", "ours_shared": "ours.py", "plain_loop": "plain_loop.py",
    "grpo": "trl_trainers.py", "grpo_no_kl": "trl_trainers.py", "rloo": "trl_trainers.py",
    "trl_ppo": "trl_ppo.py", "trl_ppo_tiny": "trl_ppo.py",
}  # fmt: skip
OLD_TRL = ("trl_ppo", "trl_ppo_tiny")
QUIET = {
    "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false",
    "TRL_EXPERIMENTAL_SILENCE": "1", "PYTHONPATH": str(HERE.parent),
}  # fmt: skip
OPERATIONS = 2 + 2 + 6  # a parameter and token


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


def parameters_of(model: str) -> int:
    """Numbers in the model's weights that multiply a token: all but the positions' embeddings."""
    from transformers import AutoConfig, AutoModelForCausalLM

    built = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model))
    return sum(p.numel() for name, p in built.named_parameters() if "wpe" not in name)


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
    parser.add_argument("--shape", default="1M", choices=["1M", "3M"])
    parser.add_argument("--model_name_or_path", help="a model directory in place of a shape")
    parser.add_argument("--contenders", nargs="+", default=[name for name in SCRIPTS if name not in OLD_TRL])
    parser.add_argument("--trl_ppo_python", default=sys.executable, help="a Python that has TRL 1.12")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output")
    for name in ("completions", "tokens", "steps", "iterations"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Work, name))
    parser.add_argument("--train_scope", default=Work.train_scope)
    return parser.parse_args()


def compare(given: argparse.Namespace, model: str) -> dict[str, Any]:
    """All rounds, told while they go."""
    sizes = {name: getattr(given, name) for name in ("completions", "tokens", "steps", "iterations", "train_scope")}
    rounds = []
    for number in range(1, given.rounds + 1):
        lines = {}
        for name in given.contenders:
            python = given.trl_ppo_python if name in OLD_TRL else sys.executable
            lines[name] = measured(Work(name, model, **sizes), python)
            print(f"round {number}: {name}: {[line['cpu_seconds'] for line in lines[name]]} CPU-s", flush=True)
        rounds.append({"peak_gflop": peak_gflop(), "lines": lines})
    count = parameters_of(model)
    return {
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, one thread",
        "parameters": count,
        **sizes,
        "peak_gflop_per_cpu_second": round(statistics.median(one["peak_gflop"] for one in rounds), 1),
        "operations_gflop": round(OPERATIONS * count * given.completions * given.tokens / 1e9, 1),
        "contenders": summary(rounds, given.contenders),
    }


def main() -> None:
    """Run the rounds, print the table, perhaps write it."""
    given = options()
    with tempfile.TemporaryDirectory() as folder:
        model = given.model_name_or_path or str(make_model(given.shape, Path(folder) / given.shape))
        result = compare(given, model)
    print(table(result))
    if given.output:
        write_json(Path(given.output), result)


if __name__ == "__main__":
    main()
