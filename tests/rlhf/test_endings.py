"""When a completion ends, and what is never sampled: on tokenizers of several kinds, by hand and through PPO."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from rlhf import PPOConfig, PPOTrainer
from rlhf.cli import main
from rlhf.foundation.encoding import completion_texts, encode_prompt, token_texts
from rlhf.foundation.errors import InputError
from rlhf.foundation.model_directory import save_model
from rlhf.foundation.records import read_samples
from rlhf.language_model import endings
from rlhf.language_model.endings import Ending, ending_of, never_sampled, pad_token
from rlhf.language_model.randomness import Stream, uniforms
from rlhf.language_model.sampler import generate, sample_texts

from .tokenizer_kinds import KINDS, MARK, tiny_model

SMALL: dict[str, Any] = {
    "iteration_batch_size": 32, "minibatch_size": 16, "max_completion_length": 8, "num_eval_samples": 8,
    "normalization_samples": 64, "max_iterations": 2, "quiet": True,
}  # fmt: skip


def long_words(completions: Any, **_: Any) -> list[float]:
    """A reward for anything: characters."""
    return [float(len(str(text))) for text in completions]


def test_every_listed_id_ends_and_is_kept() -> None:
    kind = KINDS["gemma"]
    tokenizer = kind.build()
    ending = ending_of(tiny_model(tokenizer, kind), tokenizer)
    eos, turn = tokenizer.convert_tokens_to_ids(["<eos>", "<end_of_turn>"])
    assert ending.token_ids == (eos, turn)
    good, sun = tokenizer.convert_tokens_to_ids(["good", "Ġsun"])
    tokens = torch.tensor([[good, eos], [good, turn], [turn, sun], [good, sun]])
    # Only the last of the tokens so far counts: the third row ended before.
    assert ending.after(tokens, [[0]] * 4).tolist() == [True, True, False, False]
    assert ending.texts([[2]] * 3, [[good, eos], [good, turn], [good, sun]]) == ["good", "good", "good sun"]
    # The tokenizer's own alone, as it was: the turn's end would be spelled out and the text would go on.
    assert Ending((eos,), tokenizer).texts([[2]], [[good, turn, sun]]) == ["good<end_of_turn> sun"]


@pytest.mark.parametrize("listed", [[-1], [5000], [-1, 5000]])
def test_ids_that_are_none_are_no_ends(listed: list[int]) -> None:
    kind = KINDS["gpt2"]
    tokenizer = kind.build()
    model = tiny_model(tokenizer, kind)
    model.generation_config.eos_token_id = listed
    assert ending_of(model, tokenizer).token_ids == (tokenizer.eos_token_id,)


def test_ordinary_text_is_no_end_and_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    kind = KINDS["gpt2"]
    tokenizer = kind.build()
    model = tiny_model(tokenizer, kind)
    sun = tokenizer.convert_tokens_to_ids("Ġsun")
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, sun]
    endings._tell_no_end.cache_clear()
    for _ in range(2):
        assert ending_of(model, tokenizer).token_ids == (tokenizer.eos_token_id,)
    told = f"rlhf: the model's generation_config ends at id {sun}, which is ' sun': not an end\n"
    assert capsys.readouterr().err == told


@pytest.mark.parametrize(
    ("name", "prompt", "tokens", "stop", "ends_with", "text"),
    [
        ("gpt2", "good", ["Ġmorning", "up"], "orn", 1, " m"),  # inside one token
        ("metaspace", "good", [MARK + "sun", "is", MARK + "up", "a"], "nis u", 3, " su"),  # over three
        ("gpt2", "good", ["Ġmorning"], " ", 1, ""),  # the first character
        ("metaspace", "good", [MARK + "morning"], " ", 1, ""),
        ("metaspace", "", [MARK + "morning", MARK + "the"], " ", 2, "morning"),  # no space begins a text
        ("newline begins", "good", [*"dgood"], "good", 5, "d"),  # the prompt's own does not count
        ("newline begins", "go", [*"od good"], "good", 7, "od "),  # nor what begins in it
        ("newline begins", "", ["a", "\n", "\n"], "\n\n", 3, "a"),
        ("newline begins", "a\n", ["\n", "b", "\n"], "\n\n", None, "\nb\n"),
        ("gpt2", "good", ["Ã", "©", "up"], "é", 2, ""),  # a character of two tokens
        ("gpt2", "good", ["ð", "Ł", "Ļ", "Ĥ", "!", "a"], "🙂!", 5, ""),
        ("metaspace", "good", ["<0xC3>", "<0xA9>", "<0xC3>"], "é", 2, ""),
        ("bert", "good", ["morning", "!"], "!", 2, " morning"),
        ("chatml", "good", ["up", "<|im_start|>", "a"], "<|im_start|>", 2, "up"),
    ],
)
def test_stop_strings_by_hand(
    name: str, prompt: str, tokens: list[str], stop: str, ends_with: int | None, text: str
) -> None:
    kind = KINDS[name]
    tokenizer = kind.build()
    ending = ending_of(tiny_model(tokenizer, kind), tokenizer, [stop])
    before, ids = encode_prompt(tokenizer, prompt), tokenizer.convert_tokens_to_ids(tokens)
    found = [bool(ending.after(torch.tensor([ids[:t]]), [before])[0]) for t in range(1, len(ids) + 1)]
    first = found.index(True) + 1 if True in found else None
    assert first == ends_with
    assert ending.texts([before], [ids[:first]]) == [text]


@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_stop_string_ends_at_the_token_that_completes_it(name: str) -> None:
    """Against the decoded whole at every length, on texts longer than what is read at each token; the tokens,
    masks and log-probs are those that would have been sampled without it."""
    kind = KINDS[name]
    tokenizer = kind.build()
    model = tiny_model(tokenizer, kind)
    prompts = [encode_prompt(tokenizer, "good morning")] * 12
    ends = ending_of(model, tokenizer).token_ids
    left_out = [*never_sampled(model, tokenizer), *ends]
    options: dict[str, Any] = {"pad_token_id": pad_token(tokenizer), "suppress_tokens": left_out}
    numbers = uniforms(1, Stream.SAMPLE, range(12), 60)
    free = generate(model, prompts, numbers, ending=ending_of(model, tokenizer), **options)
    stops = ["su", "e", "a "]
    ending = ending_of(model, tokenizer, stops)
    done = generate(model, prompts, numbers, ending=ending, **options)
    n_stopped, texts = 0, done.texts(ending)
    for row, prompt in enumerate(prompts):
        ids = free.completion_ids[row][free.completion_mask[row]].tolist()
        wholes = completion_texts(tokenizer, [prompt] * len(ids), [ids[: t + 1] for t in range(len(ids))])
        holds = [any(stop in whole for stop in stops) for whole in wholes]
        length = holds.index(True) + 1 if True in holds else len(ids)
        n_stopped += True in holds
        assert done.completion_mask[row].tolist() == [t < length for t in range(60)]
        assert done.completion_ids[row, :length].tolist() == ids[:length]
        assert torch.allclose(done.logprobs[row, :length], free.logprobs[row, :length], atol=1e-5)
        cut = min((whole.find(stop) for stop in stops if stop in (whole := wholes[length - 1])), default=None)
        assert texts[row] == wholes[length - 1][:cut]
        assert "".join(token_texts(tokenizer, prompt, ids)) == wholes[-1]
    assert n_stopped >= 3
    assert ending.ended(done.completion_ids, done.completion_mask, prompts).sum() == n_stopped


def test_token_texts_by_hand() -> None:
    tokenizer = KINDS["metaspace"].build()
    ids = tokenizer.convert_tokens_to_ids([MARK + "sun", "<0xC3>", "<0xA9>", "up", MARK + "is", "<0xF0>", "</s>"])
    good = encode_prompt(tokenizer, "good")
    found = token_texts(tokenizer, good, ids)
    assert found[:5] == [" sun", "", "é", "up", " is"]
    assert found[-1].endswith("</s>")
    assert [tokenizer.decode([i]) for i in ids[:2]] == ["sun", "\N{REPLACEMENT CHARACTER}"]  # what each alone would say
    assert token_texts(tokenizer, good, []) == []


@pytest.mark.parametrize("asked", [[-1], [99999], "all"])
def test_suppressed_ids_must_be_the_models(asked: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kind = KINDS["newline begins"]
    tokenizer = kind.build()
    model = tiny_model(tokenizer, kind)
    ids = list(range(32)) if asked == "all" else asked
    with pytest.raises(InputError, match="--suppress_tokens"):
        never_sampled(model, tokenizer, ids)
    save_model(model, tokenizer, tmp_path / "model")
    words = ["ppo", "--model_name_or_path", str(tmp_path / "model"), "--reward_func", "length", "--quiet"]
    words += ["--output_dir", str(tmp_path / "run"), "--suppress_tokens", *map(str, ids)]
    assert main(words) == 2
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0
    assert "--suppress_tokens" in said
    assert not (tmp_path / "run").exists()


def test_an_end_outside_the_model_is_refused(tmp_path: Path) -> None:
    kind = KINDS["gpt2"]
    tokenizer = kind.build()
    model = tiny_model(tokenizer, kind)
    tokenizer.add_special_tokens({"eos_token": "<NEW>"})
    assert tokenizer.eos_token_id == model.config.vocab_size
    with pytest.raises(InputError, match="<NEW>"):
        ending_of(model, tokenizer)
    with pytest.raises(InputError, match="<NEW>"):
        sample_texts(model, tokenizer, [""], max_new_tokens=4, seed=0, source="m")
    with pytest.raises(InputError, match="<NEW>"):
        PPOTrainer(model, long_words, PPOConfig(output_dir=str(tmp_path / "run"), **SMALL), processing_class=tokenizer)
    assert not (tmp_path / "run").exists()


def test_rows_without_a_token_never_come(tmp_path: Path) -> None:
    """Sampling, log-probs and KL against a plain forward whose surplus rows are masked."""
    kind = KINDS["chatml"]
    tokenizer = kind.build()
    model = tiny_model(tokenizer, kind)
    rows, known = model.config.vocab_size, len(tokenizer)
    assert rows - known == 40
    config = PPOConfig(output_dir=str(tmp_path / "run"), **{**SMALL, "learning_rate": 0.02})
    trainer = PPOTrainer(model, long_words, config, [{"prompt": "good morning"}], processing_class=tokenizer)
    with torch.no_grad():  # as if training had made them likely
        model.lm_head.bias[known:] = 0.0
    rollout = trainer.rollout()
    assert int(rollout.completion_ids.max()) < known
    drawn = rollout.completion_mask
    with torch.no_grad():
        ids = torch.cat([rollout.prompt_ids, rollout.completion_ids], 1)
        start = rollout.prompt_ids.shape[1] - 1
        masked = [m(ids).logits[:, start:-1, :known].log_softmax(-1) for m in (trainer.model, trainer.ref_model)]
    logp, logq = masked
    expected = logp.gather(-1, rollout.completion_ids[..., None]).squeeze(-1)
    assert torch.allclose(rollout.old_logprobs.float()[drawn], expected[drawn], atol=1e-4)
    assert torch.allclose(rollout.sampler_logprobs.float()[drawn], expected[drawn], atol=1e-4)
    kl = ((logp.exp() * (logp - logq)).sum(-1) * drawn).sum(-1)
    assert torch.allclose(rollout.kl.float(), kl, atol=1e-4)


def test_what_was_cut_is_counted(tmp_path: Path) -> None:
    """Ended by either end token or either stop string, by hand; the tokens stay as they were sampled."""
    kind = KINDS["gemma"]
    tokenizer = kind.build()
    model = tiny_model(tokenizer, kind)
    options = {**SMALL, "stop_strings": ["u", "is"], "iteration_batch_size": 64, "max_iterations": 1}
    config = PPOConfig(output_dir=str(tmp_path / "run"), **options)
    trainer = PPOTrainer(model, long_words, config, [{"prompt": "good morning"}], processing_class=tokenizer)
    rollout = trainer.rollout()
    ends = tokenizer.convert_tokens_to_ids(["<eos>", "<end_of_turn>"])
    kinds: dict[str, int] = {"end": 0, "stop": 0, "cut": 0}
    for row in range(64):
        ids = rollout.completion_ids[row][rollout.completion_mask[row]].tolist()
        text = tokenizer.decode([i for i in ids if i not in ends])
        stopped = "u" in text or "is" in text
        kinds["end" if ids[-1] in ends else "stop" if stopped else "cut"] += 1
        assert bool(rollout.ended[row]) == (ids[-1] in ends or stopped) == (len(ids) < 8 or ids[-1] in ends or stopped)
        assert rollout.completions[row] == min((text.split(stop)[0] for stop in ("u", "is")), key=len)
    assert min(kinds.values()) > 0
    line = trainer.step(rollout)
    assert line["completions/clipped_ratio"] == kinds["cut"] / 64


@pytest.mark.slow
def test_a_run_with_stop_strings_and_a_padded_vocabulary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`rlhf ppo`, resumed, `rlhf evaluate` and `rlhf sample`, all by the same ends."""
    monkeypatch.chdir(tmp_path)
    kind = KINDS["chatml"]
    tokenizer = kind.build()
    model = tiny_model(tokenizer, kind)
    save_model(model, tokenizer, tmp_path / "model")
    (tmp_path / "prompts.txt").write_text("good morning\nthe sun\n")
    words = "ppo --model_name_or_path model --reward_func length --prompts prompts.txt --output_dir run --quiet"
    words += " --max_completion_length 12 --iteration_batch_size 64 --minibatch_size 32 --num_eval_samples 32"
    words += " --normalization_samples 64 --stop_strings e su --max_iterations"
    assert main([*words.split(), "3"]) == 0
    resolved = json.loads(Path("run/run.json").read_text())["resolved"]
    assert resolved["suppress_tokens"] == list(range(len(tokenizer), len(tokenizer) + 40))
    assert resolved["stop_strings"] == ["e", "su"]
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert not any(line.get("doctor") for line in lines)
    assert all(0 < line["completions/clipped_ratio"] < 1 for line in lines)
    assert main([*words.split(), "4", "--resume"]) == 0
    assert len(Path("run/metrics.jsonl").read_text().splitlines()) == len(lines) + 1
    assert main(["evaluate", "run", "--num_samples", "32", "--heat_samples", "8", "--quiet"]) == 0
    words = "sample --model_name_or_path model --prompts prompts.txt --num_return_sequences 16 --max_new_tokens 12"
    assert main([*words.split(), "--stop_strings", "e", "su", "--output_path", "s.jsonl", "--quiet"]) == 0
    files = [Path("s.jsonl"), *Path("run/samples").glob("*.jsonl"), *Path("run/evaluation").glob("kl-*.jsonl")]
    assert len(files) >= 3
    for file in files:
        completions = [sample.completion for sample in read_samples(file)]
        assert len(completions) >= 32
        assert not any("e" in text or "su" in text for text in completions)
