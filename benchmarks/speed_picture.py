"""The README's picture of speed, from the results of benchmarks/speed.py.

python benchmarks/speed_picture.py benchmarks/results.json docs/speed.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

NAMES = {
    "ours": "this toolkit, no critic", "ours_shared": "this toolkit, shared critic",
    "ours_separate": "this toolkit, separate critic", "plain_loop": "plain loop by hand", "grpo": "TRL GRPO, with KL",
    "grpo_no_kl": "TRL GRPO, no KL", "rloo": "TRL RLOO", "trl_ppo": "TRL 1.12 PPO",
    "trl_ppo_tiny": "TRL 1.12 PPO, tiny value model",
}  # fmt: skip
TITLES = {"all": "{:.3g} M parameters", "last_layer": "{:.3g} M parameters, last layer alone"}
OURS, THEIRS, LIMIT = "#0f766e", "#a8a29e", "#b45309"


def panel(axes: Any, result: dict[str, Any]) -> None:
    """One setting: a bar a contender with its range over rounds, and the limit as a line."""
    rows = sorted(result["contenders"].items(), key=lambda item: -item[1]["cpu_seconds"])
    for place, (name, row) in enumerate(rows):
        low, high = row["cpu_seconds_range"]
        value = row["cpu_seconds"]
        axes.barh(place, value, color=OURS if name.startswith("ours") else THEIRS, height=0.7)
        axes.errorbar(
            value, place, xerr=[[max(0, value - low)], [max(0, high - value)]], color="#44403c", capsize=2, lw=1
        )
        axes.annotate(
            f"{value:.1f}",
            (max(high, value), place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    limit = result["operations_gflop"] / result["peak_gflop_per_cpu_second"]
    axes.axvline(limit, color=LIMIT, lw=1.2, ls="--")
    axes.annotate(f" limit {limit:.1f}", (limit, len(rows) - 0.4), color=LIMIT, fontsize=8, ha="left", va="bottom")
    axes.set_yticks(range(len(rows)), [NAMES[name] for name, _ in rows], fontsize=8)
    axes.set_ylim(-0.6, len(rows) + 0.1)
    axes.margins(x=0.12)
    size = TITLES[result["train_scope"]].format(result["parameters"] / 1e6)
    axes.set_title(f"{size}: {result['completions']:,} × {result['tokens']} tokens", fontsize=9, loc="left")
    axes.set_xlabel(f"CPU-seconds an iteration, rounds: {result['rounds']}, median", fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    """Draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("output", type=Path)
    given = parser.parse_args()
    results = json.loads(given.results.read_text(encoding="utf-8"))
    shown = [one for one in results.values() if "contenders" in one]
    heights = [len(one["contenders"]) + 2.5 for one in shown]
    figure, panels = plt.subplots(len(shown), 1, figsize=(7, 0.3 * sum(heights)), squeeze=False, height_ratios=heights)
    for axes, one in zip(panels[:, 0], shown, strict=True):
        panel(axes, one)
    figure.tight_layout()
    figure.savefig(given.output, dpi=150)


if __name__ == "__main__":
    main()
