"""Where the options of TRL's PPO trainers, of its GRPO and of transformers' TrainingArguments went: one table.

The message on an unknown option is made from it, in Python and on the command line, and docs/from_trl_ppo.md. The
names are facts of TRL 0.11, 1.12 and 1.16 and transformers 5; what is said of them is ours.
"""

from __future__ import annotations

from typing import NamedTuple


class Renamed(NamedTuple):
    """Options of one meaning, with spaces between; what has their place here ("" for nothing); and why."""

    old: str
    new: str
    why: str


TRL_0_11 = (
    Renamed("model_name", "model_name_or_path", "renamed"),
    Renamed("query_dataset", "dataset_name prompts", "renamed"),
    Renamed("reward_model", "reward_model_path reward_func", "a classifier, a directory or a function, not a pipeline"),
    Renamed("seed", "seed", "same; now keys every random number"),
    Renamed("log_with", "report_to", "renamed as in transformers"),
    Renamed(
        "tracker_kwargs tracker_project_name project_kwargs accelerator_kwargs task_name exp_name",
        "",
        "the tracker's environment variables and accelerate_config.yaml say it",
    ),
    Renamed("push_to_hub_if_best_kwargs", "", '"best" by the proxy is what overoptimisation looks like: `rlhf export`'),
    Renamed("remove_unused_columns", "", "further columns go to the reward functions"),
    Renamed("steps", "max_iterations kl_budget", "replaced: iterations, and a budget that ends the run"),
    Renamed("learning_rate", "learning_rate", "same; the controller may halve it"),
    Renamed("adap_kl_ctrl target", "kl_target", "one option: given, beta adapts towards it, in nats per completion"),
    Renamed("init_kl_coef", "beta", "renamed; 0 by default; it multiplies the completion's sum of log(pi/ref)"),
    Renamed("horizon", "kl_horizon", "renamed"),
    Renamed("kl_penalty", "", "the penalty is the sampled log-ratio (k1), the measurement is exact"),
    Renamed(
        "gamma lam cliprange_value",
        "gamma lam cliprange_value",
        "same, with `--critic shared`; values are in units of the normalised reward",
    ),
    Renamed("vf_coef", "vf_coef", "on the whole mean squared error; TRL halved it first, so its 0.1 is 0.05 here"),
    Renamed("cliprange", "epsilon", "renamed as in GRPO"),
    Renamed("batch_size", "iteration_batch_size", "renamed; grows up to max_iteration_batch_size by the clip fraction"),
    Renamed("forward_batch_size", "per_device_generation_batch_size", "renamed"),
    Renamed("mini_batch_size", "minibatch_size", "renamed; over all processes"),
    Renamed(
        "gradient_accumulation_steps",
        "per_device_train_batch_size",
        "follows: a minibatch is cut into pieces of this size",
    ),
    Renamed("ppo_epochs", "num_ppo_epochs", "renamed"),
    Renamed("max_grad_norm", "max_grad_norm", "same; 1.0 by default"),
    Renamed("optimize_cuda_cache optimize_device_cache", "", "logits are never kept"),
    Renamed("early_stopping target_kl", "early_stop_kl", "replaced: nats per token between the old and the new policy"),
    Renamed("ratio_threshold", "", "the log-ratio is clamped before exp, the clip fraction is watched"),
    Renamed("compare_steps", "", "it had no effect"),
    Renamed("use_score_scaling use_score_norm", "normalization_samples", "replaced by constants, measured once"),
    Renamed("score_clip", "", "clip inside the reward function"),
    Renamed("whiten_rewards", "whiten_advantages", "renamed after what it does without a critic"),
    Renamed("gradient_checkpointing", "gradient_checkpointing", "same, off by default"),
    Renamed(
        "dataset_num_proc world_size backward_batch_size global_backward_batch_size global_batch_size "
        "is_encoder_decoder is_peft_model",
        "",
        "found out by itself",
    ),
)

TRL_1_12 = (
    Renamed("learning_rate", "learning_rate", "same"),
    Renamed("num_mini_batches", "minibatch_size", "the size instead of the number: a growing batch means more updates"),
    Renamed("total_episodes", "max_iterations kl_budget", "replaced: iterations, and a budget that ends the run"),
    Renamed("local_rollout_forward_batch_size", "per_device_generation_batch_size", "renamed"),
    Renamed("num_sample_generations", "num_eval_samples", "every rung has samples, with the same prompts and numbers"),
    Renamed("response_length", "max_completion_length", "renamed as in GRPO"),
    Renamed(
        "stop_token stop_token_id",
        "stop_strings",
        "a completion ends at the model's own end tokens; others are texts here",
    ),
    Renamed("temperature", "temperature", "1.0 instead of 0.7: any other biases the KL"),
    Renamed("missing_eos_penalty", "missing_eos_penalty", "same"),
    Renamed("sft_model_path", "model_name_or_path", "the reference is its own frozen copy"),
    Renamed("reward_model_path", "reward_model_path", "same name; the classifier keeps its own tokenizer"),
    Renamed(
        "model_adapter_name ref_adapter_name",
        "use_peft",
        "the reference is the model with its adapter off, if the adapter starts at zero; else a copy",
    ),
    Renamed("num_ppo_epochs", "num_ppo_epochs", "1 instead of 4"),
    Renamed("whiten_rewards", "whiten_advantages", "renamed after what it does without a critic"),
    Renamed("kl_coef", "beta", "renamed as in GRPO; 0 by default"),
    Renamed("kl_estimator", "", "k1 in the penalty; exact KL, k1 and k3 in the metrics"),
    Renamed("cliprange", "epsilon", "renamed as in GRPO"),
    Renamed(
        "cliprange_value gamma lam",
        "cliprange_value gamma lam",
        "same, with `--critic separate`; values are in units of the normalised reward",
    ),
    Renamed("vf_coef", "vf_coef", "on the whole mean squared error; TRL halved it first, so its 0.1 is 0.05 here"),
    Renamed("ds3_gather_for_generation", "", "nothing is gathered for sampling"),
    Renamed("save_value_model", "", "the critic is in `state/`, beside the policy it belongs to"),
    Renamed("push_to_hub", "", "`rlhf export --push_to_hub` sends a rung"),
    Renamed("batch_size local_batch_size", "iteration_batch_size", "over all processes; TRL computed it"),
    Renamed("mini_batch_size local_mini_batch_size micro_batch_size", "minibatch_size", "over all processes"),
    Renamed("world_size num_total_batches dataset_num_proc", "", "found out by itself"),
)

GRPO = (
    Renamed("beta", "beta", "same meaning, another estimator: k1 in the advantage"),
    Renamed("epsilon", "epsilon", "same"),
    Renamed("epsilon_high delta", "epsilon", "one range, on both sides"),
    Renamed("num_iterations", "num_ppo_epochs", "renamed"),
    Renamed("generation_batch_size steps_per_generation", "iteration_batch_size minibatch_size", "renamed"),
    Renamed("num_generations", "num_generations", "same; 1 by default, since no group is needed"),
    Renamed("num_generations_eval", "num_eval_samples", "a rung's samples"),
    Renamed("max_completion_length temperature", "max_completion_length temperature", "same"),
    Renamed(
        "top_p top_k min_p repetition_penalty generation_kwargs",
        "",
        "any other sampling than the policy's own biases the KL",
    ),
    Renamed("scale_rewards multi_objective_aggregation", "reward_weights", "a weighted sum; its scale is a constant"),
    Renamed("reward_weights", "reward_weights", "same"),
    Renamed("loss_type importance_sampling_level", "", "PPO's clipped loss, token by token"),
    Renamed("mask_truncated_completions", "missing_eos_penalty", "a cost instead of a mask, which would hide them"),
    Renamed("sync_ref_model ref_model_mixup_alpha ref_model_sync_steps", "", "the KL is always to the original"),
    Renamed("log_completions num_completions_to_print log_unique_prompts", "report_to", "rungs' samples are logged"),
    Renamed("disable_dropout", "", "dropout is always off"),
    Renamed("cache_implementation use_transformers_paged", "", "vLLM, or our own sampler (docs/vllm.md)"),
    Renamed("use_vllm vllm_mode vllm_server_base_url", "use_vllm vllm_mode vllm_server_base_url", "same"),
    Renamed(
        "vllm_server_timeout vllm_group_port vllm_gpu_memory_utilization vllm_tensor_parallel_size",
        "vllm_server_timeout vllm_group_port vllm_gpu_memory_utilization vllm_tensor_parallel_size",
        "same",
    ),
    Renamed("vllm_server_host vllm_server_port", "vllm_server_base_url", "one address"),
    Renamed(
        "vllm_importance_sampling_mode",
        "vllm_importance_sampling_mode",
        "same; sequence_truncate instead of sequence_mask: less bias",
    ),
    Renamed("vllm_importance_sampling_clip_max", "vllm_importance_sampling_clip_max", "same"),
    Renamed("vllm_importance_sampling_cap", "vllm_importance_sampling_clip_max", "renamed as in TRL 1.16"),
    Renamed("vllm_importance_sampling_correction", "vllm_importance_sampling_mode", "`none` is false"),
    Renamed("vllm_importance_sampling_clip_min", "", "small weights do no harm: they are left as they are"),
    Renamed("vllm_max_model_length", "", "the longest prompt and a completion"),
    Renamed("vllm_model_impl vllm_enable_sleep_mode vllm_structured_outputs_regex", "", "not there"),
    Renamed("model_init_kwargs chat_template_kwargs", "", "load the model or tokenizer yourself and give the object"),
    Renamed("shuffle_dataset", "", "prompts are shuffled by the seed"),
    Renamed("trust_remote_code", "", "no code of a model's repository is run"),
)

TRAINING_ARGUMENTS = (
    Renamed(
        "num_train_epochs max_steps", "max_iterations kl_budget", "replaced: iterations, and a budget that ends the run"
    ),
    Renamed("per_device_train_batch_size", "per_device_train_batch_size", "completions of one forward and backward"),
    Renamed("gradient_accumulation_steps", "minibatch_size", "a minibatch is one optimiser step, over all processes"),
    Renamed("warmup_steps adam_epsilon max_grad_norm seed report_to use_cpu", "", "same name"),
    Renamed(
        "lr_scheduler_type lr_scheduler_kwargs warmup_ratio",
        "warmup_steps",
        "after the warm-up the rate stays, or the clip fraction halves it; a run ends at its KL budget",
    ),
    Renamed("weight_decay", "", "none: it would pull the policy away from the original"),
    Renamed("optim optim_args adam_beta1 adam_beta2", "adam_epsilon", "Adam with its own betas"),
    Renamed("bf16", "bf16", "same, off by default; the output head and all behind it stay float32"),
    Renamed("fp16 tf32 bf16_full_eval fp16_full_eval torch_dtype", "bf16 dtype", "bfloat16 products, float32 weights"),
    Renamed("gradient_checkpointing", "gradient_checkpointing", "same, off by default; never reentrant"),
    Renamed("gradient_checkpointing_kwargs activation_checkpointing", "gradient_checkpointing", "never reentrant"),
    Renamed(
        "save_strategy save_steps save_total_limit save_only_model",
        "ladder_step",
        "checkpoints are kept along the KL; the state is saved at every iteration",
    ),
    Renamed("eval_strategy eval_steps eval_on_start", "ladder_step", "every rung has evaluation samples"),
    Renamed("per_device_eval_batch_size", "per_device_generation_batch_size", "renamed"),
    Renamed("load_best_model_at_end metric_for_best_model greater_is_better", "", "`rlhf inspect` shows where to stop"),
    Renamed("logging_strategy logging_steps logging_first_step", "", "every iteration is a line of metrics.jsonl"),
    Renamed("resume_from_checkpoint", "resume", "from the last whole state in output_dir"),
    Renamed("overwrite_output_dir", "overwrite", "renamed"),
    Renamed(
        "push_to_hub hub_model_id hub_token hub_strategy hub_private_repo",
        "",
        "`rlhf export --push_to_hub` sends a rung",
    ),
    Renamed("disable_tqdm", "quiet", "renamed"),
    Renamed("run_name project", "output_dir", "trackers name the run by it"),
    Renamed("fsdp fsdp_config deepspeed ddp_timeout ddp_backend", "", "say it to `accelerate launch`"),
)

ARGUMENTS = (
    Renamed("config", "args", "renamed"),
    Renamed("policy", "model", "renamed"),
    Renamed("tokenizer", "processing_class", "renamed as in transformers"),
    Renamed("dataset", "train_dataset", "renamed; a column `prompt`, text or messages, not ids"),
    Renamed("ref_model ref_policy", "", "the original is kept beside the policy by itself"),
    Renamed("reward_model", "reward_funcs", "the same object, or a directory, a hub name, a function, or several"),
    Renamed("value_model", "args.critic", '`PPOConfig(critic="separate", critic_model_path=...)`; none by default'),
    Renamed("data_collator training_data_collator", "", "prompts are read as they are"),
    Renamed("optimizers optimizer lr_scheduler", "args.learning_rate", "Adam; the clip fraction halves its rate"),
    Renamed("num_shared_layers", "args.train_scope", '"last_layer" trains the last block alone'),
    Renamed("reward_processing_class", "reward_processing_classes", "one a reward function, as in GRPO"),
)
"""Arguments of the trainers themselves."""

METHODS = {
    "save_model": "rungs are kept along the KL in output_dir/checkpoints; `rlhf.export(run, rung)` writes one out",
    "save_pretrained": "`trainer.model.save_pretrained(directory)`, or `rlhf.export(run, rung)` for a rung",
    "push_to_hub": "`rlhf.export(run, rung, push_to_hub=NAME)` sends one",
    "create_model_card": "`rlhf.export(run, rung)` writes one",
    "generate": "`trainer.rollout()` samples and measures; `rlhf.sample(model)` samples any model",
    "log_stats": "every `trainer.step(rollout)` writes a line of metrics.jsonl, and to `report_to`",
    "generate_completions": "every rung's samples are in output_dir/samples",
    "predict": "`rlhf.sample(model)` samples any model",
    "evaluate": "`rlhf.evaluate(run)` draws fresh samples of every rung and scores them",
    "compute_rewards": "the advantage is the normalised reward less beta times the log-ratio (rlhf/ppo/advantages.py)",
}
"""Methods of TRL's trainers that are not here, and what to call."""

MODEL_CONFIG = (
    Renamed("load_in_8bit", "load_in_4bit", "four bits, or float32"),
    Renamed("use_bnb_nested_quant bnb_4bit_quant_storage", "load_in_4bit", "constants in float32, four bits in bytes"),
)

TABLES = {
    "TRL's PPOTrainer": (*TRL_1_12, *TRL_0_11),
    "TRL's GRPOTrainer": GRPO,
    "transformers' TrainingArguments": TRAINING_ARGUMENTS,
    "TRL's ModelConfig": MODEL_CONFIG,
}


def where_it_went(name: str, known: list[str]) -> tuple[str, Renamed] | None:
    """Whose option `name` was and what became of it, for a command whose options are `known`; None for no such name.

    Of several meanings the one whose new names are options of the command comes first.
    """
    if "kl_budget" not in known and "reward_funcs" not in known:  # a command that is no PPO
        return None
    tables = {"TRL's trainers": ARGUMENTS} if "reward_funcs" in known else TABLES
    found = [(whose, row) for whose, rows in tables.items() for row in rows if name in row.old.split()]
    return next(iter(sorted(found, key=lambda pair: not pair[1].new)), None)
