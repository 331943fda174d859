"""One run along KL for benchmarks/quality.py, and the processor time until each of its measurements.

`ours` is PPO by a recipe; `grpo` and `rloo` are TRL's trainers (rlhf/methods) and `trl_ppo` is TRL 1.12's, all three
with our ladder kept beside them, whose own samples cost them nothing here. Prints a line of JSON a measurement: its
number and the CPU-seconds of training before it, without imports, loading, and the measuring of rungs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

if "TOOLKIT_PACKAGES" in os.environ:  # an environment that has another TRL: what else the toolkit needs is found here
    sys.path.append(os.environ["TOOLKIT_PACKAGES"])

from rlhf import environment

environment.prepare()

import torch
from torch import Tensor, nn

from rlhf.foundation.recipes import read_config
from rlhf.methods.config import AlignConfig
from rlhf.ppo.finetune import PPOCommandConfig

PROCESSED = 512  # completions of a rollout of TRL's PPO, as of the demo's


class Clock:
    """CPU-seconds of this process that are training."""

    def __init__(self) -> None:
        self.begun, self.aside = time.process_time(), 0.0

    @contextlib.contextmanager
    def stopped(self) -> Any:
        """What is spent within counts nowhere."""
        before = time.process_time()
        try:
            yield
        finally:
            self.aside += time.process_time() - before

    def told(self, number: int) -> None:
        """A line for a measurement that is about to be made."""
        spent = time.process_time() - self.begun - self.aside
        print(json.dumps({"iteration": number, "cpu_seconds": round(spent, 3)}), flush=True)


def without(clock: Clock, owner: Any, name: str) -> None:
    """Keep the method's time out of the clock's."""
    inner: Callable[..., Any] = getattr(owner, name)

    def wrapped(*given: Any, **named: Any) -> Any:
        with clock.stopped():
            return inner(*given, **named)

    setattr(owner, name, wrapped)


def ours(own: argparse.Namespace, shared: dict[str, Any]) -> None:
    """PPO to the budget; its own rollouts are what the KL is read from."""
    from rlhf.ppo.finetune import load_given
    from rlhf.ppo.trainer import PPOTrainer

    config = PPOCommandConfig(**read_config(own.recipe) | shared)
    trainer = PPOTrainer(own.model, args=config, **load_given(config))
    with contextlib.closing(trainer):
        clock = Clock()
        trainer.begin()
        for name in ("_evaluate", "_save_rung"):
            without(clock, trainer, name)
        while trainer.stop_reason is None:
            rollout = trainer.rollout()
            clock.told(trainer.iteration)
            trainer.step(rollout)


def peer(own: argparse.Namespace, shared: dict[str, Any]) -> None:
    """A trainer of TRL's to the budget, read every so many steps."""
    from rlhf.methods import align

    method = "rloo" if own.contender == "trl_ppo" else own.contender
    config = AlignConfig(**read_config("demo_align") | {"max_iterations": 64} | shared, method=method)
    rows = align.prompt_rows(config, None)
    keeper = align.keeper_of(config, rows)
    with contextlib.closing(keeper):
        keeper.begin({"method": own.contender, "model": own.model}, {})
        clock, read = Clock(), keeper.read

        def told_and_read(*given: Any) -> bool:
            clock.told(keeper.iteration)
            with clock.stopped():
                return read(*given)

        keeper.read = told_and_read  # type: ignore[method-assign]
        if own.contender == "trl_ppo":
            train_by_old_trl(config, keeper, rows)
        else:
            align.trainer_of(config, keeper, None, rows, str(Path(config.output_dir).parent)).train()
        keeper.finish()


class Paying(nn.Module):
    """A reward of texts as TRL's PPO calls a reward model: `score` of its backbone's last hidden states (B, S, 1)."""

    base_model_prefix = "backbone"

    def __init__(self, reward: Any, prompt: str, prompt_tokens: int, ends: set[int]) -> None:
        super().__init__()
        self.backbone, self.score = Backbone(reward, prompt, prompt_tokens, ends), nn.Identity()


class Backbone(nn.Module):
    """The same figure at every place of a row."""

    def __init__(self, reward: Any, prompt: str, prompt_tokens: int, ends: set[int]) -> None:
        super().__init__()
        self.reward, self.prompt, self.prompt_tokens, self.ends = reward, prompt, prompt_tokens, ends

    def forward(self, input_ids: Tensor, **_: Any) -> Any:
        """(B, S) ids."""
        rows = [up_to_end(row, self.ends) for row in input_ids[:, self.prompt_tokens :].tolist()]
        values = self.reward([self.prompt] * len(rows), None, rows)
        column = torch.tensor(values, dtype=torch.float32)[:, None, None]
        return SimpleNamespace(hidden_states=[column.expand(*input_ids.shape, 1)])


def up_to_end(ids: list[int], ends: set[int]) -> list[int]:
    """The ids with the first that ends a text, and none after it."""
    place = next((i for i, one in enumerate(ids) if one in ends), len(ids) - 1)
    return ids[: place + 1]


class Enough(Exception):
    """The ladder ends: TRL's PPO asks nobody whether to stop."""


def train_by_old_trl(config: AlignConfig, keeper: Any, rows: list[dict[str, Any]]) -> None:
    """TRL 1.12's PPO with its defaults but for the rate and the sizes, which are those of the others."""
    from datasets import Dataset
    from transformers import AutoModelForSequenceClassification, TrainerCallback
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    from rlhf.language_model.endings import end_token
    from rlhf.methods.online_reward import OnlineReward

    worker, prompt = keeper.worker, rows[0]["prompt"]
    tokenizer, ids = worker.tokenizer, list(keeper.encode(prompt))
    tokenizer.padding_side = "left"
    end = end_token(tokenizer)
    reward = Paying(OnlineReward(keeper), prompt, len(ids), {end, tokenizer.pad_token_id})
    value = AutoModelForSequenceClassification.from_pretrained(
        config.model_name_or_path, num_labels=1, dtype=torch.float32
    )

    class Read(TrainerCallback):
        """Reads the policy after every rollout and its steps."""

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if not keeper.read(keeper.iteration, keeper.iteration * PROCESSED, {}):
                raise Enough

    prompts = Dataset.from_list([{"input_ids": ids}] * PROCESSED)
    trainer = PPOTrainer(
        args=PPOConfig(
            output_dir="unused", total_episodes=PROCESSED * config.max_iterations, stop_token_id=end,
            per_device_train_batch_size=PROCESSED, gradient_accumulation_steps=1, num_ppo_epochs=1,
            num_mini_batches=PROCESSED // config.per_device_train_batch_size, local_rollout_forward_batch_size=64,
            response_length=config.max_completion_length, temperature=1.0, learning_rate=config.learning_rate,
            num_sample_generations=0, bf16=False, gradient_checkpointing=False, use_cpu=True, save_strategy="no",
            logging_strategy="no", report_to="none", disable_tqdm=True, seed=config.seed,
        ),
        processing_class=tokenizer, model=keeper.policy, ref_model=worker.ref_model, reward_model=reward,
        value_model=value, train_dataset=prompts, eval_dataset=prompts.select(range(2)), callbacks=[Read()],
    )  # fmt: skip
    with contextlib.suppress(Enough):
        trainer.train()


def main() -> None:
    """One run."""
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser()
    for name in ("contender", "model", "recipe", "output_dir"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--reward")
    parser.add_argument("--prompt")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kl_budget", type=float, default=10.0)
    own = parser.parse_args()
    paid = {"reward_model_path": [own.reward]} if own.reward else {"reward_func": ["full_stop"]}
    shared = {"model_name_or_path": own.model, "output_dir": own.output_dir, "seed": own.seed, **paid}
    shared |= {"kl_budget": own.kl_budget, "quiet": True} | ({"prompt": own.prompt} if own.prompt else {})
    (ours if own.contender == "ours" else peer)(own, shared)


if __name__ == "__main__":
    main()
