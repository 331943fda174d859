"""The process environment that must stand before torch is first imported."""

from __future__ import annotations

import os
import warnings


def prepare() -> None:
    """Set thread and telemetry variables, leaving what the user has set, and silence libraries that warn of each other.

    OMP_WAIT_POLICY=passive: spinning OpenMP threads cost up to 70x when two programs share the cores.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # C++ stack traces of a launcher that has ended
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # its retries are warnings; what failed is told in one line
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    # Of one of these libraries about another: nothing that the person at the keyboard could mend.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers|peft|accelerate|datasets|trl")
