"""What the README says is what the project does: its Python runs, every command has help, every recipe parses."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import rlhf
from rlhf.cli import COMMANDS
from rlhf.foundation.recipes import RECIPES, recipe_names
from tests.pages import block

ROOT = Path(__file__).parents[1]
RLHF = [sys.executable, "-m", "rlhf.cli"]


LESS = {
    'output_dir="run"': 'output_dir="run", max_iterations=2, num_eval_samples=64',
    'gold_reward_func="gold"': 'gold_reward_func="gold", num_samples=64, best_of_n_samples=0',
}


@pytest.mark.slow
@pytest.mark.parametrize("whole", [pytest.param(True, marks=pytest.mark.long), False], ids=["whole", "less work"])
def test_the_library_s_lines_run_as_the_readme_has_them(
    whole: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code = block("README.md", "library").code
    for full, less in LESS.items():
        assert full in code
        code = code if whole else code.replace(full, less)
    exec(compile(code, "README.md", "exec"), {})
    assert (tmp_path / "run" / "evaluation.json").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_the_library_s_lines_are_those_of_the_docstring() -> None:
    shown = block("README.md", "library").code.split("\n\n", 1)[1].strip().splitlines()
    said = [line.strip() for line in (rlhf.__doc__ or "").split("\n\n")[1].splitlines()]
    assert shown == said


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_help(name: str) -> None:
    done = subprocess.run([*RLHF, name, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert name in done.stdout


def test_every_recipe_is_a_mapping() -> None:
    for name in recipe_names():
        assert isinstance(yaml.safe_load((RECIPES / f"{name}.yaml").read_text()), dict)


@pytest.mark.parametrize("name", ["demo", "chapter7", "full_stop", "gpt2_full_stop", "frontier"])
def test_ppo_recipes_parse(name: str, tmp_path: Path) -> None:
    from rlhf.commands.command_line import parse
    from rlhf.ppo.finetune import PPOCommandConfig

    required = ["--output_dir", str(tmp_path / "run")]
    if name != "gpt2_full_stop":
        required += ["--model_name_or_path", "x"]
    if "full_stop" not in name:
        required += ["--reward_func", "full_stop"]
    config = parse(PPOCommandConfig, ["--config", name, *required], prog="rlhf ppo", description="")
    assert config.kl_budget == (4.2 if name == "frontier" else 10.0)


def test_exported_names_can_be_imported() -> None:
    for name in rlhf.__all__:
        assert getattr(importlib.import_module("rlhf"), name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = rlhf.nonsense
