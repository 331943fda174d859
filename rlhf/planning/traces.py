"""What each phase of our loop makes beside what stands: its own code, run on tensors without data under a meter.

Shapes: B completions at once, P prompt tokens, T completion tokens, H hidden, V vocabulary. All figures are bytes.

How this differs from the loop: every completion is as long as it may be; trunk and head are called one by one as
forward.py and chosen.py do, since masks and probes need data.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rlhf.foundation.causal_lm import language_model_in, layer_count, vocabulary_rows, width
from rlhf.foundation.frozen_trunk import FrozenTrunk, blocks_of
from rlhf.foundation.roomy_cache import make_room
from rlhf.language_model.drawing import draw
from rlhf.planning.config import PlanConfig
from rlhf.planning.meter import Meter
from rlhf.planning.weightless import Weightless, without_data
from rlhf.ppo.chosen import ACTIVATIONS_TIMES, KEPT_TIMES, head_logprobs
from rlhf.ppo.forward import rows_per_chunk, rows_per_trunk, tokens_per_tile
from rlhf.ppo.objective import exact_kl, gathered, selected_logprobs
from rlhf.ppo.precision import full, head_logits, is_half, shared_rows, trunk_precision
from rlhf.ppo.recomputing import recomputed, required_blocks, trunk_of

CPU = torch.device("cpu")  # sizes are the same on every device; --logits_memory_mb holds what depends on it


class Pieces(NamedTuple):
    """Completions that are read at once."""

    sampling: int
    scoring: int
    update: int
    of_a_step: int  # that a process adds up before it takes a step


class Trace(NamedTuple):
    """Of one phase: the most it held, and what of that is named."""

    peak: int
    named: dict[str, int]


class Tracer:
    """Runs the phases of a run on models without weights."""

    def __init__(self, models: Weightless, config: PlanConfig, *, apart: bool) -> None:
        """`apart` says that the head is called by itself, a tile of tokens at a time."""
        self.models, self.config, self.apart = models, config, apart
        self.model: Any = language_model_in(models.model)
        self.length, self.places = config.max_completion_length, config.prompt_tokens + config.max_completion_length
        self.pieces = self._pieces()

    def _pieces(self) -> Pieces:
        config, layers = self.config, 1 if self.config.train_scope == "last_layer" else layer_count(self.model)
        own, vocabulary = config.minibatch_size // config.num_processes, vocabulary_rows(self.model)
        if self.apart:
            update = rows_per_trunk(self.places, layers * width(self.model), config, CPU, times=ACTIVATIONS_TIMES)
            scoring = rows_per_trunk(self.places, width(self.model), config, CPU)
        else:
            update = rows_per_chunk(self.length, vocabulary, config, CPU, times=KEPT_TIMES)
            scoring = rows_per_chunk(self.length, vocabulary, config, CPU)
        update = min(update, config.per_device_train_batch_size, own)
        sampling = min(config.per_device_generation_batch_size, config.iteration_batch_size)
        if is_half(config):
            scoring = update = shared_rows(update, own, config.per_device_generation_batch_size)
        return Pieces(sampling, min(scoring, sampling), update, own)

    # -- phases --------------------------------------------------------------------------------------------------------

    def sampling(self) -> Trace:
        """The prompt, room for keys and values, and the last token of it."""
        rows, meter = self.pieces.sampling, self._meter()
        with without_data(self.models.mode), torch.no_grad(), meter, trunk_precision(self.config, CPU):
            output = self.model(**self._inputs(rows, self.config.prompt_tokens), use_cache=True, logits_to_keep=1)
            cache = getattr(output, "past_key_values", None)
            make_room(cache, self.places)
            held = meter.now
            for layer in getattr(cache, "layers", ()):
                layer.length = max(0, self.places - 1)
            output = self.model(**self._inputs(rows, 1), past_key_values=cache, use_cache=True, logits_to_keep=1)
            draw(full(output.logits[:, -1]), torch.zeros(rows, dtype=torch.float64), self.config.temperature)
        return Trace(meter.peak, {"KV cache": self._cache_bytes(cache), "logits": max(0, meter.peak - held)})

    def scoring(self) -> Trace:
        """Both models' pass over a piece, and a tile of their distributions (measuring.py)."""
        rows, meter, tile = self.pieces.scoring, self._meter(), tokens_per_tile(self._vocabulary, self.config, CPU)
        with without_data(self.models.mode), torch.no_grad(), meter:
            readings = [self._read(model, rows) for model in (self.model, self._reference)]
            held, alone = meter.now, meter.peak
            if self.models.critic is not None:
                self._states(self.models.critic, rows)
            for _ in range(2):  # the second tile is made while the first still lies there
                logits = [self._tile(own[:tile]) for own in readings]
                logp, logq = (x.log_softmax(-1) for x in logits)
                gathered(logp, torch.zeros(len(logp), dtype=torch.long))
                exact_kl(logp, logq)
        return Trace(meter.peak, {"activations": alone, "logits": max(0, meter.peak - held)})

    def update(self) -> Trace:
        """One piece forward and backward, beside the gradients of the pieces before it."""
        rows, trained = self.pieces.update, [p for p in self._learnt() if p.requires_grad]
        several = self.pieces.of_a_step > rows
        with without_data(self.models.mode):
            for parameter in trained:
                parameter.grad = torch.empty_like(parameter) if several else None
            meter = self._meter()
            meter.overlook(p.grad for p in trained if p.grad is not None)
            with meter:
                with self._passing(rows), recomputed(self._blocks()):
                    logprobs, values = self._chosen(rows)
                    held = meter.now
                    loss = logprobs.exp().sum() + (values.sum() if values is not None else 0.0)
                loss.backward()  # type: ignore[no-untyped-call]
            gradients = sum(p.numel() * p.element_size() for p in trained)
            for parameter in trained:
                parameter.grad = None
        own = meter.peak + gradients * several
        return Trace(own, {"gradients": gradients, "activations": held})

    # -- their parts ---------------------------------------------------------------------------------------------------

    @property
    def _vocabulary(self) -> int:
        return vocabulary_rows(self.model)

    @property
    def _reference(self) -> Any:
        return self.models.reference if self.models.reference is not None else self.model

    def _learnt(self) -> list[Any]:
        critic = self.models.critic
        return [*self.models.model.parameters(), *(critic.parameters() if critic is not None else ())]

    def _blocks(self) -> list[Any]:
        if not self.config.gradient_checkpointing:
            return []
        trunks = [trunk_of(self.models.model), self.models.critic]
        return [b for trunk in trunks if trunk is not None for b in required_blocks(trunk, "--gradient_checkpointing")]

    def _meter(self) -> Meter:
        meter = Meter()
        others = self.models.reference.parameters() if self.models.reference is not None else ()
        meter.overlook([*self._learnt(), *others, *self.models.model.buffers()])
        return meter

    def _inputs(self, rows: int, tokens: int) -> dict[str, Any]:
        places = torch.arange(tokens)[None].expand(rows, tokens)
        return {
            "input_ids": torch.zeros(rows, tokens, dtype=torch.long),
            "attention_mask": None,
            "position_ids": places,
        }

    def _states(self, trunk: Any, rows: int) -> Tensor:
        """What a head reads to predict each completion token, (B, T, H)."""
        with trunk_precision(self.config, CPU):
            states: Tensor = trunk(**self._inputs(rows, self.places), use_cache=False).last_hidden_state
        return states[:, -self.length - 1 : -1]

    def _read(self, model: Any, rows: int) -> Tensor:
        """The states of all tokens (B T, H), or where the head is not called apart their logits (B T, V)."""
        if self.apart:
            return self._states(model.base_model, rows).flatten(0, 1).clone()
        return self._logits(model, rows).flatten(0, 1).clone()

    def _logits(self, model: Any, rows: int) -> Tensor:
        with trunk_precision(self.config, CPU):
            output = model(**self._inputs(rows, self.places), use_cache=False, logits_to_keep=self.length + 1)
        return full(output.logits[:, -self.length - 1 : -1])

    def _tile(self, own: Tensor) -> Tensor:
        return head_logits(self.model.get_output_embeddings(), own) if self.apart else own

    def _passing(self, rows: int) -> Any:
        """As the last block finds what the frozen trunk below it gave in sampling, where that is kept."""
        if not keeps_states(self.config):
            return nullcontext()
        trunk = self.model.base_model
        blocks = blocks_of(trunk)
        assert blocks is not None  # --train_scope last_layer found them
        return FrozenTrunk(trunk, blocks, tuples=False).giving(torch.empty(rows, self.places, width(self.model)))

    def _chosen(self, rows: int) -> tuple[Tensor, Tensor | None]:
        values = self._states(self.models.critic, rows) if self.models.critic is not None else None
        if not self.apart:
            return selected_logprobs(self._logits(self.model, rows), torch.zeros(rows, self.length).long()), values
        states = self._states(self.model.base_model, rows).flatten(0, 1).clone()
        ids = torch.zeros(rows * self.length, dtype=torch.long)
        return head_logprobs(states, self.model.get_output_embeddings(), ids, self.config), values

    @staticmethod
    def _cache_bytes(cache: Any) -> int:
        layers = [layer for layer in getattr(cache, "layers", ()) if hasattr(layer, "rooms")]
        return sum(math.prod(room.shape) * room.element_size() for layer in layers for room in layer.rooms)


def keeps_states(config: PlanConfig) -> bool:
    """Whether what enters the last block is kept of every completion (passing.py)."""
    return config.train_scope == "last_layer" and config.num_processes == 1 and not config.bf16


def states_bytes(config: PlanConfig, hidden: int, itemsize: int, most: int) -> int:
    """The room for states that pass by in sampling, on the CPU; 0 where none is kept."""
    if config.bf16 or config.sharding != "none":
        return 0
    places = config.max_completion_length + config.prompt_tokens * (config.train_scope == "last_layer")
    size = config.iteration_batch_size * places * hidden * itemsize
    return size if size <= most else 0
