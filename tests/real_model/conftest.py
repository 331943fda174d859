"""Tests on a real pretrained chat model; slow, and in `make test-all` alone."""

from __future__ import annotations

import pytest

from tests.real_model import smollm2 as wheel


@pytest.fixture(scope="session")
def smollm2() -> str:
    """Directory of the model, made on first use."""
    return wheel.smollm2()
