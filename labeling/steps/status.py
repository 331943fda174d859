"""`rlhf label status`: how many are labelled, by whom, how fast, how far raters agree, and what to look at again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np

from labeling.chat import chat_turns
from labeling.counting import Counted, Counting, count_comparisons
from labeling.fetching import task_addresses
from labeling.folder import Folder, Plan, Task
from labeling.pooling import POOLING_HELP, Method, Pooled, pool, second_look
from labeling.position import left_shares
from labeling.rater_agreement import Estimate, RaterCounts, label_alpha, rater_counts, single_label_ceiling
from labeling.votes import ByUid, Votes
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import Advance
from rlhf.foundation.given_records import Comparisons, Labels, records_of
from rlhf.foundation.held import place_of
from rlhf.foundation.options import Options, check_ranges, option
from rlhf.foundation.progress import reading
from rlhf.foundation.proportion import Proportion
from rlhf.foundation.records import LABELS, ORIGINS, Comparison, Label
from rlhf.foundation.steps import step
from rlhf.foundation.terminal import shown


@dataclass
class StatusConfig(Options):
    """Options of `rlhf label status`."""

    output_dir: str = option("", help="labelling folder of `rlhf label push` or `rlhf label page`")
    labels: Labels = option("", help="labels.jsonl of anywhere, instead of a folder")
    comparisons: Comparisons = option("", help="comparisons.jsonl of anywhere, instead of a folder")
    second_look: int = option(10, help="how many disputed tasks to list, 0 or more")
    pooling: Method = option("dawid_skene", help=POOLING_HELP)
    seed: int = option(0, help="seed of the bootstrap intervals")

    def __post_init__(self) -> None:
        super().__post_init__()
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
    """Lines to print, and what they rest on: the labels that count, agreement, and the pooling of `rlhf reward`."""

    lines: list[str]
    labels: Sequence[Label]
    alpha: Estimate
    ceiling: Estimate
    pooled: Pooled


@dataclass
class Asked:
    """What is known of the tasks beside the labels.

    `tasks` is the number handed out, 0 when unknown; `words` are the choices on the screen by what they mean; `texts`
    and `prompts` are shown by uid; `left` is each rater's share of left sides, `places` where an answer stands by uid
    and rater.
    """

    words: Mapping[str, str]
    tasks: int = 0
    texts: Mapping[str, str] = field(default_factory=dict)
    prompts: Mapping[str, str] = field(default_factory=dict)
    left: Mapping[str, Proportion] = field(default_factory=dict)
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
    with reading(place_of(given), quiet=config.quiet) as advance:
        if is_comparison:
            counted, asked = _comparisons(cast(Comparisons, given), plan, tasks, advance)
        else:
            counted, asked = _labels(cast(Labels, given), plan, advance)
    if folder:
        asked.tasks, asked.places = len(tasks), task_addresses(folder)
    return describe(counted, asked, method=config.pooling, second=config.second_look, seed=config.seed)


def _labels(given: Labels, plan: Plan | None, advance: Advance) -> tuple[Counted, Asked]:
    """The labels of a file, of which no text is kept: those that are shown are read again."""
    counting = Counting()
    labels = records_of(Label, given, advance, counting.add)
    counted = counting.counted(labels)
    texts = _shown(counted, lambda place: snippet(labels[place].completion))
    prompts = _shown(counted, lambda place: prompt_snippet(labels[place].prompt, plan))
    return counted, Asked(words_of(plan, comparison=False), texts=texts, prompts=prompts)


def _comparisons(
    given: Comparisons, plan: Plan | None, tasks: Mapping[str, Task], advance: Advance
) -> tuple[Counted, Asked]:
    comparisons = list(records_of(Comparison, given, advance))
    counted = count_comparisons(comparisons)
    asked = Asked(words_of(plan, comparison=True), left=left_shares(comparisons, tasks))
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
    for rater in rater_counts(votes):
        lines += rater_lines(rater, pooled, words, asked.left.get(rater.annotator))
    if not pooled.uids:
        lines.append(
            "nobody is better than chance: who is right cannot be told, and `rlhf reward` refuses these labels"
        )
    lines.append(f"Krippendorff's alpha (ordinal): {interval(alpha, 'tasks with several labels')}")
    lines.append(
        f"ceiling for a reward model judged by single labels: {interval(ceiling, 'tasks', percent=True)} "
        "(a judge who is always right would score so; assumes raters err independently, either way alike)"
    )
    return Status([*lines, *second_look_lines(votes, pooled, asked, second)], counted.labels, alpha, ceiling, pooled)


def tally(counts: Mapping[str, int], words: Mapping[str, str]) -> str:
    """`12 Yes, 3 Unsure, 5 No`."""
    return ", ".join(f"{counts[name]} {words[name]}" for name in LABELS)


def rater_lines(rater: RaterCounts, pooled: Pooled, words: Mapping[str, str], left: Proportion | None) -> list[str]:
    """One rater: the work, the verdict, haste, side, and the table against the others."""
    pace = f"{rater.median_seconds:.1f} s a label (median, n={rater.timed})" if rater.timed else "pace unknown"
    agrees = f"agrees with the others on {rater.agreement:.0%}" if rater.agreement is not None else "labels alone"
    counts = f"{rater.labels} labels ({tally(rater.answers, words)})"
    lines = [f"  {shown(rater.annotator, 40)}: {counts}, {pace}, {agrees}", f"      {verdict(rater.annotator, pooled)}"]
    if rater.hasty:
        usual = f"a fifth of everyone's median time ({rater.usual_seconds:.1f} s)"
        lines.append(f"      HASTY: {rater.hasty} of {rater.timed} labels in less than {usual}")
    if left is not None:
        sure = "PREFERS A SIDE: " if not left.low <= 0.5 <= left.high else ""
        lines.append(
            f"      {sure}chose the text on the left in {left.share:.0%} of {left.n} decided pairs "
            f"(95 % interval {left.low:.0%} to {left.high:.0%}; sides are dealt by lot)"
        )
    if rater.agreement is not None:
        for mine in LABELS:
            row = ", ".join(f"{rater.against_others[mine][theirs]:.1f} {words[theirs]}" for theirs in LABELS)
            lines.append(f"      said {words[mine]}: others {row}")
    return lines


def verdict(name: str, pooled: Pooled) -> str:
    """What becomes of a rater's labels in `rlhf reward`."""
    if name in pooled.left_out:
        return f"verdict: NO BETTER THAN CHANCE, {pooled.left_out[name].text()}: left out of pooling"
    right, weight = pooled.accuracy.get(name), pooled.weight(name)
    if right is None:
        return "verdict: counts, every label the same"
    return f"verdict: counts, right on about {right:.0%} (Dawid-Skene), a label weighs {weight:.1f} nats"


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


def interval(estimate: Estimate, noun: str, *, percent: bool = False) -> str:
    """`0.71 (95 % interval 0.66 to 0.76, n=300 tasks)`, or why there is no number."""
    if estimate.value is None:
        return "undefined: no task has two labels" if estimate.n == 0 else "undefined: only one label was ever used"
    value, low, high = (
        f"{number:.1%}" if percent else f"{number:.3f}" if number is not None else "?"
        for number in (estimate.value, estimate.low, estimate.high)
    )
    return f"{value} (95 % interval {low} to {high}, n={estimate.n} {noun})"


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
