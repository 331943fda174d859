"""`rlhf ppo`, also `accelerate launch --config_file accelerate_config.yaml -m rlhf.ppo`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rlhf import environment
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_object
from rlhf.foundation.terminal import say
from rlhf.options import option, parse
from rlhf.ppo.config import PPOConfig

if TYPE_CHECKING:
    from rewards.calling import RewardFunction
    from rlhf.ppo.normalization import Normalization
    from rlhf.ppo.run_directory import RunDirectory


@dataclass(kw_only=True)
class PPOCommandConfig(PPOConfig):
    """`PPOConfig` and what the command line names: the model, the rewards, the prompts."""

    NEEDS: ClassVar[Mapping[str, str]] = {
        **PPOConfig.NEEDS,
        "dataset_config": "dataset_name",
        "dataset_train_split": "dataset_name",
        "prompt_column": "prompts eval_prompts dataset_name",
        "lora_r": "use_peft",
        "lora_alpha": "use_peft",
        "lora_target_modules": "use_peft",
    }

    model_name_or_path: str = option(help="the original: a model directory or a hub name")
    reward_model_path: list[str] = option([], help="reward model directories (from `rlhf reward`)")
    reward_func: list[str] = option([], help="reward functions: a built-in NAME or FILE.py:NAME")
    prompt: str | None = option(None, help="one prompt for every completion; unconditional if none is given")
    prompts: str | None = option(
        None, help="prompt file: JSON, CSV or Parquet with `prompt` (text or messages), or one prompt a line"
    )
    prompt_column: str | None = option(None, help="column of the prompts in such a file or data set; default prompt")
    eval_prompts: str | None = option(
        None, help="prompt file for the rungs' evaluation samples; the training prompts if none is given"
    )
    dataset_name: str | None = option(
        None, help="data set with a column of prompts: a name of the hub, a directory or a file"
    )
    dataset_config: str | None = option(None, help="the data set's subset, where it has several")
    use_peft: bool = option(False, help="train a LoRA adapter instead of the weights")
    lora_r: int = option(16, help="rank of the adapter")
    lora_alpha: int = option(32, help="the adapter's output is scaled by lora_alpha / lora_r")
    lora_target_modules: list[str] = option([], help="names of the adapted layers; all linear ones if none is given")
    dataset_train_split: str = option("train", help="its split")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.reward_model_path and not self.reward_func:
            raise InputError(
                "reward",
                got="none",
                expected="--reward_model_path DIR or --reward_func NAME",
                fix="name what to optimise",
            )
        for name in ("lora_r", "lora_alpha"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        if self.use_peft and self.train_scope != "all":
            raise InputError(
                "--use_peft", got=f"--train_scope {self.train_scope} too", expected="one of them", fix="drop one"
            )
        if sum(value is not None for value in (self.prompt, self.prompts, self.dataset_name)) > 1:
            raise InputError(
                "prompts",
                got="more than one source",
                expected="one of --prompt, --prompts, --dataset_name",
                fix="drop the others",
            )


def load_rewards(config: PPOCommandConfig) -> list[RewardFunction]:
    """Reward models first, then reward functions, in the order given. Raises InputError."""
    functions: list[RewardFunction] = []
    if config.reward_model_path:
        from rewards.loading import load_reward_model

        functions += [load_reward_model(path) for path in config.reward_model_path]
    if config.reward_func:
        from rewards.rules import load_reward_func

        functions += [load_reward_func(spec) for spec in config.reward_func]
    return functions


def load_rows(config: PPOCommandConfig) -> list[dict[str, Any]]:
    """The training prompts as rows. Raises InputError."""
    from rlhf.foundation.layouts import require_encodable
    from rlhf.language_model.prompt_files import load_prompt_dataset, read_prompts

    if config.prompts is not None:
        return read_prompts(config.prompts, config.prompt_column)
    if config.dataset_name is not None:
        return load_prompt_dataset(
            config.dataset_name,
            config.dataset_train_split,
            config=config.dataset_config,
            column=config.prompt_column,
        )
    require_encodable(config.prompt or "", "--prompt")
    return [{"prompt": config.prompt or ""}]


def run(config: PPOCommandConfig) -> RunDirectory:
    """Finetune as configured and return the run directory. Raises InputError."""
    from rlhf.ppo import agreement, distributed
    from rlhf.ppo.trainer import PPOTrainer

    processes = distributed.start(use_cpu=config.use_cpu)
    processes.watch(config.straggler_timeout)
    agreement.require_same_program(processes)
    agreement.require_same_options(processes, config.resolved())
    given = processes.all_do(lambda: load_given(config))
    return PPOTrainer(config.model_name_or_path, args=config, **given).train()


def load_given(config: PPOCommandConfig) -> dict[str, Any]:
    """What the command line names, as arguments of `PPOTrainer`. Raises InputError."""
    from rlhf.language_model.prompt_files import read_prompts

    rows, rewards = load_rows(config), load_rewards(config)
    return {
        "reward_funcs": rewards,
        "train_dataset": rows,
        "eval_dataset": read_prompts(config.eval_prompts, config.prompt_column) if config.eval_prompts else None,
        "peft_config": load_peft_config(config),
        "reward_constants": known_constants(as_begun(config), rewards, [row["prompt"] for row in rows]),
    }


def as_begun(config: PPOCommandConfig) -> PPOCommandConfig:
    """The options with the original under the name that a resumed run began with: by it a reward model's file knows
    the original, wherever that is now."""
    record = Path(config.output_dir) / "run.json"
    if not config.resume or not record.is_file():
        return config
    then = read_object(record, "resolved")["resolved"]
    return replace(config, model_name_or_path=then.get("model_name_or_path", config.model_name_or_path))


def load_peft_config(config: PPOCommandConfig) -> Any:
    """The LoRA configuration of the command line, or None."""
    if not config.use_peft:
        return None
    from peft import LoraConfig

    return LoraConfig(
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        lora_dropout=0.0,
        task_type="CAUSAL_LM",
        target_modules=config.lora_target_modules or "all-linear",
    )


def known_constants(
    config: PPOCommandConfig, rewards: Sequence[RewardFunction], prompts: Sequence[Any]
) -> Normalization | None:
    """Offset and scale from the reward model's own file, where one model alone is the reward and they fit the run."""
    from rlhf.ppo.normalization import from_reward_file

    if len(rewards) != 1 or config.reward_weights:
        return None
    report = getattr(rewards[0], "report", None)  # a reward model has one, a function none
    if report is None:
        return None
    return from_reward_file(
        report,
        model=config.model_name_or_path,
        prompts=prompts,
        max_completion_length=config.max_completion_length,
    )


def main(argv: Sequence[str]) -> None:
    """Parse, run, and print the ladder."""
    if "WORLD_SIZE" in os.environ:
        from rlhf.ppo.failing_together import all_parse

        config = all_parse(lambda: parse_command(argv))
    else:
        config = parse_command(argv)
    directory = run(config)
    if not directory.record:  # another process writes and reports
        return
    from rlhf.ppo.ladder import read_rungs

    for rung in read_rungs(directory.ladder):
        say(
            f"{rung.name}  KL {rung.kl_per_completion:6.2f} ± {rung.kl_per_completion_se:.2f} nats  "
            f"reward {rung.reward:8.3f} ± {rung.reward_se:.3f}  (n = {rung.n})"
        )
    say(f"{directory.record['stop_reason']}\nrun directory: {Path(config.output_dir)}")


def parse_command(argv: Sequence[str]) -> PPOCommandConfig:
    """The options of the command line. Raises InputError."""
    for cut in ("--top_k", "--top_p", "--min_p"):
        if any(word.split("=")[0] == cut for word in argv):
            raise InputError(
                cut,
                got="a cut of the distribution",
                expected="samples of the policy itself",
                fix="leave it out: it biases every KL estimate and makes the first update's ratio wrong",
            )
    return parse(PPOCommandConfig, argv, prog="rlhf ppo", description="Finetune a language model with PPO.")


if __name__ == "__main__":
    environment.prepare()
    from rlhf.cli import run as run_command

    sys.exit(run_command(main, sys.argv[1:]))
