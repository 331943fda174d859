"""What a causal language model must be, tried on a few tokens rather than guessed from its class.

Shapes: B texts, S tokens, V vocabulary. Log-probs are in nats.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from rlhf.foundation.errors import InputError
from rlhf.foundation.fused_gelu import fuse_gelu

PROBE_LENGTH = 8
PROBE_PADS = 3
# Share of the next-token probability that may lie on ids without a token (models pad their vocabulary with such rows).
MAX_WITHOUT_TOKEN = 0.01
# Refusing a model for a rounding error would be worse than letting one pass: so many times the tolerance.
REFUSE_BEYOND = 10
# What transformers' models carry from one token to the next, by the name of argument and output.
CACHES = ("past_key_values", "cache_params", "state")

_reads_left_padding: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()
_carries: WeakKeyDictionary[nn.Module, str | None] = WeakKeyDictionary()


def language_model_in(model: Any) -> Any:
    """The transformers model inside a wrapper (an adapter, DDP, a critic); the model itself where there is none."""
    return next((module for module in model.modules() if isinstance(module, PreTrainedModel)), model)


def shape_of(parameter: Tensor) -> torch.Size:
    """The shape of the whole of it: what DeepSpeed's ZeRO-3 leaves in a parameter's place is empty, and tells it."""
    shape: torch.Size = getattr(parameter, "ds_shape", parameter.shape)
    return shape


def vocabulary_rows(model: Any) -> int:
    """How many ids the model can read: rows of its input embedding."""
    return shape_of(language_model_in(model).get_input_embeddings().weight)[0]


def width(model: Any) -> int:
    """The hidden width as the config calls it; of a class of one's own, whose config may not, that of its embedding."""
    inner = language_model_in(model)
    return int(getattr(inner.config, "hidden_size", None) or shape_of(inner.get_input_embeddings().weight)[1])


def layer_count(model: Any) -> int:
    """How many blocks the config says the model has; 1 of a class of one's own whose config does not say."""
    return int(getattr(language_model_in(model).config, "num_hidden_layers", None) or 1)


def probe_ids(model: Any, tokens: int | None = None) -> Tensor:
    """(1, S) different ids spread over the first `tokens` of the vocabulary (all of it if None), for trying a model.

    They differ because at equal tokens attention is a mean of equal values, whatever its queries and keys are.
    """
    limit = getattr(language_model_in(model).config, "max_position_embeddings", None) or PROBE_LENGTH
    rows = tokens or vocabulary_rows(model)
    device = next(model.parameters()).device
    return torch.linspace(0, rows - 1, min(PROBE_LENGTH, limit, rows), device=device).long()[None]


@torch.no_grad()
def next_token_logprobs(model: Any, ids: Tensor, **inputs: Any) -> Tensor:
    """log π(·|prefix) at every place of `ids` (B, S), without dropout and autocast: (B, S, V), at least float32."""
    inner = language_model_in(model)
    training = inner.training
    if training:
        inner.eval()
    try:
        with torch.autocast(ids.device.type, enabled=False):
            logits: Tensor = model(input_ids=ids, use_cache=False, **inputs).logits
    finally:
        if training:
            inner.train()
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)


def tolerance(model: Any) -> float:
    """The relative error that rounding may cause in a forward pass: the root of the parameters' epsilon."""
    return math.sqrt(torch.finfo(next(model.parameters()).dtype).eps)


def reads_left_padding(model: Any) -> bool:
    """Whether log-probs of a text are the same with masked tokens before it; measured once a model, on its probe.

    A recurrent model may read its masked tokens all the same, and a model of one's own may have no mask. What counts
    is how far masked tokens move the log-probs, compared with the same tokens unmasked.
    """
    inner = language_model_in(model)
    if not isinstance(inner, PreTrainedModel):
        return True
    if inner not in _reads_left_padding:
        _reads_left_padding[inner] = _measure_left_padding(inner)
    return _reads_left_padding[inner]


def _measure_left_padding(model: PreTrainedModel) -> bool:
    whole = _two_rows(model)
    pads = min(PROBE_PADS, whole.shape[1] - 1)
    mask = torch.ones_like(whole, dtype=torch.bool)
    mask[:, :pads] = False
    positions = (mask.long().cumsum(-1) - 1).clamp(min=0)
    alone = next_token_logprobs(model, whole[:, pads:])
    masked = next_token_logprobs(model, whole, attention_mask=mask, position_ids=positions)[:, pads:]
    unmasked = next_token_logprobs(model, whole)[:, pads:]
    return bool((masked - alone).abs().max() <= tolerance(model) * (unmasked - alone).abs().max())


def _two_rows(model: Any) -> Tensor:
    """(2, S): the probe forwards and backwards, so that a row that reads its neighbour shows."""
    ids = probe_ids(model)
    return torch.cat([ids, ids.flip(1)])


def cache_name(model: Any) -> str | None:
    """What the model carries from token to token (one of CACHES); None where it has to read everything again.

    Tried once a model, on its probe: a model of one's own may take a cache and return none, and RWKV's state (in
    transformers 5.23) mixes the rows of a batch.
    """
    inner = language_model_in(model)
    if inner not in _carries:
        parameters = inspect.signature(inner.forward).parameters
        name = next((name for name in CACHES if name in parameters), None)
        _carries[inner] = name if name and _carries_all(inner, name) else None
    return _carries[inner]


@torch.no_grad()
def _carries_all(model: Any, name: str) -> bool:
    """Whether single tokens after a cached prefix have the log-probs that they have in the whole text.

    How far they are off is compared with how far they would be without the prefix.
    """
    ids = _two_rows(model)
    half = max(1, ids.shape[1] // 2)
    whole = next_token_logprobs(model, ids)[:, half:]
    alone = next_token_logprobs(model, ids[:, half:])
    with torch.autocast(ids.device.type, enabled=False):
        cache = getattr(model(input_ids=ids[:, :half], use_cache=True), name, None)
        steps = []
        for place in range(half, ids.shape[1]):
            if cache is None:
                return False
            position = torch.full((2, 1), place, device=ids.device)
            step = {"input_ids": ids[:, place : place + 1], "position_ids": position, "use_cache": True, name: cache}
            output = model(**step)
            cache = getattr(output, name, None)
            steps.append(output.logits[:, -1:])
    carried = torch.cat(steps, 1).to(whole.dtype).log_softmax(-1)
    return bool((carried - whole).abs().max() <= tolerance(model) * (alone - whole).abs().max())


def settle(model: Any) -> None:
    """Take back, in place, what a config asks for and what sampling and scoring cannot have; fuse what may be fused.

    RWKV in eval mode scales its weights in place at its first forward (for fp16), and would once more after saving and
    loading. A mixture of experts that is asked for its router's logits computes a loss of them that nobody reads, and
    that fails on a cached step.
    """
    fuse_gelu(model)
    inner = language_model_in(model)
    if getattr(inner.config, "output_router_logits", False):
        inner.config.output_router_logits = False
    if inner.config.model_type == "rwkv":
        trunk = inner.base_model
        if trunk.layers_are_rescaled:
            trunk.train()
            trunk._rescale_layers()
            trunk.eval()
        inner.config.rescale_every = 0


def require_embeddings(rows: int, tokenizer: Any, ids: Iterable[int | None], name: str) -> None:
    """Raise InputError when one of `ids` lies beyond the model's `rows` embeddings; None is no id."""
    for number in ids:
        if number is not None and number >= rows:
            raise InputError(
                f"tokenizer for {name}",
                got=f"{tokenizer.convert_ids_to_tokens(number)!r} as id {number:,} of {rows:,} embeddings",
                expected="an embedding for every token that is used",
                fix="give the model's own tokenizer, or `model.resize_token_embeddings` and train the new rows",
            )


def require_usable(model: Any, tokenizer: Any, name: str) -> None:
    """Raise InputError when sampling and scoring with `model` and `tokenizer` could not be right; `name` is for it.

    Tried on a few tokens: an embedding for every token, finite logits, no look ahead, a token for (nearly) every id
    that the model would give, and a forward with the arguments that are passed to it.
    """
    rows, vocabulary = vocabulary_rows(model), tokenizer.get_vocab()
    # Tokens that were added later, and that nothing uses, may lack an embedding: some tokenizer classes add such.
    added = tokenizer.get_added_vocab()
    highest = max((number for token, number in vocabulary.items() if token not in added), default=0)
    used = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    require_embeddings(rows, tokenizer, (highest, *used), name)
    known = torch.tensor(sorted(set(vocabulary.values())))
    ids = probe_ids(model, min(rows, int(known[-1]) + 1))
    try:
        positions = torch.arange(ids.shape[1], device=ids.device)[None]
        logprobs = next_token_logprobs(model, ids, attention_mask=None, position_ids=positions, logits_to_keep=0)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise InputError(
            f"model {name}",
            got=str(error),
            expected="a forward as transformers' causal models have it",
            fix="let it take **unused as well (docs/own_model.md)",
        ) from error
    _require_finite(logprobs, name)
    _require_causal(model, ids, logprobs, name)
    _require_tokens(logprobs.exp().mean((0, 1)).cpu(), known, name)


def _require_finite(logprobs: Tensor, name: str) -> None:
    if bool(logprobs.isnan().any()):
        raise InputError(
            f"model {name}",
            got="logits that are no numbers (NaN)",
            expected="finite logits",
            fix="check how it was trained; a model that was made in bf16 or fp16 may overflow in another type",
        )


def _require_causal(model: Any, ids: Tensor, logprobs: Tensor, name: str) -> None:
    """logprobs (1, S, V) are those of all of `ids`; the first half's own must be among them.

    How far they are off is compared with how much probabilities differ from place to place.
    """
    half = max(1, ids.shape[1] // 2)
    moved = (next_token_logprobs(model, ids[:, :half]) - logprobs[:, :half]).exp().sub(1).abs().max()
    varied = (logprobs - logprobs[:, :1]).exp().sub(1).abs().max()
    if bool(moved > REFUSE_BEYOND * tolerance(model) * varied):
        raise InputError(
            f"model {name}",
            got="predictions of a token that change with the text after it",
            expected="a causal language model, which sees only what stands before",
            fix="choose a decoder; an encoder such as BERT needs `is_decoder` in its config and training as one",
        )


def _require_tokens(probability: Tensor, known: Tensor, name: str) -> None:
    """probability (V,) is the mean over the probe's places; `known` are the ids of tokens."""
    without = 1.0 - float(probability[known[known < len(probability)]].sum())
    if without > MAX_WITHOUT_TOKEN:
        raise InputError(
            f"tokenizer for {name}",
            got=f"{len(known):,} tokens for a model of {len(probability):,}, which gives {without:.0%} to the others",
            expected="a token for every id that the model gives",
            fix="give the model's own tokenizer",
        )


def require_finite(models: Iterable[nn.Module], *, learning_rate: float | None, weight_decay: float) -> None:
    """Raise InputError when training left weights that are no numbers."""
    if all(bool(p.isfinite().all()) for model in models for p in model.parameters()):
        return
    rate = "" if learning_rate is None else f" (now {learning_rate:g})"
    raise InputError(
        "training",
        got="weights that are not finite numbers at its end",
        expected="finite ones",
        fix=f"lower --learning_rate{rate} or --weight_decay (now {weight_decay:g})",
    )
