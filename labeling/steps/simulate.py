"""`rlhf label simulate`: annotators that follow the gold rule, except for an exact share of wrong answers."""

from __future__ import annotations

import functools
import re
import sys
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from labeling.by_rule import labels_by_rule, simulate_answers
from labeling.pairs import pair_samples
from labeling.tally import Tally
from rlhf.foundation.errors import InputError
from rlhf.foundation.given_records import Samples, watched_samples
from rlhf.foundation.held import place_of
from rlhf.foundation.lazy import Chained, Lazy
from rlhf.foundation.locks import sole_writer
from rlhf.foundation.options import REQUIRED, Options, Several, check_pattern, check_ranges, option
from rlhf.foundation.outputs import check_output
from rlhf.foundation.progress import counted, reading
from rlhf.foundation.records import LABELS, Comparison, Label, LabelName, Sample, write_records
from rlhf.foundation.steps import step
from rlhf.foundation.tables import Table

if TYPE_CHECKING:
    from rewards.gold import GoldRule


@dataclass
class SimulateConfig(Options):
    """Options of `rlhf label simulate`."""

    samples: Samples = option(help="samples.jsonl to be labelled")
    output: str | None = option(
        None, help="file to write: labels.jsonl, or comparisons.jsonl with --kind comparison", written=REQUIRED
    )
    kind: Literal["judgement", "comparison"] = option(
        "judgement", help="judgement: one text at a time; comparison: two completions of one prompt"
    )
    gold: Literal["embedded", "lexicon"] = option(
        "embedded",
        help="rule that the annotators follow: embedded (lexicon sentiment; a line outside the embedded corpus' "
        "grammar is neutral) or lexicon (lexicon sentiment alone, for any English text)",
    )
    annotators: Several[str] = option(["simulated"], help="names of the annotators")
    noise: Several[float] = option(
        [0.1], help="share of wrong answers, 0 to 1, exact: one for all annotators or one for each"
    )
    misread: str | None = option(
        None, help="judgements only: regular expression of texts that every annotator takes for positive, whatever the "
        "rule says and without noise: a mistake that a reward model learns and a policy can exploit"
    )  # fmt: skip
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
        check_pattern("--misread", self.misread)
        if self.misread is not None and self.kind == "comparison":
            got = f"{self.misread!r} of comparisons"
            raise InputError("--misread", got=got, expected="judgements", fix="leave it out")
        for share in self.noise:
            if not 0.0 <= share <= 1.0:
                raise InputError("--noise", got=share, expected="a share between 0 and 1", fix="for example 0.1")
        if not 0 <= self.raters_per_sample <= len(names):
            raise InputError(
                "--raters_per_sample",
                got=self.raters_per_sample,
                expected=f"0 to {len(names)}, the number of annotators",
                fix="name more annotators or lower it",
            )


@dataclass
class Simulated:
    """Records that are made when they are looked at; how many the rule decides, how many are noise."""

    records: Sequence[Label] | Sequence[Comparison]
    decided: int
    wrong: int


class Judged:
    """What the rule says of samples while they pass: of each a byte and its uid are kept."""

    def __init__(self, rule: GoldRule) -> None:
        self.rule, self.known = rule, 0
        self.uids: list[str] = []
        self._said = bytearray()

    def add(self, sample: Sample) -> None:
        """The next sample."""
        self.known += self.rule.knows(sample.completion, sample.prompt)
        self.uids.append(sample.uid)
        self._said.append(LABELS.index(self.rule.label(sample.completion, sample.prompt)))

    @property
    def labels(self) -> Sequence[LabelName]:
        """What it says of each."""
        return Lazy(lambda place: LABELS[self._said[place]], range(len(self._said)))


@step(SimulateConfig)
def simulate(config: SimulateConfig) -> Table[Any]:
    """Labels (or comparisons) by a rule; warns of gold that knows little of the samples.

    With `output` they are written, and memory holds a number a label. Raises InputError, also where the rule derives
    none of the texts, and when another command writes there.
    """
    with sole_writer(config.output, "--output"):
        return _simulated(config)


def _simulated(config: SimulateConfig) -> Table[Any]:
    from rewards.gold import GoldRule

    place = place_of(config.samples)
    if config.output is not None:
        check_output("--output", Path(config.output), overwrite=config.overwrite, inputs=[place])
    rule = GoldRule(check_lines=config.gold == "embedded")
    judged = Judged(rule)
    with reading(place, quiet=config.quiet) as advance:
        samples = watched_samples(config.samples, advance, judged.add)
    rule.require_some(judged.known, len(samples), place)
    made = _comparisons(config, samples, rule) if config.kind == "comparison" else _labels(config, samples, judged)
    count = len(made.records)
    tally = Tally()
    if config.output is not None:
        rows = counted(cast(Sequence[Label], made.records), count, "write", quiet=config.quiet)
        write_records(Path(config.output), tally.watch(rows))
        records: Sequence[Any] = made.records
    else:
        records = list(tally.watch(cast(Sequence[Label], made.records)))
    says = "tie of every pair" if config.kind == "comparison" else "neutral of every text"
    ignorance = rule.ignorance_of(judged.known, len(samples), "--gold lexicon")
    if warning := warning_of(ignorance, made.decided, made.wrong, count, says):
        print(f"rlhf: warning: {place}: {warning}", file=sys.stderr)
    return Table(records, str(tally))


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


def _labels(config: SimulateConfig, samples: Sequence[Sample], judged: Judged) -> Simulated:
    parts = []
    decided = wrong = 0
    misread = re.compile(config.misread) if config.misread is not None else None
    for name, noise, mine in dealt(config, range(len(samples))):
        seen = Lazy(samples.__getitem__, mine)
        said = Lazy(judged.labels.__getitem__, mine)
        uids = [judged.uids[place] for place in mine]
        of_rater: dict[str, Any] = {"annotator": name, "noise": noise, "seed": config.seed, "misread": misread}
        parts.append(labels_by_rule(seen, uids, said, **of_rater))
        decided += sum(label != "neutral" for label in said)
        wrong += round(noise * len(mine))
    return Simulated(Chained(*parts), decided, wrong)


def _comparisons(config: SimulateConfig, samples: Sequence[Sample], rule: GoldRule) -> Simulated:
    pairs, _ = pair_samples(samples)
    if not pairs:
        raise InputError(
            place_of(config.samples),
            got="no two different completions of one prompt",
            expected="at least one pair",
            fix="sample with --num_return_sequences 2",
        )
    score = functools.cache(rule.score)
    comparisons: list[Comparison] = []
    decided = wrong = 0
    for name, noise, places in dealt(config, range(len(pairs))):
        mine = [pairs[place] for place in places]
        answers = simulate_answers(mine, score, annotator=name, noise=noise, seed=config.seed)
        comparisons += [
            pair.answered(answer, annotator=name, origin="simulated")
            for pair, answer in zip(mine, answers, strict=True)
        ]
        decided += sum(score(pair.first, pair.prompt) != score(pair.second, pair.prompt) for pair in mine)
        wrong += round(noise * len(mine))
    return Simulated(comparisons, decided, wrong)


def dealt(config: SimulateConfig, places: range) -> Iterator[tuple[str, float, Sequence[int]]]:
    """For each annotator: name, share of wrong answers, and the places dealt to it (place i to raters i, i+1, ...)."""
    raters = len(config.annotators)
    each = config.raters_per_sample or raters
    for number, name in enumerate(config.annotators):
        mine = places if each == raters else array("q", (i for i in places if (number - i) % raters < each))
        yield name, config.noise[number % len(config.noise)], mine
