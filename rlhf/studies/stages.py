"""What each stage of a study does, and whether it is done. A stage that was interrupted goes on or is made again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rlhf.foundation.files import read_object
from rlhf.foundation.records import Sample, read_samples, write_records
from rlhf.studies.plan import Stage

PRODUCTS = {
    "model": "pretrain.json",
    "pool": "unlabelled.jsonl",
    "labels": "labels.jsonl",
    "reward": "reward_model.json",
    "cell": "evaluation.json",
}


def is_done(root: Path, stage: Stage) -> bool:
    """Whether its product stands whole: products appear by a rename, and a cell is done when it is evaluated."""
    place = root / stage.place
    return (stage.kind != "cell" or _finished(place)) and (place / PRODUCTS[stage.kind]).exists()


def _finished(place: Path) -> bool:
    return (place / "run.json").exists() and read_object(place / "run.json").get("status") == "finished"


def do(root: Path, stage: Stage, *, quiet: bool = True) -> None:
    """Make what the stage makes. Raises InputError."""
    DEEDS[stage.kind](root, stage, quiet)


def _model(root: Path, stage: Stage, quiet: bool) -> None:
    from rlhf.language_model.pretrain import pretrain

    (root / "shared").mkdir(parents=True, exist_ok=True)
    pretrain(**stage.options, output_dir=str(root / stage.place), quiet=quiet)


def _pool(root: Path, stage: Stage, quiet: bool) -> None:
    from rlhf.foundation.model_directory import load_causal_lm, load_tokenizer
    from rlhf.language_model.sampler import sample_texts

    model, place, told = str(root / stage.needs["model"].place), root / stage.place, stage.options
    samples = sample_texts(
        load_causal_lm(model), load_tokenizer(model), [""] * (told["labelled"] + told["unlabelled"]),
        max_new_tokens=told["length"], seed=told["seed"], source=stage.needs["model"].place, quiet=quiet,
    )  # fmt: skip
    place.mkdir(parents=True, exist_ok=True)
    write_records(place / "samples.jsonl", samples[: told["labelled"]])
    write_records(place / "unlabelled.jsonl", samples[told["labelled"] :])


def _labels(root: Path, stage: Stage, quiet: bool) -> None:
    """Of a seed the fewer labels are the first of the more: numbers of labels differ in nothing else."""
    from labeling.steps.simulate import simulate

    place, told = root / stage.place, stage.options
    samples = read_samples(root / stage.needs["pool"].place / "samples.jsonl")
    first, number = told.get("part", 0) * told["number"], told["number"]
    order = np.random.default_rng(told["seed"]).permutation(len(samples))[first : first + number]
    place.mkdir(parents=True, exist_ok=True)
    write_records(place / "samples.jsonl", [samples[i] for i in order])
    gold: Literal["embedded", "lexicon"] = "embedded" if stage.resolved["gold"] else "lexicon"
    texts, output = str(place / "samples.jsonl"), str(place / "labels.jsonl")
    how = {"noise": [told["noise"]], "misread": told.get("misread"), "seed": told["seed"]}
    simulate(samples=texts, output=output, gold=gold, **how, quiet=quiet)


def _reward(root: Path, stage: Stage, quiet: bool) -> None:
    from rewards.steps.fit import fit

    places = {role: root / one.place for role, one in stage.needs.items()}
    fit(
        **stage.options, model_name_or_path=str(places["base"]), labels=str(places["labels"] / "labels.jsonl"),
        samples=str(places["pool"] / "unlabelled.jsonl"), output_dir=str(root / stage.place), quiet=quiet,
    )  # fmt: skip


# Options of a cell whose samples of the original are not those of the pool, or are paid otherwise.
POOL_IS_OTHER = (
    "temperature", "suppress_tokens", "stop_strings", "missing_eos_penalty", "overlong_buffer_length",
    "prompt", "prompts", "eval_prompts", "dataset_name",
)  # fmt: skip


def _cell(root: Path, stage: Stage, quiet: bool) -> None:
    from rewards.gold import GoldRule
    from rlhf.inspection.evaluation import evaluate_run
    from rlhf.language_model.corpus import read_corpus
    from rlhf.ppo.finetune import PPOCommandConfig, finetune

    place, corpus = root / stage.place, stage.needs["model"].options["corpus"]
    given: dict[str, Any] = {"model_name_or_path": str(root / stage.needs["model"].place), "output_dir": str(place)}
    rewards = [stage.needs[role] for role in ("reward", "watched") if role in stage.needs]
    given |= {"reward_model_path": [str(root / one.place) for one in rewards]}
    if not _finished(place) and "method" in stage.options:
        _align(root, stage, given, quiet)
    elif not _finished(place):
        finetune.run(PPOCommandConfig(**stage.options, **given, resume=place.is_dir(), quiet=quiet))
    gold = GoldRule(check_lines=corpus == "embedded")
    text = "\n\n".join(read_corpus(corpus))
    evaluate_run(place, {gold.__name__: gold}, corpus=text, pool=_scored_pool(root, stage))


def _scored_pool(root: Path, stage: Stage) -> list[Sample] | None:
    """The original's unlabelled samples, drawn once for all cells, with the cell's reward: for best-of-n and the
    frontier. None where the cell samples or pays otherwise; its own samples of the original stand for them then."""
    from rewards.loading import load_rewards
    from rlhf.inspection.scoring import score_one

    if any(stage.options.get(name) for name in POOL_IS_OTHER if (name, stage.options.get(name)) != ("temperature", 1)):
        return None
    reward = stage.needs["reward"]
    rows = read_samples(root / reward.needs["pool"].place / "unlabelled.jsonl")
    (function,) = load_rewards([str(root / reward.place)], [])
    return [replace(row, reward=score) for row, score in zip(rows, score_one("proxy", function, rows), strict=True)]


def _align(root: Path, stage: Stage, given: dict[str, Any], quiet: bool) -> None:
    """A cell of another method than PPO, from the labels that the reward model was fitted to."""
    from rlhf.methods.align import align
    from rlhf.methods.config import OFFLINE

    labels = root / stage.needs["reward"].needs["labels"].place / "labels.jsonl"
    learns: dict[str, Any] = {"labels": str(labels)} if stage.options["method"] in OFFLINE else {}
    begun = (Path(given["output_dir"]) / "run.json").exists()
    align(**stage.options, **learns, **given, overwrite=begun, quiet=quiet)


DEEDS: dict[str, Callable[[Path, Stage, bool], None]] = {
    "model": _model, "pool": _pool, "labels": _labels, "reward": _reward, "cell": _cell,
}  # fmt: skip
