"""What the pages say is what the project does: their commands and their Python run, in order, as a reader would."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from rlhf.foundation.recipes import RECIPES, recipe_names
from tests.labeling.browser import chromium_browser
from tests.pages import ROOT, blocks, commands, pages, run

# Pages whose code needs more than a folder with a demo's files in it; their tests are elsewhere.
OWN = "tests/rlhf/ppo/test_own_model.py"
ELSEWHERE = {"docs/labeling.md": "tests/labeling/test_docs.py", "docs/own_model.md": OWN, "docs/own_loop.md": OWN}
ELSEWHERE |= dict.fromkeys(("docs/cases/sentiment.md", "docs/cases/full_stop.md"), "tests/test_cases.py")
ELSEWHERE |= {"docs/judge.md": "tests/rewards/judging/test_docs.py"}
ELSEWHERE |= {f"docs/tutorials/{name}.md": "tests/test_tutorials.py" for name in ("command_line", "own_gpt")}
WITH_CODE = [
    page for page in pages() if page not in ELSEWHERE and {b.language for b in blocks(page)} & {"bash", "python"}
]
HERE = [page for page in WITH_CODE if page not in ("README.md", "docs/loop.md") and "/reference/" not in page]
# They train more than a demo does: `make test-all` alone.
LONG = ("docs/overoptimisation.md", "docs/inspection.md", "docs/reward_models.md", "docs/notebooks.md")


def load(path: str) -> ModuleType:
    """A script of docs or .ci as a module."""
    name = Path(path).stem
    specification = importlib.util.spec_from_file_location(name, ROOT / path)
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    specification.loader.exec_module(module)
    return module


LESS = {"ppo": "--max_iterations 3 --num_eval_samples 64"}  # the README's PPO to 10 nats is for `make test-all`


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the README's loop was run, with less work."""
    folder = tmp_path_factory.mktemp("loop")
    for words in commands("README.md"):
        run([*words, *LESS.get(words[1], "").split()], folder)
    return folder


@pytest.mark.long
@pytest.mark.slow
def test_the_whole_loop_runs_as_the_readme_has_it(tmp_path: Path) -> None:
    for words in commands("README.md"):
        run(words, tmp_path)
    assert json.loads((tmp_path / "runs" / "ppo" / "ladder.json").read_text())["rungs"][-1]["kl_per_completion"] > 9


@pytest.mark.slow
def test_the_loop_runs_as_the_readme_has_it(made: Path) -> None:
    assert (made / "runs" / "ppo" / "report.html").stat().st_size > 100_000


@pytest.mark.slow
def test_every_file_that_the_loop_leaves_is_in_the_reference(made: Path) -> None:
    reference = (ROOT / "docs" / "reference" / "files.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w.-]+)/?`", reference))
    left = [path.relative_to(made / "runs") for path in (made / "runs").rglob("*") if path.is_file()]
    assert [str(path) for path in left if not named & set(path.parts) and len(path.parts) > 1] == []


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("page", [pytest.param(p, marks=[pytest.mark.long] if p in LONG else []) for p in HERE])
def test_the_code_of_a_page_runs(
    page: str, made: Path, chromium: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(made / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    for one in blocks(page):
        if one.mark.startswith("file "):
            Path(one.mark.split()[1]).write_text(one.code, encoding="utf-8")
        elif one.language == "python":
            exec(compile(one.code, page, "exec"), names)
        elif one.language == "bash":
            for words in one.commands():
                if words[1:3] == ["rate", "pull"]:
                    fill_page(chromium, tmp_path / "runs" / "rating" / "label.html", tmp_path / "answers.json")
                run(words, tmp_path)


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


def test_the_loop_s_page_has_the_readme_s_commands() -> None:
    assert commands("docs/loop.md") == commands("README.md")


def test_pages_with_tests_of_their_own_have_them() -> None:
    for page, test in ELSEWHERE.items():
        assert Path(page).name in (ROOT / test).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", pages())
def test_every_command_that_a_page_shows_exists_with_its_options(page: str) -> None:
    known = {name: set(config.__dataclass_fields__) for name, (config, _) in load_generate().command_options().items()}
    for one in blocks(page):
        if one.language in ("bash", "text") and "rlhf " in one.code:
            for words in one.commands():
                if words[0] != "rlhf":
                    continue
                name = " ".join(words[:3] if words[1] in ("label", "rate") else words[:2])
                options = {word[2:].split("=")[0] for word in words if word.startswith("--")} - {"config"}
                assert options <= known[name], words


def load_generate() -> ModuleType:
    return sys.modules["generate"] if "generate" in sys.modules else load("docs/generate.py")


def test_the_generated_pages_are_fresh() -> None:
    for path, text in load_generate().pages().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is stale: python docs/generate.py"


def test_the_reference_names_every_command_module_and_recipe() -> None:
    reference = {name: (ROOT / "docs" / "reference" / f"{name}.md").read_text() for name in ("commands", "modules")}
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    files = [p for p in tracked if p.split("/")[0] in ("rlhf", "rewards", "labeling") and p.endswith(".py")]
    assert [p for p in files if not p.endswith("__init__.py") and f"`{Path(p).name}`" not in reference["modules"]] == []
    assert len(re.findall(r"^## rlhf ", reference["commands"], re.MULTILINE)) == 29
    assert len(recipe_names()) == len(list(RECIPES.glob("*.yaml")))


@pytest.mark.slow
def test_the_site_builds_strictly_without_a_broken_link_or_a_network(tmp_path: Path) -> None:
    words = ["-q", "-W", "--keep-going", "-n", "-b", "html", str(ROOT / "docs"), str(tmp_path)]
    done = subprocess.run([sys.executable, "-m", "sphinx", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert load(".ci/links.py").faults(tmp_path) == []
    assert (tmp_path / "llms.txt").exists()
    assert (tmp_path / "labeling.md").exists()


def test_a_broken_link_and_a_font_from_elsewhere_are_found(tmp_path: Path) -> None:
    page = '<a href="gone.html"></a><a href="#gone"></a><script src="https://cdn.example/x.js"></script><p id="here">'
    (tmp_path / "index.html").write_text(page + '<a href="#here"></a>', encoding="utf-8")
    assert len(load(".ci/links.py").faults(tmp_path)) == 3


def test_pages_that_the_readme_names_exist() -> None:
    named = re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(named) > 15
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_readme_fits_in_150_lines() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
