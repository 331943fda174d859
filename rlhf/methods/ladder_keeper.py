"""What makes any trainer's run a ladder like PPO's: the KL measured every so many steps, a rung kept at each level.

The KL is ours: exact at every prefix of fresh samples (rlhf/ppo/measuring.py), the same prompts and random numbers at
every measurement. Line i of metrics.jsonl describes the policy after i times `steps_per_iteration` optimiser steps. A
policy beyond the budget is taken back: the final rung lies on the straight line between its weights and those of the
measurement before, where the KL is the budget within 2 %.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import TrainerCallback

from rlhf.foundation.errors import InputError
from rlhf.foundation.model_digests import model_inputs
from rlhf.language_model.randomness import Stream
from rlhf.methods.config import AlignConfig
from rlhf.ppo import rungs
from rlhf.ppo.checkpoints import Checkpoints
from rlhf.ppo.landing import TOLERANCE
from rlhf.ppo.normalization import Normalization, measure
from rlhf.ppo.prompts import PromptEncoder, Row
from rlhf.ppo.reward_functions import Rewards, require_scores
from rlhf.ppo.rollout import Rollout, RolloutWorker
from rlhf.ppo.state import restore_parameters, trained_parameters
from rlhf.ppo.statistics import finite_or_null, reward_statistics, sample_statistics
from rlhf.runs import provenance
from rlhf.runs.ladder import Ladder
from rlhf.runs.metrics import METRICS
from rlhf.runs.writing import RunDirectory

MOST_BISECTIONS = 12
OF_EVERY_LINE = [name for name in METRICS if "NAME" not in name]


class LadderKeeper:
    """The run directory of a policy that something else trains; `read` is called as it goes."""

    def __init__(
        self, config: AlignConfig, policy: Any, original: Any, tokenizer: Any, rewards: Sequence[Any],
        rows: Sequence[Row], never_sampled: list[int],
    ) -> None:  # fmt: skip
        self.config, self.policy, self.rows = config, policy, rows
        self.measured = config.as_measured(never_sampled)
        self.rewards = Rewards.of(rewards, self.measured)
        self.worker = RolloutWorker(policy, original, tokenizer, self.measured, self.rewards)
        self.encode = PromptEncoder(tokenizer, self.worker.measurer.vocabulary)
        self.run = RunDirectory(config.output_dir)
        self.ladder = Ladder(self.run.ladder, step=config.ladder_step, budget=config.kl_budget)
        self.checkpoints = Checkpoints(policy, tokenizer)
        self.inputs = model_inputs(policy, tokenizer) | provenance.run_inputs(policy, None, rows, rows, rewards)
        self.iteration, self.stop_reason, self.normalization = 0, "", Normalization(0.0, 1.0, 0, "")
        self.before: tuple[float, dict[str, torch.Tensor]] | None = None  # √KL and weights of the last measurement
        self.seconds = time.perf_counter()

    def begin(self, facts: dict[str, Any], learnt: Mapping[str, str]) -> None:
        """Claim the directory, write run.json and the first rung: the original itself. Raises InputError.

        `learnt` has the digest of what the policy learns from by its name.
        """
        self.run.open(resume=False, overwrite=self.config.overwrite)
        origins = provenance.reward_origins(list(self.rewards.functions))
        facts = {
            "inputs": {**self.inputs, **learnt},
            "reward_origins": origins,
            "made_from": None,
            **facts,
            **self.rewards.facts(),
        }
        facts["trained_parameters"] = sum(p.numel() for p in self.policy.parameters() if p.requires_grad)
        resolved = self.config.recorded() | {"suppress_tokens": self.measured.suppress_tokens}
        resolved["beta"] = self.config.strength
        self.run.begin(resolved, resolved, facts)
        self.ladder.write()
        self.read(0, 0, {})

    def read(self, steps: int, seen: int, logs: dict[str, float]) -> bool:
        """Measure the policy after so many optimiser steps on so many texts; whether training goes on."""
        update = time.perf_counter() - self.seconds
        rollout = self.sample()
        kl = float(rollout.kl.mean())
        require_scores(rollout.scored, f"iteration {self.iteration}")
        if not math.isfinite(kl):
            self.run.finish("diverged", "the KL is not a finite number")
            raise self._diverged()
        if kl > self.config.kl_budget * (1 + TOLERANCE):
            rollout = self._taken_back(rollout)
            kl = float(rollout.kl.mean())
        if self.iteration == 0:
            self.normalization = measure(rollout)
            self.run.write(normalization=self.normalization._asdict())
        self._stop(kl)
        reached = self.config.kl_budget if self.stop_reason and self._arrived(kl) else kl
        target = self.ladder.target_passed(reached)
        counters = {"iteration": self.iteration, "completions_seen": seen, "optimizer_steps": steps}
        if target is not None or self.stop_reason:
            name = self.ladder.name_for(target, kl)
            rung = rungs.describe(name, target, rollout, **counters)
            rungs.keep(self.run, self.ladder, self.checkpoints, rung, rollout, self.config.seed)
        self._log(rollout, counters, logs, update)
        self.before = math.sqrt(max(kl, 0.0)), trained_parameters(self.policy)
        self.iteration += 1
        self.seconds = time.perf_counter()
        return not self.stop_reason

    def sample(self) -> Rollout:
        """Fresh samples of the policy as it is, with rewards and exact KL."""
        count, training = self.config.num_eval_samples, self.policy.training
        rows = [self.rows[i % len(self.rows)] for i in range(count)]
        encoded = [self.encode(row["prompt"]) for row in rows]
        self.policy.eval()
        try:
            return self.worker(rows, encoded, stream=Stream.EVALUATION, iteration=0, moved=self.iteration > 0)
        finally:
            self.policy.train(training)

    def _arrived(self, kl: float) -> bool:
        return kl >= self.config.kl_budget * (1 - TOLERANCE)

    def _stop(self, kl: float) -> None:
        if self._arrived(kl):
            self.stop_reason = self.ladder.budget_reached(kl)
        elif self.iteration >= self.config.max_iterations:
            self.stop_reason = f"{self.config.max_iterations} iterations done"

    def _taken_back(self, rollout: Rollout) -> Rollout:
        """Of the policy moved back towards the last measurement, to meet the budget: false position in √KL."""
        assert self.before is not None  # the first policy is the original
        (low, start), after = self.before, trained_parameters(self.policy)
        root = math.sqrt(self.config.kl_budget)
        lower, upper, high = 0.0, 1.0, math.sqrt(float(rollout.kl.mean()))
        for _ in range(MOST_BISECTIONS):
            inner = (root - low) / (high - low)
            share = lower + (upper - lower) * min(max(inner, 0.1), 0.9)
            restore_parameters(self.policy, {n: torch.lerp(x, after[n], share) for n, x in start.items()})
            rollout = self.sample()
            kl = float(rollout.kl.mean())
            if abs(kl / self.config.kl_budget - 1) <= TOLERANCE:
                break
            lower, low, upper, high = (
                (share, math.sqrt(kl), upper, high) if kl < root**2 else (lower, low, share, math.sqrt(kl))
            )
        return rollout

    def _log(self, rollout: Rollout, counters: dict[str, Any], logs: dict[str, float], update: float) -> None:
        line = dict.fromkeys(OF_EVERY_LINE) | counters | sample_statistics(rollout, self.normalization)
        line |= reward_statistics(rollout, self.rewards) | {f"train/{name}": value for name, value in logs.items()}
        line |= {"learning_rate": self.config.learning_rate if self.iteration else None, "seconds/update": update}
        self.run.append_metrics(finite_or_null(line))

    def finish(self) -> None:
        """Write how the run ended."""
        self.run.finish("finished", self.stop_reason)

    def close(self) -> None:
        """Give the directory free."""
        self.run.close()

    def _diverged(self) -> InputError:
        return InputError(
            f"diverged at iteration {self.iteration}",
            got="a KL that is no finite number",
            expected="a finite one",
            fix=f"begin another run with a smaller --learning_rate (now {self.config.learning_rate:g})",
        )


class KeepLadder(TrainerCallback):
    """Measures every `steps_per_iteration` steps, and ends the training where the ladder ends."""

    def __init__(self, keeper: LadderKeeper) -> None:
        self.keeper, self.logs, self.bar = keeper, dict[str, float](), None

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """The trainer's own figures go into the next line."""
        self.logs = {name: x for name, x in (logs or {}).items() if isinstance(x, float) and name != "epoch"}

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Measure when it is time."""
        config = self.keeper.config
        if state.global_step % config.steps_per_iteration:
            return
        drawn = config.best_of if config.method == "rejection" else 1  # samples behind each text
        seen = state.global_step * config.per_device_train_batch_size * drawn
        if not self.keeper.read(state.global_step, seen, self.logs):
            control.should_training_stop = True
