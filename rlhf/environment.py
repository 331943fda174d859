"""The process environment that must stand before torch is first imported, and how its memory is kept."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
import warnings

# Of mallopt(3): the size from which a block is mapped by itself (32 MiB is the most there is), and how much free memory
# at the heap's end goes back to the system.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_MMAP_THRESHOLD, NEVER = 32 * 2**20, 2**31 - 1


def prepare() -> None:
    """Set thread and telemetry variables, leaving what the user has set, and silence libraries that warn of each other.

    OMP_WAIT_POLICY=passive: spinning OpenMP threads cost up to 70x when two programs share the cores. But a thread that
    sleeps at once is woken for each of a small model's thousands of products, and two are slower than one: libgomp
    looks around 1,000 times before it sleeps (docs/log.md, 2026-11-27).
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # C++ stack traces of a launcher that has ended
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # its retries are warnings; what failed is told in one line
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    # Of one of these libraries about another: nothing that the person at the keyboard could mend.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers|peft|accelerate|datasets|trl")
    # At each import of peft, where it is installed, of a kernel that is not used here (foundation/four_bit.py).
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Tell glibc to keep what is freed, up to 2 GiB, for the next tensor of its size.

    Otherwise each backward pass gives its activations back to the system and faults them in once more, page by page:
    a fifth of the update of a small model (docs/log.md, 2026-11-26). Blocks of more than 32 MiB go back as before. Does
    nothing where there is no glibc, or where the user has set MALLOC_TRIM_THRESHOLD_ or MALLOC_MMAP_THRESHOLD_.
    """
    if not sys.platform.startswith("linux") or {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"} & set(os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # musl has none
        mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
        mallopt(M_TRIM_THRESHOLD, NEVER)
