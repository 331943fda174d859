"""Does the layout change a run? One process with two accumulation steps, two processes, four processes.

    python benchmarks/layouts.py --model_name_or_path DIR [--iterations 5]

In float32 two layouts add gradients in another order; where a uniform number then falls between the two roundings of a
border of the cumulative distribution, one token differs, and the runs part. The line says from which rollout on.

Every iteration has at least four updates, completions of unequal length, a batch that grows once, and completions that
the reward function rejects. Compared with one process: the completion ids as the reward function was given them, and
the largest difference of any parameter after the last iteration (bounds: 1e-9 in float64, 1e-6 in float32).
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

from rlhf import environment

environment.prepare()

from safetensors.torch import load_file

ROOT = Path(__file__).parents[1]
CHUNK = 32
OPTIONS = shlex.split(
    "--iteration_batch_size 128 --max_iteration_batch_size 256 --minibatch_size 32 --max_completion_length 24 "
    f"--per_device_generation_batch_size {CHUNK} --num_eval_samples 128 "
    "--normalization_samples 128 --kl_budget 50 --ladder_step 7 --clip_ratio_low 0.9 --clip_ratio_high 0.95 --quiet"
)
BOUNDS = {"float64": 1e-9, "float32": 1e-6}
# A reward function that writes down what its process scored, and rejects every completion of an odd first token.
WITNESS = """
import json, os
def witness(prompts, completions, completion_ids, **kwargs):
    with open(os.environ["WITNESS"] + os.environ.get("RANK", "0"), "a") as stream:
        stream.write(json.dumps(completion_ids) + "\\n")
    return [float(len(ids)) if ids[0] % 8 else None for ids in completion_ids]
"""


def launch(own: argparse.Namespace, place: Path, processes: int, dtype: str) -> None:
    """Run one layout into `place`/run. Raises CalledProcessError."""
    place.mkdir(parents=True)
    (place / "witness.py").write_text(WITNESS, encoding="utf-8")
    start = [sys.executable, "-m"]
    if processes > 1:
        start += ["accelerate.commands.launch", "--config_file", str(ROOT / "accelerate_config.yaml")]
        start += ["--main_process_port", "0", "--num_processes", str(processes), "-m"]
    words = [
        "--model_name_or_path",
        own.model_name_or_path,
        "--reward_func",
        f"{place}/witness.py:witness",
        "--output_dir",
        f"{place}/run",
    ]
    words += ["--max_iterations", str(own.iterations), "--dtype", dtype, "--per_device_train_batch_size", "16"]
    words += ["--learning_rate", own.learning_rate]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "WITNESS": f"{place}/ids-"}
    done = subprocess.run(
        [*start, "rlhf.ppo", *words, *OPTIONS], cwd=ROOT, env=variables, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stderr)


def completion_ids(place: Path, processes: int) -> list[list[list[int]]]:
    """Per call of the reward function the ids of all completions, in their order over the processes' chunks."""
    calls = [
        [json.loads(line) for line in (place / f"ids-{rank}").read_text(encoding="utf-8").splitlines()]
        for rank in range(processes)
    ]
    whole = []
    for parts in zip(*calls, strict=True):
        chunks = [[part[i : i + CHUNK] for i in range(0, len(part), CHUNK)] for part in parts]
        count = sum(map(len, chunks))
        whole.append([ids for c in range(count) for ids in chunks[c % processes][c // processes]])
    return whole


def main() -> int:
    """Print a line a layout and number format; status 1 if a bound is broken."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--model_name_or_path", required=True)
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--learning_rate", default="1e-4")
    parser.add_argument("--dtypes", nargs="+", choices=BOUNDS, default=list(BOUNDS))
    own = parser.parse_args()
    broken = 0
    with tempfile.TemporaryDirectory() as directory:
        for dtype in own.dtypes:
            bound = BOUNDS[dtype]
            places = {n: Path(directory) / f"{dtype}-{n}" for n in (1, 2, 4)}
            for processes, place in places.items():
                launch(own, place, processes, dtype)
            one = completion_ids(places[1], 1)
            lines = [json.loads(x) for x in (places[1] / "run" / "metrics.jsonl").read_text().splitlines()]
            lengths = {len(ids) for call in one for ids in call}
            steps = [b["optimizer_steps"] - a["optimizer_steps"] for a, b in pairwise(lines)]
            print(
                f"{dtype}: batches {[line['iteration_batch_size'] for line in lines]}, updates {steps}, "
                f"lengths {min(lengths)} to {max(lengths)}, rejected {[line['unscored'] for line in lines]}"
            )
            last = f"run/state/{own.iterations:06d}/parameters.safetensors"
            parameters = load_file(places[1] / last)
            for processes in (2, 4):
                theirs = completion_ids(places[processes], processes)
                same = theirs == one
                calls = [a == b for a, b in zip(theirs, one, strict=True)]
                other = load_file(places[processes] / last)
                gap = max(float((parameters[name] - other[name]).abs().max()) for name in parameters)
                kind = json.loads((places[processes] / "run" / "run.json").read_text())["distributed_type"]
                fine = same and gap < bound
                broken += not fine
                told = "the same" if same else f"DIFFER from rollout {calls.index(False)} of {len(calls)} on"
                print(
                    f"{dtype}: {processes} processes ({kind}) against 1 x 2 accumulation steps: completion ids {told}, "
                    f"largest parameter difference {gap:.2e} (bound {bound:g})",
                    flush=True,
                )
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
