"""`PPOTrainer`: PPO on a causal language model, critic-free unless asked, with a ladder of checkpoints along KL.

One iteration reads in three files: rollout.py samples and measures, objective.py has the equations, update.py takes
the steps. How this differs from TRL's deleted PPOTrainer:
1. The reward, recentred and scaled by fixed constants, is the advantage at every token; a critic only as an option.
2. KL(policy || original) is exact at every sampled prefix, never negative, and a budget on it ends the run.
3. Line i of metrics.jsonl describes the policy that generated rollout i; a rung is that policy, before its update.
4. The clip fraction drives the batch and the learning rate (controller.py).
5. Dropout is off throughout, so the first update's ratio is 1.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

from rewards.calling import RewardFunction
from rewards.loading import as_reward_functions
from rlhf.foundation.causal_lm import shape_of, vocabulary_rows
from rlhf.foundation.encoding import beginning_token
from rlhf.foundation.errors import InputError
from rlhf.foundation.progress import progress_bar
from rlhf.inspection.opened_run import OpenedRun
from rlhf.language_model.prompt_files import as_both_rows
from rlhf.language_model.randomness import Stream
from rlhf.language_model.sampler import LogitsNotFinite, check_context
from rlhf.ppo import agreement, chosen, critic, distributed, divergence, normalization, resuming, rungs, state
from rlhf.ppo.advantages import Targets, targets
from rlhf.ppo.checkpoints import Checkpoints
from rlhf.ppo.config import PPOConfig
from rlhf.ppo.controller import ClipFractionController
from rlhf.ppo.doctor import Doctor
from rlhf.ppo.engine_start import start_engine
from rlhf.ppo.former_names import AnswersToFormerNames
from rlhf.ppo.guard import Guard
from rlhf.ppo.kl_control import KLController
from rlhf.ppo.landing import Landing, Move, way_of
from rlhf.ppo.learner import load_learner
from rlhf.ppo.normalization import Normalization
from rlhf.ppo.prompts import PromptEncoder, PromptSchedule, Row
from rlhf.ppo.reward_functions import Rewards, require_scores, veto_share
from rlhf.ppo.reward_log import RewardLog
from rlhf.ppo.rollout import Rollout, RolloutWorker
from rlhf.ppo.specimens import one_of_each_kind, specimens
from rlhf.ppo.state_keeper import StateKeeper
from rlhf.ppo.statistics import finite_or_null, iteration_statistics
from rlhf.ppo.tracking import Tracking, progress
from rlhf.ppo.update import UpdateStatistics, optimizer_of, update
from rlhf.runs import provenance
from rlhf.runs.ladder import Ladder
from rlhf.runs.made_from import made_from
from rlhf.runs.writing import RunDirectory


class PPOTrainer(AnswersToFormerNames):
    """Finetunes `model` towards `reward_funcs` and leaves a run directory (docs/reference/files.md).

    Parameters as in TRL's trainers: `model` is a name, a path or a causal LM; `reward_funcs` one function
    `f(prompts, completions, completion_ids, **kwargs) -> list[float | None]`, a sequence classifier (its tokenizer in
    `reward_processing_classes`), or what names one (a model's directory or hub name, a rule, FILE.py:NAME, FILE.yaml),
    or several (with `args.reward_weights`); `train_dataset` has a column `prompt`, text or messages ("" for samples
    without a prompt, the default); `eval_dataset` gives the prompts of the rungs' evaluation samples;
    `processing_class` is the tokenizer. `peft_config` puts an adapter on the model, which alone is trained;
    `reward_constants` are offset and scale where known already. Raises InputError.

    `train()` is `while trainer.stop_reason is None: trainer.step(trainer.rollout())`; docs/own_loop.md adds to it.
    """

    def __init__(
        self,
        model: Any,
        reward_funcs: RewardFunction | str | PathLike[str] | Sequence[RewardFunction | str | PathLike[str]],
        args: PPOConfig,
        train_dataset: Sequence[Mapping[str, Any]] | None = None,
        eval_dataset: Sequence[Mapping[str, Any]] | None = None,
        processing_class: Any = None,
        callbacks: Sequence[Any] = (),
        peft_config: Any = None,
        reward_constants: Normalization | None = None,
        reward_processing_classes: Any = None,
    ) -> None:
        args.require_memory()
        args.require_packages()
        self.args, self.given = args, args.given()
        others = {"train_dataset": train_dataset, "eval_dataset": eval_dataset, "peft_config": peft_config}
        others |= {"processing_class": processing_class, "reward_processing_classes": reward_processing_classes}
        others |= {"callbacks": callbacks, "reward_constants": reward_constants}
        self.made_from = made_from(args, model, reward_funcs, others)
        self.processes = distributed.start(use_cpu=args.use_cpu, straggler_timeout=args.straggler_timeout)
        self.processes.require_divisor_of(args.minibatch_size)
        self.processes.watch(args.straggler_timeout)
        agreement.require_same_options(self.processes, args.resolved())
        rewards = self.processes.all_do(lambda: as_reward_functions(reward_funcs, reward_processing_classes))
        self.processes.all_do(lambda: self._take(rewards, train_dataset, eval_dataset))
        loaded = self.processes.all_do(lambda: load_learner(model, processing_class, peft_config, args, self.processes))
        self.model, self.ref_model, self.learner, self.tokenizer, self.args, self.source, self.inputs = loaded[:7]
        args, self.to_save, shared = self.args, loaded.to_save, loaded.shared
        self.processes.all_do(self._fit)
        agreement.require_same_inputs(self.processes, self.inputs)
        self.schedule = PromptSchedule(len(self.train_rows), num_generations=args.num_generations, seed=args.seed)
        valued = self.learner if isinstance(self.learner, critic.ActorCritic) else None
        pair = (self.model, self.ref_model, self.tokenizer)
        self.worker = RolloutWorker(*pair, args, self.rewards, processes=self.processes, critic=valued, shared=shared)
        if args.use_vllm:
            self.processes.all_do(self._start_vllm, "starting vLLM")
        first, speaks = [beginning_token(self.tokenizer)] * 4, self.processes.is_main
        self.doctor = Doctor(self.model, self.ref_model, first, args, speaks=speaks)
        adam = optimizer_of(critic.parameter_groups(self.learner, self.model), args)
        module = chosen.ChosenTokens(self.learner, args, shared, self.ref_model)
        self.train_model, self.optimizer = self.processes.prepared(module, adam, self.ref_model, args.max_grad_norm)
        self.controller = ClipFractionController.of(args)
        self.kl_controller = KLController(args.beta, args.kl_target, args.kl_horizon, args.beta_decay)
        self.run = RunDirectory(args.output_dir)
        self.landing = Landing(args.kl_budget)
        of_run = (self.learner, self.optimizer, self.controller, self.kl_controller, self.landing, self.guard)
        self.keeper = StateKeeper(self.run.state, *of_run, writes=self.processes.is_main)
        self.ladder = Ladder(self.run.ladder, step=args.ladder_step, budget=args.kl_budget)
        self.checkpoints = Checkpoints(self.to_save.model, self.tokenizer, args.save_dtype)
        self.normalization, self._begun = reward_constants, False
        wanted = speaks and (callbacks or args.report_to)
        self.tracking = Tracking(callbacks, args, self.model, self.tokenizer) if wanted else None
        self.iteration = self.completions_seen = self.optimizer_steps = 0
        self.stop_reason: str | None = None

    def _take(self, rewards: list[RewardFunction], train_dataset: Any, eval_dataset: Any) -> None:
        """Rewards and prompts, tried on each other before a model is loaded. Raises InputError."""
        self.reward_funcs, self.reward_log = rewards, RewardLog(self.args.max_iterations)
        self.rewards = Rewards.of(rewards, self.args, self.reward_log.extras())
        self.guard = Guard.of(self.args, self.rewards.watchable)
        self.train_rows, self.eval_rows = as_both_rows(train_dataset, eval_dataset)
        self.rewards.values(*specimens(self.train_rows, self.eval_rows))

    def _fit(self) -> None:
        """Raise InputError when the prompts do not fit the model; what the run's numbers depend on."""
        self.encode = PromptEncoder(self.tokenizer, vocabulary_rows(self.model))
        self.longest_prompt = self.encode.longest([*self.train_rows, *self.eval_rows])
        check_context(self.model, self.longest_prompt, self.args.max_completion_length)
        critic_path, rows = self.args.critic_model_path, (self.train_rows, self.eval_rows)
        self.inputs |= provenance.run_inputs(self.model, critic_path, *rows, self.reward_funcs)

    def _start_vllm(self) -> None:
        of_policy = (self.model, self.tokenizer, self.worker.ending)
        self.worker.take(start_engine(self.args, *of_policy, self.processes, self.longest_prompt))

    # -- the algorithm -------------------------------------------------------------------------------------------

    def train(self) -> OpenedRun:
        """Run to the KL budget or the last iteration. Raises InputError; KeyboardInterrupt says how to go on."""
        try:
            with contextlib.closing(self):  # within: the launcher's signal may come while a run without a peer closes
                self.begin()
                hidden = self.args.quiet or not self.processes.is_main
                with progress_bar("ppo", "iteration", initial=self.iteration, quiet=hidden) as bar:
                    while self.stop_reason is None:
                        line = self.step(self.rollout())
                        bar.set_postfix_str(progress(line))
                        bar.update()
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"continue with the same command and --resume ({self.run.root})") from None
        return OpenedRun(self.run.root, self.reward_funcs)

    def rollout(self) -> Rollout:
        """Sample an iteration's completions with the present policy and measure them; begins the run if need be."""
        self.begin()
        first = self.completions_seen
        rows = [self.train_rows[self.schedule(first + i)] for i in range(self.controller.iteration_batch_size)]
        self.reward_log.begin(self.iteration, epoch=first / len(self.train_rows))
        try:
            rollout = self._roll(rows, Stream.ROLLOUT, self.iteration, first)
        except LogitsNotFinite:
            raise self._diverged() from None
        self.doctor.look(rollout)
        self.processes.begin("what its loop does between rollout and step", alone=True)
        return rollout

    def step(self, rollout: Rollout) -> dict[str, Any]:
        """Perhaps save a rung, perhaps stop (`stop_reason` says why), else update; returns the line of metrics.jsonl.

        `rollout` is the last one; its `rewards` (B,) may have been replaced, the rest is what the policy did.
        """
        self.begin()
        assert self.normalization is not None  # set in begin()
        require_scores(rollout.scored, f"iteration {self.iteration}")
        kl, evaluation = float(rollout.kl.mean()), None
        if not math.isfinite(kl):
            raise self._diverged()
        if self.landing.near(kl):  # from here on the rung's own samples decide
            kl = float((evaluation := self._evaluate()).kl.mean())
        back = self.landing.too_far(kl)
        self.stop_reason = None if back else self._stop_reason(kl)
        if self.stop_reason is not None and self.keeper.saved not in (None, self.iteration) and self.processes.saves:
            self._save_state()  # before the last rung, which a longer run makes again
        self.landing.read(kl)
        target = None if back else self.ladder.target_passed(max(kl, self.landing.arrived(kl) * self.args.kl_budget))
        if target is not None or self.stop_reason is not None:
            self._save_rung(target, evaluation or self._evaluate())
        else:
            self.stop_reason = self.guard.look(rollout, self.kl_controller)
        aims = targets(rollout, self.normalization, self.kl_controller.beta, self.args)
        goes_on = self.stop_reason is None or self.guard.goes_back
        move, statistics = self._move(rollout, aims, kl, back=back) if goes_on else (None, None)
        self.processes.begin("writing metrics and state and calling trackers", alone=True)
        line = self._log(rollout, aims, statistics, move)
        if goes_on:
            self._advance(rollout, statistics, kl)
        if self.stop_reason is not None:
            self.processes.main_does(lambda: self.run.finish("finished", self.stop_reason))
        self.processes.begin("what its loop does between iterations", alone=True)
        return line

    def _move(
        self, rollout: Rollout, aims: Targets, kl: float, *, back: bool
    ) -> tuple[Move | None, UpdateStatistics | None]:
        """The update, shortened where it would pass the budget; or the last one's end taken back, or many updates."""
        if self.guard.goes_back:
            self.guard.go_back(self.learner, self.ladder, self.landing)
            return None, None
        if back:
            self.controller.learning_rate /= 2 if self.ladder.overshot(kl) else 1
            return self.landing.step_back(self.learner, kl), None
        rate = self.controller.learning_rate
        move = self.landing.prepare(self.learner, len(rollout), self.optimizer_steps, rate, self.args)
        return move, self._update(rollout, aims, move.share if move else 1.0)

    def _update(self, rollout: Rollout, aims: Targets, share: float) -> UpdateStatistics:
        """Every optimiser step of a rollout, at `share` of the rate. Raises InputError when weights are no numbers."""
        self.processes.begin("the update")
        rate = self.controller.learning_rate
        of_policy = rate * share * (not critic.alone(self.args, self.iteration))
        rates = (of_policy, (self.args.critic_learning_rate or rate) * share)
        steps, learner, together = self.optimizer_steps, (self.train_model, self.optimizer), self.processes
        statistics = update(
            *learner, rollout, aims, self.args, together, self.iteration, learning_rates=rates, steps_before=steps
        )
        if self.processes.any(not divergence.all_finite(self.learner)):
            raise self._diverged()
        self.landing.way += way_of(statistics.optimizer_steps, steps, rates[0], self.args)
        return statistics

    def _diverged(self) -> InputError:
        error = divergence.diverged(self.iteration, self.args, [rung.name for rung in self.ladder.rungs])
        if self.processes.is_main:
            self.run.finish("diverged", error.what)
        return error

    def _advance(self, rollout: Rollout, statistics: UpdateStatistics | None, kl: float) -> None:
        """Move the counters past an iteration and save the state."""
        if statistics is not None:
            self.kl_controller.read(kl, len(rollout))
            self.optimizer_steps += statistics.optimizer_steps
        self.completions_seen += len(rollout)
        has_rung = self.ladder.rungs[-1:] and self.ladder.rungs[-1].iteration == self.iteration
        self.iteration, left = self.iteration + 1, self.guard.why_left()
        if self.processes.saves and self.processes.main_says(bool(has_rung or left) or self.keeper.due()):
            self._save_state()
        if left and self.processes.is_main:  # now that no state goes on from those rungs
            resuming.leave(self.run, self.ladder, self.iteration, left)

    def _stop_reason(self, kl: float) -> str | None:
        if self.landing.arrived(kl):
            return self.ladder.budget_reached(kl)
        if self.iteration >= self.args.max_iterations:
            return f"{self.args.max_iterations} iterations done"
        if self.processes.any(self.tracking is not None and self.tracking.should_stop):
            return "a callback asked to stop"
        return None

    # -- the ladder ----------------------------------------------------------------------------------------------

    def _evaluate(self) -> Rollout:
        """Fresh evaluation samples, same prompts and seed whenever they are drawn."""
        rows = [self.eval_rows[i % len(self.eval_rows)] for i in range(self.args.num_eval_samples)]
        with self.reward_log.aside() as self.logged_aside:
            return self._roll(rows, Stream.EVALUATION, 0, 0)

    def _save_rung(self, target: float | None, evaluation: Rollout) -> None:
        """The evaluation samples, checkpoint and ladder.json."""
        name = self.ladder.name_for(target, float(evaluation.kl.mean()))
        require_scores(evaluation.scored, f"the evaluation samples of rung {name}")
        rung = rungs.describe(name, target, evaluation, **self._counters())
        guarded = (self.kl_controller, self.learner, self.normalization)
        self.stop_reason = self.guard.read(rung, evaluation, *guarded, ends=self.stop_reason)
        self.to_save.renew()
        self.processes.begin(f"saving rung {name}", alone=True)
        if not self.processes.is_main:
            return self.ladder.rungs.append(rung)
        samples = rungs.keep(self.run, self.ladder, self.checkpoints, rung, evaluation, self.args.seed)
        if self.tracking:
            self.tracking.rung(name, self.iteration, samples, self.logged_aside)

    # -- beginning, resuming, ending -------------------------------------------------------------------------------

    def begin(self) -> None:
        """Claim the run directory, resume or begin, and fix the reward's constants; once, until `close()`."""
        if self._begun:
            return
        self.processes.watch(self.args.straggler_timeout)
        self.processes.main_does(lambda: self.run.open(resume=self.args.resume, overwrite=self.args.overwrite))
        self.processes.main_does(self._check_inputs)
        if self.args.resume:
            self._go_on()
        # What fails on the policy's own completions does so before anything is written.
        self._roll(one_of_each_kind(self.train_rows, self.eval_rows), Stream.NORMALIZATION, 0, 0, measure=False)
        self.processes.main_does(self._begin_files)
        if self.normalization is None:
            rows = [self.train_rows[i % len(self.train_rows)] for i in range(self.args.normalization_samples)]
            self.normalization = normalization.measure(self._roll(rows, Stream.NORMALIZATION, 0, 0, measure=False))
        self.processes.begin("starting the trackers", alone=True)
        if self.processes.is_main:
            self.run.write(normalization=self.normalization._asdict())
        if self.tracking:
            self.tracking.begin(self.iteration)
        self._begun = True

    def _go_on(self) -> None:
        """Take up the latest state, the same on every process."""
        saved = self.processes.all_do(lambda: state.load_state(self.run.state))
        self.processes.main_does(lambda: resuming.require_whole(self.run, saved))
        agreement.require_same_state(self.processes, saved)
        self.ladder.rungs = resuming.rungs_to_keep(self.run, saved)
        if saved is not None:
            self.keeper.restore(saved)
            self.iteration, self.completions_seen = saved.next_iteration, saved.values["completions_seen"]
            self.optimizer_steps = saved.values["optimizer_steps"]
            self.normalization = Normalization(**saved.values["normalization"])

    def close(self) -> None:
        """End the trackers and give the run directory free; the run can be continued with `resume`."""
        if self.tracking and self._begun:
            self.tracking.end()
        self._begun = False
        self.run.close()
        self.processes.unwatch()

    def _check_inputs(self) -> None:
        """On resuming compare what the numbers depend on. Raises InputError when it changed."""
        self.sources = {"inputs": self.inputs, "reward_origins": provenance.reward_origins(self.reward_funcs)}
        self.changed = self.run.check(self.args.resolved(), self.sources, accept=self.args.accept_changes)

    def _begin_files(self) -> None:
        learnt = sum(shape_of(p).numel() for p in self.learner.parameters() if p.requires_grad)
        facts = {**self.sources, "made_from": self.made_from, "model": self.source, "trained_parameters": learnt}
        facts |= self.rewards.facts() | self.processes.facts()
        self.run.begin(self.args.resolved(), self.given, facts, iteration=self.iteration, changed=self.changed)
        resuming.make_way(self.run, self.ladder.rungs, self.iteration)
        self.ladder.write()

    def _save_state(self) -> None:
        rungs_so_far = [dataclasses.asdict(rung) for rung in self.ladder.rungs]
        constants = self.normalization._asdict() if self.normalization else None
        of_run = {**self._counters(), "rungs": rungs_so_far, "normalization": constants}
        self.keeper.save(self.iteration, of_run)
        if self.processes.is_main:
            self.run.write(files=self.run.digests())

    def _counters(self) -> dict[str, int]:
        seen, steps = self.completions_seen, self.optimizer_steps
        return {"iteration": self.iteration, "completions_seen": seen, "optimizer_steps": steps}

    def _roll(
        self, rows: Sequence[Row], stream: Stream, iteration: int, first: int, *, measure: bool = True
    ) -> Rollout:
        encoded = [self.encode(row["prompt"]) for row in rows]
        key: dict[str, Any] = {"stream": stream, "iteration": iteration, "first_index": first}
        moved = self.iteration > self.args.critic_warmup_iterations
        return self.worker(rows, encoded, **key, measure=measure, moved=moved)

    def _log(
        self, rollout: Rollout, aims: Targets, statistics: UpdateStatistics | None, move: Move | None
    ) -> dict[str, Any]:
        """Append the iteration's line; the controller decides on it."""
        assert self.normalization is not None  # set in begin()
        warming_up = self.optimizer_steps < self.args.warmup_steps or critic.alone(self.args, self.iteration)
        whole = statistics if move is None else None  # a shortened update says nothing of the batch and the rate
        decision = self.controller.read(whole.outside_mean, warming_up=warming_up) if whole else None
        numbers = {
            **self._counters(),
            **iteration_statistics(rollout, aims, self.normalization, self.rewards, statistics, self.args),
            **self.reward_log.means(self.processes),
            "veto_share": veto_share(self.reward_funcs, rollout.prompts, rollout.completions),
            "beta": self.kl_controller.beta,
            "learning_rate": self.optimizer.param_groups[0]["lr"] if statistics else None,
            "controller": decision.to_json() if decision else None,
            "kl_landing": move._asdict() if move else None,
            "guard": self.guard.told(),
            "doctor": self.doctor.report(self.iteration, statistics and statistics.ratio_first_update_max_dev),
            "step_too_large": divergence.step_too_large(rollout, self.ladder, self.iteration, self.args, move),
            "accepted_changes": self.run.accepted_at(self.iteration),
        }
        self.reward_log.state.log_history.append(line := finite_or_null(numbers))
        if self.processes.is_main:
            self.run.append_metrics(line)
            divergence.tell(line)
        if self.tracking:
            self.tracking.log(line)
        return line
