"""What the README says is what the project does: commands run, the tree and the metrics table are the real ones."""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import rlhf
from rlhf.cli import COMMANDS
from rlhf.foundation.recipes import RECIPES, recipe_names
from rlhf.runs.metrics import markdown_table
from tests.labeling.browser import chromium_browser

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RLHF = [sys.executable, "-m", "rlhf.cli"]


def block(name: str) -> str:
    """The fenced block that follows `<!-- name -->`."""
    found = re.search(rf"<!-- {name} -->\n```\w*\n(.*?)```", README, re.DOTALL)
    assert found, f"README has no block {name}"
    return found.group(1)


def commands(name: str) -> list[list[str]]:
    """The commands of a block, continued lines joined, comments dropped."""
    lines = block(name).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.strip() and not line.startswith("#")]


@pytest.mark.slow
def test_the_loop_runs_as_the_readme_has_it(tmp_path: Path) -> None:
    for command in commands("loop"):
        assert command[0] == "rlhf", command
        done = subprocess.run([*RLHF, *command[1:]], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}\n{done.stderr}"
    assert (tmp_path / "runs" / "ppo" / "report.html").stat().st_size > 100_000


@pytest.mark.real
@pytest.mark.slow
def test_the_inspection_runs_as_the_readme_has_it(chromium: str, tmp_path: Path) -> None:
    def rlhf_runs(*words: str) -> str:
        done = subprocess.run([*RLHF, *words], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    rlhf_runs("pretrain", "--output_dir", "runs/model", "--max_steps", "60", "--hidden_size", "32", "--quiet")
    small = "--iteration_batch_size 256 --kl_budget 0.5 --max_completion_length 12 --num_eval_samples 64 --quiet"
    rlhf_runs("ppo", "--model_name_or_path", "runs/model", "--reward_func", "full_stop", "--learning_rate", "1e-3",
              "--output_dir", "runs/ppo", *small.split())  # fmt: skip
    said = {}
    for command in commands("inspection"):
        assert command[0] == "rlhf", command
        if command[1:3] == ["rate", "pull"]:
            fill_page(chromium, tmp_path / "runs" / "rating" / "label.html", tmp_path / "answers.json")
        said[" ".join(command[1:3])] = rlhf_runs(*command[1:])
    assert "against the original" in said["rate score"]
    assert (tmp_path / "runs" / "chosen" / "README.md").exists()
    assert (tmp_path / "runs" / "ppo" / "report.html").exists()


def fill_page(chromium: str, page_path: Path, answers: Path) -> None:
    """Rate every text of an offline page by keyboard, as one person, and save the file."""
    with chromium_browser(chromium) as browser:
        context = browser.new_context(accept_downloads=True)
        page = context.new_page()
        page.goto(page_path.as_uri())
        for number in range(40):
            page.wait_for_selector(".text")
            page.keyboard.press(str(1 + number % 5))
        page.fill("#name", "Ana")
        with page.expect_download() as download:
            page.click("#send")
        download.value.save_as(answers)


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_help(name: str) -> None:
    done = subprocess.run([*RLHF, name, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert name in done.stdout


def test_every_recipe_is_a_mapping_and_named_in_the_readme() -> None:
    for name in recipe_names():
        assert isinstance(yaml.safe_load((RECIPES / f"{name}.yaml").read_text()), dict)
        assert f"`{name}`" in README, name


@pytest.mark.parametrize("name", ["demo", "chapter7", "full_stop", "gpt2_full_stop"])
def test_ppo_recipes_parse(name: str, tmp_path: Path) -> None:
    from rlhf.commands.command_line import parse
    from rlhf.ppo.finetune import PPOCommandConfig

    required = ["--output_dir", str(tmp_path / "run")]
    if name != "gpt2_full_stop":
        required += ["--model_name_or_path", "x"]
    if "full_stop" not in name:
        required += ["--reward_func", "full_stop"]
    config = parse(PPOCommandConfig, ["--config", name, *required], prog="rlhf ppo", description="")
    assert config.kl_budget == 10.0


def test_the_metrics_table_is_the_dictionary_s() -> None:
    assert markdown_table() in README


def test_the_tree_is_the_files() -> None:
    listed = {line.split("  ")[0].strip() for line in block("tree").splitlines() if line.strip()}
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    packages = {path for path in tracked if path.split("/")[0] in ("rlhf", "rewards", "labeling")}
    python = {path for path in packages if path.endswith(".py") and not path.endswith("__init__.py")}
    assert python - listed == set(), "files without a line in the README's tree"
    assert {path for path in listed if path.endswith(".py")} - python == set(), "lines without a file"


@pytest.mark.slow
def test_the_page_for_trl_users_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rlhf.cli import main

    page = (ROOT / "docs" / "from_trl_ppo.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert code
    monkeypatch.chdir(tmp_path)
    assert main(["pretrain", "--output_dir", "runs/model", "--max_steps", "5", "--quiet"]) == 0
    exec(compile(code.group(1), "from_trl_ppo.md", "exec"), {})
    assert (tmp_path / "runs" / "sentiment" / "ladder.json").exists()


def test_options_that_the_page_for_trl_users_names_exist() -> None:
    from rlhf.ppo.finetune import PPOCommandConfig

    page = (ROOT / "docs" / "from_trl_ppo.md").read_text(encoding="utf-8")
    cells = [line.split("|")[2] for line in page.split("## Metrics")[0].splitlines() if line.startswith("| `")]
    named = {name.removeprefix("--") for cell in cells for name in re.findall(r"`([\w-]+)`", cell)}
    assert len(named) > 20
    assert named - set(PPOCommandConfig.__dataclass_fields__) == {"peft_config"}  # an argument of the trainer


def test_exported_names_can_be_imported() -> None:
    for name in rlhf.__all__:
        assert getattr(importlib.import_module("rlhf"), name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = rlhf.nonsense
