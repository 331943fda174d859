"""`rlhf label status`: how many are labelled, by whom, how fast, how far raters agree, and what to look at again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from labeling.agreement import Estimate, by_unit, label_alpha, rater_counts, single_label_ceiling
from labeling.folder import Folder
from labeling.pooling import Method, Pooled, pool, second_look
from rlhf.foundation.errors import InputError
from rlhf.foundation.records import LABELS, Comparison, Label, LabelName, read_comparisons, read_labels
from rlhf.option_fields import Options
from rlhf.options import option, parse


@dataclass
class StatusConfig(Options):
    """Options of `rlhf label status`."""

    output_dir: str = option("", help="labelling folder of `rlhf label push` or `rlhf label page`")
    labels: str = option("", help="labels.jsonl of anywhere, instead of a folder")
    comparisons: str = option("", help="comparisons.jsonl of anywhere, instead of a folder")
    second_look: int = option(10, help="how many disputed tasks to list, 0 or more")
    seed: int = option(0, help="seed of the bootstrap intervals")

    def __post_init__(self) -> None:
        super().__post_init__()
        if sum(map(bool, (self.output_dir, self.labels, self.comparisons))) != 1:
            raise InputError(
                "rlhf label status",
                got="none or several of --output_dir, --labels, --comparisons",
                expected="one of them",
                fix="for example --output_dir labels",
            )


@dataclass
class Status:
    """Lines to print, and what they rest on."""

    lines: list[str]
    labels: list[Label]
    alpha: Estimate
    ceiling: Estimate
    pooled: Pooled


def as_labels(comparisons: Sequence[Comparison]) -> list[Label]:
    """Comparisons in the shape of labels, so that agreement is one computation: first < tie < second text by name."""
    rows = []
    for c in comparisons:
        one, two = sorted((c.chosen, c.rejected))
        answer: LabelName = "neutral" if c.tie else "negative" if c.chosen == one else "positive"
        rows.append(Label(c.uid, c.prompt, f"{one} | {two}", answer, c.annotator, c.created_at, c.lead_time))
    return rows


def run(config: StatusConfig) -> Status:
    """Compute the status from the files; nothing is fetched. Raises InputError."""
    tasks = 0
    path = Path(config.labels or config.comparisons)
    is_comparison = bool(config.comparisons)
    if config.output_dir:
        folder = Folder(Path(config.output_dir))
        is_comparison = folder.need_plan().screen.kind == "comparison"
        path = folder.path / ("comparisons.jsonl" if is_comparison else "labels.jsonl")
        tasks = len(folder.read_tasks())
        if not path.exists() or not path.read_text(encoding="utf-8").strip():
            raise InputError(
                str(path),
                got="no labels yet",
                expected="at least one",
                fix="run `rlhf label pull` after people labelled",
            )
    labels = as_labels(read_comparisons(path)) if is_comparison else read_labels(path)
    return describe(labels, tasks, second=config.second_look, seed=config.seed, comparison=is_comparison)


def describe(labels: list[Label], tasks: int, *, second: int, seed: int, comparison: bool = False) -> Status:
    """The status of labels; `tasks` is the number handed out, 0 when unknown."""
    units = by_unit(labels)
    names: dict[str, str] = (
        {"positive": "second", "neutral": "tie", "negative": "first"}
        if comparison
        else dict(zip(LABELS, LABELS, strict=True))
    )
    alpha, ceiling = label_alpha(labels, seed=seed), single_label_ceiling(labels, seed=seed)
    method: Method = "dawid_skene"
    pooled = pool(labels, method)
    counts = Counter(label.label for label in labels)
    origins = Counter(label.origin for label in labels)
    of = f" of {tasks} tasks" if tasks else " tasks"
    shown = ", ".join(f"{counts[n]} {names[n]}" for n in LABELS)
    lines = [f"labelled: {len(units)}{of}, {len(labels)} labels ({shown})"]
    if origins["prediction"]:
        lines.append(f"pre-labels accepted untouched: {origins['prediction']} of {len(labels)}: anchored, not judged")
    for rater in rater_counts(labels):
        seconds = f"{rater.median_seconds:.1f} s a label (median, n={rater.timed})" if rater.timed else "pace unknown"
        agrees = f"agrees with the others on {rater.agreement:.0%}" if rater.agreement is not None else "labels alone"
        right = pooled.accuracy.get(rater.annotator)
        estimated = f", right on about {right:.0%} (Dawid-Skene)" if right is not None else ""
        out = "; NO BETTER THAN CHANCE, left out of pooling" if rater.annotator in pooled.left_out else ""
        lines.append(f"  {rater.annotator}: {rater.labels} labels, {seconds}, {agrees}{estimated}{out}")
        if rater.agreement is not None:
            for mine in LABELS:
                row = ", ".join(f"{rater.against_others[mine][theirs]:.1f} {names[theirs]}" for theirs in LABELS)
                lines.append(f"      said {names[mine]}: others {row}")
    lines.append(f"Krippendorff's alpha (ordinal): {interval(alpha, 'tasks with several labels')}")
    lines.append(
        f"ceiling for a reward model judged by single labels: {interval(ceiling, 'tasks', percent=True)} "
        "(a judge who is always right would score so; assumes raters err independently, either way alike)"
    )
    disputed = second_look(labels, pooled, count=second)
    if disputed:
        texts = {label.uid: label.completion for label in labels}
        lines.append("most deserve a second look (doubt in nats after pooling; labels; text):")
        lines += [
            f"  {doubt:.2f}  {', '.join(names[x] for x in said)}  {snippet(texts[uid])}  [{uid}]"
            for uid, doubt, said in disputed
        ]
    return Status(lines, labels, alpha, ceiling, pooled)


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
    """The text on one line, at most 60 characters, without anything a terminal would obey."""
    line = "".join(c if c.isprintable() else " " for c in text)
    return repr(line if len(line) <= 60 else line[:57] + "...")


def main(argv: list[str]) -> None:
    """Parse the options and print the status."""
    config = parse(StatusConfig, argv, prog="rlhf label status", description=(__doc__ or "").split(": ", 1)[1])
    print("\n".join(run(config).lines))
