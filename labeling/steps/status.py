"""`rlhf label status`: how many are labelled, by whom, how fast, how far raters agree, and what to look at again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar, cast

import numpy as np

from labeling.chat import chat_turns
from labeling.counting import Counted, Counting, count_comparisons, count_once
from labeling.critiques import (
    Change,
    Changes,
    Leaning,
    add_up_changes,
    change_line,
    comparison_change,
    label_change,
    read_leanings,
)
from labeling.fetching import task_addresses
from labeling.folder import Folder, Plan, Task
from labeling.leaning import Verdicts, left_shares, verdict_shares
from labeling.pooling import POOLING_HELP, Method, Pooled, pool, second_look
from labeling.rater_agreement import Estimate, RaterCounts, label_alpha, rater_counts, single_label_ceiling
from labeling.rater_lines import interval, rater_lines, reviewed_lines, reviewer_lines, tally
from labeling.reviewing import Reviewed, reference_file, review, reviewers_in
from labeling.versus import Versus, source_shares
from labeling.votes import ByUid, Votes
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import Advance
from rlhf.foundation.given_records import Comparisons, Labels, records_of
from rlhf.foundation.held import place_of
from rlhf.foundation.lazy import Lazy
from rlhf.foundation.options import Options, Several, check_ranges, option
from rlhf.foundation.progress import reading
from rlhf.foundation.proportion import Proportion
from rlhf.foundation.records import LABELS, ORIGINS, Comparison, Label, rater_name
from rlhf.foundation.steps import step
from rlhf.foundation.terminal import shown

Answered = TypeVar("Answered", Label, Comparison)


@dataclass
class StatusConfig(Options):
    """Options of `rlhf label status`."""

    output_dir: str = option("", help="labelling folder of `rlhf label push` or `rlhf label page`")
    labels: Labels = option("", help="labels.jsonl of anywhere, instead of a folder")
    comparisons: Comparisons = option("", help="comparisons.jsonl of anywhere, instead of a folder")
    reference: str = option(
        "",
        help="answers that raters are measured by (default: the reference.jsonl beside the labels, where there is one)",
    )
    reviewer: Several[str] = option([], help="people in the labels whose answers the others are measured by")
    second_look: int = option(10, help="how many disputed tasks to list, 0 or more")
    pooling: Method = option("dawid_skene", help=POOLING_HELP)
    seed: int = option(0, help="seed of the bootstrap intervals")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.reviewer = reviewers_in(self.reviewer)
        check_ranges(self, [("second_look", 0, 1_000_000)])
        if sum(map(bool, (self.output_dir, self.labels, self.comparisons))) != 1:
            raise InputError(
                "rlhf label status",
                got="none or several of --output_dir, --labels, --comparisons",
                expected="one of them",
                fix="for example --output_dir labels",
            )


@dataclass
class Status:
    """Lines to print, and what they rest on: the labels that count, agreement, and the pooling of `rlhf reward`.

    `raters` are their counts and tables, `reviewed` each rater by each reviewer, `left` each rater's share of left
    sides, `verdicts` each rater's share of positive verdicts beside the others' (none of comparisons), `changes` what
    was changed after a reward model's reasons, by everyone ("") and by rater, `versus` whose texts were chosen.
    """

    lines: list[str]
    labels: Sequence[Label]
    alpha: Estimate
    ceiling: Estimate
    pooled: Pooled
    raters: Sequence[RaterCounts] = ()
    reviewed: Sequence[Reviewed] = ()
    left: Mapping[str, Proportion] = field(default_factory=dict)
    verdicts: Mapping[str, Verdicts] = field(default_factory=dict)
    changes: Sequence[Changes] = ()
    versus: Sequence[Versus] = ()


@dataclass
class Asked:
    """What is known of the tasks beside the labels.

    `tasks` is the number handed out, 0 when unknown; `words` are the choices on the screen by what they mean; `texts`
    and `prompts` are shown by uid; `left` is each rater's share of left sides (None where there are no sides),
    `references` what reviewers answered, `changes` what was changed after the reasons, `versus` which sources' texts
    were chosen, `places` where an answer stands by uid and rater.
    """

    words: Mapping[str, str]
    tasks: int = 0
    texts: Mapping[str, str] = field(default_factory=dict)
    prompts: Mapping[str, str] = field(default_factory=dict)
    left: Mapping[str, Proportion] | None = None
    references: Votes | None = None
    changes: Sequence[Changes] = ()
    versus: Sequence[Versus] = ()
    places: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@step(StatusConfig)
def status(config: StatusConfig) -> Status:
    """How many are labelled, by whom, how fast, how far raters agree; nothing is fetched. Raises InputError."""
    folder = Folder(Path(config.output_dir)) if config.output_dir else None
    plan = folder.need_plan() if folder else None
    given: Labels | Comparisons = config.labels or config.comparisons
    is_comparison = bool(config.comparisons)
    if folder and plan:
        is_comparison = plan.screen.kind == "comparison"
        path = folder.path / ("comparisons.jsonl" if is_comparison else "labels.jsonl")
        if not path.exists() or not path.stat().st_size:
            raise InputError(
                str(path),
                got="no labels yet",
                expected="at least one",
                fix="run `rlhf label pull` after people labelled",
            )
        given = str(path)
    tasks = folder.read_tasks() if folder else {}
    leanings = read_leanings(folder.path) if folder else {}
    with reading(place_of(given), quiet=config.quiet) as advance:
        if is_comparison:
            rows, apart = _parted(records_of(Comparison, cast(Comparisons, given), advance), config.reviewer)
            references = [*apart, *_references(Comparison, config, given)]
            counted, asked = _comparisons(list(rows), plan, tasks, leanings)
            asked.references = count_comparisons(references).votes if references else None
        else:
            counted, asked, own = _labels(cast(Labels, given), plan, advance, config.reviewer, leanings)
            judged = [*own, *_references(Label, config, given)]
            asked.references = count_once(judged).votes if judged else None
    if folder:
        asked.tasks, asked.places = len(tasks), task_addresses(folder)
    return describe(counted, asked, method=config.pooling, second=config.second_look, seed=config.seed)


def _parted(rows: Sequence[Answered], reviewers: Sequence[str]) -> tuple[Sequence[Answered], Sequence[Answered]]:
    """The raters' rows and the reviewers'. Raises InputError where all are reviewers', or none are."""
    if not reviewers:
        return rows, []
    theirs = [rater_name(row.annotator) in reviewers for row in rows]
    if all(theirs) or not any(theirs):
        raise InputError(
            "--reviewer",
            got=f"{', '.join(reviewers)}, who gave {'all' if all(theirs) else 'none'} of the answers",
            expected="some of them",
            fix="name a person as the file does; answers in the reference file need no name",
        )
    own = [place for place, is_theirs in enumerate(theirs) if not is_theirs]
    return Lazy(rows.__getitem__, own), [row for row, is_theirs in zip(rows, theirs, strict=True) if is_theirs]


def _references(kind: type[Answered], config: StatusConfig, given: object) -> Sequence[Answered]:
    """The rows of --reference, else those beside the labels. Raises InputError."""
    if config.reference:
        return records_of(kind, config.reference)
    beside = reference_file(Path(given)) if isinstance(given, str) else None
    return records_of(kind, str(beside)) if beside and beside.is_file() and beside.stat().st_size else []


def _labels(
    given: Labels, plan: Plan | None, advance: Advance, reviewers: Sequence[str], leanings: Mapping[str, Leaning]
) -> tuple[Counted, Asked, Sequence[Label]]:
    """The labels of a file, of which no text is kept: those that are shown are read again; and those of reviewers."""
    counting = Counting()
    changes: dict[tuple[str, str], Change] = {}

    def add(label: Label) -> None:
        counting.add(label)
        if change := label_change(label, leanings):
            changes[label.uid, change.rater] = change

    if reviewers:
        labels, own = _parted(records_of(Label, given, advance), reviewers)
        for label in labels:
            add(label)
    else:
        labels, own = records_of(Label, given, advance, add), []
    counted = counting.counted(labels)
    texts = _shown(counted, lambda place: snippet(labels[place].completion))
    prompts = _shown(counted, lambda place: prompt_snippet(labels[place].prompt, plan))
    asked = Asked(words_of(plan, comparison=False), texts=texts, prompts=prompts, changes=add_up_changes(changes))
    return counted, asked, own


def _comparisons(
    comparisons: Sequence[Comparison], plan: Plan | None, tasks: Mapping[str, Task], leanings: Mapping[str, Leaning]
) -> tuple[Counted, Asked]:
    counted = count_comparisons(comparisons)
    asked = Asked(words_of(plan, comparison=True), left=left_shares(comparisons, tasks))
    asked.versus = source_shares(comparisons, tasks)
    changes = {(c.uid, change.rater): change for c in comparisons if (change := comparison_change(c, leanings, tasks))}
    asked.changes = add_up_changes(changes)
    asked.texts = {c.uid: f"{snippet(c.chosen)} | {snippet(c.rejected)}" for c in comparisons}
    asked.prompts = {c.uid: prompt_snippet(c.prompt, plan) for c in comparisons}
    return counted, asked


def _shown(counted: Counted, show: Callable[[int], str]) -> Mapping[str, str]:
    """What to show of each text, by uid, from the place of its last row."""
    votes = counted.votes
    last = np.zeros(len(votes.uids), np.int64)
    last[votes.text] = np.arange(len(votes))
    return ByUid(votes.uids, lambda place: show(counted.kept[last[place]]))


def words_of(plan: Plan | None, *, comparison: bool) -> dict[str, str]:
    """What the raters saw for each label: the choices on the screen, several of one meaning joined by a stroke.

    Of a pair the sides were swapped by lot, so that its texts are called by their fixed order.
    """
    if comparison:
        return {"negative": "first", "neutral": "tie", "positive": "second"}
    if plan is None:
        return {name: name for name in LABELS}
    meaning = plan.screen.meaning
    return {name: shown("/".join(c for c in plan.screen.choices if meaning[c] == name) or name, 60) for name in LABELS}


def describe(counted: Counted, asked: Asked, *, method: Method, second: int, seed: int) -> Status:
    """The status of the labels that count; `second` is the number of disputed tasks to list."""
    votes, words = counted.votes, asked.words
    pooled = pool(votes, method)
    alpha, ceiling = label_alpha(votes, seed=seed), single_label_ceiling(pooled.kept(votes), seed=seed)
    untouched = int((votes.origin == ORIGINS.index("prediction")).sum())
    of = f" of {asked.tasks} tasks" if asked.tasks else " tasks"
    said: dict[str, int] = dict(zip(LABELS, map(int, votes.tally().sum(axis=0)), strict=True))
    lines = [f"labelled: {len(votes.uids)}{of}, {len(votes)} labels ({tally(said, words)})"]
    lines += counted.lines()
    if untouched:
        lines.append(f"pre-labels accepted untouched: {untouched} of {len(votes)}: anchored, not judged")
    raters, left = rater_counts(votes), asked.left or {}
    verdicts = verdict_shares(votes) if asked.left is None else {}
    reviewed = review(votes, asked.references) if asked.references else []
    if asked.references:
        lines += reviewer_lines(asked.references, words)
    lines += [f"everyone {change_line(one)}" for one in asked.changes if not one.rater]
    for rater in raters:
        name = rater.annotator
        lines += rater_lines(rater, pooled, words, left.get(name), verdicts.get(name))
        lines += [f"      {change_line(one)}" for one in asked.changes if one.rater == name]
        lines += [line for one in reviewed if one.rater == name for line in reviewed_lines(one, words)]
    if not pooled.uids:
        lines.append(
            "nobody is better than chance: who is right cannot be told, and `rlhf reward` refuses these labels"
        )
    lines += [one.line() for one in asked.versus]
    lines.append(f"Krippendorff's alpha (ordinal): {interval(alpha, 'tasks with several labels')}")
    lines.append(
        f"ceiling for a reward model judged by single labels: {interval(ceiling, 'tasks', percent=True)} "
        "(a judge who is always right would score so; assumes raters err independently, either way alike)"
    )
    lines += second_look_lines(votes, pooled, asked, second)
    return Status(
        lines, counted.labels, alpha, ceiling, pooled, raters, reviewed, left, verdicts, asked.changes, asked.versus
    )


def second_look_lines(votes: Votes, pooled: Pooled, asked: Asked, count: int) -> list[str]:
    """The disputed tasks with prompt and text, and where each answer stands on the server (else the uid)."""
    disputed = second_look(votes, pooled, count=count)
    lines = ["most deserve a second look (doubt in nats after pooling; labels; text):"] if disputed else []
    for uid, doubt, said in disputed:
        prompt = asked.prompts.get(uid, "")
        asks = f"{prompt} -> " if prompt else ""
        places = asked.places.get(uid, {})
        lines.append(
            f"  {doubt:.2f}  {', '.join(asked.words[x] for x in said)}  {asks}{asked.texts[uid]}  [{shown(uid, 64)}]"
        )
        lines += [f"        {shown(name, 40)}: {shown(place)}" for name, place in sorted(places.items())]
    return lines


def snippet(text: str) -> str:
    """The text on one line, at most 60 characters, in quotation marks."""
    return f"'{shown(text, 60)}'"


def prompt_snippet(prompt: str, plan: Plan | None) -> str:
    """The prompt, or of a conversation its last turn; "" where there is none."""
    if not prompt.strip():
        return ""
    form = plan.screen.prompt_format if plan else "text"
    turns = chat_turns(prompt, form)
    return snippet(turns[-1]["content"] if turns else "")
