"""Good material of every kind, as small as it can be, made by the commands themselves."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from rlhf.cli import main
from rlhf.foundation.files import read_json, write_json, write_jsonl
from rlhf.foundation.model_directory import save_model
from tests.rewards.conftest import PLAIN, toy_labels, toy_model, toy_text, toy_tokenizer

SMALL = (
    "--iteration_batch_size", "16", "--max_iteration_batch_size", "16", "--minibatch_size", "16",
    "--max_completion_length", "6", "--num_eval_samples", "8", "--normalization_samples", "64",
    "--learning_rate", "5e-3", "--ladder_step", "0.02", "--max_iterations", "2", "--quiet", "--use_cpu",
)  # fmt: skip
REWARD_PY = "def mine(completions, **_):\n    return [float(len(str(text))) for text in completions]\n"
COMBINATION = "weights: {length: 1.0, mine.py:mine: 0.5}\nconstraints:\n  - {reward: length, at_most: 40}\n"


def rlhf(*words: object) -> None:
    """A command that must work."""
    assert main([str(word) for word in words]) == 0, words


def make_material(folder: Path) -> None:
    """Fill `folder`; a few seconds."""
    home = Path.cwd()
    os.chdir(folder)
    try:
        _files()
        _models()
        _labelling()
        _runs()
    finally:
        os.chdir(home)


def _files() -> None:
    rng = random.Random(0)
    texts = list(dict.fromkeys(toy_text(rng) for _ in range(400)))
    rows = [{"uid": f"s{i}", "prompt": "", "completion": text, "source": "m"} for i, text in enumerate(texts[:120])]
    write_jsonl(Path("samples.jsonl"), rows)
    labels = [
        {"uid": x.uid, "prompt": "", "completion": x.completion, "label": x.label, "annotator": "anna"}
        for x in toy_labels(160)
    ]
    write_jsonl(Path("labels.jsonl"), labels)
    write_jsonl(
        Path("labels_rows.jsonl"), [{"completion": r["completion"], "label": r["label"] == "positive"} for r in labels]
    )
    good, bad = ([t for t in texts if word in t] for word in ("joy", "woe"))
    pairs = [
        {"uid": f"c{i}", "prompt": "", "chosen": a, "rejected": b, "annotator": "anna"}
        for i, (a, b) in enumerate(zip(good, bad, strict=False))
        if a != b
    ]
    write_jsonl(Path("comparisons.jsonl"), pairs[:100])
    write_jsonl(Path("scores.jsonl"), [{"uid": row["uid"], "p_positive": 0.3} for row in rows])
    Path("prompts.txt").write_text("the king\njoy and\n")
    Path("prompts.csv").write_text("prompt,n\nthe king,1\njoy and,2\n")
    write_jsonl(Path("prompts.jsonl"), [{"prompt": "the king", "n": 1}, {"prompt": "joy and", "n": 2}])
    Path("corpus.txt").write_text("\n\n".join(texts))
    Path("mine.py").write_text(REWARD_PY)
    Path("both.yaml").write_text(COMBINATION)
    Path("ppo.yaml").write_text("learning_rate: 5.0e-3\n")
    Path("table.csv").write_text("text,label\n" + "".join(f"{t},positive\n" for t in texts[:6]))
    task = {
        "id": 1, "data": {"text": "joy"},
        "annotations": [
            {"id": 2, "completed_by": 1, "created_at": "2026-01-01T00:00:00Z", "lead_time": 1.0,
             "result": [{"from_name": "sentiment", "to_name": "text", "type": "choices",
                         "value": {"choices": ["Positive"]}}]}
        ],
    }  # fmt: skip
    write_json(Path("export.json"), [task])
    rollout = {"prompt_ids": [0], "completion_ids": [3, 4, 5], "logprobs": [-1.0] * 3, "ref_logprobs": [-1.0] * 3}
    write_jsonl(Path("rollouts.jsonl"), [rollout] * 4)


def _models() -> None:
    save_model(toy_model(), toy_tokenizer(), Path("model"))
    torch.manual_seed(1)
    size = GPT2Config(
        vocab_size=len(toy_tokenizer()), n_embd=16, n_layer=1, n_head=2, n_positions=64, bos_token_id=0, eos_token_id=0
    )
    save_model(GPT2LMHeadModel(size), toy_tokenizer(), Path("other"))
    common = ("reward", "--model_name_or_path", "model", "--quiet", "--allow_weak", "--num_train_epochs", "1")
    rlhf(*common, "--labels", "labels.jsonl", "--samples", "samples.jsonl", "--num_folds", "2", "--output_dir", "rm")
    rlhf(*common, "--labels", "labels.jsonl", "--num_folds", "2", "--ensemble", "2", "--output_dir", "many")
    rlhf(*common, "--comparisons", "comparisons.jsonl", "--output_dir", "pairs")


def _labelling() -> None:
    rlhf("label", "page", "--samples", "samples.jsonl", "--output_dir", "page")
    uid = json.loads(Path("page/tasks.jsonl").read_text().splitlines()[0])["uid"]
    answer = {"uid": uid, "choice": "Positive", "lead_time": 1.0, "at": "2026-01-01T00:00:00Z"}
    packet = read_json(Path("page/project.json"))["packet"]
    saved = {"packet": packet, "annotator": "ana", "session": "one", "saved_at": "2026-01-01T00:01:00Z"}
    write_json(Path("answers.json"), {**saved, "answers": [answer]})


def _runs() -> None:
    rlhf("ppo", "--model_name_or_path", "model", "--reward_func", "length", "--output_dir", "run", *SMALL)
    rlhf(
        "evaluate",
        "run",
        "--num_samples",
        "16",
        "--gold_reward_func",
        "mine.py:mine",
        "--quiet",
        "--best_of_n_samples",
        "0",
    )
    rlhf("rate", "push", "run", "--output_dir", "rating", "--page", "--num_samples", "4", "--quiet")
    tasks = [json.loads(line) for line in Path("rating/tasks.jsonl").read_text().splitlines()]
    answers = [
        {"uid": t["uid"], "choice": str(1 + i % 5), "lead_time": 1.0, "at": "2026-01-01T00:00:00Z"}
        for i, t in enumerate(tasks)
    ]
    packet = read_json(Path("rating/project.json"))["packet"]
    saved = {"packet": packet, "annotator": "ana", "session": "one", "saved_at": "2026-01-01T00:01:00Z"}
    write_json(Path("rated.json"), {**saved, "answers": answers})
    rlhf("rate", "pull", "--output_dir", "rating", "--answers", "rated.json")


assert PLAIN
