"""`rlhf label pull`: labels come back from Label Studio, every annotation counted by what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from labeling.connection import connect, default_directory
from labeling.folder import Folder
from labeling.pull import pull
from labeling.returned import Returned
from rlhf.commands.label_output import listed_counts, tally
from rlhf.foundation.progress import progress_bar
from rlhf.foundation.terminal import shown
from rlhf.option_fields import Options, check_ranges
from rlhf.options import option, parse


@dataclass
class PullConfig(Options):
    """Options of `rlhf label pull`."""

    output_dir: str = option(help="labelling folder of the push; labels.jsonl or comparisons.jsonl is written there")
    full: bool = option(False, help="fetch everything again instead of what changed since the last pull")
    server_dir: str = option("", help="folder of the local server (default: ~/.local/share/rlhf/label-studio)")
    timeout: float = option(60.0, help="seconds to wait for an answer of the server, 0.1 to 3600")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self, [("timeout", 0.1, 3600)])


def run(config: PullConfig) -> Returned:
    """Pull and write the labels. Raises InputError; the files of the last pull then stand as they were."""
    folder = Folder(Path(config.output_dir))
    server_dir = Path(config.server_dir) if config.server_dir else default_directory()
    folder.need_plan()
    with folder.in_use(), progress_bar("pull", "task", quiet=config.quiet) as bar:
        return pull(
            folder,
            lambda project: connect(server_dir, rater=project.rater, timeout=config.timeout),
            full=config.full,
            progress=lambda n: bar.update(n) and None,
        )


def main(argv: list[str]) -> None:
    """Parse the options, pull, and say what came back and what did not."""
    config = parse(PullConfig, argv, prog="rlhf label pull", description=(__doc__ or "").split(": ", 1)[1])
    pulled = run(config)
    kind = Folder(Path(config.output_dir)).need_plan().screen.kind
    name = "comparisons.jsonl" if kind == "comparison" else "labels.jsonl"
    records = pulled.labels or pulled.comparisons
    print(f"{tally(records)} -> {shown(Path(config.output_dir) / name)}")
    print(f"annotations: {pulled.annotations}; {listed_counts(pulled.counts) or 'none'}")
    if not records:
        print("nobody has labelled yet: run the same command later")
