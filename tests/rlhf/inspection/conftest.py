"""Run directories made by hand, as `rlhf ppo` writes them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

WORDS = ["my", "lord", "thou", "art", "most", "gentle", "and", "the", "night", "is", "sweet", "with", "grief", "scorn"]
MakeRun = Callable[..., Path]


def metrics_row(iteration: int, kl: float, *, last: bool) -> dict[str, Any]:
    """One line of metrics.jsonl; the line on which the run stopped has no update."""
    grew = {"action": "grow_batch", "reason": "clip fraction 0.4 % is below 1 %"}
    update = {
        "clip_ratio/region_mean": 0.02,
        "clip_ratio/outside_mean": 0.004 if iteration < 3 else 0.05,
        "controller": grew if iteration == 2 else None,
        "grad_norm": 0.7,
        "seconds/update": 0.9,
    }
    return {
        "iteration": iteration,
        "completions_seen": 256 * iteration,
        "reward": -0.7 + 0.06 * iteration,
        "reward_se": 0.02,
        "reward_std": 0.3,
        "kl_per_completion": kl,
        "kl_per_completion_se": 0.02 * kl,
        "kl_k1": kl * 1.01,
        "sqrt_kl": math.sqrt(kl),
        "entropy": 3.0 - 0.05 * iteration,
        "iteration_batch_size": 256 if iteration < 3 else 512,
        "optimizer_steps": 8 * iteration,
        "completions/mean_length": 30.0,
        "distinct_2": 0.4 - 0.01 * iteration,
        "seconds/generate": 0.5,
        "seconds/score": 0.1,
        "seconds/reference": 0.2,
        **{key: None if last else value for key, value in update.items()},
    }


def write_lines(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Factory of run directories; `gold` maps √KL to the planted mean of gold, `texts` are put in first."""

    def make(
        name: str = "run",
        *,
        rungs: int = 7,
        samples: int = 60,
        gold: Callable[[float], float] | None = lambda d: d * (1 - d / 4.2),
        texts: Sequence[str] = (),
        status: str = "finished",
        budget: float = 10.0,
        seed: int = 0,
    ) -> Path:
        directory = tmp_path / name
        directory.mkdir()
        generator = np.random.default_rng(seed)
        info = {
            "command": ["rlhf", "ppo", "--output_dir", "<b>run</b>"],
            "config": {"learning_rate": 1e-3},
            "seed": seed,
            "status": status,
            "stop_reason": "KL budget of 10 nats reached" if status == "finished" else None,
            "normalization": {"offset": -0.7, "scale": 0.3, "n": 2048, "source": "measured"},
        }
        (directory / "run.json").write_text(json.dumps(info), encoding="utf-8")
        iterations = 20
        rows = [
            metrics_row(i, budget * (i / (iterations - 1)) ** 2, last=i == iterations - 1) for i in range(iterations)
        ]
        write_lines(directory / "metrics.jsonl", rows)
        noise = generator.normal(0, 0.5, size=samples)  # shared by all rungs: same prompts and seeds
        ladder = []
        for number, root in enumerate(np.linspace(0, math.sqrt(budget), rungs)):
            rung = f"kl-{root**2:05.2f}"
            proxy = root + noise + generator.normal(0, 0.2, size=samples)
            judged = None if gold is None else gold(root) + 0.5 * noise + generator.normal(0, 0.2, size=samples)
            write_lines(
                directory / "samples" / f"{rung}.jsonl",
                [
                    {
                        "uid": f"{rung}-{i}",
                        "prompt": "",
                        "completion": texts[i] if i < len(texts) else " ".join(generator.choice(WORDS, size=12)),
                        "source": rung,
                        "logprob": -40.0,
                        "seed": i,
                        "reward": float(proxy[i]),
                        **({} if judged is None else {"gold": float(judged[i])}),
                    }
                    for i in range(samples)
                ],
            )
            ladder.append(
                {
                    "name": rung,
                    "target_sqrt_kl": float(root) if number < rungs - 1 else None,
                    "kl_per_completion": float(root**2),
                    "kl_per_completion_se": 0.02 * float(root**2),
                    "iteration": round((iterations - 1) * number / max(1, rungs - 1)),
                    "completions_seen": 256 * number,
                    "optimizer_steps": 8 * number,
                    "reward": float(proxy.mean()),
                    "reward_se": float(proxy.std(ddof=1) / math.sqrt(samples)),
                    "n": samples,
                    "path": f"checkpoints/{rung}",
                    "samples": f"samples/{rung}.jsonl",
                }
            )
        (directory / "ladder.json").write_text(
            json.dumps({"budget_nats": budget, "step_sqrt_kl": 0.25, "rungs": ladder}), encoding="utf-8"
        )
        return directory

    return make


CHARACTERS = "abcdefghijklmnopqrstuvwxyz .,\n!"


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real run of a character model of 30,000 parameters towards full stops, a few rungs long; read only."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    from rlhf.foundation.model_directory import save_model
    from rlhf.ppo.finetune import PPOCommandConfig, finetune

    folder = tmp_path_factory.mktemp("trained")
    vocabulary = {"<end>": 0, **{c: i for i, c in enumerate(CHARACTERS, start=1)}}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<end>"))
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    core.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<end>", eos_token="<end>", pad_token="<end>")
    torch.manual_seed(0)
    size = GPT2Config(
        vocab_size=len(vocabulary), n_positions=48, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0,
        initializer_range=0.2,
    )  # fmt: skip
    save_model(GPT2LMHeadModel(size).eval(), tokenizer, folder / "model")
    finetune.run(
        PPOCommandConfig(
            output_dir=str(folder / "run"),
            model_name_or_path=str(folder / "model"),
            reward_func=["full_stop"],
            iteration_batch_size=64,
            max_iteration_batch_size=256,
            minibatch_size=32,
            max_completion_length=12,
            learning_rate=1e-3,
            kl_budget=1.5,
            num_eval_samples=32,
            normalization_samples=64,
            quiet=True,
            use_cpu=True,
        )
    )
    return folder / "run"
