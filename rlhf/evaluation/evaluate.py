"""`rlhf.evaluate`: fresh samples of every rung, scored by the proxy and by rewards the trainer never saw."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from labeling.pooling import POOLING_HELP, Method
from rewards.by_name import require_place
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_text
from rlhf.foundation.locks import sole_writer
from rlhf.foundation.long_texts import require_short
from rlhf.foundation.memory import of_completions, require_memory
from rlhf.foundation.options import Options, Several, check_pattern, option
from rlhf.foundation.outputs import check_own
from rlhf.foundation.steps import step
from rlhf.inspection.opened_run import OpenedRun, open_run

if TYPE_CHECKING:
    from rewards.rules import RewardFunc
    from rlhf.inspection.evaluation import Evaluation
    from rlhf.runs.reading import Run

RewardFunction = Callable[..., Any]


@dataclass
class EvaluateConfig(Options):
    """Options of `rlhf evaluate`."""

    NEEDS: ClassVar[Mapping[str, str]] = {"pooling": "gold_labels"}
    NOT_WITH: ClassVar[Mapping[str, str]] = {
        "relative_error": "num_samples stored_samples",
        "max_samples": "num_samples stored_samples",
        "num_samples": "stored_samples",
        "draw": "stored_samples",
        "heldout": "stored_samples",
        "heat_samples": "stored_samples",
        "best_of_n_samples": "stored_samples",
    }

    run: str | OpenedRun = option("", help="the run directory; also as first word: rlhf evaluate RUN")
    _: KW_ONLY
    gold_reward_func: Several[str | RewardFunction] = option(
        [],
        help="gold rewards: `gold` (the rule of `rlhf label simulate`: sentiment of the embedded corpus' lines), "
        "`lexicon` (sentiment of any English text), a built-in NAME or FILE.py:NAME; what the labels are meant to "
        "stand for",
    )
    gold_reward_model_path: Several[str | RewardFunction] = option(
        [], help="reward models used as gold: directories of `rlhf reward`, or classifiers, MODEL:LABEL if need be"
    )
    gold_labels: Several[str] = option(
        [], help="labels.jsonl files of people who labelled samples of this run (those in RUN/samples or, of the same "
        "--draw, RUN/evaluation): share of positive as gold, of the samples that have labels"
    )  # fmt: skip
    pooling: Method = option("dawid_skene", help=f"gold labels: {POOLING_HELP}")
    quality_func: Several[str | RewardFunction] = option(
        [], help="qualities that nobody labelled (NAME or FILE.py:NAME): their fall is a side effect"
    )
    corpus: str | None = option(
        None, help="training corpus, a text file or `embedded`: how much of the samples is copied from it"
    )
    heldout: str | None = option(
        None,
        help="held-out text, a file or `embedded` (other speeches of the generated play): its loss under every rung, "
        "nats per token",
    )
    rewarded_words: str | None = option(
        None, help="regular expression for words the reward pays for, set apart from the side effects besides those "
        "whose count correlates with the proxy at 0.5 or more"
    )  # fmt: skip
    relative_error: float = option(
        0.05,
        help="wanted standard error of every rung's mean, in standard deviations of that reward on the original "
        "model; decides the number of samples",
    )
    num_samples: int | None = option(None, help="samples a rung, at least 2; instead of --relative_error")
    max_samples: int = option(20_000, help="samples a rung at most, whatever the error wanted")
    best_of_n_samples: int = option(
        4096, help="samples of the original that best-of-n is estimated from, if more than those of a rung; 4,096 "
        "reach 7.3 nats, firmly up to about 5"
    )  # fmt: skip
    draw: int = option(1, help="number of the fresh draw, at least 1; another number gives other samples")
    heat_samples: int = option(60, help="samples a rung whose KL is kept token by token, for the report's colours")
    reward_model_path: Several[str | RewardFunction] = option(
        [], help="where the run's reward models are now, if not where the run had them, nor moved along with it"
    )
    reward_func: Several[str | RewardFunction] = option(
        [], help="the same for the run's reward functions, FILE.py:NAME or FILE.yaml"
    )
    accept_changes: bool = option(
        False, help="go on though the run's rewards or files changed since they were written; evaluation.json says so"
    )
    stored_samples: bool = option(False, help="score the samples stored with the rungs and load no model")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.run == "":
            fix = "give the --output_dir of `rlhf ppo`"
            raise InputError("rlhf evaluate", got="no run", expected="a run directory", fix=fix)
        for name, low in (("num_samples", 2), ("max_samples", 2), ("draw", 1), ("heat_samples", 0),
                          ("best_of_n_samples", 0)):  # fmt: skip
            value = getattr(self, name)
            if value is not None and value < low:
                raise InputError(f"--{name}", got=value, expected=f"at least {low}", fix="choose another value")
        check_pattern("--rewarded_words", self.rewarded_words)
        if not 0 < self.relative_error < 1:
            raise InputError(
                "--relative_error", got=self.relative_error, expected="between 0 and 1", fix="choose another value"
            )


@step(EvaluateConfig)
def evaluate(config: EvaluateConfig) -> Evaluation:
    """Fresh samples of every rung, scored by the proxy and by rewards that the trainer never saw.

    Written to RUN/evaluation.json and RUN/evaluation/*.jsonl. Raises InputError when the directory is no run, a reward
    cannot be loaded or every score fails.
    """
    from rlhf.runs.integrity import read_unchanged

    for reward in (*config.gold_reward_model_path, *config.gold_reward_func, *config.quality_func):
        require_place(reward)
    directory = open_run(config.run).directory
    ladder, changed = read_unchanged(directory, ("run.json", "ladder.json", "samples"), accept=config.accept_changes)
    for name in ("num_samples", "best_of_n_samples"):
        count = getattr(config, name) or 0
        require_memory(of_completions(count, ladder.completion_length), {name: count})
    for name in ("evaluation.json", "evaluation/heat.json"):  # before the work, not after it
        check_own("rlhf evaluate", directory / name, Path.is_file)
    with sole_writer(directory / "evaluation", "rlhf evaluate"):
        return _evaluate(config, ladder, changed)


def _evaluate(config: EvaluateConfig, ladder: Run, changed: list[str]) -> Evaluation:
    from rlhf.evaluation.fresh_evaluation import evaluate_fresh
    from rlhf.evaluation.fresh_samples import run_rewards
    from rlhf.inspection.evaluation import evaluate_samples, write_evaluation
    from rlhf.runs.reading import read_ladder_samples

    golds, qualities = load_functions(config)
    corpus = read_documents(config.corpus, heldout=False)
    if config.stored_samples:
        evaluation = evaluate_samples(
            ladder,
            read_ladder_samples(ladder),
            golds,
            quality_funcs=qualities,
            corpus=corpus,
            rewarded_pattern=config.rewarded_words,
        )
        evaluation = replace(evaluation, accepted_changes=changed)
        write_evaluation(ladder.directory, evaluation)
        return evaluation
    held = config.run.rewards if isinstance(config.run, OpenedRun) else []
    rewards, others = run_rewards(
        ladder, config.reward_model_path, config.reward_func or held, accept_changes=config.accept_changes
    )
    return evaluate_fresh(
        ladder,
        golds,
        qualities,
        count=samples_wanted(config, ladder, {**golds, **qualities}),
        pool=config.best_of_n_samples,
        corpus=corpus,
        heldout=read_documents(config.heldout, heldout=True),
        rewarded_pattern=config.rewarded_words,
        draw=config.draw,
        heat_samples=config.heat_samples,
        quiet=config.quiet,
        rewards=rewards,
        accepted_changes=[*changed, *others],
    )


def read_documents(name: str | None, *, heldout: bool) -> str | None:
    """A text file, or the embedded play; held out, other speeches of it. None if none is named. Raises InputError."""
    if name is None:
        return None
    from rlhf.language_model.corpus import EMBEDDED
    from rlhf.language_model.grammar import generate_corpus

    if name == EMBEDDED:
        return "\n\n".join(generate_corpus(seed=1, n_documents=400) if heldout else generate_corpus())
    text = read_text(Path(name))
    if not text.strip():
        option = "--heldout" if heldout else "--corpus"
        raise InputError(option, got=f"{name}, without any text", expected="a text file", fix="check the path")
    require_short(text if heldout else text.split("\n\n"), name)
    return text


# One rule has one name; --gold of `rlhf label simulate` says embedded, earlier runs wrote gold_words_only.
SAME_RULE = {"embedded": "gold", "gold_words_only": "lexicon"}


def load_gold(spec: str | RewardFunction) -> RewardFunc:
    """`gold` and `lexicon`, the rules of `rlhf label simulate`, or what `rewards.load` loads."""
    from rewards.gold import GoldRule
    from rewards.loading import load_reward

    rules = {rule.__name__: rule for rule in (GoldRule(), GoldRule(check_lines=False))}
    return rules[spec] if isinstance(spec, str) and spec in rules else cast("RewardFunc", load_reward(spec))


def load_functions(config: EvaluateConfig) -> tuple[dict[str, RewardFunc], dict[str, RewardFunc]]:
    """Golds and qualities by name. Raises InputError when one cannot be loaded or two have one name."""
    golds: dict[str, RewardFunc] = {}
    if config.gold_reward_model_path:
        from rewards.loading import load_reward

        golds |= {named(model): cast("RewardFunc", load_reward(model)) for model in config.gold_reward_model_path}
    if config.gold_labels:
        from rlhf.inspection.labelled_gold import LabelledGold

        golds |= {Path(path).stem: LabelledGold(Path(path), config.pooling) for path in config.gold_labels}
    specs = [SAME_RULE.get(spec, spec) if isinstance(spec, str) else spec for spec in config.gold_reward_func]
    golds |= {named(spec): load_gold(spec) for spec in specs}
    qualities = {named(spec): load_gold(spec) for spec in config.quality_func}
    given: tuple[Sequence[Any], ...] = (
        config.gold_reward_model_path,
        config.gold_labels,
        config.gold_reward_func,
        config.quality_func,
    )
    if len({*golds, *qualities} - {"proxy"}) < sum(map(len, given)):
        raise InputError(
            "rlhf evaluate",
            got="two rewards of one name, or one named proxy",
            expected="names that differ",
            fix="rename a function",
        )
    return golds, qualities


def named(reward: str | RewardFunction) -> str:
    """The name of a gold or a quality: a path as it is, the function's name of FILE.py:NAME or a function."""
    from rewards.calling import reward_name

    if not isinstance(reward, str):
        return reward_name(reward)
    file, colon, name = reward.rpartition(":")
    return name if colon and file.endswith(".py") else reward


def samples_wanted(config: EvaluateConfig, ladder: Run, functions: dict[str, RewardFunc]) -> int:
    """The number of samples a rung: as asked for, or enough for the error wanted, judged from the stored samples."""
    if config.num_samples is not None:
        return config.num_samples
    from rlhf.evaluation.fresh_samples import samples_for_error
    from rlhf.inspection.scoring import score_rung
    from rlhf.runs.reading import read_stored_samples

    rungs = [score_rung(rows, functions) for rows in read_stored_samples(ladder).values()]
    pilot = [[rung[reward] for rung in rungs] for reward in (rungs[0] if rungs else {})]
    return min(config.max_samples, samples_for_error(pilot, config.relative_error))
