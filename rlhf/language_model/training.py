"""A small causal language model from scratch: plain next-token training on packed documents.

What differs from a usual small recipe:
1. Steps are fixed, not epochs or seconds: the same configuration makes the same model on a slow machine.
2. Small batches and a large learning rate: at a fixed number of tokens they learned most here (docs/log.md).
3. No dropout: PPO needs the policy that scores to be the policy that sampled.

Shapes: B blocks in a batch, S block_size, V vocabulary.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from rlhf.foundation.causal_lm import require_finite
from rlhf.foundation.errors import InputError
from rlhf.foundation.progress import progress_bar
from rlhf.language_model.corpus import IGNORED, Blocks, Split, attention_mask, encode_documents, hold_out, pack
from rlhf.language_model.pretrain_config import PretrainConfig
from rlhf.language_model.tokenizer import train_tokenizer

MAX_GRAD_NORM = 1.0
ADAM_BETAS = (0.9, 0.98)
WARMUP_SHARE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainFigures:
    """What the training came to. Losses are over held-out documents, each with its end token."""

    held_out_loss: float  # nats per token
    held_out_loss_se: float | None  # its standard error over documents; None for a single one
    held_out_documents: int
    bits_per_character: float  # the end token counts as one character
    train_tokens: int  # labels seen, repeats included
    epochs: float
    tokens_per_second: float
    seconds: float
    parameters: int
    vocabulary: int

    def as_json(self) -> dict[str, float | int]:
        """The figures as a JSON object."""
        return asdict(self)


class Trained(NamedTuple):
    """A trained model in eval mode on the CPU, its tokenizer, its figures."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    figures: PretrainFigures


def build_language_model(config: PretrainConfig, documents: Sequence[str]) -> Trained:
    """Train a tokenizer and a model on `documents`. Raises InputError when they do not fill a block."""
    split = hold_out(documents, config.held_out_fraction, config.seed)
    tokenizer = train_tokenizer(split.train, config.vocab_size)
    end = int(tokenizer.eos_token_id)
    blocks = pack(encode_documents(tokenizer, split.train), config.block_size, end, config.seed)
    _require_a_block(blocks, config)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        model = new_model(config, tokenizer)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    started = time.perf_counter()
    model.to(device)  # type: ignore[arg-type]
    seen = train(model, blocks, config)
    require_finite([model], learning_rate=config.learning_rate, weight_decay=config.weight_decay)
    seconds = time.perf_counter() - started
    model.train(False)
    loss = held_out_loss(model, tokenizer, split, config)
    figures = PretrainFigures(
        **loss,
        held_out_documents=len(split.held_out),
        train_tokens=seen,
        epochs=seen / int((blocks.labels != IGNORED).sum()),
        tokens_per_second=seen / seconds,
        seconds=seconds,
        parameters=model.num_parameters(),
        vocabulary=len(tokenizer),
    )
    return Trained(model.cpu(), tokenizer, figures)


def new_model(config: PretrainConfig, tokenizer: Any) -> PreTrainedModel:
    """A Llama-style model with random weights, tied embeddings and no dropout."""
    end = int(tokenizer.eos_token_id)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.hidden_size,
            intermediate_size=8 * config.hidden_size // 3,
            num_hidden_layers=config.num_hidden_layers,
            num_attention_heads=config.num_attention_heads,
            max_position_embeddings=config.block_size,
            tie_word_embeddings=True,
            attention_dropout=0.0,
            bos_token_id=end,
            eos_token_id=end,
            pad_token_id=end,
        )
    )


def train(model: PreTrainedModel, blocks: Blocks, config: PretrainConfig) -> int:
    """Take `max_steps` AdamW steps with a linear schedule; returns the number of labels seen."""
    model.train()
    optimizer = _optimizer(model, config)
    batches = _batches(len(blocks.labels), config)
    seen = 0
    started = time.perf_counter()
    with progress_bar("pretrain", "step", total=config.max_steps, quiet=config.quiet) as bar:
        for step in range(config.max_steps):
            rows = next(batches)
            loss, tokens = next_token_loss(model, *(part[rows] for part in blocks))
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * schedule(step, config.max_steps)
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss.sum() / tokens)
            torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM)
            optimizer.step()
            seen += tokens
            if not config.quiet:
                rate = seen / (time.perf_counter() - started)
                bar.set_postfix_str(f"loss {loss.sum().item() / tokens:.2f} nats/token, {rate:,.0f} tokens/s", False)
                bar.update()
    return seen


def next_token_loss(model: PreTrainedModel, input_ids: Tensor, labels: Tensor, document: Tensor) -> tuple[Tensor, int]:
    """Cross-entropy of each label in nats, (B, S), 0 where ignored, and the number of labels."""
    device = model.device
    mask = attention_mask(document.to(device))
    logits = model(input_ids=input_ids.to(device), attention_mask=mask, use_cache=False).logits  # (B, S, V)
    flat = labels.to(device).flatten()  # over a middle dimension a step takes 6 % longer
    loss = F.cross_entropy(logits.flatten(0, 1), flat, ignore_index=IGNORED, reduction="none")
    return loss.view_as(labels), int((labels != IGNORED).sum())


def schedule(step: int, max_steps: int) -> float:
    """The learning rate's share of its peak: linear up over `WARMUP_SHARE` of the steps, then linear to zero."""
    warmup = max(1, round(WARMUP_SHARE * max_steps))
    if step < warmup:
        return (step + 1) / warmup
    return (max_steps - step) / (max_steps - warmup)


@torch.no_grad()
def held_out_loss(model: PreTrainedModel, tokenizer: Any, split: Split, config: PretrainConfig) -> dict[str, Any]:
    """Held-out loss per token with its standard error, and bits per character.

    m = Σ_d L_d / Σ_d n_d over documents d with nats L_d and tokens n_d; the error is that of a ratio,
    √(D/(D-1) Σ_d (L_d - m n_d)²) / Σ_d n_d (Cochran 1977, Sampling Techniques, eq. 6.13).
    """
    documents = encode_documents(tokenizer, split.held_out)
    blocks = pack(documents, config.block_size, int(tokenizer.eos_token_id), config.seed)
    nats = torch.zeros(len(documents), dtype=torch.float64)
    tokens = torch.zeros(len(documents), dtype=torch.float64)
    for start in range(0, len(blocks.labels), 64):
        part = Blocks(*(tensor[start : start + 64] for tensor in blocks))
        loss, _ = next_token_loss(model, *part)
        real = part.labels != IGNORED
        nats.index_add_(0, part.document[real], loss.cpu()[real].double())
        tokens.index_add_(0, part.document[real], torch.ones(int(real.sum()), dtype=torch.float64))
    mean = nats.sum() / tokens.sum()
    count = len(documents)
    spread = ((nats - mean * tokens).square().sum() * count / (count - 1)).sqrt() if count > 1 else None
    characters = sum(len(document) + 1 for document in split.held_out)
    return {
        "held_out_loss": mean.item(),
        "held_out_loss_se": None if spread is None else (spread / tokens.sum()).item(),
        "bits_per_character": nats.sum().item() / math.log(2) / characters,
    }


def _optimizer(model: PreTrainedModel, config: PretrainConfig) -> torch.optim.AdamW:
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=ADAM_BETAS, fused=True)


def _batches(count: int, config: PretrainConfig) -> Iterator[Tensor]:
    """Rows of blocks without end, reshuffled each epoch; the remainder of an epoch waits for another shuffle."""
    size = min(config.per_device_train_batch_size, count)
    generator = torch.Generator().manual_seed(config.seed)
    while True:
        order = torch.randperm(count, generator=generator)
        yield from torch.split(order[: count - count % size], size)


def _require_a_block(blocks: Blocks, config: PretrainConfig) -> None:
    tokens = int((blocks.labels != IGNORED).sum())
    if tokens < config.block_size:
        raise InputError(
            "corpus",
            got=f"{tokens} tokens to train on",
            expected=f"at least one block of {config.block_size}",
            fix="give more text or a smaller --block_size",
        )
