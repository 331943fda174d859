"""How Sphinx builds the site: `make docs`, strictly; the pages open from disk and ask no network."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from notebook_cells import as_markdown

project = "rlhf"
author = copyright = "the authors of rlhf"
extensions = ["myst_nb"]
exclude_patterns = ["_build", "**/.ipynb_checkpoints"]
nitpicky = True
smartquotes = False  # --option is two hyphens

nb_execution_mode = "off"
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = "rlhf"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = ["llms.txt"]
html_copy_source = False
html_show_sphinx = False
pygments_style = "friendly"


def copy_markdown(app: Any, error: Exception | None) -> None:
    """Each page as Markdown beside its HTML, for readers without a browser (llms.txt names them)."""
    for name in [] if error else app.env.found_docs:
        source = Path(app.env.doc2path(name))
        if source.suffix == ".md":
            shutil.copyfile(source, Path(app.outdir, f"{name}.md"))
        elif source.suffix == ".ipynb":
            text = as_markdown(source.with_suffix(".py").read_text(encoding="utf-8"))
            Path(app.outdir, f"{name}.md").write_text(text, encoding="utf-8")


def setup(app: Any) -> None:
    """Sphinx calls this."""
    app.connect("build-finished", copy_markdown)
