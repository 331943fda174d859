"""What --bf16 does to the KL of a policy that was trained: against float64 on the same samples, weights rounded or not.

    python benchmarks/bf16.py MODEL_DIRECTORY [--learning_rate 1e-5] [--targets 1 10]

A policy is trained to give full stops (Adam on its own samples) until its KL passes each target; then the KL of 32
completions of 16 tokens is taken in float64, in float64 of weights that were rounded to bfloat16 as its products read
them, and as a run takes it.
"""

from __future__ import annotations

import argparse
import copy
from typing import Any

import torch

from rlhf.foundation.encoding import encode_prompt
from rlhf.foundation.model_directory import load_causal_lm, load_tokenizer
from rlhf.language_model.endings import ending_of, never_sampled, pad_token
from rlhf.language_model.randomness import Stream, uniforms
from rlhf.language_model.sampler import generate
from rlhf.ppo.config import PPOConfig
from rlhf.ppo.forward import completion_logits
from rlhf.ppo.measuring import Measurer

COUNT, LENGTH = 32, 16


class Trial:
    """A policy, its original, and the samples that both are read on."""

    def __init__(self, name: str, learning_rate: float) -> None:
        self.model, self.original = load_causal_lm(name), load_causal_lm(name).requires_grad_(False)
        self.tokenizer = load_tokenizer(name)
        self.never = never_sampled(self.model, self.tokenizer, [])
        self.prompt = encode_prompt(self.tokenizer, "Good morning")
        self.stop = self.tokenizer(".", add_special_tokens=False).input_ids[-1]
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=learning_rate, eps=1e-5, weight_decay=0.0)

    def config(self, **changes: Any) -> PPOConfig:
        """A run's options."""
        return PPOConfig(output_dir="-", suppress_tokens=self.never, **changes)

    def sample(self) -> Any:
        """Completions of the policy, always of the same uniform numbers."""
        return generate(
            self.model,
            [self.prompt] * COUNT,
            uniforms(0, Stream.SAMPLE, range(COUNT), LENGTH),
            ending=ending_of(self.model, self.tokenizer, []),
            pad_token_id=pad_token(self.tokenizer),
            suppress_tokens=self.never,
        )

    def step(self) -> None:
        """One step of Adam towards full stops, on half of the samples."""
        done, half = self.sample(), slice(0, COUNT // 2)
        tensors = (done.prompt_ids[half], done.prompt_mask[half], done.completion_ids[half])
        logits = completion_logits(self.model, *tensors, self.config())
        loss = -logits.log_softmax(-1)[..., self.stop][done.completion_mask[half]].mean()
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()

    def kl(self, done: Any, policy: Any, original: Any, config: PPOConfig) -> float:
        """Nats a completion."""
        measure, sums = Measurer(policy, original, config), []
        for piece in measure.pieces(COUNT, done.prompt_ids.shape[1] + LENGTH, LENGTH, COUNT):
            own = slice(piece.start, piece.stop)
            tensors = (done.prompt_ids, done.prompt_mask, done.completion_ids, done.completion_mask)
            sums.append(measure(*(x[own] for x in tensors)).sums["kl"])
        return float(torch.cat(sums).mean())

    def report(self) -> None:
        """Print the KL as each way has it."""
        done, pair = self.sample(), (self.model, self.original)
        exact = self.kl(done, *(copy.deepcopy(m).double() for m in pair), self.config(dtype="float64"))
        rounded = self.kl(done, *(rounded_to_bf16(m).double() for m in pair), self.config(dtype="float64"))
        as_a_run = self.kl(done, *pair, self.config(bf16=True))
        for name, kl in (("float64", exact), ("float64, rounded weights", rounded), ("a run with --bf16", as_a_run)):
            off = f"{100 * (kl / exact - 1):+.4f} %" if exact else "exactly 0" if kl == 0 else "not 0"
            print(f"{name}: KL {kl:.6f} nats, {off}", flush=True)


def rounded_to_bf16(model: Any) -> Any:
    """A copy whose blocks' matrices are as autocast reads them."""
    found = copy.deepcopy(model)
    with torch.no_grad():
        for module in found.base_model.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.copy_(module.weight.bfloat16())
    return found


def main() -> None:
    """Train past each target and report there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--learning_rate", type=float, default=1e-5)
    parser.add_argument("--targets", type=float, nargs="+", default=[1.0, 10.0])
    given = parser.parse_args()
    trial = Trial(given.model, given.learning_rate)
    trial.report()
    for target in given.targets:
        while trial.kl(trial.sample(), trial.model, trial.original, trial.config()) < target:
            trial.step()
        trial.report()


if __name__ == "__main__":
    main()
