"""A real pretrained chat model through the whole way: 135 million parameters, 49,152 tokens, a chat template."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM

import rlhf
from labeling.steps.simulate import simulate
from rewards.steps.fit import fit
from rlhf.foundation.model_directory import load_causal_lm, load_tokenizer

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import bf16 as bf16_benchmark
import plan as plan_benchmark

pytestmark = [pytest.mark.slow, pytest.mark.long]

CHAT = [{"role": "user", "content": "Say good morning to the neighbour."}]
SMALL: dict[str, Any] = {
    "iteration_batch_size": 16, "max_iteration_batch_size": 16, "minibatch_size": 8, "max_completion_length": 12,
    "normalization_samples": 8, "num_eval_samples": 8, "max_iterations": 2, "ladder_step": 0.05,
    "learning_rate": 2e-4, "quiet": True, "use_cpu": True,
}  # fmt: skip


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(
    "how", [{"train_scope": "last_layer"}, {"use_peft": True, "learning_rate": 1e-3}, {"learning_rate": 1e-5}], ids=str
)
def test_a_chat_is_finetuned_and_its_rungs_are_what_was_measured(
    smollm2: str, tmp_path: Path, how: dict[str, Any]
) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(json.dumps({"prompt": CHAT}) + "\n", encoding="utf-8")
    options = {**SMALL, **how, "model_name_or_path": smollm2, "reward_func": ["full_stop"], "prompts": str(prompts)}
    rlhf.finetune(**options, output_dir=str(tmp_path / "run"))
    first, *_, last = lines(tmp_path / "run")
    assert first["kl_per_completion"] == 0
    assert last["kl_per_completion"] > 0
    assert first["ratio_first_update_max_dev"] < 1e-4
    rung = json.loads((tmp_path / "run" / "ladder.json").read_text(encoding="utf-8"))["rungs"][-1]
    rows = [json.loads(line) for line in (tmp_path / "run" / rung["samples"]).read_text(encoding="utf-8").splitlines()]
    # by transformers alone, on the template's own ids; a text whose ids are not those of its encoding tells nothing
    tokenizer = load_tokenizer(smollm2)
    prompt = tokenizer.apply_chat_template(CHAT, add_generation_prompt=True, return_dict=True)["input_ids"]
    policy, original = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / rung["path"]), load_causal_lm(smollm2)
    as_policy, as_original = [], []
    for row in rows:
        [said] = row["completion"]  # one message
        answer = tokenizer(said["content"], add_special_tokens=False).input_ids
        answer += [tokenizer.eos_token_id] * (len(answer) < SMALL["max_completion_length"])
        as_policy.append(abs(logprob(policy, prompt, answer) - row["logprob"]))
        as_original.append(abs(logprob(original, prompt, answer) - row["logprob"]))
    assert sum(off < 1e-3 for off in as_policy) > len(rows) / 2, as_policy
    assert sum(off < 1e-3 for off in as_original) < len(rows) / 2, as_original


@torch.no_grad()
def logprob(model: Any, prompt: list[int], answer: list[int]) -> float:
    """log π(answer | prompt), nats, by a plain forward."""
    ids = torch.tensor([prompt + answer])
    scores = F.log_softmax(model(input_ids=ids).logits[0, len(prompt) - 1 : -1].double(), -1)
    return float(scores.gather(-1, ids[0, len(prompt) :, None]).sum())


def test_the_kl_in_bf16_is_that_of_float64(smollm2: str) -> None:
    trial = bf16_benchmark.Trial(smollm2, 1e-5)
    done, pair = trial.sample(), (trial.model, trial.original)
    assert trial.kl(done, *pair, trial.config(bf16=True)) == 0
    while trial.kl(done := trial.sample(), *pair, trial.config()) < 1:
        trial.step()
    exact = trial.kl(done, *(model.double() for model in pair), trial.config(dtype="float64"))
    pair[0].float(), pair[1].float()
    assert exact > 1
    assert trial.kl(done, *pair, trial.config(bf16=True)) == pytest.approx(exact, rel=0.02)


def test_the_plan_of_memory_is_what_a_run_takes(smollm2: str) -> None:
    found = {name: plan_benchmark.compare(smollm2, name) for name in ("last layer", "gradient checkpointing")}
    assert all(abs(one["error"]) < 0.15 for one in found.values()), found


def test_from_its_own_samples_to_a_reward_and_a_policy(smollm2: str, tmp_path: Path) -> None:
    """Sample the chat, label by the lexicon, fit a reward model to the labels, and finetune towards it."""
    samples, labels, prompts = tmp_path / "samples.jsonl", tmp_path / "labels.jsonl", tmp_path / "prompts.jsonl"
    prompts.write_text(json.dumps({"prompt": CHAT}) + "\n", encoding="utf-8")
    told = rlhf.sample(
        smollm2, prompts=str(prompts), num_return_sequences=64, max_new_tokens=16, output_path=str(samples), quiet=True
    )
    assert len(told) == 64
    simulate(samples=str(samples), output=str(labels), gold="lexicon", noise=[0.0], quiet=True)
    fit(
        model_name_or_path=smollm2, labels=str(labels), output_dir=str(tmp_path / "reward"), num_train_epochs=1,
        allow_weak=True, quiet=True,
    )  # fmt: skip
    options = {**SMALL, "train_scope": "last_layer", "model_name_or_path": smollm2, "prompts": str(prompts)}
    rlhf.finetune(**options, reward_model_path=[str(tmp_path / "reward")], output_dir=str(tmp_path / "run"))
    first, *_, last = lines(tmp_path / "run")
    assert first["kl_per_completion"] == 0
    assert last["kl_per_completion"] > 0
    assert -20 < first["reward"] < 0  # log P(positive), nats
