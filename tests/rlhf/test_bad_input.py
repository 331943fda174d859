"""Every mistake a person can make at the command line: exit 2, one line that says what, got, expected and the fix."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from rlhf.cli import main
from rlhf.foundation.files import write_jsonl
from rlhf.foundation.locks import sole_writer
from rlhf.foundation.model_directory import save_model
from rlhf.language_model.tokenizer import train_tokenizer

Refused = Callable[..., str]
TEXT = ["the lord is happy.", "the sad lady weeps!", "a merry song, a bitter tear"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory of a few thousand parameters."""
    tokenizer = train_tokenizer(TEXT, 400)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=32, n_embd=8, n_layer=1, n_head=1, bos_token_id=0, eos_token_id=0
    )
    directory = tmp_path_factory.mktemp("tiny") / "model"
    save_model(GPT2LMHeadModel(config), tokenizer, directory)
    return directory


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Refused:
    """Runs a command in an empty directory; it must exit with 2 and one line, which is returned."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object) -> str:
        capsys.readouterr()
        status = main([str(word) for word in words])
        captured = capsys.readouterr()
        lines = [line for line in captured.err.splitlines() if line.strip()]
        assert status == 2, captured.err
        assert captured.out == ""
        assert len(lines) == 1, captured.err
        assert lines[0].startswith("rlhf: ")
        assert "got " in lines[0]
        assert "expected " in lines[0]
        return lines[0]

    return run


def ppo(model: object, *words: object) -> tuple[object, ...]:
    return (
        "ppo",
        "--model_name_or_path",
        model,
        "--reward_func",
        "full_stop",
        "--output_dir",
        "run",
        "--quiet",
        *words,
    )


def test_unknown_commands_and_options(refused: Refused, model: Path) -> None:
    assert "an unknown command" in refused("pppo")
    assert "did you mean --learning_rate?" in refused(*ppo(model, "--learning_rat", "1"))
    assert "invalid float value: 'fast'" in refused(*ppo(model, "--learning_rate", "fast"))
    assert "--model_name_or_path" in refused("ppo", "--reward_func", "full_stop", "--output_dir", "run")
    assert "stray" in refused(*ppo(model, "stray"))


def test_config_files(refused: Refused, model: Path, tmp_path: Path) -> None:
    assert "one of the recipes chapter7, demo" in refused(*ppo(model, "--config", "chapter8"))
    (tmp_path / "a.yaml").write_text("learning_rate: 1.0e-4\nbatch: 3\n")
    assert "key 'batch': got an unknown option" in refused(*ppo(model, "--config", "a.yaml"))
    (tmp_path / "b.yaml").write_text("learning_rate: [1\n")
    assert "no valid YAML" in refused(*ppo(model, "--config", "b.yaml"))
    (tmp_path / "c.yaml").write_text("- learning_rate\n")
    assert "a YAML list" in refused(*ppo(model, "--config", "c.yaml"))


def test_models_that_are_none(refused: Refused, tmp_path: Path, model: Path) -> None:
    assert "no such directory" in refused(*ppo("./nowhere"))
    assert "nobody/nothing" in refused(*ppo("nobody/nothing"))
    (tmp_path / "empty").mkdir()
    assert "empty" in refused(*ppo("./empty"))
    assert not (tmp_path / "run").exists()


MISSING = """
import sys
from rlhf.cli import main
there, gone = sys.argv[1], "./nowhere"
rewarded = ["--reward_func", "full_stop"]
ppo = ["ppo", "--output_dir", "run", "--model_name_or_path"]
for words in (
    [*ppo, gone, *rewarded],
    [*ppo, there, "--reward_model_path", gone],
    [*ppo, there, "--reward_model_path", gone + ":POSITIVE"],
    [*ppo, there, "--reward_func", gone],
    [*ppo, there, *rewarded, "--critic", "separate", "--critic_model_path", gone],
    ["sample", "--model_name_or_path", gone],
    ["reward", "--labels", "labels.jsonl", "--model_name_or_path", gone],
    ["probe", "full_stop", "--samples", "samples.jsonl", "--model_name_or_path", gone],
    ["probe", gone, "--samples", "samples.jsonl", "--model_name_or_path", there],
    ["compare", gone, "full_stop", "--samples", "samples.jsonl"],
    ["evaluate", "run", "--gold_reward_func", gone],
    ["evaluate", "run", "--gold_reward_model_path", gone],
    ["evaluate", "run", "--quality_func", gone],
    ["doctor", "--rollouts", "r.jsonl", "--model_name_or_path", gone, "--ref_model_name_or_path", there],
):
    assert main(words) == 2, words
    assert "torch" not in sys.modules, words
"""


def test_a_missing_model_or_reward_is_told_before_torch_is_loaded(tmp_path: Path, model: Path) -> None:
    """torch takes seconds, and no model need be loaded to see that a directory is not there."""
    ran = [sys.executable, "-c", MISSING, str(model)]
    done = subprocess.run(ran, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 14
    assert all("nowhere" in line and "got no such directory" in line for line in lines)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--epsilon", "0"), "--epsilon: got 0.0; expected more than 0 and less than 1"),
        (("--kl_budget", "0.01"), "--kl_budget: got 0.01; expected at least the first rung, 0.0625 nats"),
        (("--minibatch_size", "2048"), "--minibatch_size: got 2048; expected at most the iteration batch"),
        (("--max_completion_length", "32"), "prompt and completion: got 1 + 32 tokens; expected at most 32"),
        (("--prompt", "a", "--prompts", "b.txt"), "prompts: got more than one source"),
        (("--prompts", "b.txt"), "b.txt: got no such file"),
        (("--reward_weights", "1", "2"), "--reward_weights: got 2 weights"),
        (("--seed", "-1"), "--seed: got -1"),
    ],
)
def test_ppo_options_out_of_range(refused: Refused, model: Path, words: tuple[str, ...], line: str) -> None:
    assert line in refused(*ppo(model, *words))


def test_rewards_that_are_none(refused: Refused, model: Path, tmp_path: Path) -> None:
    base = ("ppo", "--model_name_or_path", model, "--output_dir", "run", "--max_completion_length", "8")
    assert "reward: got none" in refused(*base)
    assert "no such directory" in refused(*base, "--reward_model_path", "./nowhere")
    assert "reward" in refused(*base, "--reward_model_path", model)
    assert "half_stop" in refused(*base, "--reward_func", "half_stop")
    (tmp_path / "mine.py").write_text("def shout(completions, **kwargs):\n    return [1 / 0 for _ in completions]\n")
    assert "ZeroDivisionError" in refused(*base, "--reward_func", "mine.py:shout", "--normalization_samples", "4")
    assert "mine.py" in refused(*base, "--reward_func", "mine.py:whisper")


@pytest.mark.parametrize("code", ["", "0", "3", "'no'"])
def test_a_reward_that_ends_the_process_has_not_succeeded(
    refused: Refused, model: Path, tmp_path: Path, code: str
) -> None:
    (tmp_path / "mine.py").write_text(f"import sys\ndef leave(prompts, completions, **_):\n    sys.exit({code})\n")
    words = ("--reward_func", "mine.py:leave", "--normalization_samples", "4", "--max_completion_length", "8")
    line = refused("ppo", "--model_name_or_path", model, "--output_dir", "run", *words)
    assert "reward function leave: got SystemExit" in line
    write_jsonl(tmp_path / "s.jsonl", [{"uid": str(i), "prompt": "", "completion": "a", "source": "m"} for i in "ab"])
    line = refused("compare", "mine.py:leave", "full_stop", "--samples", "s.jsonl")
    assert "sys.exit" in line or "SystemExit" in line


def test_output_directories_in_use(refused: Refused, model: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("years of work")
    short = ("--max_completion_length", "8")
    assert "not empty" in refused(*ppo(model, *short))
    assert "files that are no run" in refused(*ppo(model, "--resume", *short))
    assert "without demo.json" in refused("demo", "--output_dir", "run")
    assert (tmp_path / "run" / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    "command",
    [
        "reward --model_name_or_path MODEL --labels labels.jsonl --output_dir held",
        "pretrain --output_dir held",
        "demo --output_dir held",
        "loop --model_name_or_path MODEL --output_dir held",
        "probe full_stop --model_name_or_path MODEL --samples samples.jsonl --output_dir held",
        "sample --model_name_or_path MODEL --output_path held",
        "label simulate --samples samples.jsonl --output held",
    ],
)
def test_what_another_command_writes(refused: Refused, model: Path, command: str) -> None:
    with sole_writer("held"):
        told = refused(*(model if word == "MODEL" else word for word in command.split()))
    assert "held, in use by another command" in told


def test_corpora(refused: Refused, tmp_path: Path) -> None:
    def pretrain(name: str) -> str:
        return refused("pretrain", "--corpus", name, "--output_dir", "model", "--quiet")

    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "short.txt").write_text("to be")
    (tmp_path / "binary.txt").write_bytes(bytes(range(256)) * 20)
    assert "missing.txt" in pretrain("./missing.txt")
    assert "empty" in pretrain("empty.txt")
    assert "binary.txt" in pretrain("binary.txt")
    assert "1 different document" in pretrain("short.txt")
    (tmp_path / "two.txt").write_text("to be\n\nor not")
    assert "block" in pretrain("two.txt")
    assert "nobody/nothing" in pretrain("nobody/nothing")
    assert not (tmp_path / "model").exists()


def test_label_files(refused: Refused, model: Path, tmp_path: Path) -> None:
    def reward(name: str) -> str:
        return refused("reward", "--model_name_or_path", model, "--labels", name, "--output_dir", "rm", "--quiet")

    row = {"uid": "a", "prompt": "", "completion": "the lord", "label": "positive", "annotator": "ana"}
    assert "no such file" in reward("missing.jsonl")
    (tmp_path / "torn.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(row)[:20])
    assert "a torn last line" in reward("torn.jsonl")
    write_jsonl(tmp_path / "unknown.jsonl", [{**row, "label": "splendid"}])
    assert "record 1, label field 'label': got 'splendid'; expected positive, neutral or negative" in reward(
        "unknown.jsonl"
    )
    write_jsonl(tmp_path / "one.jsonl", [{**row, "uid": str(i), "completion": f"the lord {i}"} for i in range(40)])
    assert "one.jsonl" in reward("one.jsonl")
    assert not (tmp_path / "rm").exists()


@contextmanager
def files_at_most(size: int) -> Iterator[None]:
    """A file that grows beyond `size` bytes fails to be written, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_one_line_and_leaves_what_stood_there(refused: Refused, model: Path, tmp_path: Path) -> None:
    (tmp_path / "samples.jsonl").write_text("precious\n")
    with files_at_most(2000):
        line = refused(
            "sample", "--model_name_or_path", model, "--num_samples", "50", "--max_new_tokens", "8", "--overwrite",
            "--output_path", "samples.jsonl", "--quiet",
        )  # fmt: skip
    assert "writing samples.jsonl" in line
    assert (tmp_path / "samples.jsonl").read_text() == "precious\n"
    assert [p.name for p in tmp_path.iterdir()] == ["samples.jsonl"]


def test_a_run_whose_disk_filled_can_be_continued(refused: Refused, model: Path, tmp_path: Path) -> None:
    command = ppo(
        model, "--max_completion_length", "8", "--iteration_batch_size", "64", "--minibatch_size", "32",
        "--normalization_samples", "64", "--num_eval_samples", "16", "--max_iterations", "2",
    )  # fmt: skip
    with files_at_most(8000):
        assert "expected a writable disk with free space" in refused(*command)
    assert main([str(word) for word in (*command, "--resume")]) == 0
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 3
