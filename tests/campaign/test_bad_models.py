"""Folders of models, rewards and runs with a file gone, cut, of another model or of another shape: one line each."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from rlhf.foundation.digests import SEAL
from tests.campaign.bad_files import DEEP, LONG_NUMBER
from tests.campaign.commands import BY_NAME
from tests.campaign.told_in_one_line import Place

JSON_SHAPES = ["[]", "null", "3", '"text"', "[1, 2]", "{", DEEP, f'{{"a": {LONG_NUMBER}}}', "NaN", '{"a": 1}']
Change = Callable[[Path], object]
CHANGES: dict[str, Change] = {
    "gone": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "binary": lambda path: path.write_bytes(bytes(range(256)) * 8),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a dangling link": lambda path: (path.unlink(), path.symlink_to("nowhere")),
    "a link to itself": lambda path: (path.unlink(), path.symlink_to(path.name)),
}
SHAPES: dict[str, Change] = {
    shape[:12]: lambda path, shape=shape: path.write_text(shape)  # type: ignore[misc]
    for shape in JSON_SHAPES
}
USES = {
    "model": [BY_NAME["sample"].call(), BY_NAME["ppo"].call(), BY_NAME["reward"].call(), BY_NAME["probe"].call()],
    "rm": [
        BY_NAME["ppo"].call("reward_func", reward_model_path="rm"),
        BY_NAME["compare"].call(rewards=("rm", "length")),
        BY_NAME["inspect"].call(runs="rm"),
    ],
    "many": [BY_NAME["compare"].call(rewards=("many", "length"))],
    "pairs": [BY_NAME["compare"].call(rewards=("pairs", "length"))],
    "run": [
        BY_NAME["inspect"].call(),
        BY_NAME["evaluate"].call(),
        BY_NAME["export"].call(),
        BY_NAME["rate push"].call(),
        BY_NAME["doctor"].call(),
        BY_NAME["compare"].call("samples", run_directory="run"),
        [*BY_NAME["ppo"].call(output_dir="run"), "--resume"],
    ],
    "page": [
        BY_NAME["label status"].call("labels", output_dir="page"),
        BY_NAME["label page"].call("samples", output_dir="page", answers="answers.json"),
        BY_NAME["label page"].call(output_dir="page"),
        BY_NAME["label pull"].call(),
    ],
    "rating": [
        BY_NAME["rate pull"].call(),
        BY_NAME["rate score"].call(),
        BY_NAME["rate push"].call(output_dir="rating"),
    ],
}
FILES = {
    "model": ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"],
    "rm": ["reward_model.json", "config.json", "model.safetensors", "tokenizer.json"],
    "many": ["reward_model.json", "member-1/config.json"],
    "pairs": ["reward_model.json", "config.json", "model.safetensors"],
    "run": ["run.json", "metrics.jsonl", "ladder.json", "evaluation.json", "evaluation/heat.json",
            "samples/kl-00.00.jsonl",
            "checkpoints/kl-00.00/model.safetensors", "checkpoints/kl-00.00/config.json", "state/000002/state.json",
            "state/000002/parameters.safetensors"],
    "page": ["project.json", "tasks.jsonl"],
    "rating": ["project.json", "tasks.jsonl", "study.json", "key.jsonl", "ratings.jsonl"],
}  # fmt: skip
CASES = [(folder, file) for folder, files in FILES.items() for file in files]


@pytest.mark.campaign
@pytest.mark.parametrize(("folder", "file"), CASES, ids=lambda v: v.replace("/", "_"))
def test_a_damaged_file_of_a_folder(place: Place, folder: str, file: str) -> None:
    path = place.folder / folder / file
    assert path.exists()
    faults = []
    for name, change in {**CHANGES, **(SHAPES if ".json" in file else {})}.items():
        for words in USES[folder]:
            change(path)
            outcome = place.run(*words)
            fault = "" if outcome.status == 0 and "Traceback" not in outcome.err else outcome.fault
            if (fault and not fault.startswith("not exactly")) or "Traceback" in outcome.err:
                faults.append(f"== {name}: {fault}\n{outcome}")
            place.fill()
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    "content", ["{}", '{"auto_map": {"AutoModelForCausalLM": "mine.Mine", "AutoConfig": "mine.C"}}']
)
def test_code_of_a_model_is_not_run(place: Place, content: str) -> None:
    config = json.loads((place.folder / "model/config.json").read_text())
    (place.folder / "model/config.json").write_text(json.dumps({**config, **json.loads(content), "model_type": "mine"}))
    (place.folder / "model/mine.py").write_text("open('pwned', 'w')\n")
    for words in USES["model"]:
        place.refused(*words, says="model")
    assert not (place.folder / "pwned").exists()


def test_pickled_weights_are_not_read(place: Place) -> None:
    class Evil:
        def __reduce__(self) -> object:
            return (open, ("pwned", "w"))

    (place.folder / "model/model.safetensors").unlink()
    torch.save({"a": Evil()}, place.folder / "model/pytorch_model.bin")
    for words in USES["model"]:
        place.refused(*words, says="safetensors")
    assert not (place.folder / "pwned").exists()


def test_weights_and_tokenizers_of_another_model(place: Place) -> None:
    shutil.copy(place.folder / "other/model.safetensors", place.folder / "model/model.safetensors")
    for words in USES["model"]:
        place.refused(*words, says="model")
    place.fill()
    (place.folder / "model/model.safetensors").rename(place.folder / "model/model-00001-of-00002.safetensors")
    index = {"metadata": {}, "weight_map": {"transformer.wte.weight": "model-00002-of-00002.safetensors"}}
    (place.folder / "model/model.safetensors.index.json").write_text(json.dumps(index))
    for words in USES["model"]:
        place.refused(*words, says="model")


REWARD_FILES = [
    {"kind": "ensemble"},
    {"kind": "ensemble", "members": []},
    {"kind": "ensemble", "members": 3},
    {"kind": "ensemble", "members": ["nowhere"]},
    {"kind": "token"},
    {"kind": "token", "target": "neutral"},
    {"kind": ["token"]},
    {"kind": "preference"},
    {"kind": None},
]
NORMALIZATIONS = [
    3, "text", [], {}, {"offset": 0.0, "scale": 0.0}, {"offset": "0", "scale": 1.0}, {"offset": 0.0, "scale": -1.0},
    {"offset": float("nan"), "scale": 1.0}, {"offset": 0.0, "scale": float("inf")}, {"offset": None, "scale": None},
]  # fmt: skip


@pytest.mark.parametrize("content", REWARD_FILES, ids=str)
def test_reward_files_of_another_shape(place: Place, content: dict[str, object]) -> None:
    (place.folder / "rm/reward_model.json").write_text(json.dumps(content))
    for words in USES["rm"]:
        place.refused(*words, says="rm")


@pytest.mark.parametrize("changed", NORMALIZATIONS, ids=str)
def test_normalisations_of_another_shape(place: Place, changed: object) -> None:
    path = place.folder / "rm/reward_model.json"
    report = json.loads(path.read_text())
    before = report["normalization"]
    report["normalization"] = {**before, **changed} if isinstance(changed, dict) and changed else changed
    del report[SEAL]  # as one that a person wrote; a changed one is refused for its seal
    path.write_text(json.dumps(report))
    for words in USES["rm"][:2]:
        line = place.refused(*words, says="rm/reward_model.json: got ")
        assert "got normalization" in line or "; expected two finite numbers, the scale above 0" in line


@pytest.mark.parametrize("members", [[], 3, None, ["nowhere"], [5]], ids=str)
def test_an_ensemble_without_its_members(place: Place, members: object) -> None:
    path = place.folder / "many/reward_model.json"
    report = json.loads(path.read_text())
    del report[SEAL]
    path.write_text(json.dumps({**report, "members": members}))
    for words in (*USES["many"], BY_NAME["ppo"].call("reward_func", reward_model_path="many")):
        place.refused(*words, says=["many/reward_model.json: got members", "the directories of its members"])


def test_a_reward_file_that_was_changed(place: Place) -> None:
    path = place.folder / "rm/reward_model.json"
    path.write_text(path.read_text().replace('"scale": ', '"scale": 1', 1))
    for words in USES["rm"]:
        place.refused(*words, says="rm/reward_model.json: got contents that changed")
