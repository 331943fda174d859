"""Fitting the comparison reward model with TRL's RewardTrainer.

Where this departs from TRL 1.16:
1. Texts are encoded by rlhf/foundation/encoding.py (no EOS) before the trainer sees them.
2. The target is soft: pooled answers, a tie one half, cross-entropy instead of -log σ(δ).
3. P = (1 - e) σ(δ) + e/2: a rater answers at random with probability e (Christiano et al. 2017, section 2.2.3).
4. Changed defaults: use_cpu without an accelerator, bf16 off (TRL's default spoils small models on a CPU without a
   word), no gradient checkpointing, no checkpoints, learning rate 0.1 / width falling linearly to 0.

Shapes: B pairs, T tokens.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor
from torch.nn.functional import logsigmoid
from transformers import PreTrainedModel, PrinterCallback
from trl import RewardConfig, RewardTrainer
from trl.trainer.reward_trainer import DataCollatorForPreference

from rewards.preference_model import PreferenceRewardModel
from rewards.preferences import Preference
from rlhf.foundation.causal_lm import width


@dataclass(frozen=True, slots=True)
class PreferenceSettings:
    """How a comparison reward model is fitted. `learning_rate` None means 0.1 / hidden width."""

    num_train_epochs: float
    batch_size: int = 16
    learning_rate: float | None = None
    weight_decay: float = 0.01
    rater_noise: float = 0.0

    def rate_for(self, model: PreTrainedModel) -> float:
        """The highest learning rate for `model`: wider layers take smaller steps."""
        return self.learning_rate or 0.1 / width(model)


def preference_loss(difference: Tensor, targets: Tensor, weights: Tensor, rater_noise: float) -> Tensor:
    """Σ_i w_i [-t log P - (1 - t) log(1 - P)] / Σ_i w_i in nats a pair, P = (1 - e) σ(δ) + e/2.

    difference δ (B,) first minus second score, less the margin; targets t (B,) in [0, 1]; weights w (B,).
    """
    if rater_noise:
        log_p = torch.log((1 - rater_noise) * torch.sigmoid(difference) + rater_noise / 2)
        log_q = torch.log((1 - rater_noise) * torch.sigmoid(-difference) + rater_noise / 2)
    else:
        log_p, log_q = logsigmoid(difference), logsigmoid(-difference)
    losses = -targets * log_p - (1 - targets) * log_q
    return (losses * weights).sum() / weights.sum()


class SoftPreferenceCollator(DataCollatorForPreference):
    """TRL's collator, with the soft targets, the weights and the signed margins of the pairs."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """Ids and mask (2B, T), first texts above second ones; targets, weights and margins (B,)."""
        pairs = [{"chosen_ids": e["chosen_ids"], "rejected_ids": e["rejected_ids"]} for e in examples]
        batch: dict[str, Any] = super().torch_call(pairs)
        for name in ("targets", "weights", "margins"):
            batch[name] = torch.tensor([float(e[name]) for e in examples])
        return batch


class SoftRewardTrainer(RewardTrainer):
    """TRL's RewardTrainer with soft targets and a rater's noise in the loss; scores are read as `reward` reads them."""

    reward: PreferenceRewardModel
    rater_noise: float = 0.0

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """`preference_loss` of one batch."""
        targets, weights, margins = (inputs.pop(name) for name in ("targets", "weights", "margins"))
        scores = self.reward.last_scores(inputs["input_ids"], inputs["attention_mask"], model)
        first, second = torch.chunk(scores, 2)
        loss = preference_loss(first - second - margins, targets, weights, self.rater_noise)
        return (loss, {"logits": scores}) if return_outputs else loss


def as_dataset(reward: PreferenceRewardModel, preferences: Sequence[Preference]) -> Dataset:
    """Encoded pairs in TRL's columns. Margins are signed towards the first text."""
    prompts = [p.prompt for p in preferences]
    return Dataset.from_dict(
        {
            "chosen_ids": reward.encode(prompts, [p.first for p in preferences]),
            "rejected_ids": reward.encode(prompts, [p.second for p in preferences]),
            "targets": [p.target for p in preferences],
            "weights": [float(p.n_answers) for p in preferences],
            "margins": [p.margin for p in preferences],
        }
    )


def fit_preferences(
    reward: PreferenceRewardModel,
    preferences: Sequence[Preference],
    settings: PreferenceSettings,
    *,
    seed: int,
    quiet: bool = True,
) -> None:
    """Fit `reward` in place with TRL's RewardTrainer. Same seed, same result on one machine."""
    has_gpu = torch.cuda.is_available()
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        # transformers 5.23 renamed the option; TRL 1.16 still speaks of the old one.
        warnings.filterwarnings("ignore", message=".gradient_checkpointing. is deprecated", category=FutureWarning)
        arguments = RewardConfig(
            output_dir=scratch,
            num_train_epochs=settings.num_train_epochs,
            per_device_train_batch_size=settings.batch_size,
            learning_rate=settings.rate_for(reward.model),
            lr_scheduler_type="linear",
            warmup_steps=0.1,
            weight_decay=settings.weight_decay,
            max_grad_norm=1.0,
            max_length=None,
            use_cpu=not has_gpu,
            bf16=False,
            gradient_checkpointing=False,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            remove_unused_columns=False,
            disable_tqdm=quiet,
            seed=seed,
        )
        trainer = SoftRewardTrainer(
            model=reward.model,
            args=arguments,
            train_dataset=as_dataset(reward, preferences),
            data_collator=SoftPreferenceCollator(pad_token_id=reward.pad_id),
            processing_class=reward.tokenizer,
        )
        trainer.reward, trainer.rater_noise = reward, settings.rater_noise
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    reward.model.train(False)
