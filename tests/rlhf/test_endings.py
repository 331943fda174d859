"""When a completion ends: every end token of the model, stop strings whatever their tokens are, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rewards.rules import full_stop, length
from rlhf import PPOConfig, PPOTrainer
from rlhf.cli import main
from rlhf.foundation.encoding import encode_prompt, token_texts
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_json, read_jsonl
from rlhf.foundation.model_directory import save_model
from rlhf.foundation.records import read_samples
from rlhf.language_model.endings import Ending, ending_of, never_sampled, pad_token
from rlhf.language_model.randomness import Stream, uniforms
from rlhf.language_model.sampler import generate

from .test_one_encoding import independent_text, rows_of
from .tokenizer_kinds import KINDS, PADDED_ROWS, build

BYTES = {byte: 3 + byte for byte in range(256)}  # ids of "llama": <unk>, <s>, </s>, then <0x00> to <0xFF>
THE, SUN, GOOD, MORNING = 290, 291, 292, 293


def letters(text: str) -> list[int]:
    """Ids of "llama": after the bytes "▁", then a to z, each a piece of its own."""
    return [259 if c == " " else 260 + ord(c) - ord("a") for c in text]


def ends_at(ending: Ending, prompt: list[int], completion: list[int]) -> int | None:
    """After how many tokens a completion ends, asked as the sampler asks: after each."""
    for t in range(1, len(completion) + 1):
        if bool(ending.after(torch.tensor([completion[:t]]), [prompt])):
            return t
    return None


@pytest.mark.parametrize(
    ("string", "prompt", "completion", "at", "text"),
    [
        ("he", [1, GOOD], [SUN, THE, SUN], 2, " sun t"),  # inside one token
        ("sad", [1, GOOD], letters("sad"), 3, ""),  # across three
        ("sa", [1, GOOD], [SUN, *letters("sand")], 3, " sun"),
        ("sad", [1, *letters(" sa")], letters("dasad"), 5, "da"),  # "sa" of the prompt and "d" are none
        ("d", [1, *letters(" d")], [SUN], None, " sun"),
        (" the", [1, GOOD], [THE, SUN], 1, ""),  # the space that stands before the first word
        (" the", [1], [THE, SUN, THE], 3, "the sun"),  # a text begins without it
        ("é", [1, GOOD], [BYTES[0xC3], BYTES[0xA9], SUN], 2, ""),  # whole with its second byte
        ("é", [1, GOOD], [BYTES[0xC3], SUN, BYTES[0xA9]], None, "� sun�"),
        ("🙂", [1], [*(BYTES[b] for b in "x🙂".encode()), SUN], 5, "x"),
        (
            "好",
            [1],
            [BYTES[b] for b in ("你" * 20 + "好你").encode()],
            63,
            "你" * 20,
        ),  # a long run of bytes, torn nowhere
        ("sun", [1, GOOD], [THE, SUN], 2, " the "),
    ],
)
def test_a_stop_string_ends_a_completion_with_the_token_that_completes_it(
    string: str, prompt: list[int], completion: list[int], at: int | None, text: str
) -> None:
    ending = Ending((2,), KINDS["llama"](), (string,))
    assert ends_at(ending, prompt, completion) == at
    assert ending.texts([prompt], [completion[:at]]) == [text]


def test_the_earliest_of_several_stop_strings_cuts_the_text() -> None:
    ending = Ending((2,), KINDS["llama"](), ("n", "un"))
    assert ends_at(ending, [1], [SUN]) == 1
    assert ending.texts([[1]], [[SUN]]) == ["s"]


def test_what_a_token_adds_to_the_text() -> None:
    """For the page of a run: what a token adds to the whole; a character of two bytes stands with the last."""
    tokenizer, _ = build("llama")
    ids = [SUN, BYTES[0xC3], BYTES[0xA9], THE]
    assert token_texts(tokenizer, [1, GOOD], ids) == [" sun", "", "é", " the"]
    assert tokenizer.decode([SUN]) == "sun"  # each alone would lose its space
    assert token_texts(tokenizer, [1, GOOD], []) == []


def test_minus_one_is_no_end() -> None:
    """Some configurations say -1 for "none"; it is neither the last token nor told as a text."""
    tokenizer, model = build("llama")
    model.generation_config.eos_token_id = [-1, tokenizer.eos_token_id]
    assert ending_of(model, tokenizer).token_ids == (tokenizer.eos_token_id,)


def test_full_completions_ended_only_by_an_end_token_or_a_stop_string() -> None:
    ending = Ending((2, 5), KINDS["llama"](), ("sad",))
    a, b, c = letters("sad")
    ids = torch.tensor([[THE, a, b], [a, b, c], [THE, 2, 0], [THE, SUN, 5], [5, 0, 0], [THE, SUN, 2]])
    mask = torch.tensor([[True] * 3, [True] * 3, [True, True, False], [True] * 3, [True, False, False], [True] * 3])
    prompts = [[1, *letters(" sa")]] * 6
    assert ending.ended(ids, mask, prompts).tolist() == [False, True, True, True, True, True]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("strings", [("e", "th", "a", "r", "i", "o", "n", "s"), ("\n", " ", "##x", "5")])
def test_sampling_stops_where_the_text_first_holds_a_stop_string(kind: str, strings: tuple[str, ...]) -> None:
    """Without stop strings the same numbers give the same tokens, so the right length can be read off them."""
    tokenizer, model = build(kind)
    prompts = [encode_prompt(tokenizer, prompt) for prompt in ("", "merry", "the king") for _ in range(16)]
    numbers = uniforms(3, Stream.SAMPLE, range(len(prompts)), 12)
    left_out = never_sampled(model, tokenizer)

    def sample(ending: Ending) -> Any:
        return generate(
            model, prompts, numbers, ending=ending, pad_token_id=pad_token(tokenizer), suppress_tokens=left_out
        )

    plain, stopping = ending_of(model, tokenizer), ending_of(model, tokenizer, strings)
    free, stopped = sample(plain), sample(stopping)
    n_cut = 0
    for row, (prompt, ids) in enumerate(rows_of(free)):
        texts = [independent_text(tokenizer, prompt, ids[:t], plain.token_ids) for t in range(1, len(ids) + 1)]
        length = next((t for t, text in enumerate(texts, start=1) if any(s in text for s in strings)), len(ids))
        kept = stopped.completion_mask[row]
        assert stopped.completion_ids[row][kept].tolist() == ids[:length]
        assert kept.tolist() == [t < length for t in range(12)]
        assert (stopped.logprobs[row, :length] - free.logprobs[row, :length]).abs().max() < 1e-5
        text = stopped.texts(stopping)[row]
        assert texts[length - 1].startswith(text)
        assert not any(s in text for s in strings)
        n_cut += length < len(ids)
    assert n_cut >= 3


def test_every_listed_end_token_ends_and_is_kept_as_sampled() -> None:
    tokenizer, model = build("several ends")
    eos, turn = (tokenizer.convert_tokens_to_ids(token) for token in ("<eos>", "<end_of_turn>"))
    ending = ending_of(model, tokenizer)
    assert ending.token_ids == tuple(sorted((eos, turn)))
    numbers = uniforms(0, Stream.SAMPLE, range(512), 24)
    with torch.no_grad():
        model.transformer.wte.weight[turn] *= 3  # so that it comes
    done = generate(model, [[1]] * 512, numbers, ending=ending, pad_token_id=pad_token(tokenizer))
    found = {eos: 0, turn: 0}
    for (_, ids), text in zip(rows_of(done), done.texts(ending), strict=True):
        assert not {eos, turn} & set(ids[:-1])
        if ids[-1] in found:
            found[ids[-1]] += 1
        assert "<end_of_turn>" not in text
        assert "<eos>" not in text
    assert min(found.values()) > 0
    # The tokenizer's own end alone, as it was, lets a turn run on after its end.
    alone = generate(model, [[1]] * 512, numbers, ending=Ending((eos,)), pad_token_id=pad_token(tokenizer))
    assert float(done.completion_mask.sum(-1).double().mean()) < float(alone.completion_mask.sum(-1).double().mean())
    assert any(turn in ids[:-1] for _, ids in rows_of(alone))


def test_an_id_of_ordinary_text_is_no_end_and_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer, model = build("no bos")
    ordinary = tokenizer.convert_tokens_to_ids("z")
    model.generation_config.eos_token_id = [0, ordinary, 99_999]
    assert ending_of(model, tokenizer).token_ids == (0,)
    assert ending_of(model, tokenizer).token_ids == (0,)
    told = capsys.readouterr().err
    assert told == f"rlhf: the model's generation_config ends at id {ordinary}, which is 'z': not an end\n"


def test_what_could_never_end_or_would_end_at_once_is_refused() -> None:
    tokenizer, model = build("no bos")
    with pytest.raises(InputError, match="--stop_strings: got an empty text"):
        ending_of(model, tokenizer, ["x", ""])
    tokenizer.add_special_tokens({"eos_token": "<NEW>"})  # id 298 of 298 rows
    with pytest.raises(InputError, match="the end token <NEW> as id 298 of 298 that the model has"):
        ending_of(model, tokenizer)
    tokenizer.eos_token = None
    with pytest.raises(InputError, match="no EOS token"):
        ending_of(model, tokenizer)


def test_what_was_cut_is_counted(tmp_path: Path) -> None:
    """Ended by either end token or either stop string, by hand; the tokens stay as they were sampled."""
    tokenizer, model = build("several ends")
    ends = tokenizer.convert_tokens_to_ids(["<eos>", "<end_of_turn>"])
    given = {
        "stop_strings": ["u", "or"],
        "suppress_tokens": list(range(5, 261)),
        "iteration_batch_size": 64,
    }  # no bytes
    args = options(tmp_path / "run", **given)
    trainer = PPOTrainer(model, length, args, [{"prompt": "the sun"}], processing_class=tokenizer)
    rollout, kinds = trainer.rollout(), {"end": 0, "stop": 0, "cut": 0}
    prompt = encode_prompt(tokenizer, "the sun")
    for row in range(64):
        ids = rollout.completion_ids[row][rollout.completion_mask[row]].tolist()
        text = independent_text(tokenizer, prompt, ids, ends)
        stopped = "u" in text or "or" in text
        kinds["end" if ids[-1] in ends else "stop" if stopped else "cut"] += 1
        assert bool(rollout.ended[row]) == (ids[-1] in ends or stopped)
        assert len(ids) == 8 or rollout.ended[row]
        assert rollout.completions[row] == min((text.split(string)[0] for string in ("u", "or")), key=len)
    assert min(kinds.values()) > 0
    assert trainer.step(rollout)["completions/clipped_ratio"] == kinds["cut"] / 64


# -- ids that never come ---------------------------------------------------------------------------------------------


def options(directory: Path, **given: Any) -> PPOConfig:
    small: dict[str, Any] = {
        "iteration_batch_size": 32, "minibatch_size": 16, "max_completion_length": 8, "num_eval_samples": 8,
        "normalization_samples": 32, "max_iterations": 2, "quiet": True, "use_cpu": True, "learning_rate": 3e-3,
    }  # fmt: skip
    return PPOConfig(output_dir=str(directory), **(small | given))


def test_ids_without_a_token_never_come_in_sampling_and_scoring_alike(tmp_path: Path) -> None:
    tokenizer, model = build("chatml")
    own, rows = len(tokenizer), len(tokenizer) + PADDED_ROWS
    assert never_sampled(model, tokenizer, [7]) == [7, *range(own, rows)]
    trainer = PPOTrainer(model, full_stop, options(tmp_path / "run", suppress_tokens=[7]), processing_class=tokenizer)
    trainer.step(trainer.rollout())
    rollout = trainer.rollout()
    assert not np.isin(rollout.completion_ids[rollout.completion_mask].numpy(), [7, own, own + 1]).any()
    record = read_json(tmp_path / "run" / "run.json")
    assert record["resolved"]["suppress_tokens"] == [7, own, own + 1]
    assert record["config"]["suppress_tokens"] == [7]  # what was given
    differs = 0.0
    for i in range(len(rollout)):
        prompt, ids = rollout.prompt_ids[i].tolist(), rollout.completion_ids[i][rollout.completion_mask[i]].tolist()
        plain, masked = [], []
        for lm in (trainer.model, trainer.ref_model):
            with torch.no_grad():
                logits = lm(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1].double()
            plain.append(logits.log_softmax(-1))
            logits[:, [7, own, own + 1]] = -1e30
            masked.append(logits.log_softmax(-1))
        chosen = torch.tensor(ids)[:, None]
        kl = [float((p.exp() * (p - q)).sum()) for p, q in (plain, masked)]
        assert float(rollout.kl[i]) == pytest.approx(kl[1], abs=1e-4)
        logprobs = masked[0].gather(-1, chosen).squeeze(-1)
        assert (rollout.old_logprobs[i, : len(ids)] - logprobs).abs().max() < 1e-4
        assert (rollout.sampler_logprobs[i, : len(ids)] - logprobs).abs().max() < 1e-4
        differs = max(differs, float((plain[0].gather(-1, chosen).squeeze(-1) - logprobs).abs().max()))
    assert differs > 1e-3  # the plain forward gives them a share


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ("-1", "--suppress_tokens: got -1; expected ids of the model, 0 to 297"),
        ("99999", "--suppress_tokens: got 99999; expected ids of the model, 0 to 297"),
        (" ".join(map(str, range(298))), "--suppress_tokens: got every token; expected some that may be sampled"),
    ],
)
def test_ids_that_cannot_be_left_out_are_refused_before_the_run(
    tokens: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer, model = build("no bos")
    save_model(model, tokenizer, tmp_path / "model")
    words = f"ppo --model_name_or_path {tmp_path}/model --reward_func full_stop --output_dir {tmp_path}/run --quiet"
    assert main([*words.split(), "--suppress_tokens", *tokens.split()]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_stop_strings_and_left_out_ids_from_the_command_line_to_evaluate_and_resume(tmp_path: Path) -> None:
    tokenizer, model = build("chatml")
    save_model(model, tokenizer, tmp_path / "model")
    common = ["--stop_strings", "e", "th", "--quiet"]
    words = f"sample --model_name_or_path {tmp_path}/model --num_samples 24 --max_new_tokens 8"
    assert main([*words.split(), "--output_path", str(tmp_path / "s.jsonl"), *common]) == 0
    assert not any("e" in s.completion or "th" in s.completion for s in read_samples(tmp_path / "s.jsonl"))
    words = (
        f"ppo --model_name_or_path {tmp_path}/model --reward_func full_stop --output_dir {tmp_path}/run "
        "--iteration_batch_size 64 --minibatch_size 16 --max_completion_length 8 --num_eval_samples 16 "
        "--normalization_samples 64 --max_iterations 1"
    )
    assert main([*words.split(), *common]) == 0
    resolved = read_json(tmp_path / "run" / "run.json")["resolved"]
    assert resolved["stop_strings"] == ["e", "th"]
    assert resolved["suppress_tokens"] == [len(tokenizer), len(tokenizer) + 1]
    # A completion of 8 tokens without an end, and none other, was cut.
    line = read_jsonl(tmp_path / "run" / "metrics.jsonl")[0]
    assert 0 < line["completions/clipped_ratio"] < 1
    assert 1 < line["completions/mean_length"] < 8
    again = [*words.replace("max_iterations 1", "max_iterations 2").split(), *common]
    assert main([*again, "--resume"]) == 0
    assert len(read_jsonl(tmp_path / "run" / "metrics.jsonl")) == 3
    assert main(["evaluate", str(tmp_path / "run"), "--num_samples", "32", "--quiet"]) == 0
    files = [*(tmp_path / "run" / "evaluation").glob("*.jsonl"), *(tmp_path / "run" / "samples").glob("*.jsonl")]
    assert len(files) >= 3
    for path in files:
        assert not any("e" in s.completion or "th" in s.completion for s in read_samples(path))
