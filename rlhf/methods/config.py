"""Options of `rlhf align`: which method, what it learns from, and the ladder that is kept of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from labeling.pooling import POOLING_HELP, Method
from rlhf.foundation.errors import InputError
from rlhf.foundation.given_records import Comparisons, Labels
from rlhf.foundation.memory import of_completions, require_memory
from rlhf.foundation.model_pair import Model
from rlhf.foundation.options import Options, Several, option
from rlhf.language_model.prompt_files import Prompts
from rlhf.ppo.config import PPOConfig
from rlhf.ppo.finetune import RewardFunction

OFFLINE = ("sft", "dpo", "kto")  # learn from labels
ONLINE = ("rejection", "grpo", "rloo")  # from a reward of the policy's own samples
METHODS = (*OFFLINE, *ONLINE)
COUNTS = (
    "per_device_train_batch_size", "steps_per_iteration", "max_iterations", "max_completion_length",
    "per_device_generation_batch_size",
)  # fmt: skip


# Options that other methods have no use for.
ONLY_OF: dict[str, tuple[str, ...]] = {
    "beta": ("dpo", "kto", "grpo", "rloo"),
    "best_of": ("rejection",),
    "num_generations": ("grpo", "rloo"),
    "pooling": OFFLINE,
}


@dataclass(kw_only=True)
class AlignConfig(Options):
    """How to train; every rule between the fields is checked when it is made (InputError)."""

    NEEDS: ClassVar[Mapping[str, str]] = {"prompt_column": "prompts", "reward_label": "reward_model_path"}
    NOT_WITH: ClassVar[Mapping[str, str]] = {"labels": "comparisons", "prompt": "prompts"}

    method: str = option(
        help="sft: on positive or chosen texts; dpo: on pairs; kto: on judgements one by one; rejection: sft on the "
        "best of n samples, drawn anew from the policy at every iteration (RAFT); grpo, rloo: policy gradients",
        choices=list(METHODS),
    )  # fmt: skip
    model_name_or_path: Model = option(help="the original: a model directory or a hub name")
    output_dir: str = option(help="the run directory; a non-empty one is refused without --overwrite")
    labels: Labels | None = option(None, help="labels.jsonl, for sft, dpo and kto")
    comparisons: Comparisons | None = option(None, help="comparisons.jsonl, instead of labels")
    pooling: Method = option("dawid_skene", help=f"labels: {POOLING_HELP}")
    reward_model_path: Several[str | RewardFunction] = option(
        [], help="reward models: what rungs are scored with, and what rejection, grpo and rloo optimise"
    )
    reward_label: str | None = option(None, help="the label that pays, of a classifier that has several")
    reward_func: Several[str | RewardFunction] = option(
        [], help="reward functions beside or instead of them: a built-in NAME, FILE.py:NAME, FILE.yaml"
    )
    prompt: str | None = option(None, help="one prompt for every completion; else those of the labels, or none")
    prompts: Prompts | None = option(
        None, help="prompt file: JSON, CSV or Parquet with `prompt` (text or messages), or one prompt a line"
    )
    prompt_column: str | None = option(None, help="column of the prompts in such a file; default prompt")
    seed: int = option(0, help="seed of everything random; at least 0")
    overwrite: bool = option(False, help="replace the run in output_dir")

    learning_rate: float = option(1e-4, help="Adam's learning rate, constant after the warm-up")
    warmup_steps: int = option(0, help="optimiser steps over which it rises linearly")
    max_grad_norm: float = option(1.0, help="gradient norm beyond which gradients are scaled down")
    per_device_train_batch_size: int = option(32, help="texts, pairs or completions of one optimiser step")
    beta: float | None = option(
        None, help="dpo, kto: strength of the pull towards the original (0.1 if not given); grpo, rloo: KL coefficient "
        "(0 if not given)"
    )  # fmt: skip
    best_of: int = option(16, help="rejection: samples of which the best is kept, at least 2")
    num_generations: int = option(8, help="grpo, rloo: completions of a group, at least 2")
    max_completion_length: int = option(
        32, help="tokens of a completion at most, the end token included; a labelled text that is shorter "
        "ended by itself"
    )  # fmt: skip
    stop_strings: Several[str] = option(
        [], help="texts that end a completion and are left out of its text; on the command line \\n is a new line",
        escapes=True,
    )  # fmt: skip
    per_device_generation_batch_size: int = option(256, help="completions sampled at once")

    steps_per_iteration: int = option(5, help="optimiser steps from one measurement of the KL to the next")
    max_iterations: int = option(200, help="measurements at most")
    kl_budget: float = option(
        10.0, help="stop at this KL(policy || original), nats per completion, within 2 %; the last stretch is shortened"
    )
    ladder_step: float = option(0.25, help="distance of two rungs in sqrt(KL), square root of nats per completion")
    num_eval_samples: int = option(256, help="fresh samples of a measurement, same prompts and seed at each")
    use_cpu: bool = option(False, help="stay on the CPU though there is an accelerator")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in COUNTS:
            self._require(name, getattr(self, name) >= 1, "at least 1")
        for name in ("best_of", "num_generations", "num_eval_samples"):
            self._require(name, getattr(self, name) >= 2, "at least 2")
        for name in ("learning_rate", "max_grad_norm", "ladder_step"):
            self._require(name, getattr(self, name) > 0, "more than 0")
        first_rung = self.ladder_step**2
        self._require("kl_budget", self.kl_budget >= first_rung, f"at least the first rung, {first_rung:g} nats")
        self._require("warmup_steps", self.warmup_steps >= 0, "at least 0")
        self._require("output_dir", bool(self.output_dir), "a directory")
        self._require("beta", self.beta is None or self.beta >= 0, "at least 0")
        self._fits_method()

    def _fits_method(self) -> None:
        """Raise InputError for a source or an option that the method has no use for, or lacks."""
        learns = self.labels is not None or self.comparisons is not None
        if learns != (self.method in OFFLINE):
            said = "--labels or --comparisons" if self.method in OFFLINE else "neither --labels nor --comparisons"
            fix = "name what to learn from" if self.method in OFFLINE else "leave them out: the reward says it all"
            raise InputError(f"--method {self.method}", got=_named(self), expected=said, fix=fix)
        if not self.reward_model_path and not self.reward_func:
            expected = "--reward_model_path DIR or --reward_func NAME"
            fix = "name what rungs are scored with" if self.method in OFFLINE else "name what to optimise"
            raise InputError("reward", got="none", expected=expected, fix=fix)
        for name, methods in ONLY_OF.items():
            self._only(name, methods, getattr(self, name) != self.__dataclass_fields__[name].default)
        pulled = self.method not in ("dpo", "kto") or self.beta is None or self.beta > 0
        self._require("beta", pulled, f"more than 0 with {self.method}")
        batch, group = self.per_device_train_batch_size, self.num_generations
        whole = self.method not in ("grpo", "rloo") or batch % group == 0
        self._require("per_device_train_batch_size", whole, f"a multiple of --num_generations {group}")
        self._require("per_device_train_batch_size", self.method != "kto" or batch >= 2, "at least 2 with kto")

    @property
    def strength(self) -> float:
        """`beta` as the method has it."""
        return self.beta if self.beta is not None else 0.1 if self.method in ("dpo", "kto") else 0.0

    def _only(self, name: str, methods: tuple[str, ...], given: bool) -> None:
        if given and self.method not in methods:
            fix = f"leave out --{name}, which has no effect with --method {self.method}"
            raise InputError(f"--{name}", got=f"--method {self.method}", expected=" or ".join(methods), fix=fix)

    def _require(self, name: str, ok: bool, expected: str) -> None:
        if not ok:
            raise InputError(f"--{name}", got=getattr(self, name), expected=expected, fix="choose another value")

    def require_memory(self) -> None:
        """Raise InputError when the samples of one measurement do not fit this machine's memory."""
        counts = {"num_eval_samples": self.num_eval_samples, "max_completion_length": self.max_completion_length}
        require_memory(of_completions(self.num_eval_samples, self.max_completion_length), counts)

    def as_measured(self, suppress_tokens: list[int]) -> PPOConfig:
        """What decides how a completion is sampled and measured, as PPO has it."""
        names = (
            "output_dir", "seed", "stop_strings", "max_completion_length", "per_device_generation_batch_size",
            "kl_budget", "ladder_step", "num_eval_samples", "use_cpu", "quiet",
        )  # fmt: skip
        return PPOConfig(**{name: getattr(self, name) for name in names}, suppress_tokens=suppress_tokens)


def _named(config: AlignConfig) -> str:
    given = [f"--{name}" for name in ("labels", "comparisons") if getattr(config, name) is not None]
    return given[0] if given else "neither"
