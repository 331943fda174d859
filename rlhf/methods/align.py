"""The step `align`: a policy by another method than PPO, kept as a ladder of the same kind."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from typing import TYPE_CHECKING, Any

from rlhf.foundation.errors import InputError
from rlhf.foundation.model_names import require_names
from rlhf.foundation.steps import step
from rlhf.language_model.prompt_files import prompts_of
from rlhf.methods.config import OFFLINE, AlignConfig

if TYPE_CHECKING:
    from rlhf.inspection.opened_run import OpenedRun
    from rlhf.methods.ladder_keeper import LadderKeeper
    from rlhf.methods.learning_data import Judgements

SEVERAL = 64  # rows of a data set of one prompt: TRL's loaders want more than a group


@step(AlignConfig)
def align(config: AlignConfig) -> OpenedRun:
    """A policy by SFT, DPO, KTO, rejection sampling, GRPO or RLOO; leaves a run directory as PPO does.

    KL is measured by the same exact estimate on fresh samples, so that runs stand side by side in every report. Raises
    InputError; a run that was interrupted begins anew with `overwrite`.
    """
    require_names(config.model_name_or_path)
    config.require_memory()
    from rlhf.inspection.opened_run import OpenedRun
    from rlhf.methods.learning_data import read_judgements

    given = read_judgements(config) if config.method in OFFLINE else None
    rows = prompt_rows(config, given)
    keeper = keeper_of(config, rows)
    with contextlib.closing(keeper), tempfile.TemporaryDirectory() as scratch:
        trainer = trainer_of(config, keeper, given, rows, scratch)
        keeper.begin(
            {"method": config.method, "model": _source(config), "labels_used": given.count if given else 0},
            {"labels": given.sha256} if given else {},
        )
        trainer.train()
        keeper.policy.eval()
        keeper.finish()
    return OpenedRun(config.output_dir, list(keeper.rewards.functions))


def prompt_rows(config: AlignConfig, given: Judgements | None) -> list[dict[str, Any]]:
    """What completions are drawn for: as asked, else the prompts of the labels, else nothing. Raises InputError."""
    if config.prompts is not None:
        return prompts_of(config.prompts, "--prompts", config.prompt_column)
    if config.prompt is None and given is not None:
        return [{"prompt": prompt} for prompt in given.prompts]
    return [{"prompt": config.prompt or ""}]


def keeper_of(config: AlignConfig, rows: list[dict[str, Any]]) -> LadderKeeper:
    """Loads model and rewards. Raises InputError when they cannot be used together."""
    import torch

    from rewards.loading import load_rewards
    from rlhf.language_model.endings import never_sampled
    from rlhf.language_model.sampler import check_context
    from rlhf.methods.ladder_keeper import LadderKeeper
    from rlhf.ppo import policy
    from rlhf.ppo.specimens import specimens

    rewards = load_rewards(config.reward_model_path, config.reward_func, label=config.reward_label)
    loaded = policy.load_original(config.model_name_or_path, None, dtype="float32", another=False)
    model, tokenizer = loaded.model, loaded.tokenizer
    policy.require_trainable(model, loaded.source)
    on_gpu = torch.cuda.is_available() and not config.use_cpu
    model.to("cuda" if on_gpu else "cpu")
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    original = policy.reference_of(model)
    keeper = LadderKeeper(config, model, original, tokenizer, rewards, rows, never_sampled(model, tokenizer))
    keeper.rewards.values(*specimens(rows, rows))
    check_context(model, keeper.encode.longest(rows), config.max_completion_length)
    return keeper


def trainer_of(
    config: AlignConfig, keeper: LadderKeeper, given: Judgements | None, rows: list[dict[str, Any]], scratch: str
) -> Any:
    """TRL's trainer of the method, with the ladder's callback. Raises InputError."""
    from rlhf.methods.ladder_keeper import KeepLadder

    trainer = _online(config, keeper, rows, scratch) if given is None else _offline(config, keeper, given, scratch)
    trainer.add_callback(KeepLadder(keeper))
    return trainer


def _offline(config: AlignConfig, keeper: LadderKeeper, given: Judgements, scratch: str) -> Any:
    from rlhf.language_model.endings import end_token
    from rlhf.methods import learning_data, trl_trainers

    worker = keeper.worker
    model, original, tokenizer = keeper.policy, worker.ref_model, worker.tokenizer
    encode = learning_data.Encoded(tokenizer, end_token(tokenizer), config.max_completion_length)
    rows = {"sft": learning_data.sft_rows, "dpo": learning_data.dpo_rows, "kto": learning_data.kto_rows}
    own = rows[config.method](given, encode)
    for note in learning_data.left_out(given, encode, pairs=config.method == "dpo"):
        print(f"rlhf: {note}", file=sys.stderr, flush=True)
    if len(own) < config.per_device_train_batch_size:
        what, fix = f"{len(own)} to learn from", "label more, or lower it"
        raise InputError("--per_device_train_batch_size", got=what, expected="at least one batch", fix=fix)
    if config.method == "sft":
        return trl_trainers.sft(config, model, tokenizer, own, scratch)
    of = trl_trainers.dpo if config.method == "dpo" else trl_trainers.kto
    return of(config, model, original, tokenizer, own, scratch)


def _online(config: AlignConfig, keeper: LadderKeeper, rows: list[dict[str, Any]], scratch: str) -> Any:
    from rlhf.methods import trl_trainers
    from rlhf.methods.online_reward import OnlineReward
    from rlhf.methods.rejection import Winners

    model, tokenizer = keeper.policy, keeper.worker.tokenizer
    if config.method == "rejection":
        return trl_trainers.sft_on_samples(config, model, tokenizer, Winners(config, keeper, rows), scratch)
    if config.beta and not isinstance(config.model_name_or_path, str):
        fix = "save the model and give its directory, or leave --beta out"
        raise InputError("--beta", got="a model in memory", expected="a model by its name", fix=fix)
    several = [rows[i % len(rows)] for i in range(max(SEVERAL, len(rows)))]
    return trl_trainers.group_policy_gradient(
        config, model, tokenizer, several, scratch, reward=OnlineReward(keeper), encode=keeper.encode,
        never_sampled=keeper.measured.suppress_tokens,
    )  # fmt: skip


def _source(config: AlignConfig) -> str:
    from rlhf.foundation.model_pair import name_of

    return name_of(config.model_name_or_path)
