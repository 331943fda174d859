"""Every option of every command, in Python as on the command line: another type or an impossible value is one line."""

from __future__ import annotations

import dataclasses
import importlib
import math
import pkgutil
import typing
from pathlib import Path
from typing import Any

import pytest

import rlhf.commands
from rlhf.commands.command_line import parse
from rlhf.foundation.errors import InputError
from rlhf.foundation.options import Expected, Options
from rlhf.language_model.pretrain_config import PretrainConfig
from rlhf.ppo.config import PPOConfig
from rlhf.ppo.finetune import PPOCommandConfig
from rlhf.sampling import SampleConfig

for module in pkgutil.walk_packages(rlhf.commands.__path__, "rlhf.commands."):
    importlib.import_module(module.name)


def subclasses(kind: type) -> list[type[Any]]:
    found = [kind for one in kind.__subclasses__() for kind in (one, *subclasses(one))]
    return [one for one in found if dataclasses.is_dataclass(one)]


# What each command needs at least.
NEEDED: dict[str, dict[str, Any]] = {
    "PPOConfig": {"output_dir": "run"},
    "PPOCommandConfig": {"output_dir": "run", "model_name_or_path": "m", "reward_func": ["full_stop"]},
    "AlignConfig": {
        "method": "grpo",
        "output_dir": "run",
        "model_name_or_path": "m",
        "reward_func": ["full_stop"],
    },
    "AnnotateConfig": {"output_dir": "folder"},
    "CompareConfig": {"rewards": ["a", "b"], "samples": ["s"]},
    "DataOptions": {"labels": "l"},
    "DoctorConfig": {"run_directory": "run"},
    "EvaluateConfig": {"run": "run"},
    "ExportConfig": {"run": "run", "rung": "kl-01.00", "output_dir": "out"},
    "LoopConfig": {"model_name_or_path": "m"},
    "PlanConfig": {"model_name_or_path": "m"},
    "PretrainConfig": {"output_dir": "model"},
    "ImportConfig": {"input": "a.csv", "output": "labels.jsonl"},
    "InspectConfig": {"runs": ["run"]},
    "PageConfig": {"output_dir": "folder", "samples": "samples.jsonl"},
    "ProbeConfig": {"reward": "full_stop", "samples": "s", "model_name_or_path": "m"},
    "PullConfig": {"output_dir": "folder"},
    "PushConfig": {"output_dir": "folder", "samples": "samples.jsonl"},
    "RateJudgeConfig": {"samples": ["a", "b"], "url": "http://127.0.0.1:9/v1", "model": "m"},
    "RatePlanConfig": {},
    "RatePullConfig": {"output_dir": "folder"},
    "RatePushConfig": {"run": "run", "output_dir": "folder", "rung": "kl-01.00"},
    "RateScoreConfig": {"output_dir": "folder"},
    "ReproduceConfig": {"run": "run"},
    "RewardConfig": {"labels": "l", "model_name_or_path": "m", "output_dir": "r"},
    "SampleConfig": {"model_name_or_path": "m"},
    "SimulateConfig": {"samples": "s", "output": "o"},
    "StatusConfig": {"output_dir": "folder"},
    "TaskConfig": {"output_dir": "folder", "samples": "samples.jsonl"},
}
WRONG: dict[type, list[Any]] = {
    bool: ["yes", 1, 0.0],
    int: ["3", 3.0, True, 2**70, math.nan],
    float: ["3", True, math.inf, -math.inf, math.nan, 10**400],
    str: [3, True, ["a"], "a\0b"],
}
CONFIGS = {kind.__name__: kind for kind in subclasses(Options)}
FIELDS = [(name, field.name) for name, kind in CONFIGS.items() for field in dataclasses.fields(kind)]


def test_every_command_is_here() -> None:
    assert {PretrainConfig, PPOConfig, PPOCommandConfig} <= set(CONFIGS.values())
    assert len(CONFIGS) >= 25
    for name, kind in CONFIGS.items():
        kind(**NEEDED.get(name, {}))


@pytest.mark.parametrize("name", CONFIGS)
def test_every_command_can_be_quiet(name: str) -> None:
    assert not CONFIGS[name](**NEEDED.get(name, {})).quiet
    assert CONFIGS[name](**NEEDED.get(name, {}), quiet=True).quiet


@pytest.mark.parametrize(("name", "field"), FIELDS, ids=lambda value: value)
def test_another_type_is_one_line(name: str, field: str) -> None:
    kind = CONFIGS[name]
    expected = Expected.of(typing.get_type_hints(kind)[field], None)
    for value in WRONG[expected.item]:
        if value == ["a"] and "Sequence[str]" in str(typing.get_type_hints(kind)[field]):
            continue  # a list of texts is what may stand there
        value = [value] if expected.several else value
        with pytest.raises(InputError) as caught:
            kind(**{**NEEDED.get(name, {}), field: value})
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith(f"--{field}: got ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_scope": "last"}, "--train_scope: got 'last'; expected all or last_layer"),
        ({"dtype": "bfloat17"}, "--dtype: got 'bfloat17'; expected float32, float64 or bfloat16"),
        ({"max_iterations": "1"}, "--max_iterations: got '1'; expected a whole number"),
        ({"iteration_batch_size": 32.0}, "--iteration_batch_size: got 32.0; expected a whole number"),
        ({"kl_budget": math.inf}, "--kl_budget: got inf; expected a finite number"),
        ({"reward_weights": [1.0, math.nan]}, "--reward_weights: got .1.0, nan.; expected a list, each item a finite"),
        ({"kl_target": "low"}, "--kl_target: got 'low'; expected a finite number or nothing"),
    ],
)
def test_choices_and_types_are_checked_without_a_parser(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PPOConfig(output_dir="run", **options)


def test_what_python_users_give_is_taken() -> None:
    config = PPOConfig(output_dir=Path("runs") / "a", report_to="none", learning_rate=1, suppress_tokens=(3, 4))  # type: ignore[arg-type]
    assert (config.output_dir, config.report_to, config.learning_rate) == ("runs/a", [], 1)
    assert config.suppress_tokens == [3, 4]
    assert PPOConfig(output_dir="a", report_to=["tensorboard"]).report_to == ["tensorboard"]


def test_a_new_line_that_is_typed_is_one(tmp_path: Path) -> None:
    """A shell hands backslash and n over as they stand; Python and YAML have new lines of their own."""
    words = ["--model_name_or_path", "m"]
    typed = parse(SampleConfig, [*words, "--stop_strings", r"\n\n", r"\nQ:\t", r"\\nabla"], prog="", description="")
    assert typed.stop_strings == ["\n\n", "\nQ:\t", r"\nabla"]
    assert SampleConfig("m", stop_strings=r"\n").stop_strings == [r"\n"]
    (tmp_path / "a.yaml").write_text(r'stop_strings: ["\n", "\\nabla"]')
    of_file = parse(SampleConfig, [*words, "--config", str(tmp_path / "a.yaml")], prog="", description="")
    assert of_file.stop_strings == ["\n", r"\nabla"]
