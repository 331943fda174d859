"""Tests with DeepSpeed on this machine's CPU: `make test-deepspeed`, in an environment of its own.

Without RLHF_DEEPSPEED=1 nothing here is collected.
"""

from __future__ import annotations

import os

from tests.rlhf.ppo.conftest import model, model_directory, tokenizer

__all__ = ["model", "model_directory", "tokenizer"]

collect_ignore_glob = [] if os.environ.get("RLHF_DEEPSPEED") == "1" else ["test_*.py"]
