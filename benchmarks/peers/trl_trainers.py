"""TRL's GRPO and RLOO on the work: `grpo` (beta 0.04, with the original), `grpo_no_kl` (beta 0), `rloo`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import torch
from laps import Laps
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer
from work import LEARNING_RATE, Work, characters, from_command_line, one_prompt, train_only

BETA = {"grpo": 0.04, "grpo_no_kl": 0.0, "rloo": 0.05}


def arguments(work: Work) -> dict[str, Any]:
    """What both trainers take: TRL's defaults of bf16 and checkpointing are off, since nobody else has them here."""
    return {
        "output_dir": "unused",
        "per_device_train_batch_size": work.batch,
        "gradient_accumulation_steps": 1,
        "steps_per_generation": work.steps,
        "num_generations": min(8, work.batch),
        "max_completion_length": work.tokens,
        "max_steps": work.steps * work.iterations,
        "learning_rate": LEARNING_RATE,
        "beta": BETA[work.contender],
        "bf16": False,
        "gradient_checkpointing": False,
        "use_cpu": True,
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "optim": "adamw_torch_fused",
    }


def main() -> None:
    """Run the iterations."""
    torch.set_num_threads(1)
    work = from_command_line()
    trainer_class, config_class = (RLOOTrainer, RLOOConfig) if work.contender == "rloo" else (GRPOTrainer, GRPOConfig)
    model = AutoModelForCausalLM.from_pretrained(work.model, dtype=torch.float32)
    train_only(model, work.train_scope)
    trainer = trainer_class(
        model=model,
        reward_funcs=characters,
        args=config_class(**arguments(work)),
        processing_class=AutoTokenizer.from_pretrained(work.model),
        train_dataset=one_prompt(work.completions * work.iterations),
        callbacks=[Laps(work.steps)],
    )
    trainer.train()


if __name__ == "__main__":
    main()
