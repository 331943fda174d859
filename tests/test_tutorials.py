"""The tutorials do what they say: docs/tutorials/chapter7.py and .ipynb, command_line.md, own_gpt.md, with little work.

The sizes that make the numbers mean something take minutes; here they are small, and everything else is as shown.
"""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nbformat
import pytest

from rlhf.cli import main
from rlhf.inspection.rating_packet import read_study
from rlhf.runs.metrics import METRICS
from tests.pages import ROOT, answer, block, blocks
from tests.test_docs import load

TUTORIALS = ROOT / "docs" / "tutorials"
SOURCE = TUTORIALS / "chapter7.py"


def script() -> Any:
    return load("docs/run_notebook.py")


def code_of(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


# -- the notebook ------------------------------------------------------------------------------------------------------


def test_the_notebook_has_the_cells_of_its_source_and_their_outputs() -> None:
    kept: Any = nbformat.read(TUTORIALS / "chapter7.ipynb", 4)
    made = script().notebook_of(SOURCE.read_text(encoding="utf-8"))
    assert [(cell.id, cell.source) for cell in kept.cells] == [(cell.id, cell.source) for cell in made.cells]
    shown = re.compile(r"^(print|for |[\w.\[\]:]+$|run\.(figure|metrics|scores))", re.MULTILINE)
    assert all(cell.outputs for cell in code_of(kept) if shown.search(cell.source.splitlines()[-1]))
    assert sum(bool(cell.outputs) for cell in code_of(kept)) > 15
    assert script().warnings_in(kept) == []
    assert (TUTORIALS / "chapter7.ipynb").stat().st_size < 300_000


def test_the_notebook_names_one_path() -> None:
    """Whatever looks like a path begins with the folder; pages link to each other in Markdown alone."""
    code = "\n".join(text for kind, text in script().cells_of(SOURCE.read_text(encoding="utf-8")) if kind == "code")
    slashed = [text for text in re.findall(r'"([^"\n]*/[^"\n]*)"', code) if "{folder}" not in text]
    assert [text for text in slashed if text not in METRICS] == ["runs/chapter7"]


@pytest.mark.slow
def test_the_notebook_and_the_readme_s_lines_are_typed(tmp_path: Path) -> None:
    (tmp_path / "readme.py").write_text(block("README.md", "library").code, encoding="utf-8")
    (tmp_path / "wrong.py").write_text("import labeling\nlabeling.simulate([], noise='much')\n", encoding="utf-8")
    words = [sys.executable, "-m", "mypy", "--strict"]
    for files, faults in (([str(SOURCE), str(tmp_path / "readme.py")], 0), ([str(tmp_path / "wrong.py")], 1)):
        done = subprocess.run([*words, *files], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == faults, done.stdout
        assert done.stdout.count("error:") == faults


ANSWER = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from tests.pages import answer
for place in (Path(folder, "labelling"), Path(blind)):
    answer(place, place / "answers-ana.json")
"""


def small_notebook() -> Any:
    """The notebook with little work."""
    source = SOURCE.read_text(encoding="utf-8")
    assert source.count("small = False") == 1
    return script().notebook_of(source.replace("small = False", "small = True"))


def printed(done: Any) -> str:
    return "".join(output.get("text", "") for cell in code_of(done) for output in cell.outputs)


@pytest.mark.slow
def test_every_cell_runs(tmp_path: Path) -> None:
    done = script().execute(small_notebook(), tmp_path)
    assert [line for line in script().warnings_in(done) if "samples in memory" not in line] == []
    assert printed(done).count("not rated yet") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}


@pytest.mark.long
@pytest.mark.slow
def test_every_cell_runs_twice_and_takes_answers_in(tmp_path: Path) -> None:
    """Once as it is; then a person has labelled and rated; then every cell again, in the same kernel."""
    notebook = small_notebook()
    first = [cell.copy() for cell in notebook.cells]
    step_9 = next(i for i, cell in enumerate(notebook.cells) if cell.source.startswith("ratings = ["))
    person = nbformat.v4.new_code_cell(ANSWER)
    notebook.cells = [*first, person, *notebook.cells[:step_9], person.copy(), *notebook.cells[step_9:]]
    for number, cell in enumerate(notebook.cells):
        cell["id"] = str(number)
    done = script().execute(notebook, tmp_path)
    assert [line for line in script().warnings_in(done) if "samples in memory" not in line] == []
    text = printed(done)
    assert text.count("not rated yet") == 1
    assert "0 ratings are missing" in text
    assert "  ana: 40 labels" in text
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}


# -- commands ----------------------------------------------------------------------------------------------------------

SMALL = {
    "pretrain": "--max_steps 200",
    "ppo": "--kl_budget 0.5 --max_iterations 3 --iteration_batch_size 128 --num_eval_samples 32",
    "reward": "--num_train_epochs 2 --allow_weak",
}
FEWER = {"--num_samples": {"2400": "400", "2048": "256", "512": "32"}, "--best_of_n_samples": {"1024": "64"}}


def smaller(words: Sequence[str]) -> list[str]:
    """A command of the page with less work."""
    fewer = [FEWER.get(before, {}).get(word, word) for before, word in zip(["", *words], words, strict=False)]
    more = (
        ""
        if "--config" not in words and words[0] != "pretrain" and "--allow_weak" in words
        else SMALL.get(words[0], "")
    )
    return [*fewer, *more.split()]


@pytest.mark.long
@pytest.mark.slow
def test_the_commands_run_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for one in blocks("docs/tutorials/command_line.md"):
        if one.language == "python":
            exec(compile(one.code, "command_line.md", "exec"), {"__name__": "page"})
            rows = Path("runs/prompts.jsonl").read_text(encoding="utf-8").splitlines()
            Path("runs/prompts.jsonl").write_text("\n".join(rows[:128]), encoding="utf-8")
        for words in one.commands() if one.language == "bash" else []:
            assert words[0] == "rlhf"
            if "--answers" in words:
                answer(Path(words[words.index("--output_dir") + 1]), Path(words[words.index("--answers") + 1]))
            assert main(smaller(words[1:])) == 0, (words, capsys.readouterr())
    made = {path.name for path in Path("runs").iterdir()}
    assert {"labelling", "rating", "tables", "figures", "both.html", "chosen"} <= made
    assert read_study(Path("runs/rating")).draw == 2
    assert "verdict" in {path.stem for path in Path("runs/rating").iterdir()}


# -- a GPT of one's own ------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Empty, the working directory, and where Python finds the page's files; what they register goes again."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    CONFIG_MAPPING._extra_content.pop("own-gpt", None)
    for name in ("gpt", "own_gpt"):
        sys.modules.pop(name, None)


@pytest.mark.slow
def test_a_gpt_of_one_s_own_goes_through_the_loop(folder: Path) -> None:
    """Started as a script each time, the page's files would be the same: here they share one process."""
    for one in blocks("docs/tutorials/own_gpt.md"):
        if one.mark.startswith("file "):
            (folder / one.mark.split()[1]).write_text(one.code.replace("range(600)", "range(400)"), encoding="utf-8")
        elif one.language == "python":
            exec(compile(one.code, "own_gpt.md", "exec"), names := {"__name__": "page"})
            assert not any("\n\n" in sample.completion for sample in names["samples"])  # type: ignore[attr-defined]
        for words in one.commands() if one.language == "bash" else []:
            if words[0] == "rlhf" or words[1] == "own_gpt.py":
                __import__("own_gpt")
                assert main(words[1 if words[0] == "rlhf" else 2 :]) == 0, words
            else:
                assert words[0] == "python"
                runpy.run_path(words[1], run_name="__main__")
    lines = [json.loads(line) for line in Path("runs/ppo/metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert lines[0]["kl_per_completion"] == 0.0
    assert all(line["ratio_first_update_max_dev"] < 1e-3 for line in lines[:-1])
    assert all(line["doctor"] is None for line in lines)
    assert lines[-1]["reward"] > lines[0]["reward"]
    weights = json.loads(Path("runs/model/model.safetensors").read_bytes()[8:].split(b"}}")[0] + b"}}")
    assert "net.wte.weight" in weights
    assert "net.lm_head.weight" not in weights  # one matrix, kept once
