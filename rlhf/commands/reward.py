"""`rlhf reward`: fit a reward model to labels, test it on texts it has not seen, and refuse it if it knows nothing."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from labeling.pooling import POOLING_HELP, Method
from rlhf.commands.reward_data import DataOptions, RewardData, load_reward_data
from rlhf.foundation.errors import InputError
from rlhf.foundation.records import Sample, read_samples
from rlhf.foundation.terminal import shown
from rlhf.options import option, parse

if TYPE_CHECKING:
    from rewards.ensemble import FittedEnsemble, RewardEnsemble
    from rewards.loading import RewardModel
    from rewards.targets import LabelledText, PooledLabels
    from rewards.token_model import TokenRewardModel
    from rewards.token_recipe import Fitted, Recipe


@dataclasses.dataclass
class RewardConfig(DataOptions):
    """Options of `rlhf reward`."""

    NEEDS: ClassVar[Mapping[str, str]] = {**DataOptions.NEEDS, "aggregate": "ensemble", "penalty": "aggregate"}
    NOT_WITH: ClassVar[Mapping[str, str]] = {
        **DataOptions.NOT_WITH,
        "rater_noise": "labels",
        "num_folds": "comparisons",
    }

    model_name_or_path: str = option(help="language model to start from: a directory or a hub name")
    output_dir: str = option("reward_model", help="model directory to write")
    samples: str | None = option(
        None, help="samples.jsonl of the base policy, some thousands: fixes the reward's offset and scale"
    )
    labelled_samples: list[str] = option(
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
class RewardResult:
    """The fitted reward, its directory, what reward_model.json says, and in words which rows and raters counted."""

    reward: RewardModel
    directory: Path
    report: dict[str, Any]
    pooling: list[str] = dataclasses.field(default_factory=list)


def run(config: RewardConfig) -> RewardResult:
    """Fit, test and save as configured.

    Raises InputError on unusable input, on a model no better than chance, and when another command writes there.
    """
    from rlhf.foundation.locks import sole_writer

    with sole_writer(config.output_dir):
        data = load_reward_data(config, quiet=config.quiet)
        if data.is_comparisons:
            from rlhf.commands.reward_comparisons import run_comparisons

            return run_comparisons(config, data)
        return _run_labels(config, data)


def _run_labels(config: RewardConfig, data: RewardData) -> RewardResult:
    """The token reward model from labels."""
    import torch

    from rewards.encoding_check import check_texts, require_same_kind
    from rewards.ensemble import AGGREGATES, FittedEnsemble, RewardEnsemble
    from rewards.targets import pool_labels, require_both_classes
    from rewards.token_model import pick_device
    from rewards.token_recipe import Recipe
    from rlhf.commands.reward_origin import origin
    from rlhf.foundation.encoding import TextEncoder
    from rlhf.foundation.model_directory import load_causal_lm, load_tokenizer

    begin = time.perf_counter()
    pooled = pool_labels(data.labels, config.pooling, data.place)
    texts = pooled.texts
    require_both_classes(texts, data.place)
    require_free(config)
    samples = read_samples(Path(config.samples)) if config.samples else []
    base, tokenizer = load_causal_lm(config.model_name_or_path), load_tokenizer(config.model_name_or_path)
    torch.nn.Module.to(base, pick_device(None))
    encoder = TextEncoder(tokenizer, max_length=getattr(base.config, "max_position_embeddings", None))
    encoded = check_texts(encoder, [t.prompt for t in texts], [t.completion for t in texts])
    require_same_kind(encoder, samples)
    recipe = Recipe(
        base,
        tokenizer,
        target="positive" if config.target == "positive" else "negative",
        settings=_settings(config),
        seed=config.seed,
        num_folds=config.num_folds,
    )
    fitted = _fit(config, recipe, texts)
    if not fitted.held_out.better_than_chance and not config.allow_weak:
        raise _too_weak(config, recipe, texts, fitted)
    reward: TokenRewardModel | RewardEnsemble
    if isinstance(fitted, FittedEnsemble):
        how = next(name for name in AGGREGATES if name == config.aggregate)
        reward = RewardEnsemble(fitted.members, how=how, penalty=config.penalty)
    else:
        reward = fitted.reward
    report = _report(config, data, pooled, recipe, fitted) | origin(config, data, samples)
    report["labels"]["encoding"] = encoded.report()
    scores = reward([s.prompt for s in samples], [s.completion for s in samples]) if samples else []
    if samples:
        report["normalization"] = normalization(reward, samples, scores, config.samples)
    report |= _trust(fitted, texts, samples, scores, config.seed)
    if config.learning_curve:
        report["learning_curve"] = _learning_curve(config, recipe, pooled)
    report["seconds"] = round(time.perf_counter() - begin, 2)
    directory = reward.save(Path(config.output_dir), report)
    return RewardResult(reward, directory, reward.report, [*pooled.lines(), *encoded.lines()])


def _fit(config: RewardConfig, recipe: Recipe, texts: list[LabelledText]) -> Fitted | FittedEnsemble:
    """One model or an ensemble, with its held-out test, behind a progress bar."""
    from rewards.ensemble import fit_and_test_ensemble
    from rlhf.foundation.progress import progress_bar

    n_training = len(texts) - len(texts) // 10
    steps = recipe.n_steps(len(texts))
    if config.ensemble > 1:
        steps = config.ensemble * recipe.settings_for(n_training).steps(n_training)
    with progress_bar("reward model", "step", total=steps, quiet=config.quiet) as bar:
        if config.ensemble > 1:
            return fit_and_test_ensemble(recipe, texts, config.ensemble, lambda: bar.update() and None)
        return recipe.fit_and_test(texts, lambda: bar.update() and None)


def require_free(config: RewardConfig) -> None:
    """Refuse, before the work, an output directory that holds anything but a reward model one may replace."""
    from rewards.reward_file import REWARD_FILE
    from rlhf.foundation.model_directory import require_replaceable

    directory = Path(config.output_dir)
    if not (directory / REWARD_FILE).exists():
        require_replaceable(directory, marker=REWARD_FILE)
    elif not config.overwrite:
        raise InputError(
            "--output_dir",
            got=f"{directory}, which holds a reward model",
            expected="a new directory",
            fix="choose another one, or give --overwrite",
        )


def _settings(config: RewardConfig) -> Any:
    from rewards.token_training import FitSettings

    return FitSettings(
        num_train_epochs=config.num_train_epochs,
        batch_size=config.per_device_train_batch_size,
        learning_rate=config.learning_rate,
        dense_weight=config.dense_weight,
        weight_decay=config.weight_decay,
    )


def _report(
    config: RewardConfig, data: RewardData, pooled: PooledLabels, recipe: Recipe, fitted: Fitted | FittedEnsemble
) -> dict[str, Any]:
    from rewards.targets import label_summary
    from rewards.token_model import NEGATIVE_TOKEN, POSITIVE_TOKEN

    return {
        "kind": "token",
        "target": config.target,
        "tokens": {"positive": POSITIVE_TOKEN, "negative": NEGATIVE_TOKEN},
        "base_model": config.model_name_or_path,
        "labels": {"file": data.place, "sha256": data.sha256, **label_summary(pooled)},
        "held_out": fitted.held_out.report(),
        "better_than_chance": fitted.held_out.better_than_chance,
        "uncalibrated": {
            key: fitted.uncalibrated.report()[key] for key in ("cross_entropy_nats", "expected_calibration_error")
        },
        "training": recipe.describe(fitted.plan, fitted.temperature, len(pooled.texts)),
        "normalization": None,
    }


def _trust(
    fitted: Fitted | FittedEnsemble, texts: list[LabelledText], samples: list[Sample], scores: list[float], seed: int
) -> dict[str, Any]:
    """The trust report and the guards; without samples of the base policy only what needs none."""
    import numpy as np

    from rewards.guards import distribution_guard, scale_guard, sign_guard
    from rewards.trust import trust_report
    from rlhf.foundation.conversation import readable

    guards = [sign_guard(fitted.held_out)]
    if samples:
        guards.append(scale_guard(np.array(scores)))
        guards.append(
            distribution_guard([readable(t.prompt, t.completion) for t in texts], [s.text for s in samples], seed=seed)
        )
    return {
        "trust": trust_report(fitted.held_out, [s.text for s in samples], np.array(scores) if samples else None),
        "guards": [guard.as_dict() for guard in guards],
    }


def _learning_curve(config: RewardConfig, recipe: Recipe, pooled: PooledLabels) -> dict[str, Any]:
    """Accuracy by number of labels, what the next hundred would bring, and the ceiling that agreement sets."""
    from rewards.learning_curve import curve_steps, measure_curve
    from rlhf.foundation.progress import progress_bar

    texts = pooled.texts
    with progress_bar("learning curve", "step", total=curve_steps(recipe, len(texts)), quiet=config.quiet) as bar:
        curve = measure_curve(recipe, texts, lambda: bar.update() and None)
    return {**curve.report(), "single_label_ceiling": dataclasses.asdict(pooled.ceiling)}


def normalization(reward: RewardModel, samples: list[Sample], scores: list[float], place: str | None) -> dict[str, Any]:
    """The fixed offset and scale, from the reward's scores of the base policy's samples."""
    from rewards.normalization import measure_normalization

    return measure_normalization(
        scores,
        prompts=[s.prompt for s in samples],
        sources=[s.source for s in samples],
        completion_tokens=reward.encoder.completion_lengths([s.completion for s in samples]),
        place=str(place),
    ).as_dict()


def _too_weak(
    config: RewardConfig, recipe: Recipe, texts: list[LabelledText], fitted: Fitted | FittedEnsemble
) -> InputError:
    """The refusal, with the number of labels that a second point of the learning curve suggests."""
    from rewards.learning_curve import CurvePoint, suggest_labels

    tested = fitted.held_out.accuracy
    half = recipe.fit_and_test(texts[: len(texts) // 2]).held_out.accuracy if len(texts) >= 40 else None
    points = [CurvePoint(len(texts), tested)]
    if half is not None and half.n:
        points.append(CurvePoint(len(texts) // 2, half))
    chance = fitted.held_out.majority_share.share
    suggestion = suggest_labels(points, chance, tested.n / len(texts))
    return InputError(
        "reward model",
        got=f"held-out accuracy {tested.share:.0%} (95 % interval {tested.low:.0%} to {tested.high:.0%}, "
        f"{tested.n} non-neutral texts), no better than the {chance:.0%} of always naming the more frequent class; "
        f"nor do its answers go with the labels (p = {fitted.held_out.association_p:.2f})",
        expected="an interval above that, or p below 0.025",
        fix=f"label more (the learning curve suggests {suggestion}), "
        + ("set --dense_weight 1, " if not config.dense_weight else "")
        + "or insist with --allow_weak",
    )


def main(argv: list[str]) -> None:
    """Parse, run, and print what was learned."""
    config = parse(RewardConfig, argv, prog="rlhf reward", description=__doc__ or "")
    print(summary(run(config)))


def summary(result: RewardResult) -> str:
    """A few lines for the terminal: accuracy with interval, calibration, normalisation, time, place."""
    report = result.report
    if report["kind"] == "preference":
        from rlhf.commands.reward_comparisons import summary_of_comparisons

        return summary_of_comparisons(result)
    held_out, labels = report["held_out"], report["labels"]
    tested = held_out["accuracy"]
    lines = [
        f"{labels['counted']} labels on {labels['texts']} texts by {labels['annotators']} annotators",
        *result.pooling,
        f"held-out accuracy {tested['share']:.1%} (95 % interval {tested['low']:.1%} to {tested['high']:.1%}, "
        f"n = {tested['n']} non-neutral texts; always the more frequent class: {held_out['majority_share']:.1%})",
        f"calibration error {held_out['expected_calibration_error']:.3f} (n = {held_out['texts']} texts; "
        f"{report['uncalibrated']['expected_calibration_error']:.3f} before temperature "
        f"{report['training']['temperature']:.2f})",
    ]
    if not report["better_than_chance"]:
        lines.append("WEAK: no better than chance, kept because of --allow_weak")
    if report["normalization"]:
        constants = report["normalization"]
        lines.append(
            f"reward log P({report['target']}) on base samples: {constants['offset']:.3f} ± "
            f"{constants['offset_se']:.3f} nats, standard deviation {constants['scale']:.3f} (n = {constants['n']})"
        )
    lines += [f"guard failed: {guard['name']}: {guard['says']}" for guard in report["guards"] if not guard["passed"]]
    if "learning_curve" in report:
        lines += _curve_lines(report["learning_curve"])
    lines.append(f"{shown(result.directory)}, {report['seconds']:.1f} s")
    return "\n".join(lines)


def _curve_lines(curve: dict[str, Any]) -> list[str]:
    points = ", ".join(f"{p['texts']}: {p['accuracy']['share']:.0%}" for p in curve["points"])
    gain, ceiling = curve["next_gain"], curve["single_label_ceiling"]
    lines = [
        f"held-out accuracy by labelled texts: {points} (n = {curve['held_out_texts_judged']})",
        f"the next {gain['labels']} labels would bring {100 * gain['gain']:+.1f} points "
        f"(95 % interval {100 * gain['low']:+.1f} to {100 * gain['high']:+.1f})",
    ]
    if ceiling["value"] is not None:
        lines.append(
            f"raters' agreement sets a ceiling of {ceiling['value']:.0%} for any model judged by single labels of all "
            f"three kinds ({ceiling['low']:.0%} to {ceiling['high']:.0%}, n = {ceiling['n']} texts)"
        )
    return lines
