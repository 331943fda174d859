"""`rlhf rate pull`: ratings come back from Label Studio or from the files of an offline page, still blind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rlhf.foundation.terminal import say
from rlhf.option_fields import Options
from rlhf.options import option, parse

if TYPE_CHECKING:
    from labeling.returned import Returned


@dataclass
class RatePullConfig(Options):
    """Options of `rlhf rate pull`."""

    NOT_WITH: ClassVar[Mapping[str, str]] = {"server_dir": "answers"}

    output_dir: str = option("rating", help="folder of the study; ratings.jsonl is written there")
    answers: list[str] = option([], help="files that the offline page saved; else the ratings come from Label Studio")
    server_dir: str = option("", help="folder of the local server (default: ~/.local/share/rlhf/label-studio)")


def run(config: RatePullConfig) -> tuple[int, int]:
    """Fetch the ratings and write them; how many there are and how many are missing. Raises InputError."""
    returned, missing = fetch(config)
    return len(returned.ratings), missing


def fetch(config: RatePullConfig) -> tuple[Returned, int]:
    """Fetch the ratings and write them; all that came back, and how many ratings are missing. Raises InputError."""
    from labeling.answers import collect
    from labeling.connection import connect, default_directory
    from labeling.folder import Folder
    from labeling.pull import pull
    from rlhf.inspection.rating_packet import missing_ratings, read_study, write_ratings

    path = Path(config.output_dir)
    read_study(path)
    folder = Folder(path)
    server_dir = Path(config.server_dir) if config.server_dir else default_directory()
    with folder.in_use():
        if config.answers:
            returned = collect(folder, [Path(name) for name in config.answers])
        else:
            returned = pull(folder, lambda project: connect(server_dir, rater=project.rater))
        write_ratings(path, returned.ratings)
    return returned, missing_ratings(path, returned.ratings)


def main(argv: list[str]) -> None:
    """Parse, pull, say what is still missing."""
    config = parse(RatePullConfig, argv, prog="rlhf rate pull", description="Fetch the ratings of a blind packet.")
    from rlhf.commands.label_output import listed_counts, print_notes

    returned, missing = fetch(config)
    say(f"{len(returned.ratings)} ratings -> {Path(config.output_dir) / 'ratings.jsonl'} (blind)")
    say(f"answers: {returned.annotations}; {listed_counts(returned.counts) or 'none'}")
    print_notes(returned.notes)
    if not returned.ratings:
        print("nobody has rated yet: run the same command later")
    elif missing:
        say(f"{missing} are missing: run the same command later")
    else:
        say(f"complete; then: rlhf rate score --output_dir {config.output_dir}")
