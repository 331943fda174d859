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


FOUNDATION = "rlhf.foundation"


def package_of(module: str) -> str:
    """The package a module counts to; the foundation, which all three stand on, is one of its own."""
    return "foundation" if module.startswith(FOUNDATION) else module.split(".")[0]


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("foundation", {"rlhf", "rewards", "labeling", "trl"}),
        ("labeling", {"torch", "trl", "transformers", "rlhf", "rewards"}),
        ("rewards", {"rlhf"}),
    ],
)
def test_imports_point_one_way(package: str, forbidden: set[str]) -> None:
    for name, path in MODULES.items():
        if package_of(name) == package:
            found = {package_of(n) for n in imports(path, at_import=False) if n != "rlhf"}
            assert not found & forbidden, f"{path} imports {found & forbidden}"


def test_no_import_circle() -> None:
    graph = {
        name: {n for n in imports(path, at_import=True) if n in MODULES and n != name} for name, path in MODULES.items()
    }
    done: set[str] = set()

    def walk(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join([*trail, name])
        if name in done:
            return
        for target in graph[name]:
            walk(target, (*trail, name))
        done.add(name)

    for name in graph:
        walk(name, ())


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
