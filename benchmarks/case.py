"""A case of docs/cases/ again, from the page itself: its files are written, its commands run in order.

    .venv/bin/python benchmarks/case.py docs/cases/sentiment.md MODEL_DIRECTORY [--work DIR]

Prints of each command the wall clock and CPU time in seconds and the peak memory in GiB.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.pages import RLHF, blocks

MODEL = "SmolLM2-135M-Instruct"
QUIET = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def call(words: list[str], folder: Path) -> None:
    """One command of the page, and what it took. Ends the script where the command fails."""
    program = {"rlhf": RLHF, "python": [sys.executable]}[words[0]]
    environment = {**os.environ, **QUIET, "PYTHONPATH": str(ROOT)}
    began = time.perf_counter()
    process = subprocess.Popen([*program, *words[1:]], cwd=folder, env=environment)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    took = f"{time.perf_counter() - began:.0f} s, {used.ru_utime + used.ru_stime:.0f} CPU-s"
    print(f"[{took}, {used.ru_maxrss / 2**20:.2f} GiB] {shlex.join(words)}", flush=True)
    if process.returncode:
        sys.exit(process.returncode)


def main() -> None:
    """Do the whole page in a folder where the model stands under the name that the page calls it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", help="docs/cases/NAME.md")
    parser.add_argument("model")
    parser.add_argument("--work", default="")
    options = parser.parse_args()
    work = Path(options.work or tempfile.mkdtemp(prefix="case-"))
    work.mkdir(parents=True, exist_ok=True)
    (work / MODEL).symlink_to(Path(options.model).resolve())
    print(f"in {work}")
    for one in blocks(options.page):
        if one.mark.startswith("file "):
            (work / one.mark.split()[1]).write_text(one.code, encoding="utf-8")
        for words in one.commands() if one.language == "bash" else []:
            call(words, work)


if __name__ == "__main__":
    main()
