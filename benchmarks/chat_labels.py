"""The whole way on a real chat model: samples, a real Label Studio, both reward models, PPO; prints each figure.

    .venv/bin/python benchmarks/chat_labels.py MODEL_DIRECTORY [--work DIR]

1. 40 chat prompts, two replies each; "Is this reply helpful?" (Yes, No, Unsure) and pairs go to Label Studio, are
   answered there by rule (a reply with more different words is better) and come back.
2. A token reward model is fitted to the judgements, a comparison one to the pairs.
3. The score of a reply in training (the ids of the fitted batches) and in PPO (the trainer's own call) are compared.
4. Two iterations of PPO on the last layer with each; the samples of the last rung are printed to be read.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from labeling import server
from labeling.connection import connect
from labeling.folder import Folder
from labeling.server_raters import annotate_as
from rlhf.cli import main as rlhf
from rlhf.foundation.conversation import assistant_turn, in_turns, prompt_from_text
from rlhf.foundation.files import write_jsonl
from rlhf.foundation.records import read_comparisons, read_labels, read_samples

TOPICS = (
    "keep bread fresh", "learn to whistle", "water a cactus", "write a short poem", "fix a squeaky door",
    "boil an egg", "plan a picnic", "remember names", "fold a shirt", "choose a book",
    "make tea", "draw a cat", "find the north", "clean a window", "sleep better",
    "train a puppy", "store apples", "tie a knot", "greet a neighbour", "save water",
)  # fmt: skip
ASKED = ("How do I {}?", "Give me one tip: {}.")


def prompts() -> list[dict[str, object]]:
    """40 conversations of one turn each."""
    return [{"prompt": [{"role": "user", "content": how.format(topic)}]} for topic in TOPICS for how in ASKED]


def worth(text: str) -> int:
    """The rule of the raters: how many different words a reply has."""
    return len(set(text.lower().split()))


def call(words: str) -> None:
    """One command, as a person types it; its time in CPU-seconds."""
    began = time.process_time()
    assert rlhf(words.split()) == 0, words
    print(f"    [{time.process_time() - began:.0f} CPU-s] rlhf {words}", flush=True)


@contextlib.contextmanager
def label_studio(directory: Path) -> Iterator[Path]:
    """A server of its own."""
    venv = server.cache_directory()
    server.install(venv, print)
    server.start(directory, venv=venv, say=print)
    try:
        yield directory
    finally:
        server.stop(directory)


def answer(folder: Path, server_dir: Path) -> None:
    """Answer every task of a folder by rule, as the connection's user."""
    plan, tasks = Folder(folder).need_plan(), Folder(folder).read_tasks()
    middle = sorted(worth(task.text) for task in tasks.values())[len(tasks) // 2]
    meanings = {}
    for uid, task in tasks.items():
        if task.second is None:
            meanings[uid] = "positive" if worth(task.text) > middle else "negative"
            continue
        shown = (task.second, task.text) if task.swapped else (task.text, task.second)
        first, second = map(worth, shown)
        meanings[uid] = "tie" if first == second else "first" if first > second else "second"
    for project in plan.projects:
        annotate_as(connect(server_dir), project, plan, meanings)


def label(work: Path, server_dir: Path) -> None:
    """Judgements and comparisons of the samples, through the server."""
    asked = "--question Helpful? --choices Yes,No,Unsure --map Yes=positive,No=negative,Unsure=neutral"
    for name, kind in (("helpful", f"judgement {asked}"), ("pairs", "comparison")):
        options = f"--output_dir {work / name} --samples {work / 'samples.jsonl'} --kind {kind} --title {name}-replies"
        call(f"label push {options} --server_dir {server_dir} --quiet")
        answer(work / name, server_dir)
        call(f"label pull --output_dir {work / name} --server_dir {server_dir} --quiet")


def compare_scores(work: Path) -> None:
    """The largest difference between the score of the ids that were fitted and the score that PPO asks for."""
    from rewards.batching import pad
    from rewards.loading import load_reward_model
    from rewards.preference_model import PreferenceRewardModel
    from rlhf.ppo.reward_functions import Rewards

    labels = read_labels(work / "helpful" / "labels.jsonl")
    pairs = read_comparisons(work / "pairs" / "comparisons.jsonl")
    texts = {
        "token": [(row.prompt, row.completion) for row in labels],
        "comparison": [(row.prompt, text) for row in pairs for text in (row.chosen, row.rejected)],
    }
    for name, rows in texts.items():
        reward = load_reward_model(work / f"{name}_model")
        in_ppo = Rewards([reward], [1.0]).values(
            [prompt_from_text(p) for p, _ in rows], [c for _, c in rows], [[]] * len(rows)
        )[0]
        encoded = reward.encoder.encode([p for p, _ in rows], [assistant_turn(c) for _, c in rows])
        worst = 0.0
        for i, ids in enumerate(encoded[:64]):
            batch = pad([ids], [0], pad_id=0)
            if isinstance(reward, PreferenceRewardModel):
                reward.model.config.pad_token_id = None  # one text, no padding: nothing to be told apart
                fitted = float(reward.model(input_ids=batch.input_ids).logits)
            else:
                fitted = float(reward.logit_difference(batch).sigmoid().log())
            worst = max(worst, abs(fitted - float(in_ppo[i])))
        print(f"{name}: score of the fitted ids against PPO's, largest difference of 64: {worst:.2g}")


def main() -> None:
    """Run all of it and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--work", default="")
    options = parser.parse_args()
    work = Path(options.work or tempfile.mkdtemp(prefix="chat-labels-"))
    print(f"in {work}")
    write_jsonl(work / "prompts.jsonl", prompts())
    call(
        f"sample --model_name_or_path {options.model} --prompts {work / 'prompts.jsonl'} --num_return_sequences 2 "
        f"--max_new_tokens 24 --output_path {work / 'samples.jsonl'} --quiet"
    )
    with label_studio(work / "server") as server_dir:
        label(work, server_dir)
    fit = f"--model_name_or_path {options.model} --samples {work / 'samples.jsonl'} --allow_weak --num_train_epochs 2"
    files = {"token": "--labels helpful/labels.jsonl", "comparison": "--comparisons pairs/comparisons.jsonl"}
    for name, given in files.items():
        option, file = given.split()
        call(f"reward {option} {work / file} {fit} --learning_rate 3e-5 --output_dir {work / f'{name}_model'} --quiet")
    compare_scores(work)
    for name in files:
        run = work / f"ppo_{name}"
        call(
            f"ppo --model_name_or_path {options.model} --reward_model_path {work / f'{name}_model'} --prompts "
            f"{work / 'prompts.jsonl'} --output_dir {run} --train_scope last_layer --iteration_batch_size 64 "
            "--minibatch_size 16 --max_completion_length 24 --num_eval_samples 32 --normalization_samples 64 "
            "--max_iterations 2 --learning_rate 2e-4 --logits_memory_mb 256 --quiet"
        )
        last = sorted((run / "samples").glob("*.jsonl"))[-1]
        for sample in read_samples(last)[:6]:
            print(f"  {in_turns(sample.prompt)!r} -> {sample.completion!r}")


if __name__ == "__main__":
    main()
