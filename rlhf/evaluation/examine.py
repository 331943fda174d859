"""`rlhf doctor`: do the samples come from the policy? For runs of `rlhf ppo`, and for rollouts of any other loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rlhf.foundation.errors import InputError
from rlhf.foundation.files import read_jsonl
from rlhf.foundation.model_names import require_names
from rlhf.foundation.model_pair import Model
from rlhf.foundation.options import Options, Several, option
from rlhf.foundation.steps import step
from rlhf.inspection.opened_run import OpenedRun

if TYPE_CHECKING:
    from rlhf.ppo.doctor import Diagnosis
    from rlhf.ppo.sampled import Sampled


@dataclasses.dataclass
class DoctorConfig(Options):
    """Options of `rlhf doctor`."""

    NEEDS: ClassVar[Mapping[str, str]] = {
        "model_name_or_path": "rollouts",
        "ref_model_name_or_path": "rollouts",
        "suppress_tokens": "rollouts",
    }

    run_directory: str | OpenedRun | None = option(
        None, help="a run of `rlhf ppo`: what its doctor found; may also come first, bare"
    )
    rollouts: str | None = option(
        None,
        help="rollouts of another loop, JSON lines: prompt_ids, completion_ids (real tokens, the first end token "
        "kept), and logprobs and ref_logprobs as recorded, one a token, if there are any",
    )
    model_name_or_path: Model | None = option(None, help="the policy said to have sampled them")
    ref_model_name_or_path: Model | None = option(None, help="the original that KL is taken to")
    suppress_tokens: Several[int] = option([], help="token ids that both are meant to leave out")

    def __post_init__(self) -> None:
        """Raises InputError unless one run, or rollouts with both models, are named."""
        super().__post_init__()
        if (self.run_directory is None) == (self.rollouts is None):
            raise InputError(
                "rlhf doctor", got="both or neither", expected="a run directory or --rollouts", fix="name one of them"
            )
        models = (self.model_name_or_path, self.ref_model_name_or_path)
        if self.rollouts is not None and None in models:
            raise InputError(
                "--rollouts",
                got="no model beside it",
                expected="--model_name_or_path and --ref_model_name_or_path",
                fix="name the policy and its original",
            )


@step(DoctorConfig)
def doctor(config: DoctorConfig) -> Examined:
    """Whether samples come from the policy, and why not: of a run what was noticed, of rollouts an examination.

    Raises InputError.
    """
    if config.run_directory is not None:
        return Examined(of_run(Path(config.run_directory)))
    diagnosis = of_rollouts(config)
    return Examined(str(diagnosis).splitlines(), diagnosis)


@dataclasses.dataclass(frozen=True)
class Examined:
    """What was found, in lines (none: healthy); of rollouts the diagnosis too."""

    lines: list[str]
    diagnosis: Diagnosis | None = None


def of_run(directory: Path) -> list[str]:
    """A line an iteration at which the doctor of a run noticed something. Raises InputError."""
    lines = []
    for row in read_jsonl(directory / "metrics.jsonl"):
        if row.get("doctor"):
            symptoms, causes = row["doctor"]["symptoms"], row["doctor"]["causes"]
            named = "; ".join(f"{name} ({evidence})" for name, evidence in causes.items()) or "none found"
            lines.append(f"iteration {row['iteration']}: {', '.join(symptoms.values())}; cause: {named}")
    return lines


def of_rollouts(config: DoctorConfig) -> Diagnosis:
    """Examine the rollouts of a file. Raises InputError."""
    require_names(config.model_name_or_path, config.ref_model_name_or_path)
    from rlhf.foundation.model_directory import load_causal_lm, load_tokenizer
    from rlhf.language_model.endings import ending_of, require_ids
    from rlhf.ppo.doctor import examine

    assert config.rollouts is not None  # checked when made, as are the models
    assert config.model_name_or_path is not None
    assert config.ref_model_name_or_path is not None
    _require_one_base(config.model_name_or_path, config.ref_model_name_or_path)
    policy, reference = map(load_causal_lm, (config.model_name_or_path, config.ref_model_name_or_path))
    require_ids(policy, config.suppress_tokens)
    ends = ending_of(policy, load_tokenizer(config.model_name_or_path)).token_ids
    sampled = read_rollouts(Path(config.rollouts), ends, int(policy.config.vocab_size))
    return examine(policy, reference, sampled, suppress_tokens=config.suppress_tokens)


def _require_one_base(policy: Model, reference: Model) -> None:
    """Raise InputError where the policy is an adapter on four bits and its original is named in full precision."""
    from rlhf.foundation.four_bit import base_of_adapter

    on, beside = (base_of_adapter(name) if isinstance(name, str) else None for name in (policy, reference))
    if on is not None and on != beside:
        raise InputError(
            "--ref_model_name_or_path",
            got="another base than that in four bits which the policy was trained on",
            expected="the original as the run had it",
            fix="name the run's first rung, RUN/checkpoints/kl-00.00",
        )


def read_rollouts(path: Path, end_token_ids: tuple[int, ...], vocabulary: int) -> Sampled:
    """The rollouts of a file, padded. Raises InputError naming the line."""
    import torch

    from rlhf.language_model.sampler import pad_prompts
    from rlhf.ppo.sampled import Sampled

    rows = read_jsonl(path)
    recorded = [name for name in ("logprobs", "ref_logprobs") if rows and name in rows[0]]
    for number, row in enumerate(rows, start=1):
        _check(path, number, row, recorded, vocabulary)
    if len(rows) < 2:
        raise InputError(str(path), got=f"{len(rows)} rollouts", expected="at least 2", fix="give more of them")
    prompt_ids, prompt_mask = pad_prompts([row["prompt_ids"] for row in rows], end_token_ids[0])
    width = max(len(row["completion_ids"]) for row in rows)

    def padded(name: str, fill: float) -> torch.Tensor:
        return torch.tensor([[*row[name], *[fill] * (width - len(row[name]))] for row in rows])

    return Sampled(
        prompt_ids,
        prompt_mask,
        padded("completion_ids", end_token_ids[0]).long(),
        torch.tensor([[i < len(row["completion_ids"]) for i in range(width)] for row in rows]),
        end_token_ids,
        *(padded(name, 0.0).double() if name in recorded else None for name in ("logprobs", "ref_logprobs")),
    )


def _check(path: Path, number: int, row: dict[str, Any], recorded: Sequence[str], vocabulary: int) -> None:
    where = f"{path}, line {number}"
    for name in ("prompt_ids", "completion_ids"):
        ids = row.get(name)
        if not isinstance(ids, list) or not ids or not all(type(i) is int and 0 <= i < vocabulary for i in ids):
            raise InputError(
                where, got=f"no {name}", expected=f"{name}, whole numbers below {vocabulary}", fix="mend the line"
            )
    for name in recorded:
        numbers = row.get(name)
        fits = isinstance(numbers, list) and len(numbers) == len(row["completion_ids"])
        if not fits or not all(isinstance(x, (int, float)) for x in numbers or []):
            raise InputError(
                where, got=f"{name} of another length", expected=f"{len(row['completion_ids'])} numbers", fix="mend it"
            )
