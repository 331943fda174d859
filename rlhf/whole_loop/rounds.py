"""`rlhf loop`: rounds of label, reward and PPO, each labelling samples of the policy that the last round made.

Every round fits a new reward model to all labels so far and finetunes the original anew (Bai et al. 2022, section 4.5,
"iterated online RLHF", does the same with comparisons), so that rounds can be compared at one KL. The first round's
reward stays frozen beside them: its own ladder is what the policy does without relabelling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_json, write_json
from rlhf.foundation.locks import sole_writer
from rlhf.foundation.memory import of_completions, require_memory
from rlhf.foundation.options import Options, option
from rlhf.foundation.recipes import read_config
from rlhf.foundation.records import read_labels, write_records
from rlhf.foundation.steps import step
from rlhf.whole_loop.staged import StagedWork

if TYPE_CHECKING:
    from rewards.steps.reward_config import RewardConfig
    from rlhf.inspection.evaluation import Evaluation
    from rlhf.ppo.finetune import PPOCommandConfig

FROZEN = "frozen_reward"


@dataclass(kw_only=True)
class LoopConfig(Options):
    """Options of `rlhf loop`."""

    NOT_WITH: ClassVar[Mapping[str, str]] = {"noise": "annotator"}

    model_name_or_path: str = option(help="the original: a directory or a hub name")
    output_dir: str = option("runs/loop", help="directory of all rounds")
    rounds: int = option(3, help="rounds of label, reward and PPO, at least 1")
    num_labels: int = option(600, help="samples labelled in each round, at least 20")
    annotator: Literal["simulated", "people"] = option(
        "simulated", help="simulated: a rule answers; people: the loop waits for each round's labels.jsonl"
    )
    gold: Literal["embedded", "lexicon"] = option(
        "embedded", help="the rule that is labelled gold, and that the simulated annotator follows"
    )
    noise: float = option(0.1, help="share of the simulated labels that is wrong, 0 to less than 1")
    control: bool = option(
        False, help="beside each later round: as many labels, but all on samples of the original (twice the time)"
    )
    reward_config: str = option("demo_reward", help="recipe or YAML file of `rlhf reward`")
    ppo_config: str = option("demo", help="recipe or YAML file of `rlhf ppo`")
    seed: int = option(0, help="seed of every stage; at least 0")

    def __post_init__(self) -> None:
        super().__post_init__()
        rules = {
            "rounds": (self.rounds >= 1, "at least 1"),
            "num_labels": (self.num_labels >= 20, "at least 20"),
            "noise": (0 <= self.noise < 1, "0 to less than 1"),
            "seed": (self.seed >= 0, "at least 0"),
        }
        for name, (ok, expected) in rules.items():
            if not ok:
                raise InputError(f"--{name}", got=getattr(self, name), expected=expected, fix="choose another value")


class LabelsMissing(Exception):
    """A round waits for people; the message says what to do. No mistake: the loop goes on when they are there."""


@dataclass(frozen=True)
class Arm:
    """One fit and one run: a round, or its control."""

    name: str
    directory: Path
    sampled_from: str  # model directory whose samples are labelled
    earlier: tuple[Path, ...]  # labels.jsonl of the rounds before
    seed: int

    @property
    def labels(self) -> Path:
        """This arm's own labels."""
        return self.directory / "labels.jsonl"

    @property
    def all_labels(self) -> Path:
        """These and those of the rounds before, in one file."""
        return self.directory / "all_labels.jsonl"

    @property
    def ppo(self) -> Path:
        """Its run directory."""
        return self.directory / "ppo"


class Loop:
    """All rounds in one directory."""

    def __init__(self, config: LoopConfig) -> None:
        self.config, self.root = config, Path(config.output_dir)
        self.unlabelled = self.root / "unlabelled.jsonl"

    def run(self) -> str:
        """Do what is not done yet; the table of rounds. Raises InputError; LabelsMissing when people are awaited."""
        with sole_writer(self.root):
            return self._run()

    def _run(self) -> str:
        require_memory(of_completions(self.config.num_labels, 32), {"num_labels": self.config.num_labels})
        today = {k: v for k, v in vars(self.config).items() if k not in ("quiet", "output_dir")}
        work = StagedWork(self.root, self.root / "loop.json", today)
        self.check_recipes()
        drawn = "samples of the original"
        work.do(drawn, self.unlabelled, self.draw_unlabelled, drawn, files=(self.unlabelled,))
        arms: list[Arm] = []
        for number in range(1, self.config.rounds + 1):
            for arm in self.arms_of(number):
                self.run_arm(work, arm)
                arms.append(arm)
        return self.compare(arms)

    def check_recipes(self) -> None:
        """Read both recipes as their stages will. Raises InputError now, not after an hour of rounds."""
        first = self.arms_of(1)[0]
        self.reward_options(first, self.root / "reward_model")
        self.ppo_options(first, self.root / "reward_model")

    def arms_of(self, number: int) -> list[Arm]:
        """The round, and after the first one its control if asked."""
        seed = self.config.seed + 1000 * (number - 1)
        places = [self.root / f"round-{k}" for k in range(1, number)]
        policy = self.config.model_name_or_path if number == 1 else last_checkpoint(places[-1] / "ppo")
        labels = tuple(place / "labels.jsonl" for place in places)
        arms = [Arm(f"round {number}", self.root / f"round-{number}", policy, labels, seed)]
        if number > 1 and self.config.control:
            controls = tuple(place / "labels.jsonl" for place in [places[0], *(p / "control" for p in places[1:])])
            place = self.root / f"round-{number}" / "control"
            arms.append(Arm(f"  control {number}", place, self.config.model_name_or_path, controls, seed))
        return arms

    def run_arm(self, work: StagedWork, arm: Arm) -> None:
        """Samples, labels, reward model, PPO, evaluation of one arm."""
        samples, reward = arm.directory / "samples.jsonl", arm.directory / "reward_model"
        name = arm.name.strip()
        told = f"{name}: samples of {arm.sampled_from}"
        work.do(f"{name}: samples", samples, lambda: self.draw(arm, samples), told, files=(samples,))
        if self.config.annotator == "simulated":
            told = f"{name}: labels"
            work.do(told, arm.labels, lambda: self.simulate(arm, samples), told, files=(arm.labels,))
        elif not arm.labels.exists():
            raise LabelsMissing(waiting(name, samples, arm.labels))
        work.do(f"{name}: reward", reward, lambda: self.fit(arm, reward), f"{name}: reward model")
        work.do(f"{name}: ppo", arm.ppo / "run.json", lambda: self.finetune(arm, reward), f"{name}: ppo")
        evaluation = arm.ppo / "evaluation.json"
        work.do(f"{name}: evaluation", evaluation, lambda: self.evaluate(arm), f"{name}: evaluation")

    # -- stages --------------------------------------------------------------------------------------------------

    def draw_unlabelled(self) -> None:
        """Samples of the original that fix every reward's offset and scale."""
        settings = read_config(self.config.ppo_config)
        count = int(settings.get("normalization_samples", 2048))
        self.sample(self.config.model_name_or_path, count, self.config.seed + 500, self.unlabelled)

    def draw(self, arm: Arm, path: Path) -> None:
        """What this arm's annotator will see."""
        arm.directory.mkdir(parents=True, exist_ok=True)
        self.sample(arm.sampled_from, self.config.num_labels, arm.seed, path)

    def sample(self, model: str, count: int, seed: int, path: Path) -> None:
        """Draw unconditional samples into a file."""
        from rlhf.foundation.model_directory import load_causal_lm, load_tokenizer
        from rlhf.language_model.sampler import sample_texts

        length = int(read_config(self.config.ppo_config).get("max_completion_length", 48))
        samples = sample_texts(
            load_causal_lm(model),
            load_tokenizer(model),
            [""] * count,
            max_new_tokens=length,
            seed=seed,
            source=model,
            quiet=self.config.quiet,
        )
        write_records(path, samples)

    def simulate(self, arm: Arm, samples: Path) -> None:
        """Labels by the rule, a share of them wrong."""
        from labeling.steps.simulate import simulate

        simulate(
            samples=str(samples),
            output=str(arm.labels),
            gold=self.config.gold,
            noise=[self.config.noise],
            seed=arm.seed,
            quiet=self.config.quiet,
        )

    def fit(self, arm: Arm, directory: Path) -> None:
        """A reward model from all labels so far."""
        from rewards.steps.fit import fit

        every = [label for path in (*arm.earlier, arm.labels) for label in read_labels(path)]
        write_records(arm.all_labels, every)
        fit.run(self.reward_options(arm, directory))

    def reward_options(self, arm: Arm, directory: Path) -> RewardConfig:
        """The recipe of the reward model with this arm's labels."""
        from rewards.steps.reward_config import RewardConfig

        options: dict[str, Any] = {
            "model_name_or_path": self.config.model_name_or_path,
            "labels": arm.all_labels,
            "samples": self.unlabelled,
            "output_dir": directory,
            "labelled_samples": labelled_samples([*arm.earlier, arm.labels]),
        }
        return RewardConfig.from_recipe(self.config.reward_config, **options, **self.common())

    def finetune(self, arm: Arm, reward: Path) -> None:
        """PPO from the original to the recipe's budget, with the same random numbers in every round."""
        from rlhf.ppo.finetune import finetune

        finetune.run(self.ppo_options(arm, reward))

    def ppo_options(self, arm: Arm, reward: Path) -> PPOCommandConfig:
        """The recipe with this arm's reward."""
        from rlhf.ppo.finetune import PPOCommandConfig

        options: dict[str, Any] = {
            "model_name_or_path": self.config.model_name_or_path,
            "reward_model_path": reward,
            "output_dir": arm.ppo,
            "resume": arm.ppo.is_dir(),
        }
        return PPOCommandConfig.from_recipe(self.config.ppo_config, **options, **self.common())

    def common(self) -> dict[str, Any]:
        """What every stage has of this loop's options."""
        return {"seed": self.config.seed, "quiet": self.config.quiet}

    def evaluate(self, arm: Arm) -> Evaluation:
        """The ladder's samples by the round's reward, by the rule, and by the first round's reward."""
        from rewards.loading import load_reward_model
        from rlhf.inspection.evaluation import evaluate_run

        frozen = load_reward_model(self.root / "round-1" / "reward_model")
        rule = self.gold()
        return evaluate_run(arm.ppo, {rule.__name__: rule}, quality_funcs={FROZEN: frozen})

    def gold(self) -> Any:
        """Labelled gold; only evaluation reads it."""
        from rewards.gold import GoldRule

        return GoldRule(check_lines=self.config.gold == "embedded")

    def compare(self, arms: Sequence[Arm]) -> str:
        """Write rounds.json and report.html; the table."""
        from rlhf.inspection.evaluation import read_evaluation
        from rlhf.inspection.report import build_report
        from rlhf.inspection.rounds import common_kl, compare_rounds, table

        evaluations = {arm.name: read_evaluation(arm.ppo / "evaluation.json") for arm in arms}
        counts = {arm.name: len(read_labels(arm.all_labels)) for arm in arms}
        results = compare_rounds(evaluations, counts, gold=self.gold().__name__, frozen=FROZEN)
        kl = common_kl(list(evaluations.values()))
        write_json(self.root / "rounds.json", {"kl_per_completion": kl, "rounds": [asdict(r) for r in results]})
        report = self.root / "report.html"
        build_report(arms[0].ppo, report, others=[arm.ppo for arm in arms[1:]])
        seconds = sum(read_json(self.root / "loop.json")["seconds"].values())
        return f"\n{table(results, kl)}\n\n{seconds:.0f} s in all\nreport: {report}"


def labelled_samples(labels: Sequence[Path]) -> list[Path]:
    """The files that say whose samples the labels judge: the samples, and the tasks that people saw."""
    beside = [path.parent / name for path in labels for name in ("samples.jsonl", "tasks.jsonl")]
    return [path for path in beside if path.exists()]


def last_checkpoint(run: Path) -> str:
    """The model directory of a finished run's last rung. Raises InputError when it is not what the run wrote."""
    from rlhf.runs.ladder import read_rungs

    rung = read_rungs(run / "ladder.json")[-1]
    wrong = rung.damage(run, rung.path)
    if wrong:
        raise InputError(
            f"rung {rung.name} of {run}", got=wrong, expected="the checkpoint as the run wrote it", fix="restore it"
        )
    return str(run / rung.path)


def waiting(name: str, samples: Path, labels: Path) -> str:
    """What people have to do before the loop goes on."""
    return (
        f"{name} waits for labels of {samples}:\n"
        f"  rlhf label push --samples {samples} --output_dir {labels.parent}\n"
        f"  rlhf label pull --output_dir {labels.parent}    (writes {labels})\n"
        "then the same command goes on"
    )


@dataclass(frozen=True)
class Rounds:
    """The table of rounds in words, and where all of them stand; `waiting` says what people must do first, if so."""

    directory: Path
    table: str = ""
    waiting: str = ""


@step(LoopConfig)
def loop(config: LoopConfig) -> Rounds:
    """Rounds of label, reward and PPO; goes on where it stopped. Raises InputError."""
    work = Loop(config)
    try:
        return Rounds(work.root, work.run())
    except LabelsMissing as message:
        return Rounds(work.root, waiting=str(message))
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the same command goes on where it stopped") from None
