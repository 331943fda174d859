"""Memory of a PPO run: does it grow with iterations, and what does a batch four times as large add?

    python benchmarks/memory.py [--iterations 30] [--batch 1024] [--repeats 5] [--output_path FILE.json]

1. Peak resident memory after iteration 5 and after iteration 30 of one run (bound: at most 5 % more).
2. With chunks fixed, the rise of one run's peak when the batch is 4 times as large, with its standard error over
   repeats, beside the computed size of what a rollout stores: ids, masks, one number a token or completion, and the sum
   over processes that joins them.
3. (tests/rlhf/ppo/test_memory.py) A vocabulary of 150,000 words at 64 completions of 48 tokens, beside `bound_bytes`.

Each run has a process of its own, because a peak never falls.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rlhf import environment

environment.prepare()

VOCABULARY, LENGTH, CHUNK = 2000, 48, 64
WIDTH = 64  # of the model's hidden states
# Bytes a token: ids, and the copy made before padding is written; two masks, one as integers while processes are
# joined; old log-probs, the sampler's, advantages; the list of Python integers that the reward function is given.
BYTES_A_TOKEN = 2 * 8 + (1 + 1 + 8) + 3 * 8 + (8 + 32)
# Numbers a completion: rewards, exact KL, k1, k3, entropy, each once more while they are joined; and its text.
BYTES_A_COMPLETION = 10 * 8 + 6 * LENGTH


def peak() -> int:
    """Peak resident memory of this process so far, bytes (VmHWM: getrusage's figure can be the parent's)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmHWM; this needs Linux")


def stored_bytes(batch: int) -> int:
    """What one rollout of `batch` completions stores, bytes."""
    return batch * (LENGTH * BYTES_A_TOKEN + BYTES_A_COMPLETION)


def bound_bytes(batch: int, vocabulary: int) -> int:
    """What a run whose vocabulary leaves room for one row at a time may add to the memory before it, bytes.

    Eleven copies of the parameters, which are almost all embedding (the reference, gradients, Adam's two moments, the
    weights before an update that may have to be taken back, and the state and a rung while they are saved); the larger
    of eight copies of a generation step's logits and eight of one row's logits while it is scored or updated; what the
    rollout stores; 64 MiB for everything else.
    """
    parameters = 4 * vocabulary * WIDTH
    logits = 8 * 4 * vocabulary * max(batch, LENGTH)
    return 11 * parameters + logits + stored_bytes(batch) + 64 * 2**20


def train(batch: int, iterations: int, directory: Path, vocabulary: int) -> list[int]:
    """Run PPO on a model of random weights.

    Returns the peak before the run and after each iteration, bytes.
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, TrainerCallback

    from rlhf import PPOConfig, PPOTrainer

    class Peaks(TrainerCallback):
        """Notes the peak at each line of metrics."""

        def __init__(self) -> None:
            self.values = [peak()]

        def on_log(self, *args: Any, **kwargs: Any) -> None:
            self.values.append(peak())

    torch.manual_seed(0)
    core = Tokenizer(models.WordLevel({"<end>": 0, **{f"w{i}": i for i in range(1, vocabulary)}}, unk_token="<end>"))
    core.pre_tokenizer, core.decoder = pre_tokenizers.WhitespaceSplit(), decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<end>", eos_token="<end>", pad_token="<end>")
    shape = LlamaConfig(
        vocab_size=vocabulary, hidden_size=WIDTH, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=64, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    model = LlamaForCausalLM(shape).eval()

    def even(completion_ids: list[list[int]], **_: Any) -> list[float]:
        return [float(sum(token % 2 == 0 for token in ids)) for ids in completion_ids]

    config = PPOConfig(
        output_dir=str(directory), iteration_batch_size=batch, max_iteration_batch_size=batch, minibatch_size=CHUNK,
        per_device_train_batch_size=CHUNK, per_device_generation_batch_size=CHUNK, max_completion_length=LENGTH,
        num_eval_samples=8, normalization_samples=batch, max_iterations=iterations, kl_budget=1e6, ladder_step=1e3,
        learning_rate=1e-5, use_cpu=True, quiet=True,
    )  # fmt: skip
    peaks = Peaks()
    PPOTrainer(model, even, config, processing_class=tokenizer, callbacks=[peaks]).train()
    return peaks.values


def in_a_process(batch: int, iterations: int, vocabulary: int = VOCABULARY) -> list[int]:
    """`train` in a process of its own."""
    with tempfile.TemporaryDirectory() as directory:
        words = [sys.executable, __file__, "--child", f"{directory}/run", "--batch", str(batch)]
        words += ["--iterations", str(iterations), "--vocabulary", str(vocabulary)]
        # A fixed threshold: freed pieces go back at once, so that the peak is what was in use, not the heap's holes.
        variables = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**18), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(words, env=variables, capture_output=True, text=True, check=True)
    values: list[int] = json.loads(done.stdout.splitlines()[-1])
    return values


def measure(batch: int, iterations: int, repeats: int) -> dict[str, float]:
    """All figures, bytes and ratios; the peaks of item 2 are means over `repeats` runs, at least 2."""
    long = in_a_process(batch, iterations)
    small, large = ([in_a_process(b, 3)[-1] for _ in range(repeats)] for b in (batch, 4 * batch))
    return {
        "peak after iteration 5, bytes": long[6],
        f"peak after iteration {iterations}, bytes": long[iterations + 1],
        "ratio": long[iterations + 1] / long[6],
        f"peak at batch {batch}, bytes": statistics.mean(small),
        f"peak at batch {4 * batch}, bytes": statistics.mean(large),
        "rise, bytes": statistics.mean(large) - statistics.mean(small),
        "  its standard error, bytes": math.sqrt((statistics.variance(small) + statistics.variance(large)) / repeats),
        "computed rise, bytes": stored_bytes(4 * batch) - stored_bytes(batch),
    }


def main() -> None:
    """Print the figures, and write them if asked."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--iterations", type=int, default=30)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output_path", type=Path, default=None)
    parser.add_argument("--vocabulary", type=int, default=VOCABULARY, help=argparse.SUPPRESS)
    parser.add_argument("--child", type=Path, default=None, help=argparse.SUPPRESS)
    own = parser.parse_args()
    if own.child is not None:
        print(json.dumps(train(own.batch, own.iterations, own.child, own.vocabulary)))
        return
    figures = measure(own.batch, own.iterations, max(2, own.repeats))
    for name, value in figures.items():
        print(f"{name:<36}{value:>16,.3f}" if name == "ratio" else f"{name:<36}{value:>16,.0f}")
    if own.output_path is not None:
        own.output_path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
