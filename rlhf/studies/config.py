"""Options of `rlhf study`, and how a line of its grid is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from rlhf.foundation.errors import InputError
from rlhf.foundation.options import Options, Several, option
from rlhf.foundation.yaml_files import plain_value

# What a factor may be: of the labels, or the method, by these names, else STAGE.OPTION of `rlhf pretrain`, `reward`,
# `ppo` or `align`.
OF_LABELS = ("num_labels", "noise", "misread", "method")
STAGES = ("model", "reward", "reward_base", "ppo", "align")
OF_PPO = ("ppo", "ppo_critic")  # as values of `method`, beside those of `rlhf align`


@dataclass(kw_only=True)
class StudyConfig(Options):
    """What varies, what is fixed, and where it all goes."""

    output_dir: str = option("runs/study", help="directory of everything the study makes")
    grid: Several[str] = option(
        [],
        help="what varies: NAME=VALUE,VALUE,... each; num_labels, noise, misread (of the simulated labels), method "
        "(ppo, ppo_critic, or one of `rlhf align`), or STAGE.OPTION: "
        "model.X and reward_base.X of `rlhf pretrain` (the policy's original; the model that the reward starts from), "
        "reward.X, ppo.X, align.X",
    )
    fixed: Several[str] = option([], help="the same names with one value each, for every cell")
    seeds: Several[int] = option([0], help="each cell once a seed, which choose labels, reward model and PPO")
    model_seed: int = option(0, help="seed of the language model and of the samples that all cells share; at least 0")
    corpus: str = option("embedded", help="a UTF-8 text file, or `embedded`: a generated play")
    ppo_recipe: str = option("demo", help="recipe or YAML file of the PPO that cells begin from")
    align_recipe: str = option("demo_align", help="the same of the other methods")
    reward_recipe: str = option("demo_reward", help="recipe or YAML file of the reward models")
    num_samples: int = option(2400, help="samples of the original from which each cell's labels are chosen")
    watch: bool = option(
        False, help="PPO's cells also log a second reward model, fitted to as many other labels and given no weight: "
        "what a run can know of its own overoptimisation without gold"
    )  # fmt: skip
    jobs: int = option(1, help="stages and cells done side by side, each in a process of its own")
    group: Several[str] = option([], help="factors that tell groups of cells apart on the page; all but seed if none")
    dry_run: bool = option(False, help="print the cells and what they may cost, and do nothing")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("jobs", "num_samples"):
            if getattr(self, name) < 1:
                raise InputError(
                    f"--{name}", got=getattr(self, name), expected="at least 1", fix="choose another value"
                )
        if len(set(self.seeds)) < len(self.seeds) or not self.seeds or min(self.seeds) < 0:
            raise InputError("--seeds", got=self.seeds, expected="different numbers from 0", fix="leave out the others")
        for line in self.fixed:
            if len(factor(line, "--fixed").values) > 1:
                raise InputError("--fixed", got=line, expected="one value", fix="give several in --grid")
        if self.corpus != "embedded" and not Path(self.corpus).is_file():
            expected = "embedded, or a UTF-8 text file"
            raise InputError("--corpus", got=f"{self.corpus}, no such file", expected=expected, fix="check the path")
        names = [factor(line, "--grid").name for line in [*self.grid, *self.fixed]]
        if len(set(names)) < len(names):
            raise InputError("--grid", got=", ".join(names), expected="each name once", fix="join their values")
        unknown = [name for name in self.group if name not in names]
        if unknown:
            raise InputError(
                "--group", got=unknown[0], expected=f"of {', '.join(names)}", fix="name a factor of --grid"
            )

    def factors(self) -> list[Factor]:
        """What varies, in the order given."""
        return [factor(line, "--grid") for line in self.grid]


class Factor(NamedTuple):
    """A name and its values."""

    name: str
    values: list[Any]


def factor(line: str, where: str) -> Factor:
    """`noise=0,0.25` as a factor, each value read as YAML. Raises InputError."""
    name, equals, values = line.partition("=")
    stage, dot, _ = name.partition(".")
    if not equals or not (stage in STAGES if dot else name in OF_LABELS):
        stages = ", ".join(f"{one}.OPTION" for one in STAGES)
        expected = f"NAME=VALUE,VALUE with a name of {', '.join(OF_LABELS)}, {stages}"
        raise InputError(where, got=line, expected=expected, fix="check the name")
    try:
        read = [plain_value(value) for value in values.split(",")]
    except (yaml.YAMLError, ValueError) as error:  # a date that is none, a number of thousands of digits
        raise InputError(where, got=line, expected="plain values", fix="check the commas and quotes") from error
    if len(set(map(repr, read))) < len(read) or any(isinstance(value, (list, dict)) or value is None for value in read):
        raise InputError(where, got=line, expected="different plain values", fix="give each value once")
    return Factor(name, read)


def of_stage(values: Sequence[tuple[str, Any]], stage: str) -> dict[str, Any]:
    """Those of STAGE.OPTION, by OPTION."""
    return {name.removeprefix(f"{stage}."): value for name, value in values if name.startswith(f"{stage}.")}
