"""Engines that stand in for vLLM: a model that samples in the policy's place, with a fault that is planted."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch

from rlhf.ppo.evidence import POLICY
from rlhf.ppo.samplers import Context, Sampler
from rlhf.ppo.who_samples import Draw

END = 0


class StandIn:
    """Samples from a copy of `policy` with `settings`, and tells the log-probs of what it sampled from."""

    even, own_seed = False, 0

    def __init__(
        self, policy: Any, length: int, settings: Sampler = POLICY, *, syncs: bool = True, bf16: bool = False,
        raw: bool = False,
    ) -> None:  # fmt: skip
        """Without `syncs` it keeps its first weights; `raw` log-probs are those before the settings."""
        self.policy, self.length, self.settings, self.raw = policy, length, settings, raw
        self.dtype = torch.bfloat16 if bf16 else torch.float32
        self.own, self.syncs = copy.deepcopy(policy).to(self.dtype), syncs
        self.renewed, self.asked = 0, list[tuple[int, int]]()

    def renew(self) -> None:
        self.renewed += 1
        if self.syncs:
            self.own.load_state_dict(self.policy.state_dict())

    @torch.no_grad()
    def draw(self, prompts: Sequence[list[int]], seed: int) -> list[Draw]:
        self.asked.append((len(prompts), seed))
        dice = torch.Generator().manual_seed(seed)
        width = len(prompts[0])
        assert {len(prompt) for prompt in prompts} == {width}, "prompts of one length"
        ids = torch.tensor(prompts)
        nats = torch.zeros(len(ids), 0)
        for place in range(self.length):
            logits = self.own(input_ids=ids).logits[:, -1].float()
            every = torch.full((len(ids),), place)
            context = Context(ids, torch.zeros_like(every), every + width, every, self.length, (END,))
            logq = self.settings.logprobs(logits, context)
            chosen = torch.multinomial(logq.exp(), 1, generator=dice)
            told = logits.log_softmax(-1) if self.raw else logq
            ids, nats = torch.cat([ids, chosen], 1), torch.cat([nats, told.gather(1, chosen)], 1)
        return [
            Draw(
                *self._to_end(row, of),
            )
            for row, of in zip(ids[:, width:].tolist(), nats.tolist(), strict=True)
        ]

    def _to_end(self, ids: list[int], nats: list[float]) -> tuple[list[int], list[float]]:
        stop = ids.index(END) + 1 if END in ids else self.length
        return ids[:stop], nats[:stop]
