"""Which prompt a completion answers: a pure function of its index over the whole run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from rlhf.language_model.randomness import Stream, generator


class PromptSchedule:
    """Every prompt once a pass in a new order, `num_generations` completions in a row for each.

    The prompt of completion i depends on (seed, i) alone, so batch growth, resuming and layout cannot change it.
    """

    def __init__(self, count: int, *, num_generations: int, seed: int) -> None:
        """`count` is the number of prompts, at least 1."""
        self.count, self.num_generations, self.seed = count, num_generations, seed
        self._order = lru_cache(maxsize=2)(self._order_of_pass)

    def _order_of_pass(self, number: int) -> Sequence[int]:
        return [int(i) for i in generator(self.seed, Stream.PROMPTS, number).permutation(self.count)]

    def __call__(self, index: int) -> int:
        """The prompt number of completion `index`, counted over the whole run."""
        number, place = divmod(index // self.num_generations, self.count)
        return self._order(number)[place]
