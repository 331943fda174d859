"""TRL's trainers on ids of ours: the one file that imports them and overrides their underscored methods.

How this differs from calling them plainly:
1. Data comes in prepared columns, and GRPO's and RLOO's prompts are encoded by the one encoding
   (foundation/encoding.py): TRL writes an empty prompt without any token.
2. Nothing is saved, reported or shuffled by them but the order of rows; the ladder is kept by the callback.
3. Adam without weight decay, a constant rate, no dropout, float32: as in PPO.
tests/test_trl_contract.py tells when TRL changes what is overridden.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

from datasets import Dataset
from torch.utils.data import Dataset as TorchDataset
from transformers import PrinterCallback
from trl import (
    DPOConfig,
    DPOTrainer,
    GRPOConfig,
    GRPOTrainer,
    KTOConfig,
    KTOTrainer,
    RLOOConfig,
    RLOOTrainer,
    SFTConfig,
    SFTTrainer,
)

from rlhf.methods.config import AlignConfig

Encode = Callable[[Any], list[int]]


class PreparedDPO(DPOTrainer):
    """DPO on columns prompt_ids, chosen_ids, rejected_ids."""

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset


class PreparedKTO(KTOTrainer):
    """KTO on columns prompt_ids, completion_ids, KL_completion_ids, label."""

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset


class EncodedGRPO(GRPOTrainer):
    """GRPO with prompts encoded by `encode_prompt`."""

    encode_prompt: Encode

    def _tokenize_prompts(self, prompts: list[Any]) -> Any:
        return [self.encode_prompt(prompt) for prompt in prompts], None, {}


class EncodedRLOO(RLOOTrainer):
    """RLOO with prompts encoded by `encode_prompt`."""

    encode_prompt: Encode

    def _tokenize_prompts(self, prompts: list[Any]) -> Any:
        return [self.encode_prompt(prompt) for prompt in prompts], None, {}


def common(config: AlignConfig, scratch: str) -> dict[str, Any]:
    """Options of every trainer."""
    return {
        "output_dir": scratch, "max_steps": config.steps_per_iteration * config.max_iterations,
        "per_device_train_batch_size": config.per_device_train_batch_size, "gradient_accumulation_steps": 1,
        "learning_rate": config.learning_rate, "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": config.warmup_steps, "max_grad_norm": config.max_grad_norm, "weight_decay": 0.0,
        "adam_epsilon": 1e-5, "bf16": False, "gradient_checkpointing": False, "save_strategy": "no",
        "logging_steps": config.steps_per_iteration, "report_to": "none", "disable_tqdm": True, "seed": config.seed,
        "use_cpu": config.use_cpu, "dataloader_pin_memory": False, "dataloader_drop_last": True,
    }  # fmt: skip


def sft(config: AlignConfig, model: Any, tokenizer: Any, rows: Any, scratch: str) -> Any:
    """On rows of input_ids and labels."""
    args = SFTConfig(**common(config, scratch), max_length=None, dataset_kwargs={"skip_prepare_dataset": True})
    return _plain(SFTTrainer, model, args, rows, tokenizer)


def sft_on_samples(config: AlignConfig, model: Any, tokenizer: Any, samples: TorchDataset[Any], scratch: str) -> Any:
    """On rows that the policy makes as it goes; TRL takes such a data set only once the trainer stands."""
    trainer = sft(config, model, tokenizer, [{"input_ids": [0, 0], "labels": [0, 0]}], scratch)
    trainer.train_dataset = samples
    return trainer


def dpo(config: AlignConfig, model: Any, original: Any, tokenizer: Any, rows: Sequence[Any], scratch: str) -> Any:
    """Rafailov et al. 2023, eq. 7."""
    args = DPOConfig(**common(config, scratch), max_length=None, beta=config.strength)
    return _plain(PreparedDPO, model, args, rows, tokenizer, ref_model=original)


def kto(config: AlignConfig, model: Any, original: Any, tokenizer: Any, rows: Sequence[Any], scratch: str) -> Any:
    """Ethayarajh et al. 2024, eq. 7 and 8; the rarer kind weighs as much as the other in all."""
    wanted = sum(row["label"] for row in rows)
    others = len(rows) - wanted
    args = KTOConfig(
        **common(config, scratch), max_length=None, beta=config.strength,
        desirable_weight=max(1.0, others / wanted), undesirable_weight=max(1.0, wanted / others),
    )  # fmt: skip
    return _plain(PreparedKTO, model, args, rows, tokenizer, ref_model=original)


def group_policy_gradient(
    config: AlignConfig,
    model: Any,
    tokenizer: Any,
    rows: Sequence[Any],
    scratch: str,
    *,
    reward: Callable[..., list[float | None]],
    encode: Encode,
    never_sampled: Sequence[int],
) -> Any:
    """GRPO (Shao et al. 2024) or RLOO (Ahmadian et al. 2024) on the policy's own samples, new ones at every step."""
    kinds: dict[str, tuple[Any, Any]] = {"grpo": (EncodedGRPO, GRPOConfig), "rloo": (EncodedRLOO, RLOOConfig)}
    kind, options = kinds[config.method]
    sampling: dict[str, Any] = {"generation_kwargs": {"suppress_tokens": list(never_sampled)}} if never_sampled else {}
    args = options(
        **common(config, scratch), beta=config.strength, num_generations=config.num_generations,
        max_completion_length=config.max_completion_length, temperature=1.0, top_p=1.0, top_k=0, steps_per_generation=1,
        **sampling,
    )  # fmt: skip
    trainer = _plain(kind, model, args, rows, tokenizer, reward_funcs=reward)
    trainer.encode_prompt = encode
    return trainer


def _plain(kind: Any, model: Any, args: Any, rows: Sequence[Any], tokenizer: Any, **others: Any) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)
        data = Dataset.from_list(list(rows))
        trainer = kind(model=model, args=args, train_dataset=data, processing_class=tokenizer, **others)
    trainer.remove_callback(PrinterCallback)
    return trainer
