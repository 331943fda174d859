"""The house rules that a machine can check: import directions, no circles, file length, no work at import."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("rlhf", "rewards", "labeling")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}


def imports(path: Path, *, at_import: bool) -> set[str]:
    """Names of modules that a file imports; with `at_import`, only those outside functions and TYPE_CHECKING."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if at_import and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            return
        if at_import and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_file_stays_readable(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


# The rooms of the house, from the ground up; what stands in one imports from those before it and from its own.
LAYERS = (
    ("rlhf.foundation",),
    ("rlhf.language_model",),
    ("labeling",),
    ("rewards",),
    ("labeling.steps", "rewards.steps", "rlhf.sampling"),
    ("rlhf.runs",),
    ("rlhf.inspection",),
    ("rlhf.ppo",),
    ("rlhf.planning",),
    ("rlhf.methods",),
    ("rlhf.evaluation",),
    ("rlhf.whole_loop",),
    ("rlhf.studies",),
    ("rlhf.commands", "rlhf.cli", "rlhf.environment", "rlhf.ppo.__main__", "rlhf.__main__"),
)
HEIGHT = {room: height for height, rooms in enumerate(LAYERS) for room in rooms}
FRONT_DOORS = ("rlhf", "labeling", "rewards")  # each names what lies behind it, to load on first use


def room_of(module: str) -> str:
    """The innermost room that a module stands in."""
    return max((room for room in HEIGHT if f"{module}.".startswith(f"{room}.")), key=len)


def arrows(*, at_import: bool = False) -> dict[str, set[str]]:
    """Which modules of ours each module imports."""
    return {
        name: {n for n in imports(path, at_import=at_import) if n in MODULES and n not in (name, *FRONT_DOORS)}
        for name, path in MODULES.items()
        if name not in FRONT_DOORS
    }


def test_imports_point_down() -> None:
    up = [
        f"{name} -> {target}"
        for name, targets in arrows().items()
        for target in targets
        if HEIGHT[room_of(target)] > HEIGHT[room_of(name)]
    ]
    assert not up


def test_the_command_lines_door_is_no_ones_way() -> None:
    """Commands import steps, never each other; no step imports a command."""
    commands = [name for name in MODULES if name.startswith("rlhf.commands.")]
    between = {
        f"{name} -> {target}"
        for name in commands
        for target in arrows()[name]
        if target.startswith("rlhf.commands.") and target not in SHARED_BY_COMMANDS
    }
    assert not between


SHARED_BY_COMMANDS = {"rlhf.commands.command_line", "rlhf.commands.first_words", "rlhf.commands.group"}
SHARED_BY_COMMANDS |= {"rlhf.commands.next_step"}


@pytest.mark.parametrize(("package", "forbidden"), [("labeling", {"torch", "trl", "transformers"})])
def test_heavy_libraries_stay_out(package: str, forbidden: set[str]) -> None:
    for name, path in MODULES.items():
        if name.split(".")[0] == package:
            assert not {n.split(".")[0] for n in imports(path, at_import=False)} & forbidden, path


def test_no_import_circle() -> None:
    """Of all imports, also those inside functions and those for types alone."""
    graph, done = arrows(), set[str]()

    def walk(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join([*trail, name])
        if name in done:
            return
        for target in graph[name]:
            walk(target, (*trail, name))
        done.add(name)

    for name in graph:
        walk(name, ())


@pytest.mark.parametrize("package", FRONT_DOORS)
def test_a_package_is_imported_at_once(package: str) -> None:
    """Less than 0.1 s of the process, torch not loaded: measured against a process that imports nothing of ours."""
    code = f"import sys, time; t = time.process_time(); import {package}; print(time.process_time() - t, *sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    seconds, *loaded = done.stdout.split()
    assert float(seconds) < 0.1
    assert not {"torch", "transformers", "pandas"} & set(loaded)


def test_public_names_are_there_and_documented() -> None:
    import importlib

    for package in FRONT_DOORS:
        door = importlib.import_module(package)
        for name in door.__all__:
            if not name.startswith("__"):
                assert (getattr(door, name).__doc__ or "").strip(), f"{package}.{name}"


def test_one_file_imports_the_label_studio_sdk() -> None:
    users = [
        name
        for name, path in MODULES.items()
        if any(n.split(".")[0] == "label_studio_sdk" for n in imports(path, at_import=False))
    ]
    assert len(users) <= 1, users


def test_labeling_loads_without_torch_or_trl() -> None:
    names = [name for name in MODULES if name.split(".")[0] == "labeling"]
    code = (
        "import importlib, sys\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        "print(sorted({'torch', 'trl', 'transformers', 'label_studio_sdk'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_vague_module_names() -> None:
    assert not [n for n in MODULES if n.split(".")[-1] in {"utils", "common", "helpers", "misc"}]


def test_public_functions_are_documented() -> None:
    bare = [
        f"{name}.{node.name}"
        for name, path in MODULES.items()
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef))
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert not bare
