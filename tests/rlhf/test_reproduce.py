"""`rlhf reproduce`: recorded work done again gives the same numbers, and what does not is named."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from rlhf import PPOConfig, PPOTrainer, cli
from rlhf.foundation.digests import write_sealed
from rlhf.foundation.errors import InputError
from rlhf.foundation.records import Label, write_records
from rlhf.ppo.finetune import PPOCommandConfig, finetune
from rlhf.whole_loop.reproduce import ReproduceConfig, Reproduction, reproduce

SMALL: dict[str, Any] = {
    "iteration_batch_size": 32, "max_iteration_batch_size": 64, "minibatch_size": 16, "max_completion_length": 8,
    "learning_rate": 3e-3, "num_eval_samples": 16, "normalization_samples": 32, "ladder_step": 0.1, "quiet": True,
}  # fmt: skip
REWARD = """def stops(prompts, completions, completion_ids, **kwargs):
    return [float(c.count('.') + 0.1 * c.count('e')) for c in completions]
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """model/, samples.jsonl, labels.jsonl and reward.py."""
    from rlhf.foundation.model_directory import load_causal_lm, load_tokenizer
    from rlhf.language_model.pretrain import pretrain
    from rlhf.language_model.pretrain_config import PretrainConfig
    from rlhf.language_model.sampler import sample_texts

    place = tmp_path_factory.mktemp("made")
    pretrain.run(PretrainConfig(output_dir=str(place / "model"), max_steps=12, hidden_size=16, quiet=True))
    model, tokenizer = load_causal_lm(str(place / "model")), load_tokenizer(str(place / "model"))
    samples = sample_texts(model, tokenizer, [""] * 80, max_new_tokens=8, seed=0, source="model", quiet=True)
    write_records(place / "samples.jsonl", samples)
    names = ("positive", "negative")
    labels = [Label(s.uid, "", s.completion, names[i % 2], "ana") for i, s in enumerate(samples)]  # type: ignore[arg-type]
    write_records(place / "labels.jsonl", labels)
    (place / "reward.py").write_text(REWARD)
    return place


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def length_of(completions: list[str], **kwargs: Any) -> list[float]:
    return [float(len(text)) for text in completions]


def go(**options: Any) -> None:
    given = {"output_dir": "run", "model_name_or_path": "model", "reward_func": ["reward.py:stops"], **SMALL}
    finetune.run(PPOCommandConfig(**{**given, "max_iterations": 2, **options}))


def again(name: str = "run", **options: Any) -> Reproduction:
    return reproduce.run(ReproduceConfig(run=name, quiet=True, **options))


def test_a_run_is_made_again_number_by_number(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    go(beta=0.1, num_generations=2)
    assert cli.main(["reproduce", "run", "--quiet"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    (told,) = [line for line in printed.out.splitlines() if "bitwise equal" in line]
    equal, of, total, *_ = told.split()
    assert (equal, of) == (total, "of")
    tensors = [json.loads((place / "run" / "ladder.json").read_text())["rungs"], list(place.glob("run/state/*"))]
    assert int(total.replace(",", "")) > 5000 * len(tensors[0])
    assert not (place / "run.reproduced").exists()


def test_a_number_that_differs_is_a_finding(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    go()
    lines = [json.loads(line) for line in (place / "run" / "metrics.jsonl").read_text().splitlines()]
    then = lines[1]["reward"]
    lines[1]["reward"] = then + 0.25
    (place / "run" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert cli.main(["reproduce", "run", "--quiet"]) == 2
    printed = capsys.readouterr()
    assert f"  [1].reward: {then + 0.25} then, {then} now" in printed.out
    assert "largest absolute difference: 0.25" in printed.out
    (line,) = printed.err.splitlines()
    assert "got 1 of " in line
    assert "0 of " in line
    assert (place / "run.reproduced" / "metrics.jsonl").exists()
    with pytest.raises(InputError, match="reproduced, not empty"):
        again()


def test_a_resumed_run_whose_end_moved(place: Path) -> None:
    """2 iterations, then 4, then on to 9 with a budget that the policy has passed: the run ends where it is."""
    go()
    go(max_iterations=4, resume=True)
    kl = [json.loads(line)["kl_per_completion"] for line in (place / "run" / "metrics.jsonl").read_text().splitlines()]
    go(max_iterations=9, kl_budget=max(0.01, min(k for k in kl[1:]) / 2), resume=True)
    sessions = json.loads((place / "run" / "run.json").read_text())["sessions"]
    assert [session["iteration"] for session in sessions] == [0, 2, 4]
    assert [session["options"]["max_iterations"] for session in sessions] == [2, 4, 9]
    assert again().sameness.same
    info = json.loads((place / "run" / "run.json").read_text())
    info["sessions"] = [{**sessions[-1], "iteration": 0}]  # as if it had been made in one go
    write_sealed(place / "run" / "run.json", info)
    assert not again().sameness.same


def test_a_reward_model_and_its_constants(place: Path) -> None:
    from rewards.steps.fit import fit
    from rewards.steps.reward_config import RewardConfig

    fit.run(
        RewardConfig(
            model_name_or_path="model", labels="labels.jsonl", samples="samples.jsonl", output_dir="rm",
            num_train_epochs=1.0, allow_weak=True, quiet=True,
        )
    )  # fmt: skip
    go(reward_model_path=["rm"], reward_func=[])
    assert json.loads((place / "run" / "run.json").read_text())["normalization"]["source"] == "reward_model.json"
    assert again("rm").sameness.same
    assert again("model").sameness.same
    shutil.move(place, place.parent / "elsewhere")
    assert again(str(place.parent / "elsewhere" / "run")).sameness.same
    labels = place.parent / "elsewhere" / "labels.jsonl"
    labels.write_text("".join(labels.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(InputError, match=r"changed since: labels \(.*labels\.jsonl\)"):
        again(str(place.parent / "elsewhere" / "rm"))


def test_a_changed_input_is_refused_or_accepted(place: Path) -> None:
    go()
    (place / "reward.py").write_text(REWARD.replace("0.1", "0.2"))
    with pytest.raises(InputError, match="run: got changed since: reward 1, stops; expected"):
        again()
    assert not (place / "run.reproduced").exists()
    found = again(accept_changes=True, output_dir="second")
    assert "changed: reward 1, stops" in found.notes
    assert not found.sameness.same
    assert (place / "second").is_dir()


def test_a_python_run_is_made_again_from_names_only(place: Path) -> None:
    small = PPOConfig(output_dir="run", max_iterations=1, **SMALL)
    PPOTrainer("model", ["full_stop", "reward.py:stops"], small).train()
    assert again().sameness.same
    other = PPOConfig(output_dir="other", max_iterations=1, **SMALL)
    PPOTrainer("model", length_of, other, train_dataset=[{"prompt": "my"}]).train()
    missing = "the reward function length_of, train_dataset"
    with pytest.raises(InputError, match=f"other: got a run made in Python that no path names: {missing}; expected"):
        again("other")


def test_what_cannot_be_made_again_says_why(place: Path) -> None:
    go()
    info = json.loads((place / "run" / "run.json").read_text())

    def refused(message: str, **changes: Any) -> None:
        write_sealed(place / "run" / "run.json", {**info, **changes})
        with pytest.raises(InputError, match=message):
            again()

    refused("a run that is not finished; .*--resume first", status="running")
    change = {"iteration": 1, "inputs": [{"name": "reward 1, stops"}]}
    refused(r"inputs were changed on the way \(reward 1, stops\)", accepted_changes=[change])
    two = [{**info["sessions"][0], "world_size": 2}]
    refused("of 2 processes; .*accelerate launch .*--num_processes 2 -m rlhf.cli reproduce run", sessions=two)
    refused("older version began", sessions=[{"iteration": 0}, {**info["sessions"][0], "iteration": 1}])
    with pytest.raises(InputError, match="no record of work"):
        again(".")


def test_threads_and_versions_are_those_of_then(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rlhf.whole_loop import replay

    go()
    info = json.loads((place / "run" / "run.json").read_text())
    (session,) = info["sessions"]
    then = {
        "versions": {**session["versions"], "numpy": "0.1"},
        "hardware": {**session["hardware"], "torch_threads": 3},
    }
    write_sealed(place / "run" / "run.json", {**info, **then, "sessions": [{**session, **then}]})
    threads = []
    make = replay._make
    monkeypatch.setattr(replay, "_make", lambda *given: (threads.append(torch.get_num_threads()), make(*given)))
    before = torch.get_num_threads()
    notes = again(output_dir="second").notes
    assert threads == [3]
    assert torch.get_num_threads() == before
    assert any(note.startswith("numpy: 0.1 then, ") for note in notes)
    assert f"torch threads: 3 then, {before} now" in notes


def test_words_of_a_guard_add_up_in_one_order() -> None:
    """Python orders a set of texts anew in every process; sums over words must not follow it."""
    code = (
        "import random; from rewards.guards import distribution_guard as d; r = random.Random(0)\n"
        "words = [f'w{i}' for i in range(400)]\n"
        "texts = [' '.join(r.choices(words, k=9)) for _ in range(120)]\n"
        "print(repr(d(texts[:60], texts[60:]).value))"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(said) == 1


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("reward", ["sentiment", "full_stop"])
def test_a_demo_is_made_again_bit_for_bit(tmp_path: Path, reward: str) -> None:
    words = [sys.executable, "-m", "rlhf.cli"]
    place = str(tmp_path / "demo")
    demo = [*words, "demo", "--quiet", "--reward", reward, "--output_dir", place]
    subprocess.run(demo, capture_output=True, text=True, check=True)
    verified = subprocess.run([*words, "inspect", "--verify", place], capture_output=True, text=True, check=True).stdout
    for line in ("demo.json: whole", "model/pretrain.json: whole", "ppo/prompts: unchanged"):
        assert line in verified
    again = subprocess.run([*words, "reproduce", place, "--quiet"], capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stdout[-2000:] + again.stderr[-2000:]
    (told,) = [line for line in again.stdout.splitlines() if "bitwise equal" in line]
    assert told.split()[0] == told.split()[2]
