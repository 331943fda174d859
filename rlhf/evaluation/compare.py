"""`rlhf.compare`: how far two rewards are apart, on base samples and on those of a run's checkpoints."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rewards.by_name import require_place
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import write_json
from rlhf.foundation.given_records import samples_of
from rlhf.foundation.held import place_of
from rlhf.foundation.options import Options, Several, option
from rlhf.foundation.outputs import check_own, is_comparison_table
from rlhf.foundation.records import Sample, read_samples
from rlhf.foundation.steps import step
from rlhf.foundation.tables import Table

if TYPE_CHECKING:
    from rewards.distance import Distance

RewardFunction = Callable[..., Any]


@dataclasses.dataclass
class CompareConfig(Options):
    """Options of `rlhf compare`."""

    rewards: Several[str | RewardFunction] = option(
        help="two rewards: directories of reward models, names of rules, FILE.py:NAME; may also come first, bare"
    )
    _: dataclasses.KW_ONLY
    samples: Several[str | Sequence[Sample]] = option(
        [], help="samples.jsonl files; each is a coverage distribution and a row of its own"
    )
    run_directory: str | None = option(None, help="a PPO run: one row a rung, by its KL (nats per completion)")
    output_path: str | None = option(None, help="write the table as JSON")
    seed: int = option(0, help="seed of the bootstrap")

    def __post_init__(self) -> None:
        """Raises InputError on a wrong number of rewards and without samples."""
        super().__post_init__()
        if len(self.rewards) != 2:
            raise InputError("rewards", got=f"{len(self.rewards)}", expected="two", fix="`rlhf compare A B ...`")
        if not self.samples and self.run_directory is None:
            raise InputError(
                "--samples and --run_directory",
                got="neither",
                expected="samples to compare the rewards on",
                fix="give a samples.jsonl of the base policy, a run directory, or both",
            )


@dataclasses.dataclass(frozen=True)
class CompareRow:
    """The distance on one set of samples; `kl_per_completion` in nats where the samples are those of a rung."""

    name: str
    kl_per_completion: float | None
    distance: Distance

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"name": self.name, "kl_per_completion": self.kl_per_completion, **self.distance._asdict()}


@step(CompareConfig)
def compare(config: CompareConfig) -> Table[CompareRow]:
    """How far two rewards are apart: a row for each set of samples, then one a rung, from low KL to high.

    Raises InputError.
    """
    for reward in config.rewards:
        require_place(reward)
    from rewards.calling import call_reward
    from rewards.distance import reward_distance
    from rewards.loading import load_reward

    if config.output_path is not None:
        check_own("--output_path", Path(config.output_path), is_comparison_table)
    first, second = (load_reward(spec) for spec in config.rewards)
    names, rows = [place_of(reward) for reward in config.rewards], []
    for name, kl, samples in _sample_sets(config):
        prompts, completions = [s.prompt for s in samples], [s.completion for s in samples]
        one, other = (call_reward(reward, prompts, completions) for reward in (first, second))
        distance = reward_distance(one, other, prompts, seed=config.seed)
        rows.append(CompareRow(name, kl, distance))
    if config.output_path is not None:
        write_json(Path(config.output_path), {"rewards": names, "rows": [row.as_dict() for row in rows]})
    return Table(rows, f"EPIC-style distance of {names[0]} and {names[1]}")


def _sample_sets(config: CompareConfig) -> list[tuple[str, float | None, list[Sample]]]:
    sets: list[tuple[str, float | None, list[Sample]]] = [
        (place_of(given), None, list(samples_of(given))) for given in config.samples
    ]
    if config.run_directory is not None:
        from rlhf.runs.ladder import read_rungs

        directory = Path(config.run_directory)
        for rung in sorted(read_rungs(directory / "ladder.json"), key=lambda rung: rung.kl_per_completion):
            sets.append((rung.name, rung.kl_per_completion, read_samples(directory / rung.samples)))
    return sets
