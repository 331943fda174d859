"""`rlhf label pull`: labels come back from Label Studio, every annotation counted by what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from labeling import fetching
from labeling.connection import connect, remembered_url, server_directory
from labeling.folder import Folder
from labeling.returned import Returned
from labeling.reviewing import reviewers_in
from rlhf.foundation.options import Options, Several, check_ranges, option
from rlhf.foundation.progress import progress_bar
from rlhf.foundation.steps import step


@dataclass
class PullConfig(Options):
    """Options of `rlhf label pull`."""

    output_dir: str = option(help="labelling folder of the push; labels.jsonl or comparisons.jsonl is written there")
    full: bool = option(False, help="fetch everything again instead of what changed since the last pull")
    reviewer: Several[str] = option(
        [], help="whose answers the others are measured by: kept in a file of their own, never trained on; remembered"
    )
    server_dir: str = option("", help="folder of the local server (default: the one of the push)")
    timeout: float = option(60.0, help="seconds to wait for an answer of the server, 0.1 to 3600")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.reviewer = reviewers_in(self.reviewer)
        check_ranges(self, [("timeout", 0.1, 3600)])


@step(PullConfig)
def pull(config: PullConfig) -> Returned:
    """Fetch and write the labels. Raises InputError; the files of the last pull then stand as they were."""
    folder = Folder(Path(config.output_dir))
    plan = folder.need_plan()
    server_dir, url = server_directory(config.server_dir, plan), remembered_url(config.server_dir, plan)
    with folder.in_use(), progress_bar("pull", "task", quiet=config.quiet) as bar:
        return fetching.fetch(
            folder,
            lambda project: connect(server_dir, rater=project.rater, timeout=config.timeout, url=url),
            full=config.full,
            reviewers=config.reviewer,
            progress=lambda n: bar.update(n) and None,
        )
