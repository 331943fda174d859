"""Samples become tasks, for Label Studio and for the offline page alike: the options, and the making."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from labeling.campaign import Judgements, chosen_tasks, comparison_tasks, mix_in
from labeling.cleaning import MAX_CHARACTERS
from labeling.folder import Task
from labeling.importing import parse_map
from labeling.pairs import pair_samples
from labeling.screens import COMPARISON, SENTIMENT, PromptFormat, Screen, own_question
from labeling.selection import select
from labeling.steps.scores import TokenReward, p_positive
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_text
from rlhf.foundation.given_records import Samples, watched_samples
from rlhf.foundation.held import place_of
from rlhf.foundation.long_texts import require_short
from rlhf.foundation.options import Options, Several, check_ranges, option
from rlhf.foundation.progress import reading
from rlhf.foundation.records import content_uid


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
    }

    samples: Samples = option(help="samples.jsonl to be labelled")
    _: KW_ONLY
    output_dir: str = option(help="labelling folder to make or go on with; what came from where is kept only here")
    kind: Literal["judgement", "comparison"] = option(
        "judgement", help="judgement: one text at a time; comparison: two completions of one prompt, with a tie"
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
    scores: Several[str] = option([], help="JSON lines with uid and p_positive, a file for each model of an ensemble")
    reward_model_path: Several[str | TokenReward] = option(
        [], help="token reward models that score the samples for --select; several are an ensemble"
    )
    max_characters: int = option(MAX_CHARACTERS, help="texts are cut at this many characters, 100 to 1000000")
    seed: int = option(0, help="seed of selection, mixing, order and sides")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.choices = [name for text in self.choices for name in text.split(",") if name.strip()]
        check_ranges(self, [("max_characters", 100, 1_000_000), ("num_tasks", 0, 10_000_000), ("random_share", 0, 1)])
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
    place = place_of(config.samples)
    made = Judgements(config.max_characters)
    tasks: Sequence[Task]
    with reading(place, quiet=config.quiet) as advance:
        samples = watched_samples(config.samples, advance, made.add)
    screen = config.screen("messages" if made.conversation else "text")
    if config.kind == "comparison":
        pairs, left_over = pair_samples(samples)
        tasks, counts = comparison_tasks(pairs, seed=config.seed, max_characters=config.max_characters)
        counts["left over without a partner"] = left_over
        uids = [task.uid for task in tasks]
    else:
        tasks, counts, uids = made.tasks(samples), made.counts, made.uids
    if not tasks:
        raise InputError(place, got="nothing that can be shown", expected="some text", fix="check the file")
    version = ""
    if config.num_tasks or config.select != "random":
        members = p_positive(config.scores, config.reward_model_path, tasks, uids, quiet=config.quiet)
        picked = select(
            uids,
            config.select,
            config.num_tasks or len(tasks),
            p_positive=members,
            random_share=config.random_share,
            seed=config.seed,
        )
        tasks = chosen_tasks(tasks, uids, picked)
        if config.select != "random":
            version = "order-" + content_uid(*(f"{task.uid} {task.priority}" for task in tasks))[:12]
    if config.mix_corpus:
        snippets = read_text(Path(config.mix_corpus)).split("\n\n")
        require_short(snippets, config.mix_corpus)
        tasks = mix_in(tasks, snippets, share=config.mix_share, seed=config.seed)
    return MadeTasks(list(tasks), screen, counts, version)
