"""Trackers and callbacks, through transformers' own machinery: what a `TrainerCallback` expects, at our moments.

Built only when asked for: importing transformers' callbacks takes seconds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlhf.foundation.errors import InputError
from rlhf.foundation.records import Sample
from rlhf.ppo.config import PPOConfig

# Rows of a table of samples: enough to see what a rung writes.
TABLE_ROWS = 32


def callback_arguments(args: PPOConfig) -> Any:
    """The `TrainingArguments` that callbacks read, with our values where the two have the same option.

    Made without `__post_init__`, which would set up devices a second time and reset accelerate's state.
    """
    from transformers import TrainingArguments

    arguments = object.__new__(TrainingArguments)
    shared = {**args.resolved(), "save_strategy": "no"}
    shared |= {"project": "rlhf", "run_name": Path(args.output_dir).name}
    for field in dataclasses.fields(TrainingArguments):
        default = None if field.default is dataclasses.MISSING else field.default
        setattr(arguments, field.name, shared.get(field.name, default))
    return arguments


class Tracking:
    """Calls every callback at begin, at each line of metrics, at each rung, and at the end (main process only)."""

    def __init__(self, callbacks: Sequence[Any], args: PPOConfig, model: Any, tokenizer: Any) -> None:
        """Raises InputError when a tracker named in `report_to` is unknown or not installed."""
        from transformers import TrainerControl, TrainerState, integrations, trainer_callback

        find: Any = integrations.get_reporting_integration_callbacks
        handler: Any = trainer_callback.CallbackHandler
        try:
            trackers = [tracker() for tracker in find(args.report_to)]
        except (ValueError, RuntimeError, ImportError) as error:
            raise InputError(
                "--report_to",
                got=f"{' '.join(args.report_to)} ({error})",
                expected="trackers that are installed",
                fix="pip install it, or drop it",
            ) from error
        self.arguments = callback_arguments(args)
        self.state = TrainerState(max_steps=args.max_iterations)
        self.control = TrainerControl()
        self.trackers = trackers
        self.handler = handler([*callbacks, *trackers], model, tokenizer, None, None)

    def begin(self, iteration: int) -> None:
        """Before the first rollout, of a resumed run too."""
        self.state.global_step = iteration
        self.handler.on_train_begin(self.arguments, self.state, self.control)

    def log(self, line: Mapping[str, Any]) -> None:
        """One line of metrics.jsonl: its numbers, under their names."""
        self.state.global_step = int(line["iteration"])
        numbers = {
            key: value for key, value in line.items() if isinstance(value, (int, float)) and not isinstance(value, bool)
        }
        self.state.log_history.append(dict(numbers))
        self.handler.on_step_end(self.arguments, self.state, self.control)
        self.handler.on_log(self.arguments, self.state, self.control, numbers)

    def rung(
        self, name: str, iteration: int, samples: Sequence[Sample], extra: Mapping[str, Sequence[Any]] | None = None
    ) -> None:
        """A rung was saved; its first samples become a table in tensorboard and trackio.

        `extra` are further columns, of which those that have a value for each sample are shown.
        """
        self.state.global_step = iteration
        whole = {column: values for column, values in (extra or {}).items() if len(values) == len(samples)}
        columns: dict[str, Sequence[Any]] = {
            "prompt": [s.prompt for s in samples],
            "completion": [s.completion for s in samples],
            "reward": [s.reward for s in samples],
            "logprob": [s.logprob for s in samples],
            **whole,
        }
        table = {column: list(values[:TABLE_ROWS]) for column, values in columns.items()}
        for tracker in self.trackers:
            _log_table(tracker, f"samples/{name}", table, iteration)
        self.handler.on_save(self.arguments, self.state, self.control)

    @property
    def should_stop(self) -> bool:
        """Whether a callback asked to stop (`control.should_training_stop`)."""
        return bool(self.control.should_training_stop)

    def end(self) -> None:
        """After the last line, or when the run is interrupted."""
        self.handler.on_train_end(self.arguments, self.state, self.control)


def _log_table(tracker: Any, title: str, table: Mapping[str, Sequence[Any]], step: int) -> None:
    """Log prompt, completion, reward, log-probability (nats) and further columns where the tracker can show a table."""
    names, rows = list(table), list(zip(*table.values(), strict=True))
    match type(tracker).__name__:
        case "TensorBoardCallback" if tracker.tb_writer is not None:
            lines = ["| " + " | ".join(map(_cell, row)) + " |" for row in [names, ["---"] * len(names), *rows]]
            tracker.tb_writer.add_text(title, "\n".join(lines), step)
        case "TrackioCallback":
            import pandas
            import trackio

            frame = pandas.DataFrame([list(row) for row in rows], columns=pandas.Index(names))
            trackio.log({title: trackio.Table(dataframe=frame), "train/global_step": step})


def _cell(value: object) -> str:
    """Text in one cell of a Markdown table."""
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", "<br>")


def progress(line: Mapping[str, Any]) -> str:
    """A line of metrics as the progress bar shows it."""
    clip = line["clip_ratio/outside_mean"]
    shown = f"KL {line['kl_per_completion']:.2f} nats, reward {line['reward']:.3f}"
    return shown + (f", clipped {clip:.1%}" if clip is not None else "")
