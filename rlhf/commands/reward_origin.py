"""What reward_model.json says of its origin: options, files, lineage, versions and hardware."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlhf.foundation.records import Sample

if TYPE_CHECKING:
    from rewards.lineage import Judged
    from rlhf.commands.reward import RewardConfig
    from rlhf.commands.reward_data import RewardData


def origin(config: RewardConfig, data: RewardData, samples: list[Sample]) -> dict[str, Any]:
    """`config`, `paths`, `lineage`, versions, revision and hardware of a reward model that is being made.

    Raises InputError for a file of --labelled_samples that cannot be read.
    """
    from rewards.lineage import base_model, labelled, normalization_samples
    from rlhf.foundation.host import host_facts
    from rlhf.ppo.run_paths import STAGE_PATHS, recorded_paths

    raters = [label.annotator for label in data.labels] + [answer.annotator for answer in data.answers]
    judged: list[Judged] = [(label.prompt, label.completion) for label in data.labels]
    judged += [(pair.prompt, text) for pair in data.answers for text in (pair.first, pair.second)]
    looked_in = [Path(name) for name in config.labelled_samples]
    return {
        "config": asdict(config),
        "paths": recorded_paths(asdict(config), Path(config.output_dir), STAGE_PATHS),
        "lineage": {
            "base_model": base_model(config.model_name_or_path),
            "labels": labelled(data.place, data.sha256, raters, judged, looked_in),
            "samples": normalization_samples(config.samples, samples) if config.samples else None,
        },
        **host_facts(),
    }
