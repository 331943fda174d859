"""Batched sampling from a causal language model, with log-probabilities recorded as it samples.

Shapes: B completions, P prompt tokens (left-padded), T completion tokens (right-padded), V vocabulary.

How this differs from `model.generate`:
1. Inverse-CDF sampling from uniform numbers that the caller keys (randomness.py), so batch size, padding and process
   layout do not change what is sampled.
2. No top-k, no top-p: they would bias every KL estimate made from the samples.
3. The mask comes from generation (the first end token is kept), never from `ids == pad_token_id`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rlhf.foundation.causal_lm import cache_name, reads_left_padding, require_usable
from rlhf.foundation.conversation import prompt_from_text
from rlhf.foundation.encoding import encode_prompt
from rlhf.foundation.errors import InputError
from rlhf.foundation.progress import progress_bar
from rlhf.foundation.records import Sample, content_uid
from rlhf.foundation.roomy_cache import make_room
from rlhf.language_model.drawing import draw
from rlhf.language_model.endings import Ending, ending_of, never_sampled, pad_token
from rlhf.language_model.randomness import Stream, uniforms


class LogitsNotFinite(InputError):
    """A model whose next-token distribution is no distribution."""

    def __init__(self) -> None:
        super().__init__(
            "model",
            got="logits that are not finite numbers",
            expected="a distribution over the next token",
            fix="check its weights, and its dtype (float16 overflows)",
        )


class Completions(NamedTuple):
    """What was sampled. Masks are True on real tokens; `logprobs` (nats, temperature 1) are 0 where masked."""

    prompt_ids: Tensor  # (B, P)
    prompt_mask: Tensor  # (B, P) bool
    completion_ids: Tensor  # (B, T)
    completion_mask: Tensor  # (B, T) bool
    logprobs: Tensor  # (B, T)

    def texts(self, ending: Ending) -> list[str]:
        """The completions' texts, up to their ends."""
        pairs = ((self.prompt_ids, self.prompt_mask), (self.completion_ids, self.completion_mask))
        prompts, completions = ([i[m].tolist() for i, m in zip(*pair, strict=True)] for pair in pairs)
        return ending.texts(prompts, completions)


def pad_prompts(prompts: Sequence[Sequence[int]], pad_token_id: int) -> tuple[Tensor, Tensor]:
    """Left-pad to the longest prompt. Returns ids (B, P) and mask (B, P)."""
    width = max(map(len, prompts))
    ids = torch.tensor([[pad_token_id] * (width - len(p)) + list(p) for p in prompts])
    mask = torch.tensor([[False] * (width - len(p)) + [True] * len(p) for p in prompts])
    return ids, mask


def position_ids(mask: Tensor) -> Tensor:
    """Positions from a mask (B, S): the first real token is 0, whatever padding stands before it."""
    return (mask.long().cumsum(-1) - 1).clamp(min=0)


# Low enough that exp() is 0, finite so that 0 · logit is no NaN in a KL.
IMPOSSIBLE = -1e9


def suppress(logits: Tensor, tokens: Sequence[int]) -> Tensor:
    """Logits (..., V) with the given tokens made impossible; the same function serves sampling and scoring."""
    if not tokens:
        return logits
    return logits.index_fill(-1, torch.tensor(list(tokens), device=logits.device), IMPOSSIBLE)


@torch.no_grad()
def generate(
    model: Any,
    prompts: Sequence[Sequence[int]],
    uniform: NDArray[np.float64],
    *,
    ending: Ending,
    pad_token_id: int,
    temperature: float = 1.0,
    suppress_tokens: Sequence[int] = (),
    goes_on: Callable[[bool], bool] = bool,
) -> Completions:
    """Sample one completion a prompt, of at most T = uniform.shape[1] tokens.

    `goes_on` is asked after each token whether to read another one, given whether a completion here has not ended.

    `model` is a causal LM in eval mode; `uniform` (B, T) holds one number a token. The tensors come back on the CPU.
    A model without a cache reads the whole text again for every token; one that reads masked tokens takes prompts of
    one length at a time. Raises LogitsNotFinite (an InputError).
    """
    if len(set(map(len, prompts))) > 1 and not reads_left_padding(model):
        return _generate_by_length(
            model,
            prompts,
            uniform,
            ending=ending,
            pad_token_id=pad_token_id,
            temperature=temperature,
            suppress_tokens=suppress_tokens,
            goes_on=goes_on,
        )
    device = next(model.parameters()).device
    ids, mask = pad_prompts(prompts, pad_token_id)
    batch, length = uniform.shape
    attention = torch.cat([mask, torch.ones(batch, length, dtype=torch.bool)], 1).to(device)
    padded = not bool(mask.all())
    draws = torch.from_numpy(uniform).to(device)
    tokens = torch.full((batch, length), pad_token_id, device=device)
    logprobs = torch.zeros(batch, length, dtype=torch.float64 if model.dtype == torch.float64 else torch.float32)
    alive = torch.ones(batch, dtype=torch.bool, device=device)
    kept = torch.zeros(batch, length, dtype=torch.bool, device=device)
    step_ids, positions = ids.to(device), position_ids(mask).to(device)
    carried, cache = cache_name(model), None
    for t in range(length):
        seen = attention[:, : ids.shape[1] + t]
        output = model(
            input_ids=step_ids,
            # A state, unlike keys and values, has no places left to mask.
            attention_mask=seen if padded and (cache is None or carried == "past_key_values") else None,
            position_ids=positions,
            use_cache=carried is not None,
            logits_to_keep=1,
            **({carried: cache} if carried and cache is not None else {}),
        )
        cache = getattr(output, carried, None) if carried else None
        if t == 0:
            make_room(cache, ids.shape[1] + length)
        logits = suppress(output.logits[:, -1].to(logprobs.dtype), suppress_tokens)  # (B, V)
        drawn, at_one, sound = draw(logits, draws[:, t], temperature)
        if not bool((sound | ~alive).all()):
            raise LogitsNotFinite
        tokens[:, t], kept[:, t] = torch.where(alive, drawn, pad_token_id), alive
        logprobs[:, t] = torch.where(alive, at_one, 0.0).cpu()
        alive = alive & ~ending.after(tokens[:, : t + 1], prompts)
        if not goes_on(bool(alive.any())):
            break
        step_ids, positions = tokens[:, t : t + 1], positions[:, -1:] + 1
        if cache is None:  # a model without one reads everything again
            read = torch.cat([ids.to(device), tokens[:, : t + 1]], 1)
            step_ids, positions = read, position_ids(attention[:, : read.shape[1]])
    return Completions(ids, mask, tokens.cpu(), kept.cpu(), logprobs)


def _generate_by_length(
    model: Any,
    prompts: Sequence[Sequence[int]],
    uniform: NDArray[np.float64],
    *,
    pad_token_id: int,
    **options: Any,
) -> Completions:
    """`generate` for each length of prompt apart, so that nothing is padded, and put together in the given order."""
    lengths = sorted(set(map(len, prompts)))
    groups = [[i for i, prompt in enumerate(prompts) if len(prompt) == length] for length in lengths]
    parts = [
        generate(
            model,
            [prompts[i] for i in group],
            uniform[group],
            pad_token_id=pad_token_id,
            **options,
        )
        for group in groups
    ]
    order = torch.tensor([i for group in groups for i in group]).argsort()
    completions = (torch.cat(tensors)[order] for tensors in zip(*(part[2:] for part in parts), strict=True))
    return Completions(*pad_prompts(prompts, pad_token_id), *completions)


def chunks(count: int, size: int) -> Iterator[range]:
    """Index ranges of at most `size`, aligned to multiples of it, that cover range(count)."""
    return (range(start, min(start + size, count)) for start in range(0, count, size))


def sample_texts(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    seed: int,
    source: str,
    stream: Stream = Stream.SAMPLE,
    temperature: float = 1.0,
    batch_size: int = 256,
    stop_strings: Sequence[str] = (),
    quiet: bool = True,
) -> list[Sample]:
    """One sample a prompt (repeat a prompt for several), decoded, with its log-probability in nats.

    A conversation is given as JSON, as files hold it (chat.py).

    Completion i depends on (seed, stream, i) and its prompt alone, its uid on (source's last name, seed, i) and the
    text: the same command gives the same uids, and so the same choices and simulated answers later on. Raises
    InputError when the model is unusable (causal_lm.py), or prompt and completion together exceed the model's context.
    """
    require_usable(model, tokenizer, source)
    encoded = {prompt: encode_prompt(tokenizer, prompt_from_text(prompt)) for prompt in dict.fromkeys(prompts)}
    check_context(model, max(map(len, encoded.values()), default=1), max_new_tokens)
    ending, left_out = ending_of(model, tokenizer, stop_strings), never_sampled(model, tokenizer)
    samples: list[Sample] = []
    with progress_bar("sampling", "sample", total=len(prompts), quiet=quiet) as bar:
        for chunk in chunks(len(prompts), batch_size):
            texts = [prompts[i] for i in chunk]
            done = generate(
                model,
                [encoded[text] for text in texts],
                uniforms(seed, stream, chunk, max_new_tokens),
                ending=ending,
                pad_token_id=pad_token(tokenizer),
                temperature=temperature,
                suppress_tokens=left_out,
            )
            completions = done.texts(ending)
            totals = done.logprobs.sum(-1).tolist()
            samples += [
                Sample(
                    content_uid(Path(source).name, str(seed), str(index), prompt, completion),
                    prompt,
                    completion,
                    source,
                    logprob=logprob,
                    seed=seed,
                )
                for index, prompt, completion, logprob in zip(chunk, texts, completions, totals, strict=True)
            ]
            bar.update(len(chunk))
    return samples


def check_context(model: Any, prompt_tokens: int, max_new_tokens: int) -> None:
    """Raise InputError when prompt and completion do not fit the model's positions."""
    limit = getattr(model.config, "max_position_embeddings", None)
    if limit is not None and prompt_tokens + max_new_tokens > limit:
        raise InputError(
            "prompt and completion",
            got=f"{prompt_tokens} + {max_new_tokens} tokens",
            expected=f"at most {limit}, the model's context",
            fix="shorten the prompts or the completions",
        )
