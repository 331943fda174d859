"""Rewards that are rules, in TRL's reward-function signature, and the door for a user's own function.

`f(prompts, completions, completion_ids=None, **kwargs) -> list[float]`: one number a completion, in the order given.
Only the completion is judged, never the prompt; of a conversation its messages' content.
"""

from __future__ import annotations

import functools
import importlib.util
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from rlhf.foundation.errors import InputError

if TYPE_CHECKING:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer


class RewardFunc(Protocol):
    """TRL's reward function: raw rewards (None where a completion could not be scored)."""

    __name__: str

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        completion_ids: Sequence[Sequence[int]] | None = None,
        **kwargs: Any,
    ) -> list[float] | list[float | None]: ...


def text_of(completion: Any) -> str:
    """The text of a completion: itself, or the contents of a conversation's messages, a line each."""
    return completion if isinstance(completion, str) else "\n".join(str(turn["content"]) for turn in completion)


def full_stop(
    prompts: Sequence[Any],
    completions: Sequence[Any],
    completion_ids: Sequence[Sequence[int]] | None = None,
    **kwargs: Any,
) -> list[float]:
    """Number of full stops in the completion."""
    return [float(text.count(".")) for text in map(text_of, completions)]


def full_stop_share(
    prompts: Sequence[Any],
    completions: Sequence[Any],
    completion_ids: Sequence[Sequence[int]] | None = None,
    **kwargs: Any,
) -> list[float]:
    """Share of the completion's characters that are full stops, 0 to 1; 0 for an empty completion."""
    return [text.count(".") / max(1, len(text)) for text in map(text_of, completions)]


def full_stop_at_16_to_24(
    prompts: Sequence[Any],
    completions: Sequence[Any],
    completion_ids: Sequence[Sequence[int]] | None = None,
    **kwargs: Any,
) -> list[float]:
    """1 if one of tokens 16 to 24 (counted from 1) is a full stop, else 0.

    The constraint of Ziegler et al. 2019, "Fine-Tuning Language Models from Human Preferences". Tokens are words with
    the space before them, marks, and line breaks: those of `rlhf pretrain`, whatever the policy's own tokenizer does.
    """
    return [float("." in _TOKEN.findall(text_of(completion))[15:24]) for completion in completions]


_TOKEN = re.compile(r" ?\w+|[^\w\s]|\s")


def length(
    prompts: Sequence[Any],
    completions: Sequence[Any],
    completion_ids: Sequence[Sequence[int]] | None = None,
    **kwargs: Any,
) -> list[float]:
    """Length of the completion in words (runs of characters between white space)."""
    return [float(len(text.split())) for text in map(text_of, completions)]


def lexicon_sentiment(
    prompts: Sequence[Any],
    completions: Sequence[Any],
    completion_ids: Sequence[Sequence[int]] | None = None,
    **kwargs: Any,
) -> list[float]:
    """VADER's compound sentiment of the completion, -1 (negative) to 1 (positive), 0 for no sentiment.

    Hutto & Gilbert 2014, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text".
    """
    analyzer = _vader()
    return [float(analyzer.polarity_scores(text)["compound"]) for text in map(text_of, completions)]


@functools.cache
def _vader() -> SentimentIntensityAnalyzer:
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    return SentimentIntensityAnalyzer()


RULES: dict[str, RewardFunc] = {
    rule.__name__: cast(RewardFunc, rule)
    for rule in (full_stop, full_stop_share, full_stop_at_16_to_24, length, lexicon_sentiment)
}


def load_reward_func(spec: str) -> RewardFunc:
    """The reward function that `spec` names: a rule of this module, `FILE.py:NAME`, or `FILE.yaml` (combination.py).

    Raises InputError for an unknown name, a missing file, a file that fails while it is imported (with the line of
    that file), a missing name, or a value that is not callable.
    """
    if spec in RULES:
        return RULES[spec]
    if spec.endswith((".yaml", ".yml")):
        from rewards.combination import read_combination

        return cast(RewardFunc, read_combination(Path(spec)))
    file, separator, name = spec.rpartition(":")
    if not separator or not file.endswith(".py") or not name:
        raise _refuse(spec, "an unknown name", "check the name")
    path = Path(file)
    if not path.is_file():
        raise _refuse(spec, f"no file {file}", "check the path")
    module = _import_file(path, spec)
    if name not in module:
        raise _refuse(spec, f"a file without {name}", f"define {name} in {file}, or name what it defines")
    function = module[name]
    if not callable(function):
        raise _refuse(
            spec, f"a value of type {type(function).__name__}", f"make {name} a function of (prompts, completions, ...)"
        )
    if not isinstance(getattr(function, "__name__", None), str):
        function.__name__ = name  # metrics carry this name; a callable object has none of its own
    return cast(RewardFunc, function)


def _refuse(spec: str, got: str, fix: str) -> InputError:
    return InputError(
        f"reward function {spec}", got=got, expected=f"one of {', '.join(RULES)}, FILE.py:NAME, or FILE.yaml", fix=fix
    )


def _import_file(path: Path, spec: str) -> dict[str, Any]:
    """The names that the file at `path` defines. Raises InputError with the failing line of that file."""
    module_name = f"reward_file_{path.stem}"
    module_spec = importlib.util.spec_from_file_location(module_name, path)
    if module_spec is None or module_spec.loader is None:
        raise _refuse(spec, "a file that Python cannot import", "check the file")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_name] = module  # dataclasses and pickling look a module up by its name
    try:
        module_spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[module_name]
        line = _line_in(path, error)
        raise _refuse(spec, f"{type(error).__name__} at {path}:{line} ({error})", "mend the file") from error
    return vars(module)


def _line_in(path: Path, error: BaseException) -> int:
    """The last line of the file at `path` that took part in `error`."""
    if isinstance(error, SyntaxError) and error.lineno is not None:
        return error.lineno
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return (lines[-1] if lines else None) or 1
