"""`rlhf label simulate`: annotators that follow the gold rule, except for an exact share of wrong answers."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from labeling.pairs import pair_samples
from labeling.simulate import simulate_answers, simulate_labels
from rlhf.commands.label_output import tally
from rlhf.commands.outputs import check_output
from rlhf.foundation.errors import InputError
from rlhf.foundation.records import Comparison, Label, Sample, read_samples, write_records
from rlhf.foundation.terminal import shown
from rlhf.option_fields import Options, check_ranges
from rlhf.options import option, parse

if TYPE_CHECKING:
    from rlhf.gold import GoldRule

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
        check_ranges(self, [("noise", 0, 1)])
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
    """Simulate the annotators and write their file; returns what was written, and warns of gold that knows little.

    Raises InputError, also where the rule derives none of the texts.
    """
    from rlhf.gold import GoldRule

    output = Path(config.output)
    check_output("--output", output, overwrite=config.overwrite, inputs=[config.samples])
    samples = read_samples(Path(config.samples))
    rule = GoldRule(check_lines=config.gold == "embedded")
    completions, prompts = [sample.completion for sample in samples], [sample.prompt for sample in samples]
    rule.require_known(completions, prompts, config.samples)
    records: list[Label] | list[Comparison]
    if config.kind == "comparison":
        records, decided, wrong = _comparisons(config, samples, rule)
    else:
        records, decided, wrong = _labels(config, samples, rule)
    write_records(output, records)
    says = "tie of every pair" if config.kind == "comparison" else "neutral of every text"
    ignorance = rule.ignorance(completions, prompts, "--gold lexicon")
    if warning := warning_of(ignorance, decided, wrong, len(records), says):
        print(f"rlhf: warning: {config.samples}: {warning}", file=sys.stderr)
    return records


def warning_of(ignorance: str, decided: int, wrong: int, count: int, says: str) -> str:
    """One line where the labels tell of noise rather than of the rule, else "".

    `decided` of `count` labels are neither neutral nor a tie by the rule, `wrong` of them are noise; `says` is what a
    rule without an opinion says.
    """
    told = [ignorance] if ignorance else []
    if decided == 0 and wrong:
        told.append(f"the rule says {says}, so that only noise says anything else ({wrong} of {count})")
    elif wrong > decided:
        told.append(f"noise exceeds the rule's own answers: {wrong} of {count} are wrong, the rule decides {decided}")
    return "; ".join(told)


def _labels(config: SimulateConfig, samples: Sequence[Sample], rule: GoldRule) -> tuple[list[Label], int, int]:
    """The labels, how many the rule calls positive or negative, and how many are noise."""
    judge = functools.cache(rule.label)  # several annotators see the same text
    labels: list[Label] = []
    decided = 0
    for name, noise, texts in dealt(config, samples):
        labels += simulate_labels(texts, judge, annotator=name, noise=noise, seed=config.seed)
        decided += sum(judge(text.completion, text.prompt) != "neutral" for text in texts)
    return labels, decided, sum(x.label != judge(x.completion, x.prompt) for x in labels)


def _comparisons(
    config: SimulateConfig, samples: Sequence[Sample], rule: GoldRule
) -> tuple[list[Comparison], int, int]:
    """The comparisons, how many the rule decides, and how many are noise."""
    pairs, _ = pair_samples(samples)
    if not pairs:
        raise InputError(
            config.samples,
            got="no two different completions of one prompt",
            expected="at least one pair",
            fix="sample with --num_return_sequences 2",
        )
    score = functools.cache(rule.score)
    comparisons: list[Comparison] = []
    decided = wrong = 0
    for name, noise, mine in dealt(config, pairs):
        answers = simulate_answers(mine, score, annotator=name, noise=noise, seed=config.seed)
        comparisons += [
            pair.answered(answer, annotator=name, origin="simulated")
            for pair, answer in zip(mine, answers, strict=True)
        ]
        decided += sum(score(pair.first, pair.prompt) != score(pair.second, pair.prompt) for pair in mine)
        wrong += round(noise * len(mine))
    return comparisons, decided, wrong


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
    print(f"{tally(run(config))} -> {shown(config.output)}")
