"""From samples to the report on models with other people's tokenizers: every file holds the text that was sampled."""

from __future__ import annotations

from pathlib import Path
from statistics import median_low
from typing import Any

import pytest
import torch

from rewards.loading import load_reward_model
from rlhf.cli import main
from rlhf.foundation.conversation import prompt_from_text
from rlhf.foundation.encoding import encode_prompt
from rlhf.foundation.files import read_jsonl, write_jsonl
from rlhf.foundation.model_directory import load_causal_lm, load_tokenizer, save_model
from rlhf.foundation.records import Label, LabelName, Sample, read_samples, write_records
from rlhf.inspection.display import display_text
from rlhf.inspection.evaluation import read_evaluation
from rlhf.inspection.page_data import run_data
from rlhf.language_model.endings import ending_of, never_sampled, pad_token
from rlhf.language_model.randomness import Stream, uniforms
from rlhf.language_model.sampler import generate
from rlhf.runs.reading import read_run

from .test_one_encoding import CHAT, independent_text, rows_of
from .tokenizer_kinds import CHATS, KINDS, build

LENGTH = 8


def judged(samples: list[Sample]) -> list[Label]:
    """More vowels than the median text has are good; an empty completion shows a rater nothing."""
    shown = [s for s in samples if s.completion.strip()]
    counts = [sum(map(s.completion.count, "aeiou")) for s in shown]
    words: list[LabelName] = ["positive" if n > median_low(counts) else "negative" for n in counts]
    return [Label(s.uid, s.prompt, s.completion, word, "ann") for s, word in zip(shown, words, strict=True)]


def require_as_sampled(samples: list[Sample], directory: Path, original: Path, stream: Stream, draw: int) -> None:
    """Sample again with the same numbers, and compare texts (tokenizer.decode) and log-probs (a plain forward)."""
    model: Any = load_causal_lm(str(directory))
    tokenizer = load_tokenizer(str(directory))
    known = sorted(set(load_tokenizer(str(original)).get_vocab().values()))
    ending = ending_of(model, tokenizer)
    done = generate(
        model,
        [encode_prompt(tokenizer, prompt_from_text(sample.prompt)) for sample in samples],
        uniforms(0, stream, range(len(samples)), LENGTH, iteration=draw),
        ending=ending,
        pad_token_id=pad_token(tokenizer),
        suppress_tokens=never_sampled(model, tokenizer),
    )
    for sample, (prompt, ids) in zip(samples, rows_of(done), strict=True):
        assert sample.completion == independent_text(tokenizer, prompt, ids, ending.token_ids)
        with torch.no_grad():
            logits = model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1]
        masked = torch.full_like(logits, -torch.inf)
        masked[:, known] = logits[:, known]
        total = masked.log_softmax(-1).gather(-1, torch.tensor(ids)[:, None]).sum()
        assert sample.logprob == pytest.approx(total.item(), abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_file_holds_the_text_that_was_sampled(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tokenizer, model = build(kind)
    save_model(model, tokenizer, tmp_path / "model")
    prompts: list[Any] = CHAT if kind in CHATS else ["good morning", "the king, a", "merry"]
    write_jsonl(tmp_path / "prompts.jsonl", [{"prompt": prompt} for prompt in prompts])
    common = "--prompts prompts.jsonl --model_name_or_path model --quiet"
    words = f"sample {common} --num_return_sequences 24 --max_new_tokens {LENGTH} --output_path samples.jsonl"
    assert main(words.split()) == 0
    samples = read_samples(tmp_path / "samples.jsonl")
    require_as_sampled(samples, tmp_path / "model", tmp_path / "model", Stream.SAMPLE, 0)

    write_records(tmp_path / "labels.jsonl", judged(samples))
    words = (
        "reward --labels labels.jsonl --samples samples.jsonl --model_name_or_path model --output_dir reward "
        "--allow_weak --num_train_epochs 2 --quiet"
    )
    assert main(words.split()) == 0
    words = (
        f"ppo {common} --reward_model_path reward --output_dir run --max_completion_length {LENGTH} --max_iterations 2 "
        "--iteration_batch_size 32 --minibatch_size 16 --num_eval_samples 8 --learning_rate 3e-3 --use_cpu"
    )
    assert main(words.split()) == 0
    lines = read_jsonl(tmp_path / "run" / "metrics.jsonl")
    assert len(lines) == 3
    assert all(line["ratio_first_update_max_dev"] < 1e-3 for line in lines[:-1])
    assert not any(line["doctor"] for line in lines)

    run = read_run(tmp_path / "run")
    assert len(run.rungs) >= 2
    assert main(["evaluate", "run", "--num_samples", "16", "--quiet"]) == 0
    evaluation = read_evaluation(tmp_path / "run" / "evaluation.json")
    page = run_data(read_run(tmp_path / "run"), evaluation)
    reward = load_reward_model(tmp_path / "reward", device="cpu")
    for rung, shown in zip(run.rungs, page["rungs"], strict=True):
        checkpoint = tmp_path / "run" / rung.path
        stored = read_samples(tmp_path / "run" / rung.samples)
        require_as_sampled(stored, checkpoint, tmp_path / "model", Stream.EVALUATION, 0)
        scores = reward([prompt_from_text(s.prompt) for s in stored], [s.completion for s in stored])
        assert [s.reward for s in stored] == pytest.approx(scores, abs=1e-3)
        fresh = read_samples(tmp_path / "run" / evaluation.samples / f"{rung.name}.jsonl")
        require_as_sampled(fresh, checkpoint, tmp_path / "model", Stream.EVALUATION, 1)
        # As they were sampled, but for control characters, which a page shows by a sign.
        assert shown["samples"]["text"] == [display_text(s.completion, 2000) for s in fresh]
        plain = [s.completion for s in fresh if s.completion.replace("\n", "").isprintable()]
        assert plain
        assert set(plain) <= set(shown["samples"]["text"])
