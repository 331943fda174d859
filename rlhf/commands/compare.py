"""`rlhf compare A B`: how far two rewards are apart, on base samples and on those of a run's checkpoints."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlhf.commands.outputs import check_own, is_comparison_table
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import write_json
from rlhf.foundation.records import Sample, read_samples
from rlhf.foundation.terminal import say
from rlhf.option_fields import Options
from rlhf.options import option, parse

if TYPE_CHECKING:
    from rewards.distance import Distance


@dataclasses.dataclass
class CompareConfig(Options):
    """Options of `rlhf compare`."""

    rewards: list[str] = option(
        help="two rewards: directories of reward models, names of rules, FILE.py:NAME; may also come first, bare"
    )
    samples: list[str] = option([], help="samples.jsonl files; each is a coverage distribution and a row of its own")
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


def run(config: CompareConfig) -> list[CompareRow]:
    """One row a file of samples, then one a rung, from low KL to high. Raises InputError."""
    from rewards.calling import call_reward
    from rewards.distance import reward_distance
    from rewards.loading import load_reward

    if config.output_path is not None:
        check_own("--output_path", Path(config.output_path), is_comparison_table)
    first, second = (load_reward(spec) for spec in config.rewards)
    rows = []
    for name, kl, samples in _sample_sets(config):
        prompts, completions = [s.prompt for s in samples], [s.completion for s in samples]
        one, other = (call_reward(reward, prompts, completions) for reward in (first, second))
        distance = reward_distance(one, other, prompts, seed=config.seed)
        rows.append(CompareRow(name, kl, distance))
    if config.output_path is not None:
        write_json(Path(config.output_path), {"rewards": config.rewards, "rows": [row.as_dict() for row in rows]})
    return rows


def _sample_sets(config: CompareConfig) -> list[tuple[str, float | None, list[Sample]]]:
    sets: list[tuple[str, float | None, list[Sample]]] = [
        (path, None, read_samples(Path(path))) for path in config.samples
    ]
    if config.run_directory is not None:
        from rlhf.ppo.ladder import read_rungs

        directory = Path(config.run_directory)
        for rung in sorted(read_rungs(directory / "ladder.json"), key=lambda rung: rung.kl_per_completion):
            sets.append((rung.name, rung.kl_per_completion, read_samples(directory / rung.samples)))
    return sets


def main(argv: list[str]) -> None:
    """Parse (bare words in front are the rewards), run, and print the table."""
    bare = next((i for i, word in enumerate(argv) if word.startswith("-")), len(argv))
    words = [*(["--rewards", *argv[:bare]] if bare else []), *argv[bare:]]
    config = parse(CompareConfig, words, prog="rlhf compare", description=__doc__ or "")
    say(f"EPIC-style distance of {config.rewards[0]} and {config.rewards[1]}")
    print("(0: alike, 0.707: unrelated, 1: opposite; 95 % bootstrap interval)")
    for row in run(config):
        found = row.distance
        kl = "" if row.kl_per_completion is None else f"  KL {row.kl_per_completion:5.2f} nats"
        dropped = f", {found.dropped} dropped" if found.dropped else ""
        say(
            f"{row.name}{kl}  {found.distance:.3f} ({found.low:.3f} to {found.high:.3f}), correlation "
            f"{found.correlation:.3f} (n = {found.n} completions of {found.n_prompts} prompts{dropped})"
        )
