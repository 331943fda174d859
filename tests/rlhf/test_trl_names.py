"""Old names of TRL are answered with ours: every option of 0.11 and 1.12, in Python and on the command line."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainingArguments
from trl import GRPOConfig

from rlhf import PPOConfig, PPOTrainer, cli
from rlhf.foundation.errors import InputError
from rlhf.foundation.trl_names import ARGUMENTS, GRPO, METHODS, TABLES, TRL_0_11, TRL_1_12, Renamed
from rlhf.ppo.finetune import PPOCommandConfig

# The fields of PPOConfig and PPOv2Config of 0.11.4 and of PPOConfig of 1.12.0, without those of TrainingArguments.
FIELDS_0_11 = shlex.split(
    "exp_name seed log_with task_name model_name query_dataset reward_model remove_unused_columns tracker_kwargs "
    "accelerator_kwargs project_kwargs tracker_project_name push_to_hub_if_best_kwargs steps learning_rate "
    "adap_kl_ctrl init_kl_coef kl_penalty target horizon gamma lam cliprange cliprange_value vf_coef batch_size "
    "forward_batch_size mini_batch_size gradient_accumulation_steps world_size ppo_epochs max_grad_norm "
    "optimize_cuda_cache optimize_device_cache early_stopping target_kl compare_steps ratio_threshold "
    "use_score_scaling use_score_norm score_clip whiten_rewards gradient_checkpointing is_encoder_decoder "
    "is_peft_model backward_batch_size global_backward_batch_size global_batch_size dataset_num_proc"
)
FIELDS_1_12 = shlex.split(
    "learning_rate dataset_num_proc num_mini_batches total_episodes local_rollout_forward_batch_size "
    "num_sample_generations response_length stop_token stop_token_id temperature missing_eos_penalty sft_model_path "
    "world_size num_total_batches micro_batch_size local_batch_size batch_size local_mini_batch_size mini_batch_size "
    "push_to_hub reward_model_path model_adapter_name ref_adapter_name num_ppo_epochs whiten_rewards kl_coef "
    "kl_estimator cliprange vf_coef cliprange_value gamma lam ds3_gather_for_generation"
)
OURS = {field.name for field in dataclasses.fields(PPOCommandConfig)}
OLD = sorted({*FIELDS_0_11, *FIELDS_1_12} - OURS)
# Those that a user of it meets first, by hand.
RIGHT = {
    "kl_coef": "beta", "init_kl_coef": "beta", "cliprange": "epsilon", "response_length": "max_completion_length",
    "total_episodes": "max_iterations", "steps": "max_iterations", "stop_token": "stop_strings",
    "target_kl": "early_stop_kl", "target": "kl_target", "horizon": "kl_horizon", "ppo_epochs": "num_ppo_epochs",
    "batch_size": "iteration_batch_size", "mini_batch_size": "minibatch_size", "log_with": "report_to",
    "whiten_rewards": "whiten_advantages", "sft_model_path": "model_name_or_path", "reward_model": "reward_model_path",
    "num_mini_batches": "minibatch_size", "local_rollout_forward_batch_size": "per_device_generation_batch_size",
}  # fmt: skip


def test_every_option_of_both_versions_has_its_row() -> None:
    for fields, table in ((FIELDS_0_11, TRL_0_11), (FIELDS_1_12, TRL_1_12)):
        told = [name for row in table for name in row.old.split()]
        assert set(fields) <= set(told)
        assert len(told) == len(set(told))


def test_the_tables_name_only_options_that_there_are() -> None:
    rows = [row for table in TABLES.values() for row in table]
    assert {name for row in rows for name in row.new.split()} <= OURS
    known = {field.name for field in dataclasses.fields(GRPOConfig)} | {"use_transformers_paged", "dtype"}
    assert {name for row in GRPO for name in row.old.split()} <= known
    arguments = {field.name for field in dataclasses.fields(TrainingArguments)}
    of_training = {name for row in TABLES["transformers' TrainingArguments"] for name in row.old.split()}
    assert len(of_training - arguments) <= 4  # names of transformers 4


@pytest.mark.parametrize("name", OLD)
def test_an_old_name_is_answered_on_the_command_line_and_in_python(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["ppo", "--output_dir", "x", f"--{name}", "1"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"rlhf: --{name}: got an option of TRL's" in said or "transformers' TrainingArguments" in said
    assert "did you mean" not in said
    wanted = RIGHT.get(name)
    assert wanted is None or f"expected --{wanted}" in said
    with pytest.raises(InputError, match=rf"PPOConfig\({name}=\.\.\.\): got an option of"):
        PPOConfig(output_dir="x", **{name: 1})  # type: ignore[arg-type]


def test_what_the_command_line_names_is_an_argument_in_python() -> None:
    with pytest.raises(InputError, match="expected reward_funcs of PPOTrainer"):
        PPOConfig(output_dir="x", reward_model="rm")  # type: ignore[call-arg]
    with pytest.raises(InputError, match="expected model of PPOTrainer"):
        PPOConfig(output_dir="x", sft_model_path="m")  # type: ignore[call-arg]


@pytest.mark.parametrize("row", ARGUMENTS, ids=lambda row: row.old)
def test_an_old_argument_of_the_trainer_is_answered(row: Renamed) -> None:
    for name in row.old.split():
        given: dict[str, Any] = {name: None}
        with pytest.raises(
            InputError, match=rf"PPOTrainer\({name}=\.\.\.\): got an option of TRL's trainers"
        ) as caught:
            PPOTrainer(**given)
        assert row.why in str(caught.value)
        assert not row.new or row.new.split()[0] in str(caught.value)


def test_an_old_method_is_answered_and_others_are_missing_as_ever(tmp_path: Path) -> None:
    trainer = PPOTrainer.__new__(PPOTrainer)
    for name, call in METHODS.items():
        with pytest.raises(AttributeError) as caught:
            getattr(trainer, name)
        assert call in str(caught.value)
    with pytest.raises(AttributeError, match=r"has no attribute 'nothing'$"):
        trainer.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_a_command_that_is_no_ppo_knows_no_options_of_trl(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["sample", "--kl_coef", "1"]) == 2
    assert "TRL" not in capsys.readouterr().err
    assert cli.main(["ppo", "--output_dirr", "x"]) == 2
    assert "did you mean --output_dir?" in capsys.readouterr().err
