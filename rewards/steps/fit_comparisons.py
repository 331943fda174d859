"""`rewards.fit` to comparisons: the comparison reward model, tested on held-out pairs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rewards.steps.reward_config import FittedReward, RewardConfig, kept, require_place
from rlhf.foundation.errors import InputError
from rlhf.foundation.given_records import samples_of
from rlhf.foundation.held import place_of
from rlhf.foundation.model_pair import name_of

if TYPE_CHECKING:
    from rewards.steps.reward_data import RewardData


def fit_to_comparisons(config: RewardConfig, data: RewardData) -> FittedReward:
    """Fit, test and save as configured. Raises InputError on unusable input and on a model no better than chance."""
    import numpy as np

    from rewards.encoding_check import check_pairs, require_same_kind
    from rewards.guards import scale_guard
    from rewards.normalization import normalization_of
    from rewards.preference_model import encoder_for
    from rewards.preference_pooling import pool_preferences
    from rewards.preference_recipe import PreferenceRecipe
    from rewards.preference_training import PreferenceSettings
    from rewards.preferences import require_comparisons
    from rewards.steps.origin import origin
    from rewards.trust import accuracy_by_margin, trust_report
    from rlhf.foundation.causal_lm import require_finite
    from rlhf.foundation.model_directory import load_tokenizer

    begin = time.perf_counter()
    config.require_for_comparisons()
    pooled = pool_preferences(data.answers, config.pooling, data.place)
    require_comparisons(pooled.pairs, data.place)
    require_place(config)
    samples = samples_of(config.samples) if config.samples else []
    tokenizer = load_tokenizer(config.model_name_or_path)
    encoder = encoder_for(config.model_name_or_path, tokenizer)
    pairs, encoded = check_pairs(encoder, pooled.pairs, data.place)
    require_same_kind(encoder, samples)
    recipe = PreferenceRecipe(
        config.model_name_or_path,
        tokenizer,
        PreferenceSettings(
            num_train_epochs=config.num_train_epochs,
            batch_size=config.per_device_train_batch_size,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            rater_noise=config.rater_noise,
        ),
        config.seed,
        config.quiet,
    )
    fitted = recipe.fit_and_test(pairs)
    require_finite([fitted.reward.model], learning_rate=config.learning_rate, weight_decay=config.weight_decay)
    tested = fitted.held_out.accuracy
    better = tested.low > 0.5
    if not better and not config.allow_weak:
        raise InputError(
            "reward model",
            got=f"held-out accuracy {tested.share:.0%} (95 % interval {tested.low:.0%} to {tested.high:.0%}, "
            f"{tested.n} decided pairs), no better than a coin",
            expected="an interval above 50 %",
            fix="compare more pairs, or insist with --allow_weak",
        )
    scores = fitted.reward([s.prompt for s in samples], [s.completion for s in samples]) if samples else []
    trust = {"accuracy_by_margin": accuracy_by_margin(fitted.held_out)}
    if samples:
        report_on_samples = trust_report(fitted.held_out, [s.text for s in samples], np.array(scores))
        trust |= {key: value for key, value in report_on_samples.items() if key not in ("ranking",)}
    report = {
        "kind": "preference",
        "base_model": name_of(config.model_name_or_path),
        "comparisons": {
            "file": data.place,
            "sha256": data.sha256,
            **pooled.report(),
            "encoding": encoded.report(),
        },
        "held_out": fitted.held_out.report(),
        "better_than_chance": better,
        "training": recipe.describe(fitted, len(pairs)),
        "normalization": (
            normalization_of(fitted.reward, samples, scores, place_of(config.samples)) if samples else None
        ),
        "trust": trust,
        "guards": [scale_guard(np.array(scores)).as_dict()] if samples else [],
        **origin(config, data, samples),
    }
    report["seconds"] = round(time.perf_counter() - begin, 2)
    return kept(fitted.reward, config, report, [*pooled.lines(), *encoded.lines()])
