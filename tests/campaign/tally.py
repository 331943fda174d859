"""What the campaign did, added up and shown at the end of the run: its figures are in docs/reliability.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class Tally:
    """Rows of (what was done, how often, how often the outcome was wrong)."""

    rows: list[tuple[str, int, int]] = field(default_factory=list)

    def add(self, what: str, tried: int, wrong: Mapping[object, object]) -> None:
        """Note one kind of fault: how often it was tried, and each time that it came out wrong."""
        self.rows.append((what, tried, len(wrong)))
        print(f"{tried:6,d} tried, {len(wrong):,d} wrong: {what}", flush=True)
        for where, found in wrong.items():
            print(f"       {where}: {found}", flush=True)

    def lines(self) -> list[str]:
        """A line a row, and the sum."""
        total = ("in all", sum(tried for _, tried, _ in self.rows), sum(wrong for *_, wrong in self.rows))
        return [f"{tried:6,d} tried, {wrong:,d} wrong: {what}" for what, tried, wrong in [*self.rows, total]]


TALLY = Tally()
