"""Memory stays within figures that can be computed: a large vocabulary is scored and updated in pieces."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]
BATCH, VOCABULARY = 64, 150_000


@pytest.fixture(scope="module")
def memory() -> ModuleType:
    spec = importlib.util.spec_from_file_location("memory_benchmark", ROOT / "benchmarks" / "memory.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.long
@pytest.mark.slow
def test_150000_words_at_64_completions_of_48_tokens(memory: ModuleType) -> None:
    before, *peaks = memory.in_a_process(BATCH, 1, vocabulary=VOCABULARY)
    bound = memory.bound_bytes(BATCH, VOCABULARY)
    whole = (
        4 * BATCH * memory.LENGTH * VOCABULARY
    )  # one copy of all logits, which scoring at once would hold five times
    print(f"added {(peaks[-1] - before) / 2**20:.0f} MiB, bound {bound / 2**20:.0f} MiB, whole {whole / 2**20:.0f} MiB")
    assert peaks[-1] - before < bound < whole


@pytest.mark.long
@pytest.mark.slow
def test_a_larger_batch_adds_what_it_stores_and_iterations_add_nothing(memory: ModuleType) -> None:
    small, large = memory.in_a_process(256, 6), memory.in_a_process(1024, 1)
    added, stored = large[-1] - small[2], memory.stored_bytes(1024 - 256)
    print(f"added {added / 2**20:.1f} MiB, stored {stored / 2**20:.1f} MiB, six iterations {small[-1] / small[2]:.3f}")
    assert added < stored + 2 * 2**20  # logits kept would add 293 MiB
    assert small[-1] < 1.05 * small[2]
