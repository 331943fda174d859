"""`rlhf rate pull`: ratings come back from Label Studio or from the files of an offline page, still blind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from rlhf.foundation.options import Options, Several, option
from rlhf.foundation.steps import step

if TYPE_CHECKING:
    from labeling.returned import Returned


@dataclass
class RatePullConfig(Options):
    """Options of `rlhf rate pull`."""

    NOT_WITH: ClassVar[Mapping[str, str]] = {"server_dir": "answers"}

    output_dir: str = option("rating", help="folder of the study; ratings.jsonl is written there")
    answers: Several[str] = option(
        [], help="files that the offline page saved; else the ratings come from Label Studio"
    )
    server_dir: str = option("", help="folder of the local server (default: the one of the push)")


class Ratings(NamedTuple):
    """All that came back, and how many ratings are still missing."""

    returned: Returned
    missing: int


@step(RatePullConfig)
def rate_pull(config: RatePullConfig) -> Ratings:
    """Ratings come back, still blind, and are written into the folder. Raises InputError."""
    from labeling.answers import collect
    from labeling.connection import connect, remembered_url, server_directory
    from labeling.fetching import fetch
    from labeling.folder import Folder
    from rlhf.inspection.rating_packet import missing_ratings, read_study, write_ratings

    path = Path(config.output_dir)
    read_study(path)
    folder = Folder(path)
    with folder.in_use():
        if config.answers:
            returned = collect(folder, [Path(name) for name in config.answers])
        else:
            plan = folder.need_plan()
            server_dir, url = server_directory(config.server_dir, plan), remembered_url(config.server_dir, plan)
            returned = fetch(folder, lambda project: connect(server_dir, rater=project.rater, url=url))
        write_ratings(path, returned.ratings)
    return Ratings(returned, missing_ratings(path, returned.ratings))
