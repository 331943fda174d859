"""`rlhf label simulate`: annotators that follow the gold rule, except for an exact share of wrong answers."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from labeling.pairs import pair_samples
from labeling.simulate import simulate_answers, simulate_labels
from rlhf.commands.label_output import check_output, tally
from rlhf.foundation.errors import InputError
from rlhf.foundation.records import Comparison, Label, read_samples, write_records
from rlhf.option_fields import Options
from rlhf.options import option, parse

Item = TypeVar("Item")


@dataclass
class SimulateConfig(Options):
    """Options of `rlhf label simulate`."""

    samples: str = option(help="samples.jsonl to be labelled")
    output: str = option(help="file to write: labels.jsonl, or comparisons.jsonl with --kind comparison")
    kind: Literal["judgement", "comparison"] = option(
        "judgement", help="judgement: one text at a time; comparison: two completions of one prompt"
    )
    gold: Literal["embedded", "lexicon"] = option(
        "embedded",
        help="rule that the annotators follow: embedded (lexicon sentiment; a line outside the embedded corpus' "
        "grammar is neutral) or lexicon (lexicon sentiment alone, for any English text)",
    )
    annotators: list[str] = option(["simulated"], help="names of the annotators")
    noise: list[float] = option(
        [0.1], help="share of wrong answers, 0 to 1, exact: one for all annotators or one for each"
    )
    raters_per_sample: int = option(
        0, help="annotators that see each sample, dealt in turn; 0: every annotator sees every sample"
    )
    seed: int = option(0, help="seed of what is answered wrongly")
    overwrite: bool = option(False, help="replace the output file if it exists")

    def __post_init__(self) -> None:
        super().__post_init__()
        names = [name for text in self.annotators for name in text.split(",") if name]
        self.annotators = names
        if not names or len(set(names)) < len(names):
            raise InputError(
                "--annotators", got=" ".join(names) or "nothing", expected="distinct names", fix="name each one once"
            )
        if len(self.noise) not in (1, len(names)):
            raise InputError(
                "--noise",
                got=f"{len(self.noise)} values",
                expected=f"1 or {len(names)}, one for each annotator",
                fix="give one share for all or one for each",
            )
        if not 0 <= self.raters_per_sample <= len(names):
            raise InputError(
                "--raters_per_sample",
                got=self.raters_per_sample,
                expected=f"0 to {len(names)}, the number of annotators",
                fix="name more annotators or lower it",
            )


def run(config: SimulateConfig) -> list[Label] | list[Comparison]:
    """Simulate the annotators and write their file; returns what was written. Raises InputError."""
    from rlhf.gold import GoldRule

    output = Path(config.output)
    check_output(output, overwrite=config.overwrite)
    samples = read_samples(Path(config.samples))
    rule = GoldRule(check_lines=config.gold == "embedded")
    judge = functools.cache(rule.label)  # several annotators see the same text
    if config.kind == "comparison":
        comparisons: list[Comparison] = []
        pairs, _ = pair_samples(samples)
        if not pairs:
            raise InputError(
                config.samples,
                got="no two different completions of one prompt",
                expected="at least one pair",
                fix="sample with --num_return_sequences 2",
            )
        score = functools.cache(rule.score)
        for name, noise, mine in dealt(config, pairs):
            answers = simulate_answers(mine, score, annotator=name, noise=noise, seed=config.seed)
            comparisons += [
                pair.answered(answer, annotator=name, origin="simulated")
                for pair, answer in zip(mine, answers, strict=True)
            ]
        write_records(output, comparisons)
        return comparisons
    labels: list[Label] = []
    for name, noise, texts in dealt(config, samples):
        labels += simulate_labels(texts, judge, annotator=name, noise=noise, seed=config.seed)
    write_records(output, labels)
    return labels


def dealt(config: SimulateConfig, items: Sequence[Item]) -> Iterator[tuple[str, float, list[Item]]]:
    """For each annotator: name, share of wrong answers, and the items dealt to it (item i to raters i, i+1, ...)."""
    raters = len(config.annotators)
    each = config.raters_per_sample or raters
    for place, name in enumerate(config.annotators):
        mine = [item for index, item in enumerate(items) if (place - index) % raters < each]
        yield name, config.noise[place % len(config.noise)], mine


def main(argv: list[str]) -> None:
    """Parse the options, simulate, and print what was written."""
    config = parse(SimulateConfig, argv, prog="rlhf label simulate", description=(__doc__ or "").split(": ", 1)[1])
    print(f"{tally(run(config))} -> {config.output}")
