"""`rlhf.sample`: batched samples of any causal language model, with their log-probabilities."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from rlhf.foundation import records
from rlhf.foundation.errors import InputError
from rlhf.foundation.held import place_of
from rlhf.foundation.locks import sole_writer
from rlhf.foundation.memory import of_completions, require_memory
from rlhf.foundation.model_names import require_names
from rlhf.foundation.model_pair import Model, name_of
from rlhf.foundation.options import LOWEST_TEMPERATURE, Options, Several, check_ranges, option
from rlhf.foundation.outputs import check_output
from rlhf.foundation.records import Sample, write_records
from rlhf.foundation.steps import step
from rlhf.foundation.tables import Table
from rlhf.language_model.prompt_files import Prompts, prompts_of

RewardFunction = Callable[..., Any]


@dataclass
class SampleConfig(Options):
    """What to sample and how many."""

    NEEDS: ClassVar[Mapping[str, str]] = {
        "dataset_config": "dataset_name",
        "dataset_split": "dataset_name",
        "prompt_column": "prompts dataset_name",
    }
    NOT_WITH: ClassVar[Mapping[str, str]] = {"num_samples": "prompts dataset_name"}

    model_name_or_path: Model = option(help="a model directory or a hub name")
    _: KW_ONLY
    output_path: str | None = option(None, help="where the samples go", written="samples.jsonl")
    prompts: Prompts | None = option(
        None, help="prompt file: JSON, CSV or Parquet with `prompt`, or one a line; else unconditional"
    )
    dataset_name: str | None = option(
        None, help="instead a data set with a column of prompts: a name of the hub, a directory or a file"
    )
    dataset_config: str | None = option(None, help="the data set's subset, where it has several")
    dataset_split: str = option("train", help="the data set's split")
    prompt_column: str | None = option(None, help="column of the prompts; default prompt")
    num_samples: int = option(256, help="unconditional samples; ignored with prompts")
    num_return_sequences: int = option(1, help="completions per prompt")
    max_new_tokens: int = option(32, help="tokens of a completion at most, the end token included")
    best_of: int = option(1, help="sample this many for each completion and keep the one the reward model likes best")
    reward_model_path: str | RewardFunction | None = option(
        None, help="the reward model of --best_of, a directory of `rlhf reward`"
    )
    stop_strings: Several[str] = option(
        [],
        help="texts that end a completion and are left out of it, besides the model's end tokens; on the command "
        "line \\n is a new line, \\t a tab, \\\\ a backslash",
        escapes=True,
    )
    temperature: float = option(
        1.0, help="softmax temperature, at least 0.001; recorded log-probs are those of temperature 1"
    )
    per_device_eval_batch_size: int = option(256, help="completions sampled at once")
    seed: int = option(0, help="completion i depends on (seed, i) and its prompt alone; at least 0")
    overwrite: bool = option(False, help="replace an output file that is already there")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("num_samples", "num_return_sequences", "max_new_tokens", "per_device_eval_batch_size", "best_of"):
            if getattr(self, name) < 1:
                raise InputError(
                    f"--{name}", got=getattr(self, name), expected="at least 1", fix="choose another value"
                )
        if self.prompts is not None and self.dataset_name is not None:
            raise InputError(
                "prompts", got="--prompts and --dataset_name", expected="one of them", fix="drop the other one"
            )
        if (self.best_of > 1) != (self.reward_model_path is not None):
            raise InputError(
                "--best_of",
                got=f"{self.best_of} with reward model {place_of(self.reward_model_path)}",
                expected="both --best_of above 1 and --reward_model_path, or neither",
                fix="give the other one too",
            )
        check_ranges(self, [("temperature", LOWEST_TEMPERATURE, math.inf)])
        if not 0 <= self.seed < 2**63:
            raise InputError("--seed", got=self.seed, expected="0 to 2^63 - 1", fix="choose another value")


@step(SampleConfig)
def sample(config: SampleConfig) -> Table[Sample]:
    """Completions of a causal language model with their log-probabilities; written where `output_path` says.

    Raises InputError, also when another command writes there.
    """
    with sole_writer(config.output_path, "--output_path"):
        samples = _sampled(config)
        if config.output_path is not None:
            write_records(Path(config.output_path), samples)
    return Table(samples, f"{len(samples):,} samples of {name_of(config.model_name_or_path)}")


def _sampled(config: SampleConfig) -> Sequence[Sample]:
    if config.output_path is not None:
        read = [name for name in (config.prompts, config.dataset_name) if isinstance(name, str)]
        check_output("--output_path", Path(config.output_path), overwrite=config.overwrite, inputs=read)
    require_names(config.model_name_or_path)
    from rlhf.foundation.conversation import prompt_to_text
    from rlhf.foundation.model_directory import load_causal_lm, load_tokenizer
    from rlhf.language_model.sampler import sample_texts

    repeats = config.num_return_sequences * config.best_of
    given = config.prompts is not None or config.dataset_name is not None
    rows = load_rows(config) if given else []
    counts = {"num_samples": len(rows) or config.num_samples}
    counts |= {name: getattr(config, name) for name in ("num_return_sequences", "best_of", "max_new_tokens")}
    require_memory(of_completions(counts["num_samples"] * repeats, config.max_new_tokens), counts)
    rows = rows or load_rows(config)
    prompts = [prompt_to_text(row["prompt"]) for row in rows for _ in range(repeats)]
    samples = sample_texts(
        load_causal_lm(config.model_name_or_path),
        load_tokenizer(config.model_name_or_path),
        prompts,
        max_new_tokens=config.max_new_tokens,
        seed=config.seed,
        source=name_of(config.model_name_or_path),
        temperature=config.temperature,
        stop_strings=config.stop_strings,
        batch_size=config.per_device_eval_batch_size,
        quiet=config.quiet,
    )
    if config.reward_model_path is not None:
        samples = keep_best(samples, config.best_of, config.reward_model_path)
    return samples


def load_rows(config: SampleConfig) -> list[dict[str, Any]]:
    """A row for each prompt, an empty one for each unconditional sample. Raises InputError."""
    from rlhf.language_model.prompt_files import load_prompt_dataset

    if config.prompts is not None:
        return prompts_of(config.prompts, "--prompts", config.prompt_column)
    if config.dataset_name is not None:
        return load_prompt_dataset(
            config.dataset_name, config.dataset_split, config=config.dataset_config, column=config.prompt_column
        )
    return [{"prompt": ""}] * config.num_samples


def keep_best(samples: Sequence[Sample], n: int, reward_model_path: str | RewardFunction) -> list[Sample]:
    """The best of each `n` samples in a row, with its raw reward (nats). KL to the model is log n - (n-1)/n at most.

    The bound is that of Beirami et al. 2024, "Theoretical guarantees on the best-of-n alignment policy".
    """
    from rewards.calling import call_reward
    from rewards.loading import load_reward

    reward = load_reward(reward_model_path)
    values = call_reward(reward, [sample.prompt for sample in samples], [sample.completion for sample in samples])
    scored = [replace(sample, reward=value) for sample, value in zip(samples, values, strict=True)]
    groups = (scored[start : start + n] for start in range(0, len(scored), n))
    return [max(group, key=lambda sample: -math.inf if sample.reward is None else sample.reward) for group in groups]


def read_samples(path: str | Path) -> Table[Sample]:
    """The rows of a samples.jsonl. Raises InputError on a bad row, an empty file, or one uid used twice."""
    found = records.read_samples(Path(path))
    return Table(found, f"{len(found):,} samples of {path}")
