"""TRL 1.12's PPO, the last there was, on the work: `trl_ppo` with a value model of the policy's size, `trl_ppo_tiny`.

It wants a reward model; a classifier of one layer and 16 dimensions stands in, which costs next to nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import torch
from laps import Laps
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GPT2Config,
    GPT2ForSequenceClassification,
)
from trl.experimental.ppo import PPOConfig, PPOTrainer
from work import LEARNING_RATE, from_command_line, one_prompt


def tiny(tokenizer: Any) -> torch.nn.Module:
    """A classifier of almost no cost that reads the policy's ids."""
    shape = {"n_embd": 16, "n_layer": 1, "n_head": 1, "n_positions": 256, "num_labels": 1}
    return GPT2ForSequenceClassification(
        GPT2Config(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **shape)
    )


def main() -> None:
    """Run the iterations."""
    torch.set_num_threads(1)
    work = from_command_line()
    tokenizer = AutoTokenizer.from_pretrained(work.model, padding_side="left")
    policy, original = (AutoModelForCausalLM.from_pretrained(work.model, dtype=torch.float32) for _ in "po")
    value = (
        tiny(tokenizer)
        if work.contender == "trl_ppo_tiny"
        else AutoModelForSequenceClassification.from_pretrained(work.model, num_labels=1, dtype=torch.float32)
    )
    rows = one_prompt(work.completions * work.iterations)
    prompts = rows.map(lambda row: {"input_ids": tokenizer(row["prompt"]).input_ids}, remove_columns=["prompt"])
    config = PPOConfig(
        output_dir="unused",
        total_episodes=work.completions * work.iterations,
        per_device_train_batch_size=work.completions,
        gradient_accumulation_steps=1,
        num_mini_batches=work.steps,
        num_ppo_epochs=1,
        local_rollout_forward_batch_size=min(64, work.completions),
        response_length=work.tokens,
        temperature=1.0,
        learning_rate=LEARNING_RATE,
        num_sample_generations=0,
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=True,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    trainer = PPOTrainer(
        args=config,
        processing_class=tokenizer,
        model=policy,
        ref_model=original,
        reward_model=tiny(tokenizer),
        value_model=value,
        train_dataset=prompts,
        eval_dataset=prompts.select(range(2)),
        callbacks=[Laps(1)],
    )
    trainer.train()


if __name__ == "__main__":
    main()
