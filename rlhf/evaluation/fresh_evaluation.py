"""`rlhf evaluate`: draw fresh samples of every rung, keep them in RUN/evaluation/, and score them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

from rewards.rules import RewardFunc
from rlhf.evaluation.fresh_samples import draw_ladder, original_rung, run_rewards
from rlhf.foundation.files import write_json
from rlhf.foundation.records import write_records
from rlhf.inspection.evaluation import Evaluation, evaluate_samples, write_evaluation
from rlhf.runs.reading import Run

FOLDER = "evaluation"


def evaluate_fresh(
    run: Run,
    golds: Mapping[str, RewardFunc],
    qualities: Mapping[str, RewardFunc],
    *,
    count: int,
    pool: int = 0,
    corpus: str | None = None,
    heldout: str | None = None,
    rewarded_pattern: str | None = None,
    draw: int = 1,
    heat_samples: int = 0,
    quiet: bool = False,
    rewards: Sequence[RewardFunc] | None = None,
    accepted_changes: Sequence[str] = (),
) -> Evaluation:
    """Draw `count` samples a rung (`pool` of the original for best-of-n, if that is more) and score them.

    `rewards` are the run's own where they have been loaded already, `accepted_changes` what evaluation.json says was no
    longer as the run had it. Writes RUN/evaluation/NAME.jsonl, heat.json and
    evaluation.json. Raises InputError when the run's rewards or checkpoints cannot be loaded; nothing is written
    before all is drawn.
    """
    drawn = draw_ladder(
        run,
        rewards if rewards is not None else run_rewards(run)[0],
        count=count,
        pool=pool,
        draw=draw,
        heat_samples=heat_samples,
        heldout=heldout,
        quiet=quiet,
    )
    samples = {name: rung.samples[:count] for name, rung in drawn.items()}
    evaluation = evaluate_samples(
        run,
        samples,
        golds,
        quality_funcs=qualities,
        corpus=corpus,
        folder=FOLDER,
        draw=draw,
        pool=drawn[original_rung(run)].samples,
        kl={name: rung.kl for name, rung in drawn.items()},
        heldout={name: rung.heldout for name, rung in drawn.items() if rung.heldout},
        rewarded_pattern=rewarded_pattern,
    )
    evaluation = replace(evaluation, accepted_changes=list(accepted_changes))
    for name, rows in samples.items():
        write_records(run.directory / FOLDER / f"{name}.jsonl", rows)
    heat = {name: [asdict(tokens) for tokens in rung.heat] for name, rung in drawn.items()}
    write_json(run.directory / FOLDER / "heat.json", heat)
    write_evaluation(run.directory, evaluation)
    return evaluation
