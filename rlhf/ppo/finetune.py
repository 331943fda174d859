"""The step `finetune`: PPO from what names the model, the rewards and the prompts."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_object
from rlhf.foundation.model_names import require_names
from rlhf.foundation.model_pair import Model, name_of
from rlhf.foundation.options import Several, option
from rlhf.foundation.steps import step
from rlhf.language_model.prompt_files import Prompts, prompts_of
from rlhf.ppo.config import PPOConfig

if TYPE_CHECKING:
    from rlhf.inspection.opened_run import OpenedRun
    from rlhf.ppo.normalization import Normalization

RewardFunction = Callable[..., Any]


@dataclass(kw_only=True)
class PPOCommandConfig(PPOConfig):
    """`PPOConfig` and what the command line names: the model, the rewards, the prompts."""

    NEEDS: ClassVar[Mapping[str, str]] = {
        **PPOConfig.NEEDS,
        "dataset_config": "dataset_name",
        "dataset_train_split": "dataset_name",
        "prompt_column": "prompts eval_prompts dataset_name",
        "reward_label": "reward_model_path",
        "lora_r": "use_peft",
        "lora_alpha": "use_peft",
        "lora_target_modules": "use_peft",
        "load_in_4bit": "use_peft",
    }

    model_name_or_path: Model = option(help="the original: a model directory or a hub name")
    reward_model_path: Several[str | RewardFunction] = option(
        [], help="reward models: directories of `rlhf reward`, or sequence classifiers by directory or hub name"
    )
    reward_label: str | None = option(
        None,
        help="the label whose log-probability pays, where such a classifier has several; MODEL:LABEL says the same",
    )
    reward_func: Several[str | RewardFunction] = option(
        [], help="reward functions: a built-in NAME, FILE.py:NAME, FILE.yaml"
    )
    prompt: str | None = option(None, help="one prompt for every completion; unconditional if none is given")
    prompts: Prompts | None = option(
        None, help="prompt file: JSON, CSV or Parquet with `prompt` (text or messages), or one prompt a line"
    )
    prompt_column: str | None = option(None, help="column of the prompts in such a file or data set; default prompt")
    eval_prompts: Prompts | None = option(
        None, help="prompt file for the rungs' evaluation samples; the training prompts if none is given"
    )
    dataset_name: str | None = option(
        None, help="data set with a column of prompts: a name of the hub, a directory or a file"
    )
    dataset_config: str | None = option(None, help="the data set's subset, where it has several")
    use_peft: bool = option(False, help="train a LoRA adapter instead of the weights")
    lora_r: int = option(16, help="rank of the adapter")
    lora_alpha: int = option(32, help="the adapter's output is scaled by lora_alpha / lora_r")
    lora_target_modules: Several[str] = option([], help="names of the adapted layers; all linear ones if none is given")
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


def load_rows(config: PPOCommandConfig) -> list[dict[str, Any]]:
    """The training prompts as rows. Raises InputError."""
    from rlhf.foundation.layouts import require_encodable
    from rlhf.language_model.prompt_files import load_prompt_dataset

    if config.prompts is not None:
        return prompts_of(config.prompts, "--prompts", config.prompt_column)
    if config.dataset_name is not None:
        return load_prompt_dataset(
            config.dataset_name,
            config.dataset_train_split,
            config=config.dataset_config,
            column=config.prompt_column,
        )
    require_encodable(config.prompt or "", "--prompt")
    return [{"prompt": config.prompt or ""}]


@step(PPOCommandConfig)
def finetune(config: PPOCommandConfig) -> OpenedRun:
    """PPO from a model, towards rewards, to a KL budget; leaves a run directory. Raises InputError."""
    known = tried_early(config) if "WORLD_SIZE" not in os.environ else {}  # several processes fail together or not
    from rlhf.ppo import agreement, distributed
    from rlhf.ppo.trainer import PPOTrainer

    processes = distributed.start(use_cpu=config.use_cpu, straggler_timeout=config.straggler_timeout)
    processes.watch(config.straggler_timeout)
    agreement.require_same_program(processes)
    agreement.require_same_options(processes, config.resolved())
    given = processes.all_do(lambda: load_given(config, known))
    return PPOTrainer(config.model_name_or_path, args=as_named(config), **given).train()


def as_named(config: PPOCommandConfig) -> PPOConfig:
    """The options of a run that its record brings back; without what a command line names if that is in memory."""
    if not config.in_memory():
        return config
    return PPOConfig(**{field.name: getattr(config, field.name) for field in fields(PPOConfig)})


def _evaluation_rows(config: PPOCommandConfig) -> list[dict[str, Any]] | None:
    given = config.eval_prompts
    return None if given is None else prompts_of(given, "--eval_prompts", config.prompt_column)


def tried_early(config: PPOCommandConfig) -> dict[str, RewardFunction]:
    """The reward functions that a name or FILE.py:NAME names, tried on two specimens before torch is loaded.

    Raises InputError as the trainer would seconds later, also for a model or reward model that is not where it is said.
    """
    from rewards.by_name import load_function, names_a_function, require_place
    from rewards.calling import call_rewards
    from rlhf.ppo.specimens import specimens

    config.require_packages()
    require_names(config.model_name_or_path)
    for reward in (*config.reward_model_path, *config.reward_func, config.critic_model_path):
        require_place(reward)
    named = [one for one in config.reward_func if isinstance(one, str) and names_a_function(one)]
    known = {name: load_function(name) for name in named}
    if known and config.dataset_name is None:
        call_rewards(list(known.values()), *specimens(load_rows(config), ()))
    return known


def load_given(config: PPOCommandConfig, known: Mapping[str, RewardFunction] | None = None) -> dict[str, Any]:
    """What the command line names, as arguments of `PPOTrainer`; `known` are functions that are loaded already.

    Raises InputError.
    """
    from rewards.loading import load_rewards

    rows = load_rows(config)
    functions = [(known or {}).get(one, one) if isinstance(one, str) else one for one in config.reward_func]
    rewards = load_rewards(config.reward_model_path, functions, label=config.reward_label)
    return {
        "reward_funcs": rewards,
        "train_dataset": rows,
        "eval_dataset": _evaluation_rows(config),
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
    """Offset and scale from the reward model's own file, where one model alone is the reward and they fit the run: it
    begins with the model that they were measured on (not with four bits of it)."""
    from rlhf.ppo.ending_costs import EndingCosts
    from rlhf.ppo.normalization import from_reward_file

    if len(rewards) != 1 or config.reward_weights or config.load_in_4bit or EndingCosts.of(config).asked_for:
        return None
    report = getattr(rewards[0], "report", None)  # a reward model has one, a function none
    if report is None:
        return None
    return from_reward_file(
        report,
        model=name_of(config.model_name_or_path),
        prompts=prompts,
        max_completion_length=config.max_completion_length,
    )
