"""From human labels to a finetuned policy, with the KL bill in view: every step a function. Names load on first use.

    model = rlhf.pretrain(corpus="embedded")
    samples = rlhf.sample(model, num_samples=2400)
    labels = labeling.simulate(samples, noise=0.1)
    reward = rewards.fit(model, labels=labels).reward
    run = rlhf.PPOTrainer(model, reward, rlhf.PPOConfig.from_recipe("demo", output_dir="run")).train()
    rlhf.evaluate(run, gold_reward_func="gold")
    run.figure("proxy along KL")

A step takes the options of its command, with the same names, defaults and checks; what a path names may be given in
memory too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlhf.foundation.lazy_names import lazily

if TYPE_CHECKING:
    from rewards.steps.probe import probe
    from rlhf.evaluation.compare import compare
    from rlhf.evaluation.evaluate import evaluate
    from rlhf.evaluation.examine import doctor
    from rlhf.evaluation.export import export
    from rlhf.evaluation.rate_judge import rate_judge
    from rlhf.evaluation.rate_plan import rate_plan
    from rlhf.evaluation.rate_pull import rate_pull
    from rlhf.evaluation.rate_push import rate_push
    from rlhf.evaluation.rate_score import rate_score
    from rlhf.foundation.errors import InputError
    from rlhf.foundation.model_pair import LanguageModel
    from rlhf.foundation.records import Sample
    from rlhf.inspection.opened_run import OpenedRun, open_run
    from rlhf.language_model.pretrain import pretrain
    from rlhf.methods.align import align
    from rlhf.planning.plan import plan
    from rlhf.ppo.config import PPOConfig
    from rlhf.ppo.finetune import finetune
    from rlhf.ppo.trainer import PPOTrainer
    from rlhf.sampling import read_samples, sample
    from rlhf.studies.study import study
    from rlhf.whole_loop.demo import demo
    from rlhf.whole_loop.inspect_runs import inspect
    from rlhf.whole_loop.reproduce import reproduce
    from rlhf.whole_loop.rounds import loop

__version__ = "0.1.0"
__all__ = [
    "InputError",
    "LanguageModel",
    "OpenedRun",
    "PPOConfig",
    "PPOTrainer",
    "Sample",
    "__version__",
    "align",
    "compare",
    "demo",
    "doctor",
    "evaluate",
    "export",
    "finetune",
    "inspect",
    "loop",
    "open_run",
    "plan",
    "pretrain",
    "probe",
    "rate_judge",
    "rate_plan",
    "rate_pull",
    "rate_push",
    "rate_score",
    "read_samples",
    "reproduce",
    "sample",
    "study",
]

__getattr__ = lazily(
    "rlhf",
    {
        "InputError": "rlhf.foundation.errors",
        "LanguageModel": "rlhf.foundation.model_pair",
        "OpenedRun": "rlhf.inspection.opened_run",
        "PPOConfig": "rlhf.ppo.config",
        "PPOTrainer": "rlhf.ppo.trainer",
        "Sample": "rlhf.foundation.records",
        "align": "rlhf.methods.align",
        "compare": "rlhf.evaluation.compare",
        "demo": "rlhf.whole_loop.demo",
        "doctor": "rlhf.evaluation.examine",
        "evaluate": "rlhf.evaluation.evaluate",
        "export": "rlhf.evaluation.export",
        "finetune": "rlhf.ppo.finetune",
        "inspect": "rlhf.whole_loop.inspect_runs",
        "loop": "rlhf.whole_loop.rounds",
        "open_run": "rlhf.inspection.opened_run",
        "plan": "rlhf.planning.plan",
        "pretrain": "rlhf.language_model.pretrain",
        "probe": "rewards.steps.probe",
        "rate_judge": "rlhf.evaluation.rate_judge",
        "rate_plan": "rlhf.evaluation.rate_plan",
        "rate_pull": "rlhf.evaluation.rate_pull",
        "rate_push": "rlhf.evaluation.rate_push",
        "rate_score": "rlhf.evaluation.rate_score",
        "read_samples": "rlhf.sampling",
        "reproduce": "rlhf.whole_loop.reproduce",
        "sample": "rlhf.sampling",
        "study": "rlhf.studies.study",
    },
)


def __dir__() -> list[str]:
    return sorted(__all__)
