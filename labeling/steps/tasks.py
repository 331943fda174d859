"""Samples become tasks, for Label Studio and for the offline page alike: the options, and the making."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, cast

from labeling.campaign import Judgements, chosen_tasks, comparison_tasks, mix_in
from labeling.chat import prompt_form
from labeling.cleaning import MAX_CHARACTERS
from labeling.folder import Task
from labeling.importing import parse_map
from labeling.pairs import pair_against, pair_samples
from labeling.screens import COMPARISON, SENTIMENT, PromptFormat, Screen, own_question
from labeling.selection import select
from labeling.steps.pair_scores import p_first
from labeling.steps.scores import Scorer, p_positive
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_text
from rlhf.foundation.given_records import Samples, watched_samples
from rlhf.foundation.held import place_of
from rlhf.foundation.lazy import Lazy
from rlhf.foundation.long_texts import require_short
from rlhf.foundation.options import Options, Several, check_ranges, option
from rlhf.foundation.progress import reading
from rlhf.foundation.records import Comparison, Label, Sample, content_uid, iter_records


@dataclass
class TaskConfig(Options):
    """Options that say what is asked, and about which samples."""

    NEEDS: ClassVar[Mapping[str, str]] = {
        "choices": "question",
        "map": "question",
        "scores": "select",
        "reward_model_path": "select",
        "random_share": "select",
        "mix_share": "mix_corpus",
        "pairs_per_prompt": "kind",
        "against": "kind",
    }

    samples: Samples = option(help="samples.jsonl to be labelled")
    _: KW_ONLY
    output_dir: str = option(help="labelling folder to make or go on with; what came from where is kept only here")
    kind: Literal["judgement", "comparison"] = option(
        "judgement", help="judgement: one text at a time; comparison: two completions of one prompt, with a tie"
    )
    pairs_per_prompt: int = option(
        0,
        help="comparisons: different pairs of each prompt's texts, at most all there are, k (k - 1) / 2 of k texts; 0: "
        "neighbours in file order, each text in at most one pair",
    )
    against: Samples = option(
        "",
        help="comparisons: samples of another model for the same prompts; each pair is one of --samples and one of it",
    )
    title: str = option("Samples", help="title, 3 to 50 characters (38 with --raters); raters see it")
    question: str = option("", help="a question of your own; judgements then need --choices and --map")
    choices: Several[str] = option([], help="answers to --question, with the keys 1, 2, 3, ...: Yes,No,Unsure")
    map: Several[str] = option([], help="what each choice means: Yes=positive,No=negative,Unsure=neutral")
    prompt_format: Literal["auto", "text", "hh", "messages"] = option(
        "auto",
        help="how prompts are shown: messages (the turns of a conversation); hh (text with turns of Human and "
        "Assistant); text; auto: messages if a prompt is a conversation, else text",
    )
    mix_corpus: str = option("", help="text file whose passages (blank lines between) are mixed in, marked only here")
    mix_share: float = option(0.2, help="share of such passages in all tasks, 0 to below 1")
    select: Literal["random", "uncertainty", "top_reward"] = option("random", help="how --num_tasks are chosen")
    num_tasks: int = option(0, help="how many samples to take; 0: all, in file order unless --select orders them")
    random_share: float = option(0.2, help="share chosen at random beside --select, 0 to 1: for unbiased evaluation")
    skip_labelled: bool = option(
        False,
        help="for the next round: take nothing that has an answer in the folder, as of its last pull or collection",
    )
    scores: Several[str] = option(
        [],
        help="JSON lines with uid and p_positive, a file for each model of an ensemble; for comparisons the uids of "
        "pairs, or those of samples with p_positive or a score",
    )
    reward_model_path: Several[str | Scorer] = option(
        [],
        help="token reward models that score the samples for --select, for comparisons rewards of any kind; several "
        "are an ensemble",
    )
    max_characters: int = option(MAX_CHARACTERS, help="texts are cut at this many characters, 100 to 1000000")
    seed: int = option(0, help="seed of selection, mixing, order and sides")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.choices = [name for text in self.choices for name in text.split(",") if name.strip()]
        check_ranges(self, [("max_characters", 100, 1_000_000), ("num_tasks", 0, 10_000_000), ("random_share", 0, 1)])
        check_ranges(self, [("pairs_per_prompt", 0, 1_000_000)])
        for name, shown in (("title", self.title), ("question", self.question), ("choices", "".join(self.choices))):
            if not shown.isprintable():  # a lone surrogate on the server would break every listing
                raise InputError(f"--{name}", got=repr(shown), expected="one line of text in UTF-8", fix="mend it")
        if not 3 <= len(self.title) <= 50:
            raise InputError("--title", got=repr(self.title), expected="3 to 50 characters", fix="choose another")
        if self.question and self.kind == "judgement" and not self.choices:
            raise InputError(
                "--choices", got="nothing", expected="answers to --question", fix="for example --choices Yes,No,Unsure"
            )

    def screen(self, form: PromptFormat) -> Screen:
        """What the raters are asked about samples whose prompts are of this form, unless the options say another."""
        form = form if self.prompt_format == "auto" else self.prompt_format
        if self.kind == "comparison":
            question = self.question or COMPARISON.question
            rest = (COMPARISON.choices, COMPARISON.meaning, COMPARISON.control, form)
            return Screen("comparison", question, *rest)
        if self.question:
            return own_question(self.question, self.choices, parse_map(self.map), prompt_format=form)
        rest = (SENTIMENT.choices, SENTIMENT.meaning, SENTIMENT.control, form)
        return Screen("judgement", SENTIMENT.question, *rest)


class MadeTasks(NamedTuple):
    """Tasks that were cleaned, chosen and mixed, their screen, counts of what was changed or left out, and the version
    of the scores that chose them ("" if none)."""

    tasks: list[Task]
    screen: Screen
    counts: Counter[str]
    version: str


def make_tasks(config: TaskConfig) -> MadeTasks:
    """Tasks of the samples file. Raises InputError."""
    pool = _comparisons(config) if config.kind == "comparison" else _judgements(config)
    if not pool.uids:
        fix = "check the file"
        raise InputError(place_of(config.samples), got="nothing that can be shown", expected="some text", fix=fix)
    if config.skip_labelled:
        pool = _unlabelled(pool, config)
    tasks, version = pool.tasks, ""
    if config.num_tasks or config.select != "random":
        picked = select(
            pool.uids,
            config.select,
            config.num_tasks or len(pool.uids),
            p_positive=pool.members(tasks, pool.uids),
            random_share=config.random_share,
            seed=config.seed,
        )
        tasks = chosen_tasks(tasks, pool.uids, picked)
        if config.select != "random":
            version = "order-" + content_uid(*(f"{task.uid} {task.priority}" for task in tasks))[:12]
    if config.mix_corpus:
        snippets = read_text(Path(config.mix_corpus)).split("\n\n")
        require_short(snippets, config.mix_corpus)
        tasks = mix_in(tasks, snippets, share=config.mix_share, seed=config.seed)
    return MadeTasks(list(tasks), pool.screen, pool.counts, version)


class _Pool(NamedTuple):
    """What may be handed out; `members` gives P(positive) (of a pair: that the first is better) by each model."""

    tasks: Sequence[Task]
    uids: Sequence[str]
    counts: Counter[str]
    screen: Screen
    members: Callable[[Sequence[Task], Sequence[str]], list[list[float]]]


def _judgements(config: TaskConfig) -> _Pool:
    made = Judgements(config.max_characters)
    with reading(place_of(config.samples), quiet=config.quiet) as advance:
        samples = watched_samples(config.samples, advance, made.add)
    screen = config.screen("messages" if made.conversation else "text")

    def members(tasks: Sequence[Task], uids: Sequence[str]) -> list[list[float]]:
        return p_positive(config.scores, config.reward_model_path, tasks, uids, quiet=config.quiet)

    return _Pool(made.tasks(samples), made.uids, made.counts, screen, members)


def _comparisons(config: TaskConfig) -> _Pool:
    samples = _read(config.samples, config)
    if config.against:
        other = _read(config.against, config)
        pairs, counts = pair_against(samples, other, config.pairs_per_prompt, seed=config.seed)
    else:
        other = []
        pairs, left_over = pair_samples(samples, config.pairs_per_prompt, seed=config.seed)
        counts = Counter({"left over without a partner": left_over})
    tasks, changed = comparison_tasks(pairs, seed=config.seed, max_characters=config.max_characters)
    screen = config.screen(prompt_form(sample.prompt for sample in [*samples, *other]))
    of_pair = {pair.uid: pair.uids for pair in pairs}

    def members(tasks: Sequence[Task], uids: Sequence[str]) -> list[list[float]]:
        return p_first(config.scores, config.reward_model_path, tasks, of_pair, quiet=config.quiet)

    return _Pool(tasks, [task.uid for task in tasks], changed + counts, screen, members)


def _read(given: Samples, config: TaskConfig) -> list[Sample]:
    with reading(place_of(given), quiet=config.quiet) as advance:
        return list(watched_samples(given, advance))


def _unlabelled(pool: _Pool, config: TaskConfig) -> _Pool:
    """What of the pool has no answer in the folder. Raises InputError where everything has."""
    name = "comparisons.jsonl" if config.kind == "comparison" else "labels.jsonl"
    path = Path(config.output_dir) / name
    kind = Comparison if config.kind == "comparison" else Label
    there = path.exists() and path.stat().st_size
    labelled = {one.uid for _, one in iter_records(cast(type[Label], kind), path)} if there else set()
    left = [place for place, uid in enumerate(pool.uids) if uid not in labelled]
    if not left:
        raise InputError(
            "--skip_labelled",
            got=f"an answer in {path} to each of the {len(pool.uids)} tasks",
            expected="some without one",
            fix="give more samples" + (" or more --pairs_per_prompt" if config.kind == "comparison" else ""),
        )
    counts = pool.counts + Counter({"labelled before, not chosen again": len(pool.uids) - len(left)})
    uids = [pool.uids[place] for place in left]
    return pool._replace(tasks=Lazy(pool.tasks.__getitem__, left), uids=uids, counts=counts)
