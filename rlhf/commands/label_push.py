"""`rlhf label push`: samples become tasks of Label Studio, each exactly once, whatever breaks on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from labeling.campaign import chosen_tasks, comparison_tasks, judgement_tasks, mix_in, plan_tasks, push_all
from labeling.cleaning import MAX_CHARACTERS
from labeling.connection import connect, default_directory
from labeling.errors import InputError
from labeling.files import read_text
from labeling.folder import Folder, Task
from labeling.importing import parse_map
from labeling.pairs import content_uid, pair_samples
from labeling.pull import check_config
from labeling.push import CHUNK, SETTLE_SECONDS, Pushed
from labeling.records import read_samples
from labeling.screens import COMPARISON, SENTIMENT, Screen, own_question
from labeling.select import select
from rlhf.commands.label_output import listed_counts
from rlhf.commands.label_scores import p_positive
from rlhf.options import option, parse


@dataclass
class PushConfig:
    """Options of `rlhf label push`."""

    samples: str = option(help="samples.jsonl to be labelled")
    output_dir: str = option(help="labelling folder to make or go on with; what came from where is kept only here")
    kind: Literal["judgement", "comparison"] = option(
        "judgement", help="judgement: one text at a time; comparison: two completions of one prompt, with a tie"
    )
    title: str = option("Samples", help="title of the project, 3 to 50 characters; raters see it")
    question: str = option("", help="a question of your own; judgements then need --choices and --map")
    choices: list[str] = option([], help="answers to --question, with the keys 1, 2, 3, ...: Yes,No,Unsure")
    map: list[str] = option([], help="what each choice means: Yes=positive,No=negative,Unsure=neutral")
    prompt_format: Literal["text", "hh", "messages"] = option(
        "text",
        help="how the prompt is shown: text; hh (turns of Human and Assistant); messages (JSON list of role, content)",
    )
    raters: list[str] = option([], help="raters that `rlhf label serve --raters` knows: a project each; default: one")
    mix_corpus: str = option("", help="text file whose passages (blank lines between) are mixed in, marked only here")
    mix_share: float = option(0.2, help="share of such passages in all tasks, 0 to below 1")
    select: Literal["random", "uncertainty", "top_reward"] = option("random", help="how --num_tasks are chosen")
    num_tasks: int = option(0, help="how many samples to push; 0: all, in file order unless --select orders them")
    random_share: float = option(0.2, help="share chosen at random beside --select, 0 to 1: for unbiased evaluation")
    scores: list[str] = option([], help="JSON lines with uid and p_positive, a file for each model of an ensemble")
    max_characters: int = option(MAX_CHARACTERS, help="texts are cut at this many characters, 100 to 1000000")
    chunk: int = option(CHUNK, help="tasks in one import, 1 to 1000")
    settle_seconds: float = option(SETTLE_SECONDS, help="seconds to wait for an import that was never answered")
    server_dir: str = option("", help="folder of the local server (default: ~/.local/share/rlhf/label-studio)")
    timeout: float = option(60.0, help="seconds to wait for an answer of the server")
    seed: int = option(0, help="seed of selection, mixing, order and sides")
    quiet: bool = option(False, help="no progress bar")

    def __post_init__(self) -> None:
        self.raters = [name for text in self.raters for name in text.split(",") if name]
        self.choices = [name for text in self.choices for name in text.split(",") if name.strip()]
        ranges: list[tuple[str, float, float]] = [
            ("chunk", 1, 1000),
            ("max_characters", 100, 1_000_000),
            ("num_tasks", 0, 10_000_000),
            ("timeout", 0.1, 3600),
            ("settle_seconds", 0, 3600),
        ]
        for name, low, high in ranges:
            value = getattr(self, name)
            if not low <= value <= high:
                raise InputError(f"--{name}", got=value, expected=f"{low:g} to {high:g}", fix="choose one in the range")
        if not 3 <= len(self.title) <= 50 - 12 * bool(self.raters):
            raise InputError(
                "--title", got=repr(self.title), expected="3 to 50 characters (38 with --raters)", fix="choose another"
            )
        if self.question and self.kind == "judgement" and not self.choices:
            raise InputError(
                "--choices", got="nothing", expected="answers to --question", fix="for example --choices Yes,No,Unsure"
            )

    @property
    def screen(self) -> Screen:
        """What the raters are asked."""
        if self.kind == "comparison":
            question = self.question or COMPARISON.question
            rest = (COMPARISON.choices, COMPARISON.meaning, COMPARISON.control, self.prompt_format)
            return Screen("comparison", question, *rest)
        if self.question:
            return own_question(self.question, self.choices, parse_map(self.map), prompt_format=self.prompt_format)
        rest = (SENTIMENT.choices, SENTIMENT.meaning, SENTIMENT.control, self.prompt_format)
        return Screen("judgement", SENTIMENT.question, *rest)


@dataclass
class PushSummary:
    """What a push did: tasks in the folder, what cleaning changed or refused, and each rater's project."""

    tasks: int
    cleaning: Counter[str] = field(default_factory=Counter)
    pushed: Mapping[str, Pushed] = field(default_factory=dict)
    addresses: list[str] = field(default_factory=list)


def make_tasks(config: PushConfig) -> tuple[list[Task], Counter[str], str]:
    """Tasks of the samples file: cleaned, chosen, mixed; with counts, and the version of the scores ("" if none)."""
    samples = read_samples(Path(config.samples))
    if config.kind == "comparison":
        pairs, left_over = pair_samples(samples)
        tasks, counts = comparison_tasks(pairs, seed=config.seed, max_characters=config.max_characters)
        counts["left over without a partner"] = left_over
    else:
        tasks, counts = judgement_tasks(samples, max_characters=config.max_characters)
    if not tasks:
        raise InputError(config.samples, got="nothing that can be shown", expected="some text", fix="check the file")
    version = ""
    if config.num_tasks or config.select != "random":
        members = p_positive(config.scores, [task.uid for task in tasks])
        picked = select(
            [task.uid for task in tasks],
            config.select,
            config.num_tasks or len(tasks),
            p_positive=members,
            random_share=config.random_share,
            seed=config.seed,
        )
        tasks = chosen_tasks(tasks, picked)
        if config.select != "random":
            version = "order-" + content_uid(*(f"{task.uid} {task.priority}" for task in tasks))[:12]
    if config.mix_corpus:
        snippets = read_text(Path(config.mix_corpus)).split("\n\n")
        tasks = mix_in(tasks, snippets, share=config.mix_share, seed=config.seed)
    return tasks, counts, version


def run(config: PushConfig) -> PushSummary:
    """Push the samples; run again it sends only what is missing. Raises InputError."""
    folder = Folder(Path(config.output_dir))
    server_dir = Path(config.server_dir) if config.server_dir else default_directory()
    screen = config.screen
    new, cleaning, version = make_tasks(config)
    with folder.in_use():
        plan, tasks = plan_tasks(folder, screen, config.title, new)
        raters = config.raters or [project.rater for project in plan.projects] or [""]
        with tqdm(total=len(tasks) * len(raters), unit="task", desc="push", disable=config.quiet) as bar:
            done: dict[str, int] = {}

            def progress(rater: str, n: int) -> None:
                bar.update(n - done.get(rater, 0))
                done[rater] = n

            pushed = push_all(
                folder,
                plan,
                tasks,
                raters,
                lambda rater: connect(server_dir, rater=rater, timeout=config.timeout),
                check=check_config,
                scores_version=version,
                chunk=config.chunk,
                settle_seconds=config.settle_seconds,
                progress=progress,
            )
        projects = folder.need_plan().projects
    addresses = [f"{p.rater or 'everyone'}: {p.url}/projects/{p.id}/data?labeling=1" for p in projects]
    return PushSummary(len(tasks), cleaning, pushed, addresses)


def main(argv: list[str]) -> None:
    """Parse the options, push, and say what was sent, changed and refused."""
    config = parse(PushConfig, argv, prog="rlhf label push", description=(__doc__ or "").split(": ", 1)[1])
    summary = run(config)
    for rater, one in summary.pushed.items():
        extra = listed_counts(
            {
                "twins removed": one.twins_removed,
                "twins left, both labelled": one.twins_labelled,
                "imports without an answer": one.uncertain_imports,
            }
        )
        name = f"{rater}: " if rater else ""
        print(f"{name}{one.created} tasks sent, {one.present} were there{'; ' + extra if extra else ''}")
    if said := listed_counts(summary.cleaning):
        print(f"cleaned: {said}")
    print("label at")
    print("\n".join(f"  {line}" for line in summary.addresses))
    print(f"then: rlhf label pull --output_dir {config.output_dir}")
