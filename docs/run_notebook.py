"""Makes a tutorial's notebook from its cells and executes it: python docs/run_notebook.py docs/tutorials/chapter7.py.

Charts are kept as they would be printed, so that a notebook is small and shows them without a network. Progress bars
are left out; a warning ends the script.
"""

from __future__ import annotations

import hashlib
import io
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from matplotlib import rc_context
from nbclient import NotebookClient
from plotly.graph_objects import Figure

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]

from notebook_cells import cells_of  # noqa: E402

from rlhf.inspection.print_figure import STYLE, printed  # noqa: E402

CHART = "application/vnd.plotly.v1+json"


def notebook_of(source: str) -> Any:
    """The notebook of the cells, without outputs; the same cells give the same file."""
    make = {"markdown": nbformat.v4.new_markdown_cell, "code": nbformat.v4.new_code_cell}
    cells = [make[kind](text) for kind, text in cells_of(source)]
    for number, cell in enumerate(cells):
        cell["id"] = hashlib.sha256(f"{number} {cell.source}".encode()).hexdigest()[:8]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return nbformat.v4.new_notebook(cells=cells, metadata={**kernel, "language_info": {"name": "python"}})


def execute(notebook: Any, folder: Path) -> Any:
    """The notebook with its outputs, as they are, executed in `folder`. Raises CellExecutionError."""
    place, quietly = {"metadata": {"path": str(folder)}}, ["--log-level=40"]
    client = NotebookClient(notebook, timeout=1800, kernel_name="python3", resources=place, extra_arguments=quietly)
    return client.execute()


def warnings_in(notebook: Any) -> list[str]:
    """What a reader would take for a fault: lines of stderr that speak of a warning or an error."""
    said = [o.text for cell in notebook.cells for o in cell.get("outputs", []) if o.get("name") == "stderr"]
    return [line for text in said for line in re.split(r"[\r\n]+", text) if re.search(r"(?i)warn|error", line)]


def tidied(notebook: Any) -> Any:
    """Without times, bars and what only a browser with a network could show."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        outputs = [one for one in cell.get("outputs", []) if one.get("name") != "stderr"]
        for output in outputs:
            if CHART in output.get("data", {}):
                output.data = {"image/svg+xml": drawn(output.data[CHART]), "text/plain": "a chart"}
        if cell.cell_type == "code":
            cell.outputs = outputs
    return notebook


def drawn(chart: Any) -> str:
    """plotly's chart as SVG, its title at the y axis."""
    figure = Figure({"data": chart["data"], "layout": chart["layout"]})
    text = io.StringIO()
    with rc_context(STYLE):
        title = str(figure.layout.title.text).split("<br>")[0]
        printed(figure, title).savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def kept(notebook: Any, before: Any) -> Any:
    """The notebook with the outputs of an earlier one of the same code. Raises SystemExit where the code differs."""
    pairs = [[cell for cell in one.cells if cell.cell_type == "code"] for one in (notebook, before)]
    if [cell.source for cell in pairs[0]] != [cell.source for cell in pairs[1]]:
        sys.exit("the code has changed: run it without --keep")
    for new, old in zip(*pairs, strict=True):
        new.outputs, new.execution_count = old.outputs, old.execution_count
    return notebook


def main() -> None:
    """Write NAME.ipynb beside NAME.py; with --keep only its text, where the code is as it was."""
    path = Path(sys.argv[1])
    notebook, place = notebook_of(path.read_text(encoding="utf-8")), path.with_suffix(".ipynb")
    if "--keep" in sys.argv:
        nbformat.write(kept(notebook, nbformat.read(place, 4)), place)
        return
    with tempfile.TemporaryDirectory() as folder:
        notebook = execute(notebook, Path(folder))
    if found := warnings_in(notebook):
        sys.exit("\n".join(found))
    nbformat.write(tidied(notebook), place)
    print(f"written: {place}")


if __name__ == "__main__":
    main()
