"""What reward_model.json says of its origin: options, files, lineage, versions and hardware."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlhf.foundation.held import place_of
from rlhf.foundation.records import Sample

if TYPE_CHECKING:
    from rewards.lineage import Judged
    from rewards.steps.reward_config import RewardConfig
    from rewards.steps.reward_data import RewardData


def origin(config: RewardConfig, data: RewardData, samples: Sequence[Sample]) -> dict[str, Any]:
    """`config`, `paths`, `lineage`, versions, revision and hardware of a reward model that is being made.

    Raises InputError for a file of --labelled_samples that cannot be read.
    """
    from rewards.lineage import base_model, labelled, normalization_samples
    from rlhf.foundation.host import host_facts
    from rlhf.foundation.recorded_paths import STAGE_PATHS, recorded_paths

    raters = [label.annotator for label in data.labels] + [answer.annotator for answer in data.answers]
    judged: list[Judged] = [(label.prompt, label.completion) for label in data.labels]
    judged += [(pair.prompt, text) for pair in data.answers for text in (pair.first, pair.second)]
    options = config.recorded()
    in_memory = not isinstance(config.labels or config.comparisons or "", str)
    return {
        "config": options,
        "paths": recorded_paths(options, Path(config.output_dir), STAGE_PATHS) if config.output_dir else {},
        "lineage": {
            "base_model": base_model(config.model_name_or_path),
            "labels": labelled(data.place, data.sha256, raters, judged, config.labelled_samples, beside=not in_memory),
            "samples": normalization_samples(place_of(config.samples), samples) if config.samples else None,
        },
        **host_facts(),
    }
