"""`rlhf demo`: the whole loop in one command, from a corpus to a report, with a simulated annotator.

Every stage leaves its file or directory and is passed over when it stands already, so a run that was stopped goes on
where it was; a finished one prints its summary again. Stages fix steps, not seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rlhf.foundation import terminal
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_json
from rlhf.foundation.locks import sole_writer
from rlhf.foundation.memory import of_completions, require_memory
from rlhf.foundation.options import Options, option
from rlhf.foundation.recipes import read_config
from rlhf.foundation.records import Sample, read_samples, write_records
from rlhf.foundation.steps import step
from rlhf.whole_loop.staged import StagedWork

if TYPE_CHECKING:
    from rewards.gold import GoldRule
    from rlhf.inspection.estimates import Estimate
    from rlhf.ppo.finetune import PPOCommandConfig


@dataclass(kw_only=True)
class DemoConfig(Options):
    """What the demo runs on; each stage's options stand in the packaged recipes."""

    output_dir: str = option("runs/demo", help="directory of everything the demo makes")
    reward: Literal["sentiment", "full_stop"] = option(
        "sentiment", help="sentiment: a reward model fitted to simulated labels; full_stop: the built-in rule"
    )
    corpus: str = option("embedded", help="a UTF-8 text file, or `embedded`: a generated play")
    num_labels: int = option(2400, help="samples that the simulated annotator labels")
    noise: float = option(0.1, help="share of the labels that is wrong, 0 to 1")
    seed: int = option(0, help="seed of every stage; at least 0")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_labels < 20:
            raise InputError("--num_labels", got=self.num_labels, expected="at least 20", fix="choose another value")
        if not 0 <= self.noise < 1:
            raise InputError("--noise", got=self.noise, expected="0 to less than 1", fix="choose another value")


@dataclass
class Demo:
    """One demo directory and its stages, in order."""

    config: DemoConfig
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.root = Path(self.config.output_dir)
        self.model, self.reward_model, self.ppo = (self.root / n for n in ("model", "reward_model", "ppo"))
        self.samples, self.labels = self.root / "samples.jsonl", self.root / "labels.jsonl"
        self.unlabelled = self.root / "unlabelled.jsonl"
        self.report = self.root / "report.html"

    def stages(self) -> list[tuple[str, Path, Callable[[], None]]]:
        """Name, what the stage leaves behind last, and what it does."""
        labelled = [
            ("samples", self.unlabelled, self.draw_samples),
            ("labels", self.labels, self.simulate_labels),
            ("reward model", self.reward_model, self.fit_reward),
        ]
        return [
            ("language model", self.model, self.pretrain),
            *(labelled if self.config.reward == "sentiment" else []),
            ("ppo", self.ppo / "run.json", self.finetune),
            ("evaluation", self.ppo / "evaluation.json", self.evaluate),
            ("report", self.report, self.write_report),
        ]

    def run(self) -> None:
        """Do what is not done yet, and note the seconds of each stage. Raises InputError, also while another does."""
        require_memory(of_completions(self.config.num_labels, 32), {"num_labels": self.config.num_labels})
        today = {k: v for k, v in vars(self.config).items() if k not in ("quiet", "output_dir")}
        with sole_writer(self.root):
            work, stages = StagedWork(self.root, self.root / "demo.json", today), self.stages()
            files = {
                "samples": (self.samples, self.unlabelled),
                "labels": (self.labels,),
            }  # other stages say it themselves
            self.seconds = work.seconds
            for number, (name, product, stage) in enumerate(stages, start=1):
                work.do(name, product, stage, announce=f"[{number}/{len(stages)}] {name}", files=files.get(name, ()))

    # -- stages --------------------------------------------------------------------------------------------------

    def pretrain(self) -> None:
        """A small language model from scratch."""
        from rlhf.language_model.pretrain import pretrain

        pretrain(output_dir=str(self.model), corpus=self.config.corpus, seed=self.config.seed, quiet=self.config.quiet)

    def draw_samples(self) -> None:
        """Unconditional samples: some to be labelled, others that fix the reward's offset and scale."""
        from rlhf.foundation.model_directory import load_causal_lm, load_tokenizer
        from rlhf.language_model.sampler import sample_texts

        labelled, unlabelled = self.config.num_labels, self.ppo_config().normalization_samples
        samples = sample_texts(
            load_causal_lm(str(self.model)),
            load_tokenizer(str(self.model)),
            [""] * (labelled + unlabelled),
            max_new_tokens=self.ppo_config().max_completion_length,
            seed=self.config.seed,
            source=str(self.model),
            quiet=self.config.quiet,
        )
        write_records(self.samples, samples[:labelled])
        write_records(self.unlabelled, samples[labelled:])

    def simulate_labels(self) -> None:
        """Labels of a rater who follows the gold rule, a share of them wrong."""
        from labeling.steps.simulate import simulate

        gold: Literal["embedded", "lexicon"] = "embedded" if self.config.corpus == "embedded" else "lexicon"
        simulate(
            samples=str(self.samples),
            output=str(self.labels),
            gold=gold,
            noise=[self.config.noise],
            seed=self.config.seed,
            quiet=self.config.quiet,
        )

    def fit_reward(self) -> None:
        """The reward model, from the labels alone."""
        from rewards.steps.fit import fit

        fit.from_recipe(
            "demo_reward",
            model_name_or_path=str(self.model),
            labels=str(self.labels),
            samples=str(self.unlabelled),
            output_dir=str(self.reward_model),
            seed=self.config.seed,
            quiet=self.config.quiet,
        )

    def ppo_config(self) -> PPOCommandConfig:
        """The recipe `demo` or `full_stop` with this demo's model and reward."""
        from rlhf.ppo.finetune import PPOCommandConfig

        sentiment = self.config.reward == "sentiment"
        recipe = read_config("demo" if sentiment else "full_stop")
        recipe |= {"reward_model_path": [str(self.reward_model)]} if sentiment else {}
        recipe |= {"model_name_or_path": str(self.model), "output_dir": str(self.ppo)}
        resume = self.ppo.is_dir()
        return PPOCommandConfig(**recipe, seed=self.config.seed, resume=resume, quiet=self.config.quiet)

    def finetune(self) -> None:
        """PPO to the KL budget."""
        from rlhf.ppo.finetune import finetune

        finetune.run(self.ppo_config())

    def gold(self) -> GoldRule:
        """The rule that the simulated rater follows; only evaluation reads it."""
        from rewards.gold import GoldRule

        return GoldRule(check_lines=self.config.corpus == "embedded")

    def evaluate(self) -> None:
        """Score the ladder's samples by the proxy and by labelled gold."""
        from rlhf.inspection.evaluation import evaluate_run
        from rlhf.language_model.corpus import read_corpus

        corpus = "\n\n".join(read_corpus(self.config.corpus))
        gold = self.gold()
        evaluate_run(self.ppo, {gold.__name__: gold}, corpus=corpus)

    def write_report(self) -> None:
        """The report, the only one of the demo."""
        from rlhf.inspection.report import build_report

        build_report(self.ppo, self.report)

    # -- summary -------------------------------------------------------------------------------------------------

    def summary(self) -> str:
        """What a person reads at the end: figures of the parts, the ladder, the seconds, where the report is."""
        from rlhf.inspection.evaluation import read_evaluation

        evaluation = read_evaluation(self.ppo / "evaluation.json")
        (gold, *_) = evaluation.golds  # the demo's only one, under the name it was written with
        lines = ["", *self.model_lines(), *self.reward_lines(), "", LADDER_HEAD]
        for rung in evaluation.rungs:
            sample = first_sample(self.ppo / "samples" / f"{rung.name}.jsonl")
            kl = f"{rung.kl:7.2f} {terminal.plus_minus(rung.kl_se, 2)}"
            lines.append(f"  {rung.name:<9}{kl}{shown(rung.proxy)}{shown(rung.gold[gold])}  {sample}")
        lines += ["", evaluation.onsets[gold].statement(), ""]
        total = sum(self.seconds.values())
        lines.append("seconds: " + ", ".join(f"{n} {s:.0f}" for n, s in self.seconds.items()) + f"; in all {total:.0f}")
        lines.append(f"report: {self.report}")
        return "\n".join([*lines, "", "next:", *self.next_steps()])

    def next_steps(self) -> list[str]:
        """Three commands to try now, each with what it is for."""
        labels = [
            f"  rlhf label page --samples {self.samples} --output_dir {self.root}/page --num_tasks 40",
            "      label forty of these samples yourself: one HTML file, keys 1 2 3",
        ]
        twin = [
            f"  rlhf reward --config demo_reward --target negative --model_name_or_path {self.model}"
            f" --labels {self.labels} --samples {self.unlabelled} --output_dir {self.root}/negative",
            "      the negative twin: the same labels, the other end",
        ]
        rate = [
            f"  rlhf rate push {self.ppo} --page --output_dir {self.root}/rating",
            "      rate samples without knowing which model wrote them: do you prefer the policy?",
        ]
        other = [
            f"  rlhf demo --output_dir {self.root}-sentiment",
            "      the same with a reward model fitted to labels instead of a rule",
        ]
        look = [f"  rlhf inspect --verify {self.ppo}", "      whether every file is what was written"]
        chosen = (labels, twin, rate) if self.config.reward == "sentiment" else (other, rate, look)
        return [line for lines in chosen for line in lines]

    def model_lines(self) -> list[str]:
        """The language model in a line."""
        figures: dict[str, Any] = read_json(self.model / "pretrain.json")["figures"]
        loss = f"{figures['held_out_loss']:.3f} {terminal.plus_minus(figures['held_out_loss_se'], 3)}"
        return [
            f"language model: {figures['parameters']:,} parameters, held-out loss {loss} nats per token, "
            f"{figures['bits_per_character']:.3f} bits per character"
        ]

    def reward_lines(self) -> list[str]:
        """The reward model in two lines, with what departs from the exercise."""
        if self.config.reward != "sentiment":
            return ["reward: full stops of a completion (a rule; no labels)"]
        report: dict[str, Any] = read_json(self.reward_model / "reward_model.json")
        accuracy = report["held_out"]["accuracy"]
        return [
            f"reward model: {self.config.num_labels} labels, {self.config.noise:.0%} of them wrong; held-out accuracy "
            f"{accuracy['share']:.1%} ({accuracy['low']:.1%} to {accuracy['high']:.1%}, n = {accuracy['n']})",
            "  (departure from the exercise: an auxiliary loss asks for the label at every position; "
            "`--dense_weight 0` leaves it out)",
        ]


LADDER_HEAD = "  rung      KL (nats)     proxy reward      labelled gold   a sample (± one standard error)"


def shown(estimate: Estimate | None) -> str:
    """A mean with its standard error, or a gap where nothing was scored."""
    return f"{estimate.mean:9.3f} {terminal.plus_minus(estimate.se, 3)}" if estimate else " " * 17


def first_sample(path: Path) -> str:
    """The first sample of a rung on one short line."""
    sample: Sample = read_samples(path)[0]
    return terminal.shown(" / ".join(sample.completion.split("\n")), 70)


@step(DemoConfig)
def demo(config: DemoConfig) -> Demo:
    """The whole loop, from a corpus to a report, with a simulated annotator; goes on where it stopped.

    Raises InputError; KeyboardInterrupt says how to go on.
    """
    work = Demo(config)
    try:
        work.run()
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the same command goes on where it stopped") from None
    return work
