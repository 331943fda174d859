"""`rlhf rate plan`: the effect that a blind rating can show, and the samples it needs, before anything goes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from rlhf.foundation.errors import InputError
from rlhf.foundation.options import Options, option
from rlhf.foundation.steps import step


@dataclass
class RatePlanConfig(Options):
    """Options of `rlhf rate plan`."""

    NEEDS: ClassVar[Mapping[str, str]] = {"per_rung": "ladder"}
    NOT_WITH: ClassVar[Mapping[str, str]] = {"num_samples": "ladder", "models": "ladder"}

    num_samples: int = option(20, help="samples of each model, 2 to 5,000")
    models: int = option(1, help="models compared with the original, 1 to 20")
    raters: int = option(1, help="people who rate every sample, 1 to 50")
    effect: float = option(0.5, help="difference of mean ratings worth finding, points of the 1-5 scale, 0 to 4")
    sample_sd: float = option(0.9, help="spread of quality between samples of one model, points, 0 to 4")
    rater_sd: float = option(0.7, help="spread of one rater's judgement of one sample, points, 0 to 4")
    ladder: bool = option(False, help="plan a rating of 8 rungs instead: power to see where quality stops rising")
    per_rung: int = option(40, help="samples of each rung with --ladder, 2 to 1,000")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, low, high in (
            ("num_samples", 2, 5000),
            ("models", 1, 20),
            ("raters", 1, 50),
            ("effect", 0, 4),
            ("sample_sd", 0, 4),
            ("rater_sd", 0, 4),
            ("per_rung", 2, 1000),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise InputError(f"--{name}", got=value, expected=f"{low} to {high:,}", fix="choose another value")


@step(RatePlanConfig)
def rate_plan(config: RatePlanConfig) -> list[str]:
    """What a blind rating of so many samples can show, in sentences, before anything goes out."""
    from rlhf.inspection.blind_power import Raters, plan_study
    from rlhf.inspection.human_ladder import ladder_power
    from rlhf.inspection.rating_packet import LADDER_RUNGS

    raters = Raters(config.sample_sd, config.rater_sd, config.raters)
    if not config.ladder:
        return plan_study(config.num_samples, config.effect, raters, config.models).statements()
    studies = 200
    power = ladder_power(LADDER_RUNGS, config.per_rung, config.effect, raters, studies=studies)
    ratings = LADDER_RUNGS * config.per_rung * config.raters
    return [
        f"{LADDER_RUNGS} rungs of {config.per_rung} samples, {ratings:,} ratings in all: if quality falls by "
        f"{config.effect:.2f} points after the middle of the ladder, the onset is resolved with {power:.0%} power "
        f"({studies} simulated studies, ± {100 * (power * (1 - power) / studies) ** 0.5:.0f} %).",
        f"Assumed: qualities of samples spread by {config.sample_sd:g} points, a rater's noise by {config.rater_sd:g}.",
    ]
