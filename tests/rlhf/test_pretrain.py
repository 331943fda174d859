"""Pretraining: values by hand, a model directory that loads, and bad input."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlhf.commands.pretrain import main
from rlhf.foundation.errors import InputError
from rlhf.language_model.corpus import Split, pack
from rlhf.language_model.grammar import generate_corpus
from rlhf.language_model.pretrain import pretrain
from rlhf.language_model.pretrain_config import PretrainConfig
from rlhf.language_model.tokenizer import train_tokenizer
from rlhf.language_model.training import build_language_model, held_out_loss, new_model, next_token_loss, schedule

TINY: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "block_size": 48,
    "max_steps": 3,
    "per_device_train_batch_size": 2,
    "quiet": True,
}


def test_schedule_by_hand() -> None:
    # 20 steps: warm-up over 2, then from 1 in equal steps of 1/18, the last one 1/18.
    assert [schedule(step, 20) for step in (0, 1, 2)] == [0.5, 1.0, 1.0]
    assert schedule(11, 20) == pytest.approx(9 / 18, abs=1e-12)
    assert schedule(19, 20) == pytest.approx(1 / 18, abs=1e-12)
    assert schedule(0, 1) == 1.0


def test_packed_loss_equals_each_document_alone() -> None:
    """Attention must not leak: a document's loss in a packed block is its loss alone in a row."""
    documents = generate_corpus(0, 12)
    tokenizer = train_tokenizer(documents, 2048)
    config = PretrainConfig(output_dir="unused", **(TINY | {"block_size": 128}))
    torch.manual_seed(0)
    model = new_model(config, tokenizer).eval()
    ids = [tokenizer(text, add_special_tokens=False).input_ids for text in documents]
    blocks = pack(ids, 128, 0, seed=0)
    assert len(blocks.labels) < len(documents)
    loss, count = next_token_loss(model, *blocks)
    assert count == sum(len(row) + 1 for row in ids)
    for number, row in enumerate(ids):
        framed = torch.tensor([[0, *row, 0]])
        logprobs = model(framed[:, :-1]).logits.log_softmax(-1)
        alone = -logprobs.gather(-1, framed[:, 1:, None]).squeeze(-1)
        packed = loss[blocks.document == number]
        torch.testing.assert_close(packed, alone[0], atol=2e-5, rtol=0)


def test_held_out_figures_by_hand() -> None:
    """A model that predicts uniformly: log V nats for every token, no spread, bits by counting characters."""
    documents = ["ab cd", "ef", "gh ij kl"]
    tokenizer = train_tokenizer(documents, 400)
    config = PretrainConfig(output_dir="unused", **TINY)
    model = new_model(config, tokenizer).eval()
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    figures = held_out_loss(model, tokenizer, Split([], documents), config)
    vocabulary = len(tokenizer)
    assert figures["held_out_loss"] == pytest.approx(math.log(vocabulary), abs=1e-5)
    assert figures["held_out_loss_se"] == pytest.approx(0, abs=1e-5)
    assert held_out_loss(model, tokenizer, Split([], documents[:1]), config)["held_out_loss_se"] is None
    # Tokens: 2 + 1 + 3 words and 3 ends = 9. Characters: 5 + 2 + 8 and 3 ends = 18.
    assert figures["bits_per_character"] == pytest.approx(9 * math.log2(vocabulary) / 18, abs=1e-5)


def test_standard_error_by_hand() -> None:
    """Two documents of 2 and 4 labels: m = (L1 + L2)/6, se = sqrt(2 ((L1 - 2m)^2 + (L2 - 4m)^2)) / 6."""
    documents = ["a", "a b c"]
    tokenizer = train_tokenizer(documents, 400)
    config = PretrainConfig(output_dir="unused", **TINY)
    torch.manual_seed(3)
    model = new_model(config, tokenizer).eval()
    nats = []
    for text in documents:
        framed = torch.tensor([[*tokenizer(text).input_ids, 0]])
        logprobs = model(framed[:, :-1]).logits.log_softmax(-1)
        nats.append(-logprobs.gather(-1, framed[:, 1:, None]).sum().item())
    mean = sum(nats) / 6
    expected = math.sqrt(2 * ((nats[0] - 2 * mean) ** 2 + (nats[1] - 4 * mean) ** 2)) / 6
    figures = held_out_loss(model, tokenizer, Split([], documents), config)
    assert figures["held_out_loss"] == pytest.approx(mean, abs=1e-4)
    assert figures["held_out_loss_se"] == pytest.approx(expected, abs=1e-4)


def test_same_seed_same_model_whatever_the_generator_state() -> None:
    config = PretrainConfig(output_dir="unused", **TINY)
    documents = generate_corpus(0, 200)
    torch.manual_seed(1)
    first = build_language_model(config, documents)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second = build_language_model(config, documents)
    assert torch.equal(torch.get_rng_state(), state)  # the caller's generator is left alone
    for name, tensor in first.model.state_dict().items():
        assert torch.equal(tensor, second.model.state_dict()[name]), name
    assert first.figures.held_out_loss == second.figures.held_out_loss
    # 3 steps of 2 blocks of at most 48 labels.
    assert 0 < first.figures.train_tokens <= 3 * 2 * 48


def test_training_learns() -> None:
    documents = generate_corpus(0, 400)
    config = PretrainConfig(output_dir="unused", **(TINY | {"max_steps": 60, "per_device_train_batch_size": 8}))
    model = build_language_model(config, documents)
    assert model.figures.held_out_loss < 0.85 * math.log(model.figures.vocabulary)
    assert not model.model.training


def test_model_directory_loads_and_nothing_else_is_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, corpus = tmp_path / "model", tmp_path / "play.txt"
    corpus.write_text("\n\n".join(generate_corpus(0, 300)))
    words = [word for key, value in TINY.items() if key != "quiet" for word in (f"--{key}", str(value))]
    main(["--output_dir", str(out), "--corpus", str(corpus), "--quiet", *words])
    assert {path.name for path in out.iterdir()} == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "pretrain.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    model, tokenizer = AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    assert model.config.eos_token_id == tokenizer.eos_token_id == 0
    record = json.loads((out / "pretrain.json").read_text())
    assert record["config"]["max_steps"] == 3
    printed = capsys.readouterr().out
    assert f"{record['figures']['held_out_loss']:.3f} ±" in printed
    assert "bits per character" in printed
    assert "tokens/s" in printed
    assert printed.count("--- sample") == 4
    with pytest.raises(InputError, match=r"--output_dir: got .*which holds a model"):
        pretrain.run(PretrainConfig(output_dir=str(out), corpus=str(corpus), **TINY))
    pretrain.run(PretrainConfig(output_dir=str(out), corpus=str(corpus), overwrite=True, **TINY))


def test_text_file_with_more_words_than_the_vocabulary(tmp_path: Path) -> None:
    text = "\n\n".join(f"Speech {i}:\nthe word{i} and word{i * i} went home" for i in range(300))
    (tmp_path / "text.txt").write_text(text)
    config = PretrainConfig(
        output_dir=str(tmp_path / "model"), corpus=str(tmp_path / "text.txt"), **(TINY | {"vocab_size": 320})
    )
    result = pretrain.run(config)
    assert result.figures.vocabulary <= 320
    assert result.figures.held_out_documents == 15


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"vocab_size": 10}, "--vocab_size: got 10; expected at least 300"),
        ({"block_size": 1}, "--block_size"),
        ({"hidden_size": 20, "num_attention_heads": 3}, "--hidden_size: got 20; expected a multiple of 6"),
        ({"max_steps": 0}, "--max_steps"),
        ({"learning_rate": 0.0}, "--learning_rate"),
        ({"held_out_fraction": 0.9}, "--held_out_fraction"),
        ({"seed": -1}, "--seed"),
        ({"document_separator": ""}, "--document_separator"),
    ],
)
def test_options_out_of_range(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PretrainConfig(output_dir="unused", **values)


def test_corpus_shorter_than_a_block(tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("one two\n\nthree four")
    config = PretrainConfig(output_dir=str(tmp_path / "m"), corpus=str(tmp_path / "short.txt"), **TINY)
    with pytest.raises(InputError, match="corpus: got 3 tokens to train on; expected at least one block of 48"):
        pretrain.run(config)
    assert not (tmp_path / "m").exists()


def test_help_is_quick_and_loads_no_torch() -> None:
    code = (
        "import sys; from rlhf.commands import pretrain\n"
        "try: pretrain.main(['--help'])\nexcept SystemExit: print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("False")


@pytest.mark.slow
def test_interrupted_training_writes_nothing_and_says_so(tmp_path: Path) -> None:
    import signal
    import time

    command = [sys.executable, "-m", "rlhf.cli", "pretrain", "--output_dir", str(tmp_path / "m"), "--max_steps", "9999"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    seen = ""
    deadline = time.monotonic() + 120
    while "nats/token" not in seen and time.monotonic() < deadline:
        seen += process.stderr.read(1)
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "no model was written; the same command starts over" in rest
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
@pytest.mark.slow
def test_demo_recipe_reads_as_play(tmp_path: Path) -> None:
    """The default model: at least 65 % of its complete lines well-formed, at most 10 % verbatim."""
    from rlhf.foundation.model_directory import load_causal_lm, load_tokenizer
    from rlhf.language_model.grammar import is_header, is_well_formed
    from rlhf.language_model.sampler import sample_texts

    out = str(tmp_path / "model")
    pretrain.run(PretrainConfig(output_dir=out, quiet=True))
    samples = sample_texts(load_causal_lm(out), load_tokenizer(out), [""] * 1000, max_new_tokens=32, seed=0, source=out)
    known = {line for document in generate_corpus() for line in document.split("\n")}
    lines = [line for s in samples for line in s.completion.split("\n")[:-1] if not is_header(line)]
    assert len(lines) > 500
    assert sum(map(is_well_formed, lines)) / len(lines) >= 0.65
    assert sum(line in known for line in lines) / len(lines) <= 0.10
