"""What goes wrong on one process is raised on all, once, with the rank's name; alike on all, without."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, TypeVar

from rlhf.foundation.errors import InputError, Told
from rlhf.ppo.company import company

Value = TypeVar("Value")


def outcome_of(failure: BaseException | None) -> dict[str, Any]:
    """What the others are told of an action's failure, or of its success."""
    mistake = failure if isinstance(failure, InputError) else None
    words = [mistake.what, str(mistake.got), mistake.expected, mistake.fix] if mistake else []
    return {"failed": failure is not None, "words": words}


def fail_together(failure: BaseException | None, outcomes: list[dict[str, Any]]) -> None:
    """Raise on every process what is to be raised for what went wrong on some; `outcomes` are those of all, by rank."""
    if failure is not None and not isinstance(failure, InputError):
        raise failure
    told = [outcome["words"] for outcome in outcomes]
    if any(told):
        rank = next(rank for rank, words in enumerate(told) if words)
        what, got, expected, fix = told[rank]
        error = InputError(what, got=got, expected=expected, fix=fix)
        raise error if all(words == told[rank] for words in told) else of_rank(rank, error) from failure
    if any(outcome["failed"] for outcome in outcomes):
        time.sleep(1)  # until the one with the traceback has shown it: the launcher ends all when one has ended
        raise Told(2)


def all_parse(parse: Callable[[], Value]) -> Value:
    """What `parse` returns, before the processes have met; what it raises on one all raise, as in `all_do`."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":  # alone, or rank 0 has no store yet
        return parse()
    failure: InputError | None = None
    try:
        value = parse()
    except InputError as error:
        failure = error
    outcomes = company().roll_call("parsed", outcome_of(failure))
    fail_together(failure, [outcome for outcome in outcomes if outcome is not None])
    return value


def of_rank(rank: int, error: InputError) -> InputError:
    """The error of one process, where the others have none."""
    fix = error.fix if "--resume" in error.fix else f"{error.fix}; a run that had begun goes on with --resume"
    return InputError(f"rank {rank}: {error.what}", got=error.got, expected=error.expected, fix=fix)
