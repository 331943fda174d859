"""Options of `rlhf reward` and `rewards.fit`, and what a fit leaves."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from labeling.pooling import POOLING_HELP, Method
from rewards.reward_file import require_free
from rewards.steps.reward_data import DataOptions
from rlhf.foundation.errors import InputError
from rlhf.foundation.given_records import Samples
from rlhf.foundation.model_pair import Model
from rlhf.foundation.options import Several, option
from rlhf.foundation.records import Sample
from rlhf.foundation.tables import Report

if TYPE_CHECKING:
    from rewards.loading import RewardModel


@dataclasses.dataclass
class RewardConfig(DataOptions):
    """Options of `rlhf reward`."""

    NEEDS: ClassVar[Mapping[str, str]] = {**DataOptions.NEEDS, "aggregate": "ensemble", "penalty": "aggregate"}
    NOT_WITH: ClassVar[Mapping[str, str]] = {
        **DataOptions.NOT_WITH,
        "rater_noise": "labels",
        "num_folds": "comparisons",
    }

    model_name_or_path: Model = option(help="language model to start from: a directory or a hub name")
    output_dir: str | None = option(None, help="model directory to write", written="reward_model")
    samples: Samples | None = option(
        None, help="samples.jsonl of the base policy, some thousands: fixes the reward's offset and scale"
    )
    labelled_samples: Several[str | Sequence[Sample]] = option(
        [], help="samples.jsonl files that were labelled: whose samples they are is kept in reward_model.json; "
        "default: samples.jsonl and tasks.jsonl beside the labels"
    )  # fmt: skip
    target: str = option("positive", help="positive or negative: whose log-probability (nats) is the reward")
    dense_weight: float = option(
        0.0, help="weight of an auxiliary loss that asks for the label at every position, >= 0; 0: last position only"
    )
    num_train_epochs: float = option(0.0, help="passes over the texts, > 0; 0: 3 + 6000 / texts, at most 24")
    learning_rate: float | None = option(None, help="highest learning rate, > 0; default 0.1 / hidden width")
    per_device_train_batch_size: int = option(32, help="texts of one optimiser step, >= 1")
    weight_decay: float = option(0.01, help="AdamW's weight decay, >= 0")
    ensemble: int = option(
        1, help="labels only: members fitted to bootstraps of the labels with seeds of their own, 1 to 16; 1: one model"
    )
    aggregate: str = option("mean", help="reward of an ensemble: mean, worst, or penalty (Coste et al. 2023)")
    penalty: float = option(1.0, help="lambda of --aggregate penalty, >= 0: mean - lambda x variance of the members")
    rater_noise: float = option(
        0.0, help="comparisons only: chance that a rater answers at random, 0 to 1 (Christiano et al. 2017: 0.1)"
    )
    num_folds: int = option(
        0, help="labels only: hold every text out once in so many folds, then fit anew; 0: by the number of texts"
    )
    pooling: Method = option("dawid_skene", help=POOLING_HELP)
    allow_weak: bool = option(False, help="keep the model even if it is no better than chance")
    learning_curve: bool = option(
        False,
        help="also fit to 25, 50, 75 and 100 percent of the labels: what would the next 100 bring? (2.5 x the time)",
    )
    overwrite: bool = option(False, help="replace a reward model that is already in output_dir")
    seed: int = option(0, help="seed of split, order of texts, and new embeddings")

    def __post_init__(self) -> None:
        """Raises InputError on a value out of range."""
        super().__post_init__()
        rules = {
            "target": (self.target in ("positive", "negative"), "positive or negative"),
            "dense_weight": (self.dense_weight >= 0, "a number of at least 0"),
            "num_train_epochs": (self.num_train_epochs >= 0, "a number of at least 0"),
            "learning_rate": (self.learning_rate is None or self.learning_rate > 0, "a number above 0"),
            "per_device_train_batch_size": (self.per_device_train_batch_size >= 1, "a whole number of at least 1"),
            "weight_decay": (self.weight_decay >= 0, "a number of at least 0"),
        }
        rules["num_folds"] = (self.num_folds == 0 or 2 <= self.num_folds <= 20, "0, or 2 to 20")
        rules["ensemble"] = (1 <= self.ensemble <= 16, "a whole number from 1 to 16")
        rules["aggregate"] = (self.aggregate in ("mean", "worst", "penalty"), "mean, worst or penalty")
        rules["penalty"] = (self.penalty >= 0, "a number of at least 0")
        rules["rater_noise"] = (0 <= self.rater_noise < 1, "a share from 0 to below 1")
        for name, (ok, expected) in rules.items():
            if not ok:
                raise InputError(f"--{name}", got=getattr(self, name), expected=expected, fix="change it")
        if self.comparisons is not None:
            self.require_for_comparisons()

    def require_for_comparisons(self) -> None:
        """Raise InputError for an option that only labels have a use for."""
        if self.target != "positive" or self.dense_weight or self.learning_curve or self.ensemble > 1:
            raise InputError(
                "comparisons",
                got="--target, --dense_weight, --ensemble or --learning_curve beside them",
                expected="these with labels only",
                fix="leave them out",
            )


@dataclasses.dataclass(frozen=True)
class FittedReward:
    """The fitted reward, its directory (None in memory), and what reward_model.json says of it.

    `reward` is a reward function for `PPOTrainer` and whatever else takes one; `pooling` says in words which rows and
    raters counted.
    """

    reward: RewardModel
    directory: Path | None
    report: Report
    pooling: list[str] = dataclasses.field(default_factory=list)

    def _repr_html_(self) -> str:
        return self.report._repr_html_()


def kept(reward: RewardModel, config: RewardConfig, report: Mapping[str, Any], said: list[str]) -> FittedReward:
    """The reward with its report, written where the options say so. Raises InputError when the disk refuses."""
    directory = None
    if config.output_dir is None:
        reward.describe(report)
    else:
        directory = reward.save(Path(config.output_dir), dict(report))
    return FittedReward(reward, directory, reward.report, said)


def require_place(config: RewardConfig) -> None:
    """Raise InputError where there is something in the way of the model, before the work."""
    if config.output_dir is not None:
        require_free(Path(config.output_dir), overwrite=config.overwrite)
