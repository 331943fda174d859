"""`rlhf sample` end to end on a tiny model: files, repeatability, best-of-n."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from rewards.token_model import TokenRewardModel, add_reward_tokens
from rlhf.foundation.model_directory import load_causal_lm, load_tokenizer, save_model
from rlhf.foundation.records import read_samples
from rlhf.language_model.tokenizer import train_tokenizer
from rlhf.sampling import SampleConfig, keep_best, sample


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    tokenizer = train_tokenizer(["the lord is happy.", "the sad lady weeps!", "a merry song"], 400)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=32, n_embd=8, n_layer=1, n_head=1, bos_token_id=0, eos_token_id=0
    )
    directory = tmp_path_factory.mktemp("tiny") / "model"
    save_model(GPT2LMHeadModel(config), tokenizer, directory)
    return str(directory)


def test_samples_are_repeatable_and_their_logprobs_are_the_model_s(model: str, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("the lord\na merry\n")
    common = {"model_name_or_path": model, "prompts": str(tmp_path / "prompts.txt"), "num_return_sequences": 3}
    first = sample.run(SampleConfig(**common, max_new_tokens=6, quiet=True, output_path=str(tmp_path / "a.jsonl")))
    again = sample.run(
        SampleConfig(
            **common, max_new_tokens=6, quiet=True, output_path=str(tmp_path / "b.jsonl"), per_device_eval_batch_size=4
        )
    )
    assert [s.prompt for s in first] == ["the lord"] * 3 + ["a merry"] * 3
    assert [s.completion for s in first] == [s.completion for s in again]
    assert [s.uid for s in first] == [s.uid for s in again]  # so what is keyed by uid is the same again, too
    assert len({s.uid for s in first}) == len(first)
    assert [s.uid for s in read_samples(tmp_path / "a.jsonl")] == [s.uid for s in first]
    tokenizer, lm = load_tokenizer(model), load_causal_lm(model)
    for one in first:
        prompt = tokenizer(one.prompt)["input_ids"]
        ids = tokenizer(one.completion, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logp = lm(torch.tensor([prompt + ids])).logits[0].log_softmax(-1)
        total = sum(float(logp[len(prompt) - 1 + i, token]) for i, token in enumerate(ids))
        if len(ids) < 6:
            total += float(logp[len(prompt) + len(ids) - 1, 0])  # the end token
        assert one.logprob == pytest.approx(total, abs=1e-4)


def test_best_of_n_keeps_what_the_reward_model_likes_best(model: str, tmp_path: Path) -> None:
    lm, tokenizer = load_causal_lm(model), load_tokenizer(model)
    add_reward_tokens(lm, tokenizer, seed=0)
    reward = TokenRewardModel(lm, tokenizer, target="positive")
    reward.save(tmp_path / "rm", {"kind": "token", "target": "positive"})
    pool = sample.run(
        SampleConfig(
            model_name_or_path=model,
            num_samples=24,
            max_new_tokens=6,
            quiet=True,
            output_path=str(tmp_path / "p.jsonl"),
        )
    )
    best = keep_best(pool, 4, str(tmp_path / "rm"))
    values = reward([""] * 24, [s.completion for s in pool])
    assert [s.reward for s in best] == pytest.approx([max(values[i : i + 4]) for i in range(0, 24, 4)], abs=1e-5)
