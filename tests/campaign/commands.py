"""Every command that takes options: the words of a small call that works on the campaign's material."""

from __future__ import annotations

import dataclasses
import importlib
from dataclasses import dataclass
from typing import Any

from rlhf.foundation.options import Options
from tests.campaign.material import SMALL

MODEL = ("--model_name_or_path", "model")


@dataclass(frozen=True)
class Command:
    """`words` are the command's own, `needed` the options of a call that works, by name."""

    words: tuple[str, ...]
    module: str
    config: str
    needed: dict[str, tuple[str, ...]]

    @property
    def name(self) -> str:
        return " ".join(self.words)

    @property
    def kind(self) -> type[Options]:
        return getattr(importlib.import_module(f"rlhf.{self.module}"), self.config)  # type: ignore[no-any-return]

    @property
    def fields(self) -> list[dataclasses.Field[Any]]:
        return list(dataclasses.fields(self.kind))  # type: ignore[arg-type]

    def call(self, *without: str, **options: str | tuple[str, ...]) -> list[str]:
        """The words of the call, with options replaced, or left out."""
        given = {k: v for k, v in self.needed.items() if k not in without} | options
        words = list(self.words)
        for name, values in given.items():
            words += [f"--{name}", *((values,) if isinstance(values, str) else values)]
        return words


def _pairs(words: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """("--a", "1", "--b") as {"a": ("1",), "b": ()}."""
    found: dict[str, tuple[str, ...]] = {}
    for word in words:
        if word.startswith("--"):
            found[name := word[2:]] = ()
        else:
            found[name] = (*found[name], word)
    return found


def _command(words: str, module: str, config: str, *needed: str) -> Command:
    return Command(tuple(words.split()), module, config, _pairs(tuple(needed)))


COMMANDS = [
    _command("demo", "commands.demo", "DemoConfig", "--output_dir", "new", "--quiet"),
    _command(
        "pretrain", "language_model.pretrain_config", "PretrainConfig", "--output_dir", "new", "--corpus", "corpus.txt",
        "--vocab_size", "300", "--block_size", "16", "--hidden_size", "8", "--num_hidden_layers", "1",
        "--num_attention_heads", "1", "--max_steps", "2", "--quiet",
    ),
    _command(
        "sample", "commands.sample", "SampleConfig", *MODEL, "--output_path", "new.jsonl", "--num_samples", "4",
        "--max_new_tokens", "4", "--quiet",
    ),
    _command(
        "label simulate", "commands.label.simulate", "SimulateConfig", "--samples", "samples.jsonl", "--output",
        "new.jsonl", "--gold", "lexicon",
    ),
    _command(
        "label import", "commands.label.import_labels", "ImportConfig", "--input", "table.csv", "--output", "new.jsonl",
        "--label", "label",
    ),
    _command("label page", "commands.label.page", "PageConfig", "--samples", "samples.jsonl", "--output_dir", "new"),
    _command("label serve", "commands.label.serve", "ServeConfig", "--server_dir", "server", "--status"),
    _command(
        "label push", "commands.label.push", "PushConfig", "--samples", "samples.jsonl", "--output_dir", "new",
        "--server_dir", "server",
    ),
    _command("label pull", "commands.label.pull", "PullConfig", "--output_dir", "page", "--server_dir", "server"),
    _command(
        "label annotate", "commands.label.annotate", "AnnotateConfig", "--output_dir", "page", "--server_dir", "server",
        "--gold", "lexicon",
    ),
    _command("label status", "commands.label.status", "StatusConfig", "--labels", "labels.jsonl"),
    _command(
        "reward", "commands.reward", "RewardConfig", *MODEL, "--labels", "labels.jsonl", "--output_dir", "new",
        "--allow_weak", "--num_train_epochs", "1", "--num_folds", "2", "--quiet",
    ),
    _command(
        "compare", "commands.compare", "CompareConfig", "--rewards", "length", "mine.py:mine", "--samples",
        "samples.jsonl",
    ),
    _command(
        "probe", "commands.probe", "ProbeConfig", *MODEL, "--reward", "length", "--samples", "samples.jsonl",
        "--output_dir", "new", "--num_rounds", "1", "--num_starts", "2", "--candidates", "2",
        "--attribution_samples", "4", "--quiet",
    ),
    _command(
        "ppo", "ppo.__main__", "PPOCommandConfig", *MODEL, "--reward_func", "length", "--output_dir", "new", *SMALL,
    ),
    _command("doctor", "commands.doctor", "DoctorConfig", "--run_directory", "run"),
    _command(
        "evaluate", "commands.evaluate", "EvaluateConfig", "--run", "run", "--num_samples", "8",
        "--best_of_n_samples", "0", "--quiet",
    ),
    _command("inspect", "commands.inspect", "InspectConfig", "--runs", "run", "--output_path", "new.html"),
    _command("loop", "commands.loop", "LoopConfig", *MODEL, "--output_dir", "new", "--quiet"),
    _command("rate plan", "commands.rate.plan", "RatePlanConfig"),
    _command(  # equal texts are ties, about which no server is asked
        "rate judge", "commands.rate.judge", "RateJudgeConfig", "--samples", "samples.jsonl", "samples.jsonl",
        "--url", "http://127.0.0.1:9/v1", "--model", "m",
    ),
    _command(
        "rate push", "commands.rate.push", "RatePushConfig", "--run", "run", "--output_dir", "new", "--page",
        "--num_samples", "2", "--quiet",
    ),
    _command("rate pull", "commands.rate.pull", "RatePullConfig", "--output_dir", "rating", "--answers", "rated.json"),
    _command("rate score", "commands.rate.score", "RateScoreConfig", "--output_dir", "rating"),
    _command("export", "commands.export", "ExportConfig", "--run", "run", "--rung", "kl-00.00", "--output_dir", "new"),
]  # fmt: skip
BY_NAME = {command.name: command for command in COMMANDS}
