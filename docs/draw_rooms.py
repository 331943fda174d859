"""Draws docs/rooms.svg, the rooms of the code by height and who imports whom: python docs/draw_rooms.py."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams.update({"svg.hashsalt": "rooms", "svg.fonttype": "none", "font.family": "sans-serif"})
import matplotlib.pyplot as plt  # noqa: E402

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from tests.test_architecture import FRONT_DOORS, HEIGHT, LAYERS, MODULES, arrows, room_of  # noqa: E402

INK, DOWN, UP = "#33415c", "#7a8699", "#d1495b"


def places() -> dict[str, tuple[float, float]]:
    """Where each room stands: its layer is its height, rooms of one layer side by side."""
    found = {}
    for height, rooms in enumerate(LAYERS):
        for number, room in enumerate(rooms):
            found[room] = (1.55 * (number - (len(rooms) - 1) / 2) + 0.22 * (-1) ** height, float(height))
    return found


def main() -> None:
    """Count the arrows between rooms and draw them; those that point up, if there were any, in red."""
    counted = Counter((room_of(name), room_of(target)) for name, targets in arrows().items() for target in targets)
    sizes, place = Counter(room_of(name) for name in MODULES if name not in FRONT_DOORS), places()
    figure, axes = plt.subplots(figsize=(9, 8.5))
    for (here, there), count in counted.items():
        if here == there:
            continue
        up = HEIGHT[there] > HEIGHT[here]
        gap = HEIGHT[here] - HEIGHT[there]
        style = {
            "arrowstyle": "-|>",
            "color": UP if up else DOWN,
            "alpha": 0.8,
            "lw": 0.6 + 0.35 * min(count, 40) ** 0.5,
        }
        bend = {"connectionstyle": f"arc3,rad={0.0 if gap < 2 else 0.16 + 0.02 * gap:.2f}"}
        axes.annotate("", place[there], place[here], arrowprops={**style, **bend, "shrinkA": 16, "shrinkB": 16})
    for room, (x, y) in place.items():
        label = f"{room.replace('.', '/')}\n{sizes[room]} file{'s' * (sizes[room] != 1)}"
        box = {"boxstyle": "round,pad=0.45", "fc": "white", "ec": INK, "lw": 1.2}
        axes.text(x, y, label, ha="center", va="center", fontsize=9, color=INK, bbox=box, zorder=3)
    axes.set_xlim(-4.2, 4.2)
    axes.set_ylim(-0.6, len(LAYERS) - 0.4)
    axes.axis("off")
    figure.savefig(ROOT / "docs" / "rooms.svg", metadata={"Date": None}, bbox_inches="tight")
    if "--png" in sys.argv:  # to be looked at
        figure.savefig(sys.argv[-1], dpi=90, bbox_inches="tight")
    up_arrows = sum(count for (here, there), count in counted.items() if HEIGHT[there] > HEIGHT[here])
    print(f"{len(MODULES)} files in {len(place)} rooms, {sum(counted.values())} imports, {up_arrows} of them upwards")


if __name__ == "__main__":
    main()
