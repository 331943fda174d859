"""What the libraries raise when files cannot be read as a model, and the one line that is made of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import utils as hub_bars
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers.utils import logging as transformers_logging

from rlhf.foundation.errors import InputError

# Files that are missing, torn or of another shape (a list where an object should be), and a model whose code needs a
# package that is not there. To be caught around reading alone.
LOAD_ERRORS = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RuntimeError,
    ImportError,
    SafetensorError,
    StrictDataclassError,
)


def load_failure(name_or_path: str, kind: str, error: Exception) -> InputError:
    """The line for a model that a library could not read; `kind` is what should be there."""
    local = Path(name_or_path).is_dir()
    first_line = (str(error) or type(error).__name__).splitlines()[0].rstrip(".:")
    return InputError(
        f"model {name_or_path}",
        got=f"{'unusable files' if local else 'no such local directory and nothing from the hub'} ({first_line})",
        expected=f"a directory with {kind}, or a reachable hub name",
        fix="check the path" if local else "check the path, or the name and the network",
    )


@contextmanager
def libraries_in_silence() -> Iterator[None]:
    """No bars and no warnings of the libraries that load and save models; the one line of our own says enough.

    Without network the hub's client logs each retry; transformers reports a new head, which is meant, and absent
    weights, which are refused.
    """
    bars: Any = transformers_logging
    hub: Any = hub_bars
    shown, hub_hidden = bars.is_progress_bar_enabled(), hub.are_progress_bars_disabled()
    loggers = {logging.getLogger("huggingface_hub"): logging.CRITICAL, logging.getLogger("transformers"): logging.ERROR}
    levels = {logger: logger.level for logger in loggers}
    bars.disable_progress_bar()
    for logger, level in loggers.items():
        logger.setLevel(max(level, logger.level))
    try:
        yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)
        if shown:
            bars.enable_progress_bar()  # the hub's too
        (hub.disable_progress_bars if hub_hidden else hub.enable_progress_bars)()
