"""`PPOTrainer`: critic-free PPO on a causal language model, with a ladder of checkpoints along KL.

One iteration reads in three files: rollout.py samples and measures, objective.py has the equations, update.py takes
the steps. How this differs from TRL's deleted PPOTrainer:
1. The reward, recentred and scaled by fixed constants, is the advantage at every token: no value model, no whitening.
2. KL(policy || original) is exact at every sampled prefix, never negative, and a budget on it ends the run.
3. Line i of metrics.jsonl describes the policy that generated rollout i; a rung is that policy, before its update.
4. The clip fraction drives the batch and the learning rate (controller.py).
5. Dropout is off throughout, so the first update's ratio is 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from labeling.errors import InputError
from labeling.records import Sample, write_records
from rewards.pretrained import load_causal_lm, load_tokenizer, save_model
from rlhf.language_model.randomness import Stream
from rlhf.language_model.sampler import beginning_token, check_context, encode_prompt
from rlhf.ppo import distributed, normalization, policy, state
from rlhf.ppo.config import PPOConfig
from rlhf.ppo.controller import ClipFractionController, Decision
from rlhf.ppo.kl_control import KLController
from rlhf.ppo.ladder import Ladder, Rung, rung_name
from rlhf.ppo.normalization import Normalization
from rlhf.ppo.objective import constant_advantages, whiten
from rlhf.ppo.prompts import PromptSchedule
from rlhf.ppo.reward_functions import RewardFunction, reward_name, score
from rlhf.ppo.rollout import Rollout, RolloutWorker
from rlhf.ppo.run_directory import RunDirectory
from rlhf.ppo.statistics import mean_and_error, rollout_statistics, update_statistics
from rlhf.ppo.tracking import Tracking
from rlhf.ppo.update import UpdateStatistics, update


class PPOTrainer:
    """Finetunes `model` towards `reward_funcs` and leaves a run directory (README, Files).

    Parameters as in TRL's trainers: `model` is a name, a path or a causal LM; `reward_funcs` one function
    `f(prompts, completions, completion_ids, **kwargs) -> list[float | None]` or several (with
    `args.reward_weights`); `train_dataset` has a column `prompt` ("" for unconditional samples, the default);
    `eval_dataset` gives the prompts of the rungs' evaluation samples; `processing_class` is the tokenizer.
    `peft_config` puts an adapter on the model, which alone is trained; `reward_constants` are offset and scale where
    they are known already. Raises InputError on input that a person can mend.
    """

    def __init__(
        self,
        model: Any,
        reward_funcs: RewardFunction | Sequence[RewardFunction],
        args: PPOConfig,
        train_dataset: Sequence[Mapping[str, Any]] | None = None,
        eval_dataset: Sequence[Mapping[str, Any]] | None = None,
        processing_class: Any = None,
        callbacks: Sequence[Any] = (),
        peft_config: Any = None,
        reward_constants: Normalization | None = None,
    ) -> None:
        self.args = args
        self.processes = distributed.start(use_cpu=args.use_cpu)
        self._require_divisible()
        source = model if isinstance(model, str) else str(getattr(model.config, "_name_or_path", "") or "an object")
        if processing_class is None and not isinstance(model, str):
            raise InputError(
                "processing_class", got="None", expected="a tokenizer", fix="give one beside a model object"
            )
        self.tokenizer = processing_class if processing_class is not None else load_tokenizer(source)
        self.model = load_causal_lm(model, dtype=getattr(torch, args.dtype)) if isinstance(model, str) else model
        self.source = source
        self.model.eval().to(self.processes.accelerator.device)
        self.fingerprint = state.fingerprint(self.model)
        self._choose_what_is_trained(peft_config)
        self.reward_funcs = list(reward_funcs) if isinstance(reward_funcs, Sequence) else [reward_funcs]
        self.reward_weights = args.reward_weights or [1.0] * len(self.reward_funcs)
        if len(self.reward_weights) != len(self.reward_funcs):
            raise InputError(
                "--reward_weights",
                got=f"{len(self.reward_weights)} weights",
                fix="give one a function",
                expected=f"{len(self.reward_funcs)}, one a reward function",
            )
        self.train_rows = list(train_dataset) if train_dataset is not None else [{"prompt": ""}]
        self.eval_rows = list(eval_dataset) if eval_dataset is not None else self.train_rows
        self.encoded = {row["prompt"]: encode_prompt(self.tokenizer, row["prompt"]) for row in self._all_rows()}
        check_context(self.model, max(map(len, self.encoded.values())), args.max_completion_length)
        self.schedule = PromptSchedule(len(self.train_rows), num_generations=args.num_generations, seed=args.seed)
        self.worker = RolloutWorker(
            self.model,
            self.ref_model,
            self.tokenizer,
            args,
            rank=self.processes.rank,
            world_size=self.processes.world_size,
            sum_over_processes=self.processes.sum,
            score=self._score,
        )
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=args.learning_rate, eps=args.adam_epsilon, weight_decay=0.0)
        self.train_model = self.processes.accelerator.prepare_model(self.model)
        self.controller = ClipFractionController(
            args.iteration_batch_size,
            args.learning_rate,
            args.max_iteration_batch_size,
            args.clip_ratio_low,
            args.clip_ratio_high,
        )
        self.kl_controller = KLController(args.beta, args.kl_target, args.kl_horizon)
        self.run = RunDirectory(args.output_dir)
        self.ladder = Ladder(self.run.ladder, step=args.ladder_step, budget=args.kl_budget)
        self.normalization = reward_constants
        wanted = self.processes.is_main and (callbacks or args.report_to)
        self.tracking = Tracking(callbacks, args, self.model, self.tokenizer) if wanted else None
        self.iteration = self.completions_seen = self.optimizer_steps = 0

    # -- the algorithm -------------------------------------------------------------------------------------------

    def train(self) -> RunDirectory:
        """Run to the KL budget or the last iteration. Raises InputError; KeyboardInterrupt says how to go on."""
        try:
            self._begin()
            with self._bar() as bar:
                while not self._iterate(bar):
                    pass
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"continue with the same command and --resume ({self.run.root})") from None
        finally:
            if self.tracking:
                self.tracking.end()
            self.run.close()
        return self.run

    def _iterate(self, bar: tqdm[Any]) -> bool:
        """One line of metrics.jsonl: roll out, perhaps save a rung, perhaps stop, else update. True when finished."""
        rollout = self.rollout()
        kl = float(rollout.kl.mean())
        stop = self._stop_reason(kl)
        self._visit_ladder(kl, stopping=stop is not None)
        advantages, mask = self._advantages(rollout)
        statistics = None if stop else self.step(rollout, advantages, mask)
        decision = self.controller.read(statistics.outside_mean) if statistics else None
        self._log(rollout, advantages, mask, statistics, decision, bar)
        self._finish(stop) if stop else self._save_state()
        return stop is not None

    def rollout(self) -> Rollout:
        """Sample an iteration's completions with the present policy and measure them."""
        first, count = self.completions_seen, self.controller.iteration_batch_size
        rows = [self.train_rows[self.schedule(first + i)] for i in range(count)]
        return self._roll(rows, Stream.ROLLOUT, self.iteration, first)

    def step(self, rollout: Rollout, advantages: Tensor, mask: Tensor) -> UpdateStatistics:
        """Take a rollout's optimiser steps."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.controller.learning_rate
        statistics = update(
            self.train_model, self.optimizer, rollout, advantages, mask, self.args, self.processes, self.iteration
        )
        return statistics

    def _advantages(self, rollout: Rollout) -> tuple[Tensor, Tensor]:
        """Advantages and the mask of tokens that are updated, both (B, T); unscored completions are left out."""
        assert self.normalization is not None  # set in _begin
        mask = rollout.completion_mask & rollout.scored[:, None]
        advantages = constant_advantages(
            rollout.rewards,
            self.normalization.offset,
            self.normalization.scale,
            self.kl_controller.beta,
            rollout.k1,
            mask,
        )
        return (whiten(advantages, mask) if self.args.whiten_advantages else advantages), mask

    def _stop_reason(self, kl: float) -> str | None:
        if kl >= self.args.kl_budget:
            return f"KL budget of {self.args.kl_budget:g} nats per completion reached"
        if self.iteration >= self.args.max_iterations:
            return f"{self.args.max_iterations} iterations done"
        asked = torch.tensor(float(self.tracking is not None and self.tracking.should_stop))
        if bool(self.processes.sum(asked)):
            return "a callback asked to stop"
        return None

    # -- the ladder ----------------------------------------------------------------------------------------------

    def _visit_ladder(self, kl: float, *, stopping: bool) -> None:
        target = self.ladder.target_passed(kl)
        if target is None and not stopping:
            return
        self._save_rung(rung_name(target) if target is not None else "final", target)

    def _save_rung(self, name: str, target: float | None) -> None:
        """Fresh evaluation samples (same prompts and seed on every rung), then samples, checkpoint and ladder.json."""
        count = self.args.num_eval_samples
        rows = [self.eval_rows[i % len(self.eval_rows)] for i in range(count)]
        evaluation = self._roll(rows, Stream.EVALUATION, 0, 0)
        kl, kl_se = mean_and_error(evaluation.kl)
        reward, reward_se = mean_and_error(evaluation.rewards[evaluation.scored])
        rung = Rung(
            name=name,
            target_sqrt_kl=target,
            kl_per_completion=kl,
            kl_per_completion_se=kl_se,
            iteration=self.iteration,
            completions_seen=self.completions_seen,
            optimizer_steps=self.optimizer_steps,
            reward=reward,
            reward_se=reward_se,
            n=count,
            path=f"checkpoints/{name}",
            samples=f"samples/{name}.jsonl",
        )
        if self.processes.is_main:
            write_records(self.run.root / rung.samples, self._samples_of(evaluation, name))
            save_model(self.model, self.tokenizer, self.run.root / rung.path)
            self.ladder.add(rung)
            if self.tracking:
                self.tracking.rung()
        else:
            self.ladder.rungs.append(rung)

    def _samples_of(self, evaluation: Rollout, name: str) -> list[Sample]:
        logprobs = torch.where(evaluation.completion_mask, evaluation.sampler_logprobs, 0.0).sum(-1)
        return [
            Sample(
                uid=f"{name}-{i:05d}",
                prompt=evaluation.prompts[i],
                completion=evaluation.completions[i],
                source=name,
                logprob=float(logprobs[i]),
                seed=self.args.seed,
                reward=float(evaluation.rewards[i]) if bool(evaluation.scored[i]) else None,
            )
            for i in range(len(evaluation))
        ]

    # -- beginning, resuming, ending -------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Claim the run directory, resume or begin, and fix the reward's constants before the first rollout."""
        self.processes.main_does(lambda: self.run.open(resume=self.args.resume))
        saved = state.load_state(self.run.state) if self.args.resume else None
        if saved is not None:
            self._restore(saved)
        self.processes.main_does(self._begin_files)
        if self.normalization is None:
            self.normalization = self._measure_normalization()
        if self.processes.is_main:
            self.run.write(normalization=self.normalization._asdict())
        if self.tracking:
            self.tracking.begin(self.iteration)

    def _begin_files(self) -> None:
        self.run.begin(self.args.resolved(), self.args.given(), self._facts())
        self.run.cut_metrics(self.iteration)
        self.ladder.write()
        self.ladder.remove_strays()

    def _facts(self) -> dict[str, Any]:
        return {
            "model": self.source,
            "reward_functions": [reward_name(f) for f in self.reward_funcs],
            "world_size": self.processes.world_size,
            "distributed_type": self.processes.distributed_type,
            "trained_parameters": sum(p.numel() for p in self.model.parameters() if p.requires_grad),
        }

    def _measure_normalization(self) -> Normalization:
        rows = [self.train_rows[i % len(self.train_rows)] for i in range(self.args.normalization_samples)]
        return normalization.measure(self._roll(rows, Stream.NORMALIZATION, 0, 0, measure=False))

    def _save_state(self) -> None:
        self.iteration += 1
        if self.processes.is_main:
            values = {
                "completions_seen": self.completions_seen,
                "optimizer_steps": self.optimizer_steps,
                "controller": self.controller.state(),
                "beta": self.kl_controller.beta,
                "fingerprint": self.fingerprint,
                "normalization": self.normalization._asdict() if self.normalization else None,
            }
            tensors = state.optimizer_tensors(self.model, self.optimizer)
            parameters = state.trained_parameters(self.model)
            state.save_state(self.run.state, state.State(self.iteration, parameters, tensors, values))

    def _restore(self, saved: state.State) -> None:
        if saved.values["fingerprint"] != self.fingerprint:
            raise InputError(
                "--resume",
                got="a state that began from other weights",
                fix="give the run's own --model_name_or_path",
                expected="the model the run began with",
            )
        state.restore_parameters(self.model, saved.parameters)
        state.restore_optimizer(self.model, self.optimizer, saved.optimizer)
        self.iteration = saved.next_iteration
        self.completions_seen = saved.values["completions_seen"]
        self.optimizer_steps = saved.values["optimizer_steps"]
        self.controller.restore(saved.values["controller"])
        self.kl_controller.beta = saved.values["beta"]
        self.normalization = Normalization(**saved.values["normalization"])
        self.ladder.restore(self.iteration)

    def _finish(self, reason: str) -> None:
        if self.processes.is_main:
            self.run.write(status="finished", stop_reason=reason)
        self.processes.wait()

    # -- small parts -----------------------------------------------------------------------------------------------

    def _roll(
        self, rows: Sequence[Mapping[str, Any]], stream: Stream, iteration: int, first: int, *, measure: bool = True
    ) -> Rollout:
        encoded = [self.encoded[row["prompt"]] for row in rows]
        return self.worker(rows, encoded, stream=stream, iteration=iteration, first_index=first, measure=measure)

    def _score(
        self, prompts: list[Any], completions: list[str], ids: list[list[int]], columns: Mapping[str, list[Any]]
    ) -> Tensor:
        return score(self.reward_funcs, self.reward_weights, prompts, completions, ids, columns)

    def _all_rows(self) -> list[Mapping[str, Any]]:
        rows = [*self.train_rows, *self.eval_rows]
        if not rows or any("prompt" not in row for row in rows):
            raise InputError(
                "train_dataset",
                got="no prompts" if not rows else "a row without `prompt`",
                expected="at least one row, each with a `prompt`",
                fix="check the data set's columns",
            )
        return rows

    def _choose_what_is_trained(self, peft_config: Any) -> None:
        """Freeze what stays as it is, and keep the original to compare with."""
        if peft_config is not None:
            self.model = policy.add_adapter(self.model, peft_config, self.args.seed)
        elif self.args.train_scope == "last_layer":
            policy.train_last_layer_only(self.model)
        probe = [beginning_token(self.tokenizer)]
        self.ref_model = policy.reference_of(self.model, probe)

    def _require_divisible(self) -> None:
        if self.args.minibatch_size % self.processes.world_size:
            raise InputError(
                "--minibatch_size",
                got=self.args.minibatch_size,
                fix="choose another value",
                expected=f"a multiple of the {self.processes.world_size} processes",
            )

    def _bar(self) -> tqdm[Any]:
        hidden = self.args.quiet or not self.processes.is_main
        return tqdm(desc="ppo", unit="iteration", disable=hidden, initial=self.iteration)

    def _log(
        self,
        rollout: Rollout,
        advantages: Tensor,
        mask: Tensor,
        statistics: UpdateStatistics | None,
        decision: Decision | None,
        bar: tqdm[Any],
    ) -> None:
        """Append the iteration's line and move the counters past it."""
        assert self.normalization is not None  # set in _begin
        line = {
            "iteration": self.iteration,
            "completions_seen": self.completions_seen,
            "optimizer_steps": self.optimizer_steps,
            **rollout_statistics(rollout, advantages, mask, self.normalization.offset, self.normalization.scale),
            **update_statistics(statistics),
            "beta": self.kl_controller.beta,
            "learning_rate": self.optimizer.param_groups[0]["lr"] if statistics else None,
            "controller": decision.to_json() if decision else None,
        }
        if self.processes.is_main:
            self.run.append_metrics(line)
        if self.tracking:
            self.tracking.log(line)
        clip = line["clip_ratio/outside_mean"]
        bar.set_postfix_str(
            f"KL {line['kl_per_completion']:.2f} nats, reward {line['reward']:.3f}"
            + (f", clipped {clip:.1%}" if clip is not None else "")
        )
        bar.update()
        if statistics:
            self.kl_controller.read(line["kl_per_completion"], len(rollout))
            self.completions_seen += len(rollout)
            self.optimizer_steps += statistics.optimizer_steps
