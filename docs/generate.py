"""Writes the generated pages of the documentation, docs/reference/*.md and docs/llms.txt: python docs/generate.py."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path[:0] = [str(ROOT), str(DOCS)]

from notebook_cells import as_markdown  # noqa: E402
from reference_api import api, cell, option_table  # noqa: E402
from reference_results import results  # noqa: E402

from rlhf.cli import COMMANDS  # noqa: E402
from rlhf.commands import command_line, label, rate  # noqa: E402
from rlhf.foundation.errors import Told  # noqa: E402
from rlhf.foundation.recipes import RECIPES, recipe_names  # noqa: E402
from rlhf.foundation.trl_names import (  # noqa: E402
    ARGUMENTS,
    GRPO,
    METHODS,
    MODEL_CONFIG,
    TRAINING_ARGUMENTS,
    TRL_0_11,
    TRL_1_12,
)
from rlhf.runs.metrics import METRICS  # noqa: E402

PACKAGES = ("labeling", "rewards", "rlhf")
KEPT = " (first end token kept)"
MADE = "<!-- written by docs/generate.py -->\n\n"


def modules() -> Iterator[tuple[str, str]]:
    """Every command's words with its module, in the order of the loop."""
    groups = {"label": label.SUBCOMMANDS, "rate": rate.SUBCOMMANDS}
    for name, (module, _) in COMMANDS.items():
        if name in groups:
            yield from ((f"rlhf {name} {sub}", inner) for sub, (inner, _) in groups[name].items())
        else:
            yield f"rlhf {name}", module


def command_options() -> dict[str, tuple[type[Any], str]]:
    """Each command with its options' dataclass and description, as `--help` gets them."""
    found: dict[str, tuple[type[Any], str]] = {}

    def print_help(config: type[Any], prog: str, description: str) -> None:
        found[prog] = (config, description)

    with mock.patch.object(command_line, "print_help", print_help):
        for _, module in modules():
            try:
                importlib.import_module(module).main(["--help"])
            except Told:
                continue
    return found


def commands() -> str:
    """Every command with every option."""
    parts = [
        "# Commands",
        "`rlhf COMMAND --help` prints the same. Options may also stand in a YAML file or a [recipe](recipes.md), "
        "`--config NAME`; the command line wins over it, and an unknown key is an error. A flag that is true or false "
        "is given alone (`--resume`) or with its value (`--resume False`).",
        "Exit status: 0 done; 2 a mistake that one line explains; 130 Ctrl-C; 1 a fault of the toolkit.",
    ]
    for prog, (config, description) in command_options().items():
        said = re.sub(r"^`[^`]*`: ", "", " ".join(description.split()))
        parts += [f"## {prog}", said[0].upper() + said[1:]]
        typed = command_line._as_typed(config)
        parts.append(option_table(typed, lambda field: f"--{field.name}", dataclasses.fields(typed)))
    return "\n\n".join(parts)


def metrics() -> str:
    """Every metric, from its one definition."""
    rows = []
    for name, metric in METRICS.items():
        unit, estimator, mask, healthy, source = ("" if text == "-" else cell(text) for text in metric)
        what = f"{estimator}<br>*over {mask.removesuffix(KEPT)}*" if mask else estimator
        rows.append(f"| `{name}`{f'<br>{unit}' if unit else ''} | {what} | {healthy} | {source} |")
    head = "| metric, unit | estimator | healthy | source |\n|---|---|---|---|"
    said = (
        "One line an iteration in `metrics.jsonl`; line i describes the policy that generated rollout i. In Python: "
        '`rlhf.open_run(RUN).metrics`, a pandas frame with the units in `.attrs["units"]`. Real tokens are '
        "those of a completion up to its first end token, which counts. What a good run looks like: "
        "[Reading a run](../reading_a_run.md)."
    )
    return "\n\n".join(["# Metrics", said, "\n".join([head, *rows])])


def recipes() -> str:
    """Every packaged recipe as it stands."""
    parts = [
        "# Recipes",
        "Packaged YAML files of options, found by name: `rlhf ppo --config demo`, or in Python "
        '`rlhf.PPOConfig.from_recipe("demo", output_dir="runs/ppo")`. What is given beside it wins. A file of your own '
        "goes by its path.",
    ]
    for name in recipe_names():
        parts += [f"## {name}", f"```yaml\n{(RECIPES / f'{name}.yaml').read_text(encoding='utf-8').strip()}\n```"]
    return "\n\n".join(parts)


def from_trl() -> str:
    """docs/from_trl_ppo.md with its tables, from the one that the messages are made of."""
    path = DOCS / "from_trl_ppo.md"
    tables = {
        "0.11": TRL_0_11,
        "1.12": TRL_1_12,
        "arguments": ARGUMENTS,
        "GRPO": GRPO,
        "TrainingArguments": TRAINING_ARGUMENTS,
        "ModelConfig": MODEL_CONFIG,
    }
    text = path.read_text(encoding="utf-8")
    for name, rows in tables.items():
        head = f"| {name} | here | why |\n|---|---|---|"
        lines = [f"| {_coded(row.old)} | {_coded(row.new) or '-'} | {cell(row.why)} |" for row in rows]
        text = _filled(text, name, [head, *lines])
    calls = [f"| `{name}` | {cell(call)} |" for name, call in METHODS.items()]
    return _filled(text, "methods", ["| method | call |\n|---|---|", *calls])


def _filled(text: str, name: str, lines: list[str]) -> str:
    """A page with these lines between the marks of its table `name`."""
    front, mark, rest = text.partition(f"<!-- table {name} -->\n")
    return "".join([front, mark, "\n".join(lines), "\n<!-- end -->", rest.partition("<!-- end -->")[2]])


def _coded(names: str) -> str:
    return ", ".join(f"`{name}`" for name in names.split())


def tree() -> str:
    """A line a module, folder by folder, in the direction in which the data flows."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    paths = [p for p in tracked if p.split("/")[0] in PACKAGES and p.endswith(".py") and (ROOT / p).exists()]
    folders = sorted({str(Path(p).parent) for p in paths}, key=lambda f: (PACKAGES.index(f.split("/")[0]), f))
    parts = [
        "# Modules",
        "Data flows one way: `labeling` (samples become labels), `rewards` (labels become rewards), `rlhf` (rewards "
        "become a policy and its story). From a sample to a gradient: `rlhf/language_model/sampler.py`, "
        "`rlhf/ppo/rollout.py`, `rlhf/ppo/objective.py`, `rlhf/ppo/update.py`, `rlhf/ppo/trainer.py`.",
    ]
    for folder in folders:
        inside = [p for p in paths if str(Path(p).parent) == folder and not p.endswith("__init__.py")]
        if inside:
            parts += [f"## {folder}", "\n".join(f"- `{Path(p).name}`: {purpose(ROOT / p)}" for p in sorted(inside))]
    return "\n\n".join(parts)


def purpose(path: Path) -> str:
    """The first sentence of a module's docstring."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(docstring.split("\n\n")[0].split()).split(". ")[0].rstrip(".:")


def llms(made: dict[Path, str]) -> str:
    """A line a page for whoever reads the site without a browser; each page also stands as Markdown beside its HTML."""
    lines = ["# rlhf", "", "> From human labels to a finetuned language model, with the KL bill in view.", ""]
    for caption, names in toctrees():
        lines += [f"## {caption}", ""]
        for name in names:
            path = DOCS / f"{name}.md"
            text = made[path] if path in made else written(path)
            title = re.search(r"^# (.+)$", text, re.MULTILINE)
            lines.append(f"- [{title.group(1) if title else name}]({name}.md): {first_sentence(text)}")
        lines.append("")
    return "\n".join(lines).rstrip()


def written(path: Path) -> str:
    """A page as Markdown, a notebook's too."""
    script = path.with_suffix(".py")
    return path.read_text(encoding="utf-8") if path.exists() else as_markdown(script.read_text(encoding="utf-8"))


def toctrees() -> Iterator[tuple[str, list[str]]]:
    """Captions and pages of the index; behind a page those of its own toctree."""
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    for caption, body in re.findall(r"```\{toctree\}\n:caption: (.+)\n(?::.*\n)*\n((?:[^`]*\n)+?)```", index):
        yield caption, [page for name in body.split() for page in (name, *below(name))]


def below(name: str) -> list[str]:
    """The pages of a page's own toctree."""
    path = DOCS / f"{name}.md"
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    found = re.findall(r"```\{toctree\}\n(?::.*\n)*\n((?:[^`]*\n)+?)```", text)
    return [str(Path(name).parent / page) for body in found for page in body.split()]


def first_sentence(page: str) -> str:
    """The first sentence of the first paragraph below the title."""
    text = re.sub(r"<!--.*?-->\n*|```.*?```", "", page, flags=re.DOTALL)
    plain = next(p for p in text.split("\n\n") if p.strip() and p.strip()[0] not in "#(|!:{-")
    line = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", " ".join(plain.split()))
    return re.split(r"(?<=[.:?])\s(?=[A-Z0-9`])", line)[0].rstrip(".:") + "."


def pages() -> dict[Path, str]:
    """The text of every generated file."""
    made = {
        "api": lambda: f"{api()}\n\n{results()}",
        "commands": commands,
        "metrics": metrics,
        "recipes": recipes,
        "modules": tree,
    }
    found = {DOCS / "reference" / f"{name}.md": f"{MADE}{make()}\n" for name, make in made.items()}
    return {**found, DOCS / "from_trl_ppo.md": from_trl(), DOCS / "llms.txt": f"{llms(found)}\n"}


def main() -> None:
    """Write what changed; with --check write nothing and exit with 1 where something is stale."""
    stale = {p: text for p, text in pages().items() if not p.exists() or p.read_text(encoding="utf-8") != text}
    if "--check" in sys.argv:
        sys.exit("\n".join(f"stale: {p.relative_to(ROOT)}; run python docs/generate.py" for p in stale) or 0)
    for path, text in stale.items():
        path.write_text(text, encoding="utf-8")
        print(f"written: {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
