"""From options to stages: what is made once and for whom, and the cells. A stage's key is the digest of what it is
made from, options and the keys of other stages, so a product is made again when, and only when, its own inputs change.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rewards.steps.reward_config import RewardConfig
from rlhf.foundation.digests import file_digest, value_digest
from rlhf.foundation.errors import InputError
from rlhf.foundation.options import check_pattern
from rlhf.foundation.recipes import read_config
from rlhf.language_model.pretrain_config import PretrainConfig
from rlhf.methods.config import OFFLINE, ONLY_OF, AlignConfig
from rlhf.ppo.finetune import PPOCommandConfig
from rlhf.studies.config import OF_PPO, StudyConfig, factor, of_stage

KINDS = ("model", "pool", "labels", "reward", "cell")  # each needs only those before it
UNNAMED: dict[str, Any] = {"model_name_or_path": "-", "reward_model_path": ["-"], "output_dir": "-"}
WITHOUT = ("output_dir", "quiet", "resume", "overwrite", "accept_changes")  # decides nothing of a result
UNCONDITIONAL = 2048  # unlabelled samples that fix the reward's constants, where the recipe says nothing


@dataclass(frozen=True)
class Stage:
    """A piece of work: its options as given and as resolved, the stages whose products it reads, by role."""

    kind: str
    options: dict[str, Any]
    resolved: dict[str, Any]
    needs: dict[str, Stage] = field(default_factory=dict)
    name: str = ""  # of a cell: its factors
    values: dict[str, Any] = field(default_factory=dict)  # of a cell: what varies

    @property
    def key(self) -> str:
        """Twelve hexadecimal digits, of the options as given: one that a later version adds changes nothing."""
        kept = {name: self.resolved.get(name, value) for name, value in self.options.items() if name not in WITHOUT}
        return value_digest([self.kind, kept, {role: one.key for role, one in self.needs.items()}])[-12:]

    @property
    def place(self) -> str:
        """Its directory in the study's."""
        return f"cells/{self.name}.{self.key[:8]}" if self.kind == "cell" else f"shared/{self.kind}-{self.key}"


def plan(config: StudyConfig) -> list[Stage]:
    """Every stage once, in an order in which each finds what it needs; the cells last. Raises InputError."""
    cells = [_cell(config, values, seed) for values in _grid(config) for seed in config.seeds]
    found: dict[str, Stage] = {}
    for cell in cells:
        _collect(cell, found)
    return sorted(found.values(), key=lambda stage: KINDS.index(stage.kind))


def _collect(stage: Stage, found: dict[str, Stage]) -> None:
    for one in stage.needs.values():
        _collect(one, found)
    found.setdefault(stage.place, stage)


def _grid(config: StudyConfig) -> list[dict[str, Any]]:
    factors = config.factors()
    return [
        dict(zip([one.name for one in factors], values, strict=True))
        for values in itertools.product(*(one.values for one in factors))
    ]


def _cell(config: StudyConfig, values: dict[str, Any], seed: int) -> Stage:
    given = {one.name: one.values[0] for one in (factor(line, "--fixed") for line in config.fixed)} | values
    told = list(given.items())
    model = _model(config, of_stage(told, "model"))
    ppo = read_config(config.ppo_recipe) | of_stage(told, "ppo") | {"seed": seed}
    method = str(given.get("method", "ppo"))
    ppo |= {"critic": "shared"} if method == "ppo_critic" else {}
    resolved = PPOCommandConfig(**ppo, **UNNAMED).recorded()
    needs = {"model": model, "reward": _reward(config, told, given, model, resolved, seed)}
    options = ppo
    if config.watch and method in OF_PPO:
        needs["watched"] = _reward(config, told, given, model, resolved, seed, part=1)
        options = ppo | {"reward_weights": [1.0, 0.0]}
    if method not in OF_PPO:
        options = read_config(config.align_recipe) | of_stage(told, "align") | {"seed": seed, "method": method}
        options["max_completion_length"] = resolved["max_completion_length"]
        options = {k: v for k, v in options.items() if k not in ONLY_OF or method in ONLY_OF[k]}
        learns: dict[str, Any] = {"labels": "-"} if method in OFFLINE else {}
        resolved = AlignConfig(**options, **learns, **UNNAMED).recorded()
    return Stage("cell", options, resolved, needs, _name(values, seed), {**values, "seed": seed})


def _name(values: dict[str, Any], seed: int) -> str:
    parts = [f"{name}-{value}" for name, value in {**values, "seed": seed}.items()]
    return re.sub(r"[^\w.+-]", "_", "_".join(parts))[:150]


def _model(config: StudyConfig, options: dict[str, Any]) -> Stage:
    given = {"corpus": config.corpus, "seed": config.model_seed, **options}
    resolved = PretrainConfig(**given, output_dir="-").recorded()
    if config.corpus != "embedded":
        resolved["corpus"] = file_digest(Path(config.corpus))
    return Stage("model", given, resolved)


def _reward(
    config: StudyConfig,
    told: list[tuple[str, Any]],
    given: dict[str, Any],
    model: Stage,
    ppo: dict[str, Any],
    seed: int,
    part: int = 0,
) -> Stage:
    """A reward model; `part` 1 is of the next as many labels."""
    unlabelled, length = ppo.get("normalization_samples", UNCONDITIONAL), ppo["max_completion_length"]
    drawn = {"labelled": config.num_samples, "unlabelled": unlabelled, "length": length, "seed": config.model_seed}
    pool = Stage("pool", drawn, drawn, {"model": model})
    chosen = {"number": given.get("num_labels", config.num_samples), "noise": given.get("noise", 0.0), "seed": seed}
    chosen |= ({"part": part} if part else {}) | ({"misread": given["misread"]} if "misread" in given else {})
    require_labels(chosen, config.num_samples)
    labels = Stage("labels", chosen, chosen | {"gold": config.corpus == "embedded"}, {"pool": pool})
    options = read_config(config.reward_recipe) | {"allow_weak": True} | of_stage(told, "reward") | {"seed": seed}
    resolved = RewardConfig(**options, model_name_or_path="-", labels="-", samples="-", output_dir="-").recorded()
    other = of_stage(told, "reward_base")
    base = _model(config, other) if other else model
    return Stage("reward", options, resolved, {"base": base, "pool": pool, "labels": labels})


def require_labels(chosen: dict[str, Any], there: int) -> None:
    """Raise InputError where so many labels, such a share of wrong ones, or what is misread cannot be."""
    number, noise, parts = chosen["number"], chosen["noise"], 1 + chosen.get("part", 0)
    if not isinstance(number, int) or not 20 <= number <= there // parts:
        fix = "raise --num_samples or lower num_labels"
        most = f"--num_samples, {there}" if parts == 1 else f"half of --num_samples with --watch, {there // 2}"
        raise InputError("num_labels", got=number, expected=f"20 to {most}", fix=fix)
    if isinstance(noise, bool) or not isinstance(noise, (int, float)) or not 0 <= noise < 1:
        raise InputError("noise", got=noise, expected="0 to less than 1", fix="choose another value")
    check_pattern("misread", chosen.get("misread"))
