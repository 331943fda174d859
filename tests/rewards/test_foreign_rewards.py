"""Rewards of the field through every step that takes one: classifiers, TRL's own output, its kinds of functions."""

from __future__ import annotations

import asyncio
import json
import random
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification
from trl import RewardConfig as TrlRewardConfig
from trl import RewardTrainer
from trl.rewards import get_soft_overlong_punishment, think_format_reward

import rlhf
from rewards.calling import call_rewards
from rewards.loading import load_reward
from rewards.words_model import WordsReward
from rlhf import PPOConfig, PPOTrainer, cli
from rlhf.foundation.errors import InputError
from rlhf.foundation.model_directory import save_model
from rlhf.foundation.records import read_samples
from rlhf.ppo.ending_costs import EndingCosts
from tests.rewards.classifier_kinds import config_for, make, save, tokenizer_for
from tests.rewards.conftest import toy_model, toy_text, toy_tokenizer

SMALL = shlex.split(
    "--iteration_batch_size 32 --minibatch_size 16 --max_completion_length 6 --num_eval_samples 8 --kl_budget 40 "
    "--normalization_samples 32 --max_iterations 2 --learning_rate 1e-3 --use_cpu --quiet"
)


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    save_model(toy_model(), toy_tokenizer(), tmp_path / "policy")
    return tmp_path / "policy"


def run_command(*words: object) -> None:
    assert cli.main([str(word) for word in words]) == 0


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def in_memory(directory: Path, reward: Any, **options: Any) -> list[dict[str, Any]]:
    """The lines of a small run towards a reward given as an object."""
    named = {"reward_processing_classes", "train_dataset", "peft_config"}
    further = {name: options.pop(name) for name in named & options.keys()}
    settings: dict[str, Any] = {
        "iteration_batch_size": 32, "minibatch_size": 16, "max_completion_length": 6, "num_eval_samples": 8,
        "normalization_samples": 32, "max_iterations": 2, "learning_rate": 1e-3, "use_cpu": True, "quiet": True,
    }  # fmt: skip
    config = PPOConfig(output_dir=str(directory), **(settings | options))
    PPOTrainer(toy_model(), reward, config, processing_class=toy_tokenizer(), **further).train()
    return metrics(directory)


def test_a_classifier_goes_through_every_step(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "sst", "bert", 3)
    start = ["ppo", "--model_name_or_path", policy, "--output_dir", "run", *SMALL, "--reward_model_path", "sst"]
    assert cli.main([str(word) for word in start]) == 2
    said = capsys.readouterr().err
    assert "got 3 labels (NEGATIVE, NEUTRAL, POSITIVE)" in said
    assert not Path("run").exists()
    run_command(*start, "--reward_label", "POSITIVE")
    expected = load_reward("sst:POSITIVE")
    samples = read_samples(sorted(Path("run/samples").iterdir())[-1])
    by_hand = expected([s.prompt for s in samples], [s.completion for s in samples])
    assert [s.reward for s in samples] == pytest.approx(by_hand, abs=1e-5)
    assert metrics(Path("run"))[0]["rewards/sst:POSITIVE/mean"] == metrics(Path("run"))[0]["reward"]
    record = json.loads(Path("run/run.json").read_text())
    assert (record["reward_functions"], record["reward_weights"]) == (["sst:POSITIVE"], [1.0])

    Path("run").rename("elsewhere")  # the reward is found again, and named by label
    options = ["--num_samples", 8, "--best_of_n_samples", 0, "--quiet"]
    run_command(
        "evaluate", "elsewhere", "--gold_reward_model_path", "sst:NEGATIVE", "--quality_func", "length", *options
    )
    evaluation = json.loads(Path("elsewhere/evaluation.json").read_text())
    assert "sst:NEGATIVE" in json.dumps(evaluation)
    run_command("compare", "sst:POSITIVE", "sst:NEGATIVE", "--samples", f"elsewhere/{samples_of('elsewhere')}")
    run_command("compare", "sst:POSITIVE", "length", "--run_directory", "elsewhere")
    search = ["--num_rounds", 1, "--candidates", 4, "--num_starts", 1, "--attribution_samples", 4, "--quiet"]
    run_command(
        "probe", "sst:POSITIVE", "--model_name_or_path", policy, "--samples", samples_of("elsewhere", True), *search
    )
    run_command("reproduce", "elsewhere")
    assert "bitwise" in capsys.readouterr().out

    save(tmp_path / "sst-other", "bert", 3, seed=1)
    (tmp_path / "sst").rename(tmp_path / "sst-kept")
    (tmp_path / "sst-other").rename(tmp_path / "sst")
    assert cli.main(["evaluate", "elsewhere", "--num_samples", "8", "--quiet"]) == 2
    assert "changed since the run was trained: reward 1, sst:POSITIVE" in capsys.readouterr().err


def samples_of(run: str, whole: bool = False) -> Path:
    path = sorted(Path(run, "samples").iterdir())[0]
    return path if whole else path.relative_to(run)


@pytest.mark.parametrize("kind", ["deberta", "llama"])
def test_a_classifier_may_be_an_object_with_its_tokenizer(kind: str, tmp_path: Path) -> None:
    model, tokenizer = make(kind, 1, pad="own")
    lines = in_memory(tmp_path / "run", model, reward_processing_classes=tokenizer)
    named = [key for key in lines[0] if key.startswith("rewards/")]
    assert lines[0][named[0]] == lines[0]["reward"]
    two = in_memory(tmp_path / "two", [model, "full_stop"], reward_processing_classes=[tokenizer, None])
    mean = two[0]["rewards/full_stop/mean"]
    assert two[0][named[0]] + mean == pytest.approx(two[0]["reward"], abs=1e-9)


@pytest.fixture(scope="module")
def trl_reward_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What TRL's RewardTrainer leaves: joy is preferred to woe."""
    tokenizer = tokenizer_for("qwen")
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config_for("qwen", len(tokenizer), 1, 2))
    rng = random.Random(0)
    rows = [
        {"prompt": "the king", "chosen": f" joy {toy_text(rng)}", "rejected": f" woe {toy_text(rng)}"}
        for _ in range(64)
    ]
    directory = tmp_path_factory.mktemp("trl")
    config = TrlRewardConfig(
        output_dir=str(directory / "out"), per_device_train_batch_size=16, num_train_epochs=4, learning_rate=3e-3,
        report_to="none", use_cpu=True, bf16=False, gradient_checkpointing=False, save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    trainer = RewardTrainer(model=model, args=config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
    trainer.train()
    trainer.save_model(str(directory / "rm"))
    return directory / "rm"


def test_what_trls_reward_trainer_saved_is_a_reward_unchanged(
    trl_reward_model: Path, policy: Path, tmp_path: Path
) -> None:
    reward = load_reward(trl_reward_model)
    joy, woe = reward(["the king"] * 2, [" joy", " woe"])
    assert joy > woe + 0.5
    run_command(
        "ppo", "--model_name_or_path", policy, "--output_dir", tmp_path / "run", *SMALL,
        "--reward_model_path", trl_reward_model,
    )  # fmt: skip
    samples = read_samples(sorted((tmp_path / "run/samples").iterdir())[-1])
    plain = AutoModelForSequenceClassification.from_pretrained(trl_reward_model).eval()
    tokenizer = reward.texts.tokenizer  # type: ignore[attr-defined]
    for sample in samples:
        ids = tokenizer(sample.prompt + sample.completion, return_tensors="pt")
        if ids["input_ids"].shape[1]:
            assert sample.reward == pytest.approx(float(plain(**ids).logits[0, 0]), abs=1e-5)


def test_append_eos_is_what_trls_training_saw(trl_reward_model: Path, tmp_path: Path) -> None:
    (tmp_path / "as_trained.yaml").write_text(f"classifier: {trl_reward_model}\nappend_eos: true\n")
    reward = load_reward(tmp_path / "as_trained.yaml")
    ids = reward.texts.encode(["the king"], [" joy"])[0]  # type: ignore[attr-defined]
    tokenizer = reward.texts.tokenizer  # type: ignore[attr-defined]
    assert ids == tokenizer("the king joy" + tokenizer.eos_token)["input_ids"]


def test_trls_own_reward_functions_run_unchanged(tmp_path: Path) -> None:
    functions = [think_format_reward, get_soft_overlong_punishment(max_completion_len=6, soft_punish_cache=3)]
    chat = toy_tokenizer()
    chat.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    config = PPOConfig(
        output_dir=str(tmp_path / "run"), iteration_batch_size=32, minibatch_size=16, max_completion_length=6,
        num_eval_samples=8, normalization_samples=32, max_iterations=1, use_cpu=True, quiet=True,
    )  # fmt: skip
    rows = [{"prompt": [{"role": "user", "content": "the king"}]}]
    PPOTrainer(toy_model(), functions, config, train_dataset=rows, processing_class=chat).train()
    line = metrics(tmp_path / "run")[0]
    assert line["rewards/think_format_reward/mean"] == 0.0
    assert line["rewards/soft_overlong_punishment_reward/mean"] < 0


def test_functions_in_the_ways_that_grpo_documents(tmp_path: Path) -> None:
    """By ids, by length, by a column of the data, for one kind of task only, awaited, and with a log of their own."""
    seen: dict[str, Any] = {}

    def by_ids(completion_ids: list[list[int]], **kwargs: Any) -> list[float]:
        return [float(len(ids)) for ids in completion_ids]

    def by_column(completions: list[str], answer: list[str], **kwargs: Any) -> list[float]:
        return [float(wanted in text) for wanted, text in zip(answer, completions, strict=True)]

    def of_one_task(prompts: list[str], completions: list[str], task: list[str], **kwargs: Any) -> list[float | None]:
        return [1.0 if kind == "count" else None for kind in task]

    async def awaited(prompts: list[str], completions: list[str], **kwargs: Any) -> list[float]:
        await asyncio.sleep(0)
        return [float(len(text)) for text in completions]

    def with_a_log(
        completions: list[str], trainer_state: Any, log_extra: Any = None, log_metric: Any = None, **kwargs: Any
    ) -> list[float]:
        seen["steps"] = (trainer_state.global_step, trainer_state.max_steps)
        log_extra("first_word", [text.split(" ")[0] for text in completions])
        log_metric("joy_share", sum("joy" in text for text in completions) / len(completions))
        return [float("joy" in text) for text in completions]

    functions = [by_ids, by_column, of_one_task, awaited, with_a_log]
    rows = [{"prompt": "the king", "answer": "joy", "task": "count"}, {"prompt": "a", "answer": "o", "task": "other"}]
    lines = in_memory(tmp_path / "run", functions, train_dataset=rows)
    assert seen["steps"] == (2, 2)
    for line in lines:
        assert line["rewards/by_ids/mean"] == pytest.approx(line["completions/mean_length"])
        assert line["rewards/of_one_task/mean"] == 1.0
        assert line["joy_share"] == pytest.approx(line["rewards/with_a_log/mean"])
    parts = sum(lines[0][f"rewards/{f.__name__}/mean"] for f in functions if f is not of_one_task)
    assert parts + 0.5 == pytest.approx(lines[0]["reward"], abs=0.1)  # half of the rows are of the one task


def test_async_functions_wait_together_for_so_many_completions_at_once() -> None:
    under_way, most = {"a": 0, "b": 0}, {"a": 0, "b": 0}
    together: list[int] = []

    def waiting(name: str) -> Any:
        async def one(text: str) -> float:
            under_way[name] += 1
            most[name] = max(most[name], under_way[name])
            together.append(sum(count > 0 for count in under_way.values()))
            await asyncio.sleep(0.02)
            under_way[name] -= 1
            return float(len(text))

        async def reward(completions: list[str], **kwargs: Any) -> list[float]:
            return list(await asyncio.gather(*map(one, completions)))

        return reward

    texts = ["x" * (i % 7) for i in range(40)]
    started = time.perf_counter()
    found = call_rewards([waiting("a"), lambda completions: [0.0] * 40, waiting("b")], [""] * 40, texts, at_once=8)
    assert found == [[float(len(t)) for t in texts], [0.0] * 40, [float(len(t)) for t in texts]]
    assert most == {"a": 8, "b": 8}
    assert max(together) == 2
    assert time.perf_counter() - started < 1.0  # one after another would take 1.6 s


def test_one_async_function_that_fails_is_named_with_its_sample() -> None:
    async def good(completions: list[str], **kwargs: Any) -> list[float]:
        return [0.0] * len(completions)

    async def bad(completions: list[str], **kwargs: Any) -> list[float]:
        return [1.0 / (text != "zero") for text in completions]

    with pytest.raises(InputError, match=r"reward function bad: got ZeroDivisionError: .* on sample 70, 'zero'"):
        call_rewards([good, bad], [""] * 80, ["x"] * 70 + ["zero"] + ["x"] * 9, at_once=32)


def test_what_a_reward_function_logs_is_checked(tmp_path: Path) -> None:
    def taken(completions: list[str], log_metric: Any) -> list[float]:
        log_metric("reward", 1.0)
        return [0.0] * len(completions)

    def endless(completions: list[str], log_metric: Any) -> list[float]:
        log_metric("mine", float("nan"))
        return [0.0] * len(completions)

    for reward, message in ((taken, "a name that metrics.jsonl has already"), (endless, "got nan; expected a finite")):
        with pytest.raises(InputError, match=message):
            in_memory(tmp_path / "run", reward)


def test_what_an_ending_costs_is_taken_off_and_told(tmp_path: Path) -> None:
    def none(completions: list[str], **kwargs: Any) -> list[float]:
        return [float(text.count("joy")) for text in completions]

    plain = in_memory(tmp_path / "plain", none, max_iterations=1)[0]
    cut = in_memory(tmp_path / "cut", none, max_iterations=1, missing_eos_penalty=2.0)[0]
    share = plain["completions/clipped_ratio"]
    assert 0 < share < 1
    assert cut["missing_eos_penalty"] == pytest.approx(2 * share)
    assert cut["reward"] == pytest.approx(plain["reward"] - 2 * share)
    assert cut["rewards/none/mean"] == plain["rewards/none/mean"] == plain["reward"]
    assert plain["missing_eos_penalty"] is None
    assert plain["overlong_penalty"] is None

    # DAPO, eq. 13, by hand: with limit 6 and buffer 4 a completion of L tokens costs (L - 2) / 4, from L = 2 on.
    long = in_memory(tmp_path / "long", none, max_iterations=1, overlong_buffer_length=4, overlong_penalty_factor=3.0)[
        0
    ]
    assert 0 < long["overlong_penalty"] < 3
    assert long["reward"] == pytest.approx(plain["reward"] - long["overlong_penalty"])
    costs = EndingCosts(factor=3.0, buffer=4, limit=6)
    assert costs.overlong(torch.arange(1, 7)).tolist() == [0.0, 0.0, 0.75, 1.5, 2.25, 3.0]
    with pytest.raises(InputError, match="--missing_eos_penalty: got 0"):
        PPOConfig(output_dir="x", missing_eos_penalty=0.0)
    with pytest.raises(InputError, match="--overlong_buffer_length: got 40; expected 1 to 32, the limit"):
        PPOConfig(output_dir="x", overlong_buffer_length=40)


def test_evaluation_takes_the_same_off(policy: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run_command(
        "ppo", "--model_name_or_path", policy, "--output_dir", run, *SMALL, "--reward_func", "length",
        "--missing_eos_penalty", 5.0,
    )  # fmt: skip
    first = rlhf.evaluate(run, num_samples=64, best_of_n_samples=0, quiet=True)
    assert first.rungs[0].proxy.mean == pytest.approx(metrics(run)[0]["reward"], abs=1.5)
    assert first.rungs[0].proxy.mean < -1  # a number of words is never below 0


def test_a_critic_starts_from_a_decoders_classifier_and_from_no_encoder(tmp_path: Path) -> None:
    tokenizer = toy_tokenizer()
    for kind in ("gpt2", "bert"):
        model = AutoModelForSequenceClassification.from_config(config_for(kind, len(tokenizer), 1, 0))
        save_model(model, tokenizer, tmp_path / kind)
    options: dict[str, Any] = {"critic": "separate", "max_iterations": 1}
    in_memory(tmp_path / "run", "length", critic_model_path=str(tmp_path / "gpt2"), **options)
    with pytest.raises(InputError, match="a BertForSequenceClassification that reads a text as a whole"):
        in_memory(tmp_path / "no", "length", critic_model_path=str(tmp_path / "bert"), **options)


def test_a_language_model_is_asked_by_two_words(tmp_path: Path) -> None:
    model, tokenizer = AutoModelForCausalLM.from_config(config_for("llama", 320, 1, 2)).eval(), tokenizer_for("llama")
    save_model(model, tokenizer, tmp_path / "lm")
    words = ["!", "?"]
    (tmp_path / "asked.yaml").write_text(
        'language_model: lm\nwords: ["!", "?"]\ntemplate: "{prompt}{completion} Was that good"\n'
    )
    reward = load_reward(tmp_path / "asked.yaml")
    texts = ["A happy day", "What sorrow is this", ""]
    found = reward(["Good morning. "] * 3, texts)
    for text, score in zip(texts, found, strict=True):
        ids = tokenizer(f"Good morning. {text} Was that good", return_tensors="pt")
        two = model(**ids).logits[0, -1, [tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in words]]
        assert score == pytest.approx(float(two.log_softmax(-1)[0]), abs=1e-5)
    for bad, message in (
        ({"words": ["!", "!"]}, "expected two that differ"),
        ({"words": ["Good morning", "?"]}, "words of one token each"),
        ({"words": words, "template": "{prompt}"}, "a template with {prompt}"),
        ({"words": words, "template": "{completion.x}"}, "{completion.x}"),
        ({"words": words, "template": "{completion"}, "cannot be read"),
    ):
        with pytest.raises(InputError, match=message):
            WordsReward(model, tokenizer, **bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nope", "got an unknown name"),
        ("mine.py:absent", "got a file without absent"),
        ("mine.py:broken", "got ZeroDivisionError: division by zero on sample 0, ''"),
        ("mine.py:none", r"got nothing \(None\)"),
    ],
)
def test_a_bad_function_is_told_before_torch_is_loaded(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def broken(completions): return [1 / len(c) for c in completions]\ndef none(completions): pass\n"
    )
    words = ["ppo", "--model_name_or_path", "x", "--output_dir", "out", "--reward_func", name]
    code = f"import sys; from rlhf import cli; cli.main({words!r}); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(message, done.stderr)
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
