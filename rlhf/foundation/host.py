"""What besides its inputs decides a result's last bits: versions, source revision, processor, threads, accelerator."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

LIBRARIES = ("torch", "transformers", "trl", "accelerate", "peft", "numpy", "safetensors")


def host_facts() -> dict[str, Any]:
    """Versions, source revision and hardware, as records hold them."""
    return {"versions": versions(), "git_revision": git_revision(), "hardware": hardware()}


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that decide a run's numbers."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in LIBRARIES}}


def git_revision() -> str | None:
    """The revision of the directory the command ran in, or None outside a checkout."""
    done = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    return done.stdout.strip() or None


def hardware() -> dict[str, Any]:
    """Processor, its vector instructions as torch uses them, cores, threads and accelerator."""
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    return {
        "machine": platform.machine(),
        "processor": _processor(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cpu_count": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "gpu": gpu,
    }


@contextmanager
def same_threads(facts: Mapping[str, Any]) -> Iterator[None]:
    """Compute with as many threads as `host_facts` say: another number adds up in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads((facts.get("hardware") or {}).get("torch_threads") or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _processor() -> str | None:
    """The processor's model, where the system names it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(errors="replace").splitlines() if cpuinfo.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)


def host_differences(then: Mapping[str, Any], today: Mapping[str, Any]) -> list[str]:
    """What differs between two `host_facts`, a line each; what one of them does not say is passed over."""
    pairs = [("source revision", then.get("git_revision"), today.get("git_revision"))]
    for kind in ("versions", "hardware"):
        known, found = then.get(kind) or {}, today.get(kind) or {}
        pairs += [(name.replace("_", " "), known[name], found[name]) for name in known if name in found]
    told = [f"{name}: {was} then, {is_now} now" for name, was, is_now in pairs if was != is_now]
    return told if then.get("versions") else ["versions and hardware of then were not recorded", *told]
