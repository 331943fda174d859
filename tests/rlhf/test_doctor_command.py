"""`rlhf doctor` on a run and on rollouts of another loop; bad files are one line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from rlhf.cli import main
from rlhf.foundation.model_directory import save_model
from rlhf.language_model.endings import Ending
from rlhf.language_model.randomness import Stream, uniforms
from rlhf.language_model.sampler import generate

WORDS = [f"w{i}" for i in range(1, 20)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy, its original, and rollouts of the policy, healthy and at temperature 0.6."""
    root = tmp_path_factory.mktemp("doctor")
    core = Tokenizer(models.WordLevel({"<end>": 0, **{w: i for i, w in enumerate(WORDS, 1)}}, unk_token="<end>"))
    core.pre_tokenizer, core.decoder = pre_tokenizers.WhitespaceSplit(), decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<end>", eos_token="<end>", pad_token="<end>")
    torch.manual_seed(0)
    shape = GPT2Config(
        vocab_size=20, n_positions=32, n_embd=16, n_layer=1, n_head=1, bos_token_id=0, eos_token_id=0,
        initializer_range=0.3,
    )  # fmt: skip
    model = GPT2LMHeadModel(shape).eval()
    save_model(model, tokenizer, root / "original")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    save_model(model, tokenizer, root / "policy")
    for name, temperature in (("healthy", 1.0), ("cold", 0.6)):
        done = generate(
            model, [[0]] * 300, uniforms(0, Stream.SAMPLE, range(300), 10), ending=Ending((0,)), pad_token_id=0,
            temperature=temperature,
        )  # fmt: skip
        rows = [
            {"prompt_ids": [0], "completion_ids": ids[mask].tolist(), "logprobs": logprobs[mask].tolist()}
            for ids, mask, logprobs in zip(done.completion_ids, done.completion_mask, done.logprobs, strict=True)
        ]
        (root / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


def examine(folder: Path, file: Path, *more: str) -> int:
    words = ["--model_name_or_path", str(folder / "policy"), "--ref_model_name_or_path", str(folder / "original")]
    return main(["doctor", "--rollouts", str(file), *words, *more])


def test_rollouts_of_another_loop(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert examine(folder, folder / "healthy.jsonl") == 0
    assert capsys.readouterr().out == "healthy\n"
    assert examine(folder, folder / "cold.jsonl") == 0
    found = re.search(r"cause: temperature \((0\.\d\d)", capsys.readouterr().out)
    assert found
    assert 0.55 < float(found.group(1)) < 0.65  # it was 0.6


@pytest.mark.parametrize("token", ["-1", "20"])
def test_ids_that_the_model_has_not_cannot_be_left_out(
    token: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert examine(folder, folder / "healthy.jsonl", "--suppress_tokens", token) == 2
    assert f"--suppress_tokens: got {token}; expected ids of the model, 0 to 19" in capsys.readouterr().err


def test_what_a_run_s_doctor_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = {"symptoms": {"k1 is not the KL": "k1 is 0.5 nats above"}, "causes": {"top-k": "k = 6"}}
    rows: list[dict[str, Any]] = [{"iteration": 0, "doctor": None}, {"iteration": 1, "doctor": found}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["doctor", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "iteration 1: k1 is 0.5 nats above; cause: top-k (k = 6)\n"
    (tmp_path / "metrics.jsonl").write_text(json.dumps(rows[0]) + "\n")
    assert main(["doctor", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "healthy\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"prompt_ids": [0]}, "line 1: got no completion_ids"),
        ({"prompt_ids": [0], "completion_ids": [99]}, "whole numbers below 20"),
        ({"prompt_ids": [0], "completion_ids": [1, 2], "logprobs": [0.0]}, "logprobs of another length"),
        ({"prompt_ids": [0], "completion_ids": [1, 2]}, "got 1 rollouts"),
    ],
)
def test_bad_files_are_one_line(
    folder: Path, tmp_path: Path, line: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.jsonl").write_text(json.dumps(line) + "\n")
    assert examine(folder, tmp_path / "bad.jsonl") == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert message in told


@pytest.mark.parametrize("words", [[], ["--rollouts", "x.jsonl"], ["missing", "--quiet"], ["no-such-run"]])
def test_bad_words_are_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", *words]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
