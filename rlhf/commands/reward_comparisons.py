"""`rlhf reward --comparisons`: the comparison reward model, tested on held-out pairs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from rlhf.foundation.errors import InputError
from rlhf.foundation.records import read_samples
from rlhf.foundation.terminal import shown

if TYPE_CHECKING:
    from rlhf.commands.reward import RewardConfig, RewardResult
    from rlhf.commands.reward_data import RewardData


def run_comparisons(config: RewardConfig, data: RewardData) -> RewardResult:
    """Fit, test and save as configured. Raises InputError on unusable input and on a model no better than chance."""
    import numpy as np

    from rewards.encoding_check import check_pairs, require_same_kind
    from rewards.guards import scale_guard
    from rewards.preference_model import encoder_for
    from rewards.preference_pooling import pool_preferences
    from rewards.preference_recipe import PreferenceRecipe
    from rewards.preference_training import PreferenceSettings
    from rewards.preferences import require_comparisons
    from rewards.trust import accuracy_by_margin, trust_report
    from rlhf.commands.reward import RewardResult, normalization, require_free
    from rlhf.commands.reward_origin import origin
    from rlhf.foundation.causal_lm import require_finite
    from rlhf.foundation.model_directory import load_tokenizer

    begin = time.perf_counter()
    config.require_for_comparisons()
    pooled = pool_preferences(data.answers, config.pooling, data.place)
    require_comparisons(pooled.pairs, data.place)
    require_free(config)
    samples = read_samples(Path(config.samples)) if config.samples else []
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
        "base_model": config.model_name_or_path,
        "comparisons": {
            "file": data.place,
            "sha256": data.sha256,
            **pooled.report(),
            "encoding": encoded.report(),
        },
        "held_out": fitted.held_out.report(),
        "better_than_chance": better,
        "training": recipe.describe(fitted, len(pairs)),
        "normalization": normalization(fitted.reward, samples, scores, config.samples) if samples else None,
        "trust": trust,
        "guards": [scale_guard(np.array(scores)).as_dict()] if samples else [],
        **origin(config, data, samples),
    }
    report["seconds"] = round(time.perf_counter() - begin, 2)
    directory = fitted.reward.save(Path(config.output_dir), report)
    return RewardResult(fitted.reward, directory, fitted.reward.report, [*pooled.lines(), *encoded.lines()])


def summary_of_comparisons(result: RewardResult) -> str:
    """A few lines for the terminal."""
    report = result.report
    data, tested = report["comparisons"], report["held_out"]["accuracy"]
    lines = [
        f"{data['counted']} answers on {data['pairs']} pairs, {data['undecided']} undecided (soft 1/2)",
        *result.pooling,
        f"held-out accuracy {tested['share']:.1%} (95 % interval {tested['low']:.1%} to {tested['high']:.1%}, "
        f"n = {tested['n']} decided pairs)",
    ]
    if not report["better_than_chance"]:
        lines.append("WEAK: no better than chance, kept because of --allow_weak")
    if report["normalization"]:
        constants = report["normalization"]
        lines.append(
            f"score on base samples: {constants['offset']:.3f} ± {constants['offset_se']:.3f}, "
            f"standard deviation {constants['scale']:.3f} (n = {constants['n']})"
        )
    lines += [f"guard failed: {guard['name']}: {guard['says']}" for guard in report["guards"] if not guard["passed"]]
    return "\n".join([*lines, f"{shown(result.directory)}, {report['seconds']:.1f} s"])
