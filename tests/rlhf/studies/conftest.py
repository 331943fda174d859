"""A study whose stages leave small files at once, in the place of models and runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlhf.studies import stages
from rlhf.studies.plan import Stage

Deed = Callable[[Path, Stage, bool], None]


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kinds that were done, in order; each deed leaves its product."""
    order: list[str] = []

    def deed(root: Path, stage: Stage, quiet: bool) -> None:
        place = root / stage.place
        place.mkdir(parents=True, exist_ok=True)
        (place / stages.PRODUCTS[stage.kind]).write_text("{}")
        if stage.kind == "cell":
            (place / "run.json").write_text(json.dumps({"status": "finished"}))
        order.append(stage.kind)

    monkeypatch.setattr(stages, "DEEDS", dict.fromkeys(stages.DEEDS, deed))
    return order


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    return {
        "output_dir": str(tmp_path / "study"), "grid": ["noise=0,0.25", "ppo.beta=0,0.1"], "seeds": [0, 1],
        "num_samples": 100, "fixed": ["num_labels=40"], "quiet": True,
    }  # fmt: skip
