"""What the libraries raise when files cannot be read as a model, and the one line that is made of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

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
def hub_in_silence() -> Iterator[None]:
    """Without network the hub's client logs each retry; the one line of our own says enough."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
