"""`rewards.fit` to labels: a token reward model or an ensemble, tested on texts that it has not seen."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rewards.normalization import normalization_of
from rewards.steps.reward_config import FittedReward, RewardConfig, kept, require_place
from rewards.steps.reward_data import RewardData
from rlhf.foundation.errors import InputError
from rlhf.foundation.given_records import samples_of
from rlhf.foundation.held import place_of
from rlhf.foundation.model_pair import name_of
from rlhf.foundation.records import Sample

if TYPE_CHECKING:
    from rewards.ensemble import FittedEnsemble, RewardEnsemble
    from rewards.targets import LabelledText, PooledLabels
    from rewards.token_model import TokenRewardModel
    from rewards.token_recipe import Fitted, Recipe


def fit_to_labels(config: RewardConfig, data: RewardData) -> FittedReward:
    """The token reward model from labels."""
    import torch

    from rewards.encoding_check import check_texts, require_same_kind
    from rewards.ensemble import AGGREGATES, FittedEnsemble, RewardEnsemble
    from rewards.steps.origin import origin
    from rewards.targets import pool_labels, require_both_classes
    from rewards.token_model import pick_device
    from rewards.token_recipe import Recipe
    from rlhf.foundation.encoding import TextEncoder
    from rlhf.foundation.model_directory import load_causal_lm, load_tokenizer

    begin = time.perf_counter()
    pooled = pool_labels(data.labels, config.pooling, data.place)
    texts = pooled.texts
    require_both_classes(texts, data.place)
    require_place(config)
    samples = samples_of(config.samples) if config.samples else []
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
        report["normalization"] = normalization_of(reward, samples, scores, place_of(config.samples))
    report |= _trust(fitted, texts, samples, scores, config.seed)
    if config.learning_curve:
        report["learning_curve"] = _learning_curve(config, recipe, pooled)
    report["seconds"] = round(time.perf_counter() - begin, 2)
    return kept(reward, config, report, [*pooled.lines(), *encoded.lines()])


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
        "base_model": name_of(config.model_name_or_path),
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
    fitted: Fitted | FittedEnsemble,
    texts: list[LabelledText],
    samples: Sequence[Sample],
    scores: list[float],
    seed: int,
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
