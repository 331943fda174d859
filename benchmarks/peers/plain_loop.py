"""The shortest honest loop: sample with a cache, score with policy and original, clipped steps. No toolkit.

Its KL penalty is the sampled log-ratio (k1), the least that a loop with an original can do.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer
from work import LEARNING_RATE, PROMPT, Meter, characters, from_command_line, train_only

CLIP, BETA = 0.2, 0.04


@torch.no_grad()
def sample(model: torch.nn.Module, prompt: torch.Tensor, tokens: int) -> torch.Tensor:
    """(completions, prompt + tokens) ids."""
    ids, new, cache = prompt, prompt, None
    for _ in range(tokens):
        out = model(input_ids=new, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache = out.past_key_values
        new = torch.multinomial(out.logits[:, -1].softmax(-1), 1)
        ids = torch.cat([ids, new], 1)
    return ids


def logprobs(model: torch.nn.Module, ids: torch.Tensor, tokens: int) -> torch.Tensor:
    """(rows, tokens) log-probabilities of the last `tokens` ids."""
    logits = model(input_ids=ids[:, :-1], use_cache=False, logits_to_keep=tokens).logits
    return -cross_entropy(logits.transpose(1, 2), ids[:, -tokens:], reduction="none")


def main() -> None:
    """Run the iterations."""
    torch.set_num_threads(1)
    work = from_command_line()
    tokenizer = AutoTokenizer.from_pretrained(work.model)
    policy, original = (AutoModelForCausalLM.from_pretrained(work.model, dtype=torch.float32).eval() for _ in "po")
    train_only(policy, work.train_scope)
    optimizer = torch.optim.AdamW([p for p in policy.parameters() if p.requires_grad], lr=LEARNING_RATE, fused=True)
    prompt = torch.tensor([tokenizer(PROMPT).input_ids] * work.completions)
    meter = Meter()
    for _ in range(work.iterations):
        ids = torch.cat([sample(policy, part, work.tokens) for part in prompt.split(256)])
        parts = ids.split(64)
        with torch.no_grad():
            before = torch.cat([logprobs(policy, part, work.tokens) for part in parts])
            kl = before - torch.cat([logprobs(original, part, work.tokens) for part in parts])
        rewards = torch.tensor(characters(tokenizer.batch_decode(ids[:, -work.tokens :]))) - BETA * kl.sum(1)
        advantages = (rewards - rewards.mean()) / (rewards.std() + 1e-6)
        for step in range(work.steps):
            optimizer.zero_grad()
            for rows in torch.arange(step * work.batch, (step + 1) * work.batch).split(64):
                ratio = (logprobs(policy, ids[rows], work.tokens) - before[rows]).exp()
                gain = advantages[rows, None]
                loss = -torch.minimum(ratio * gain, ratio.clamp(1 - CLIP, 1 + CLIP) * gain).sum()
                (loss / (work.batch * work.tokens)).backward()
            optimizer.step()
        meter.lap()


if __name__ == "__main__":
    main()
