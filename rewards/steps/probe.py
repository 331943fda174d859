"""`rlhf.probe`: what a reward pays for, and the texts it loves and hates most, before PPO finds them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rewards.by_name import require_place
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import write_json
from rlhf.foundation.given_records import Samples, samples_of
from rlhf.foundation.held import place_of
from rlhf.foundation.locks import sole_writer
from rlhf.foundation.memory import of_completions, require_memory
from rlhf.foundation.model_names import require_names
from rlhf.foundation.model_pair import Model, name_of
from rlhf.foundation.options import Options, option
from rlhf.foundation.records import Sample, content_uid, write_records
from rlhf.foundation.steps import step
from rlhf.foundation.tables import Report, Table

if TYPE_CHECKING:
    from rewards.probe import Found

RewardFunction = Callable[..., Any]


@dataclasses.dataclass
class ProbeConfig(Options):
    """Options of `rlhf probe`."""

    reward: str | RewardFunction = option(
        help="directory of a reward model, name of a rule, or FILE.py:NAME; may also come first, bare"
    )
    model_name_or_path: Model = option(help="base language model: its log-probability is the floor of every edit")
    samples: Samples = option(help="samples.jsonl of the base policy: where the search starts, and its stock of words")
    _: dataclasses.KW_ONLY
    output_dir: str | None = option(
        None, help="directory for probe.json and probe_samples.jsonl (ready to be labelled)", written="probe"
    )
    attribution_samples: int = option(200, help="samples whose words are left out one by one, at least 1")
    num_starts: int = option(8, help="best samples to start from, each way, at least 1")
    num_rounds: int = option(8, help="rounds of edits, 0: best of the samples alone")
    candidates: int = option(48, help="random edits tried a round and start, at least 1")
    floor_quantile: float = option(
        0.05, help="edits must be as likely under the base model as this quantile of the samples, 0 to 1"
    )
    overwrite: bool = option(False, help="replace the files of an earlier probe")
    seed: int = option(0, help="seed of the edits")

    def __post_init__(self) -> None:
        """Raises InputError on a value out of range."""
        super().__post_init__()
        for name in ("attribution_samples", "num_starts", "candidates"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name}", got=getattr(self, name), expected="at least 1", fix="change it")
        if self.num_rounds < 0:
            raise InputError("--num_rounds", got=self.num_rounds, expected="at least 0", fix="change it")
        if not 0 <= self.floor_quantile <= 1:
            raise InputError("--floor_quantile", got=self.floor_quantile, expected="0 to 1", fix="change it")


@dataclasses.dataclass(frozen=True)
class Probed:
    """What was found: words by what they are worth, texts by their score, and these texts as samples to label."""

    report: Report
    samples: Table[Sample]

    def _repr_html_(self) -> str:
        return self.samples._repr_html_()


@step(ProbeConfig)
def probe(config: ProbeConfig) -> Probed:
    """What a reward pays for, by leaving words out, and the texts it loves and hates most, by editing samples.

    `report` (also written as probe.json) has words_paid_for, words_punished, highest and lowest. Raises InputError,
    also when another command writes into `output_dir`.
    """
    with sole_writer(config.output_dir):
        return _probed(config)


def _probed(config: ProbeConfig) -> Probed:
    require_names(config.model_name_or_path)
    require_place(config.reward)
    from rewards.attribution import loved_and_hated, occlusion, word_worths
    from rewards.loading import load_reward
    from rewards.probe import BaseLogProbs, search
    from rlhf.foundation.model_directory import load_causal_lm, load_tokenizer
    from rlhf.foundation.progress import progress_bar

    directory = Path(config.output_dir) if config.output_dir is not None else None
    if directory is not None and (directory / "probe.json").exists() and not config.overwrite:
        raise InputError(
            "--output_dir",
            got=f"{directory}, which holds an earlier probe",
            expected="a new directory",
            fix="choose another one, or give --overwrite",
        )
    require_memory(of_completions(config.candidates, 64), {"candidates": config.candidates})
    reward = load_reward(config.reward)
    samples = samples_of(config.samples)
    base = BaseLogProbs(load_causal_lm(config.model_name_or_path), load_tokenizer(config.model_name_or_path))
    prompts, completions = [s.prompt for s in samples], [s.completion for s in samples]
    some = slice(config.attribution_samples)
    worths = word_worths(occlusion(reward, prompts[some], completions[some]))
    loved, hated = loved_and_hated(worths)
    with progress_bar("probe", "round", total=2 * config.num_rounds, quiet=config.quiet) as bar:
        found = {
            name: search(
                reward,
                base,
                prompts,
                completions,
                highest=name == "highest",
                n_starts=config.num_starts,
                n_rounds=config.num_rounds,
                n_candidates=config.candidates,
                floor_quantile=config.floor_quantile,
                seed=config.seed,
                on_round=lambda: bar.update() and None,
            )
            for name in ("highest", "lowest")
        }
    report = {
        "reward": place_of(config.reward),
        "base_model": name_of(config.model_name_or_path),
        "samples": {"file": place_of(config.samples), "n": len(samples)},
        "attribution_samples": len(completions[some]),
        "words_paid_for": [dataclasses.asdict(word) for word in loved],
        "words_punished": [dataclasses.asdict(word) for word in hated],
        **{name: [dataclasses.asdict(text) for text in texts] for name, texts in found.items()},
    }
    rows = [_sample(name, text) for name, texts in found.items() for text in texts]
    if directory is not None:
        write_records(directory / "probe_samples.jsonl", rows)
        write_json(directory / "probe.json", report)  # last: who finds it finds a whole probe
    return Probed(Report(report), Table(rows, f"{len(rows)} texts that {place_of(config.reward)} loves and hates"))


def _sample(name: str, text: Found) -> Sample:
    """A text that the search found, as a sample to be labelled; the same find has the same uid."""
    uid = content_uid(name, text.prompt, text.completion)
    return Sample(uid, text.prompt, text.completion, f"probe {name}", logprob=text.logprob, reward=text.score)
