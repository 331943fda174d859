"""Methods of a study side by side: gold at 1, 4 and 10 nats, and the share of the frontier's proxy at 2 and 4.

    rlhf study --grid method=ppo,ppo_critic,dpo,kto,grpo,rloo,rejection,sft --seeds 0 1 2 3 4 --output_dir STUDY
    python benchmarks/methods.py STUDY

Gold of a cell lies between its rungs in the order of their KL, linear in sqrt(KL); what stands at the end of training
is told beside it, since a method may stay at one KL and gain. Told are means ± standard errors over seeds, of seeds
whose ladder goes so far (within 3 %), and how many did; shares are a mean of each seed's. Completions are those that a
cell drew or read up to its last rung.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas

from rlhf import environment

environment.prepare()

from rlhf.inspection.evaluation import Evaluation, read_evaluation
from rlhf.inspection.kl_efficiency import kl_shares

NATS, SHARES_AT = (1.0, 4.0, 10.0), (2.0, 4.0)


@dataclass(frozen=True)
class Cell:
    """Of one run: its ladder's KL and gold, shares of the frontier by nats; completions, nats and gold at the end."""

    roots: list[float]
    gold: list[float]
    shares: dict[float, float]
    completions: int
    end: tuple[float, float]

    def gold_at(self, nats: float) -> float | None:
        """None beyond the ladder."""
        if self.roots[-1] ** 2 < 0.97 * nats:
            return None
        return float(np.interp(math.sqrt(nats), self.roots, self.gold))


def read(study: Path) -> dict[str, list[Cell]]:
    """Cells by method, in the order of the study's table."""
    rungs = pandas.read_csv(study / "rungs.csv", dtype={"method": str})
    if "method" not in rungs:
        sys.exit(f"{study / 'rungs.csv'}: got no column method; expected a study whose --grid has method=...; give one")
    found: dict[str, list[Cell]] = defaultdict(list)
    for (method, name), own in rungs.groupby(["method", "cell"], sort=False):
        own = own.sort_values("kl")
        place, evaluation = of_the_table(study, name, list(own["kl"]))
        shares = {one.kl: one.share for one in kl_shares(evaluation)}
        ladder = json.loads((place / "ladder.json").read_text(encoding="utf-8"))["rungs"]
        last = max(ladder, key=lambda rung: rung["iteration"])
        end = own[own["rung"] == last["name"]].iloc[0]
        ends = float(end["kl"]), float(end["gold"])
        found[method].append(Cell(list(own["sqrt_kl"]), list(own["gold"]), shares, last["completions_seen"], ends))
    return found


def of_the_table(study: Path, name: str, kls: list[float]) -> tuple[Path, Evaluation]:
    """The cell's directory and evaluation: of those by its name (another grid's options make another) the one whose
    rungs the table has."""
    for place in (study / "cells").glob(f"{name}.*"):
        evaluation = read_evaluation(place / "evaluation.json")
        found = sorted(rung.kl for rung in evaluation.rungs)
        if len(found) == len(kls) and np.allclose(found, kls):
            return place, evaluation
    sys.exit(f"{study}: no cell {name} with the rungs of rungs.csv")


def told(values: Sequence[float | None], form: str = ".3f", unit: str = "") -> str:
    """Mean ± standard error, and of how many if not of all."""
    there = [value for value in values if value is not None]
    if not there:
        return "-"
    error = f" ± {statistics.stdev(there) / math.sqrt(len(there)):{form}}" if len(there) > 1 else ""
    few = "" if len(there) == len(values) else f" ({len(there)} of {len(values)})"
    return f"{statistics.mean(there):{form}}{error}{unit}{few}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    given = parser.parse_args()
    found = read(given.study)
    heads = [f"gold at {n:g}" for n in NATS] + [f"frontier's share at {n:g}" for n in SHARES_AT]
    print(f"| method | seeds | {' | '.join(heads)} | completions | at the end, nats | gold there |")
    print("|" + "---|" * (len(heads) + 5))
    for method, cells in sorted(found.items(), key=lambda item: -(item[1][0].gold_at(4.0) or -1.0)):
        row = [told([cell.gold_at(n) for cell in cells]) for n in NATS]
        row += [
            told([100 * s if (s := cell.shares.get(n)) else None for cell in cells], ".0f", " %") for n in SHARES_AT
        ]
        ends = [cell.end[0] for cell in cells]
        counts = [cell.completions for cell in cells]
        row += [f"{min(counts):,} to {max(counts):,}", f"{min(ends):.1f} to {max(ends):.1f}"]
        row.append(told([cell.end[1] for cell in cells]))
        print(f"| {method} | {len(cells)} | {' | '.join(row)} |")


if __name__ == "__main__":
    main()
