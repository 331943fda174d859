"""Held-out text under the original and under the policy: what finetuning forgot, in nats per token."""

from __future__ import annotations

from typing import Any

import torch

from rlhf.foundation.encoding import beginning_token
from rlhf.foundation.errors import InputError
from rlhf.inspection.estimates import Estimate, mean_estimate

BLOCKS = 64


@torch.no_grad()
def heldout_loss(model: Any, tokenizer: Any, text: str, *, length: int = 64) -> Estimate:
    """Mean loss in nats per token over up to 64 blocks of `length` tokens, evenly spread; its error is over blocks.

    Each block starts with the beginning token. Raises InputError when the text is shorter than one block.
    """
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    limit = getattr(model.config, "max_position_embeddings", None) or length + 1
    length = min(length, limit - 1)
    count = len(ids) // length
    if not count:
        raise InputError(
            "--heldout", got=f"{len(ids)} tokens", expected=f"at least {length}", fix="give a longer held-out text"
        )
    chosen = range(0, count, max(1, count // BLOCKS))[:BLOCKS]
    rows = [[beginning_token(tokenizer), *ids[i * length : (i + 1) * length]] for i in chosen]
    device = next(model.parameters()).device
    blocks = torch.tensor(rows, device=device)  # (blocks, 1 + length)
    losses: list[float] = []
    for block in (blocks[i : i + 16] for i in range(0, len(blocks), 16)):
        logits = model(input_ids=block).logits[:, :-1].float()
        logprobs = logits.log_softmax(-1).gather(-1, block[:, 1:, None]).squeeze(-1)
        losses += (-logprobs.mean(-1)).tolist()
    estimate = mean_estimate(losses)
    assert estimate is not None  # there is at least one block
    return estimate
