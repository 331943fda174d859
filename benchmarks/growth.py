"""How an iteration's CPU-seconds grow with completions and with tokens, ours and the plain loop's, 1 M parameters.

    python benchmarks/growth.py [--rounds 3] [--output benchmarks/results.json]

The exponent is the slope of log CPU-seconds (of all, and of our sampling, scoring and update) along log completions,
or log tokens, over all rounds, with the 95 % interval of ordinary least squares. Work is doubled in turn, 128 to 1,024
completions of 48 tokens and 12 to 96 tokens of 256 completions; the second iteration of each process counts. Memory:
the peak of a process at the smallest and at the largest amount.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import linregress, t

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE), str(HERE / "peers")]

from speed import measured, write
from work import Work, make_model

AMOUNTS = {"completions": (128, 256, 512, 1024), "tokens": (12, 24, 48, 96)}
FIXED = {"completions": {"tokens": 48}, "tokens": {"completions": 256}}
PARTS = ("cpu_seconds", "sampling", "scoring", "update")


def exponent(amounts: list[int], seconds: list[float]) -> dict[str, float]:
    """The slope on logarithms with half the width of its 95 % interval."""
    fit = linregress(np.log(amounts), np.log(seconds))
    half = float(t.ppf(0.975, len(seconds) - 2)) * float(fit.stderr)
    return {"exponent": round(float(fit.slope), 3), "half_interval": round(half, 3)}


def growth(rounds: int, model: str) -> dict[str, Any]:
    """By contender and by what grows: the exponents, and memory."""
    found: dict[str, Any] = {}
    for along, amounts in AMOUNTS.items():
        lines: dict[str, list[tuple[int, dict[str, float]]]] = {"ours": [], "plain_loop": []}
        for _ in range(rounds):
            for amount in amounts:
                for name in lines:
                    sizes: dict[str, Any] = {**FIXED[along], along: amount}
                    [line] = measured(Work(name, model, **sizes), sys.executable)
                    lines[name].append((amount, line))
                    print(f"{along} {amount}: {name}: {line['cpu_seconds']} CPU-s", flush=True)
        for name, rows in lines.items():
            sizes_of = [amount for amount, _ in rows]
            parts = [part for part in PARTS if part in rows[0][1]]
            fits = {part: exponent(sizes_of, [line[part] for _, line in rows]) for part in parts}
            peaks = [
                max(line["peak_gib"] for amount, line in rows if amount == end) for end in (amounts[0], amounts[-1])
            ]
            found.setdefault(name, {})[along] = {**fits, "peak_gib": peaks}
    return found


def main() -> None:
    """Measure, print, perhaps write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = growth(given.rounds, str(make_model("1M", Path(folder) / "1M")))
    for name, by in found.items():
        for along, fits in by.items():
            told = ", ".join(
                f"{part} {fit['exponent']} ± {fit['half_interval']}" for part, fit in fits.items() if part != "peak_gib"
            )
            print(f"{name} along {along}: {told}; peak {fits['peak_gib'][0]} to {fits['peak_gib'][1]} GiB")
    if given.output:
        write(Path(given.output), "growth", {"rounds": given.rounds, "amounts": AMOUNTS, "fixed": FIXED, **found})


if __name__ == "__main__":
    main()
