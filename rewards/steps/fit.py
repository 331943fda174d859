"""`rewards.fit`: a reward model from labels or comparisons, tested on what it has not seen, refused if it is weak."""

from __future__ import annotations

from rewards.steps.reward_config import FittedReward, RewardConfig
from rewards.steps.reward_data import load_reward_data
from rlhf.foundation.locks import sole_writer
from rlhf.foundation.model_names import require_names
from rlhf.foundation.steps import step


@step(RewardConfig)
def fit(config: RewardConfig) -> FittedReward:
    """A reward model fitted to labels or comparisons and tested on what it has not seen.

    Of labels P(positive) is read off one token of the language model, of comparisons a score on it
    (docs/reward_models.md). Raises InputError on unusable input, on a model no better than chance, and when another
    command writes into `output_dir`.
    """
    with sole_writer(config.output_dir):
        require_names(config.model_name_or_path)
        data = load_reward_data(config, quiet=config.quiet)
        if data.is_comparisons:
            from rewards.steps.fit_comparisons import fit_to_comparisons

            return fit_to_comparisons(config, data)
        from rewards.steps.fit_labels import fit_to_labels

        return fit_to_labels(config, data)
