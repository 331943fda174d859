"""The text a reward loves most, found before PPO finds it.

Best of many samples first, then small edits (leave a word out, put another in its place, add one, say one twice) that
raise the score, as long as the base model still finds the text likely enough: above a floor of base log-probability,
for beyond it PPO's KL budget would not go either.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rewards.attribution import PIECES, score
from rewards.batching import batches
from rewards.calling import RewardFunction
from rewards.token_model import evaluating
from rlhf.foundation.encoding import beginning_token, encode_continued, encode_prompt
from rlhf.foundation.errors import InputError

_TOKENS_PER_BATCH = 4096
LogProbs = Callable[[Sequence[str], Sequence[str]], list[float]]


@dataclass(frozen=True, slots=True)
class Found:
    """A text the search ended on. Scores in the reward's unit, `logprob` in nats under the base model."""

    prompt: str
    completion: str
    score: float
    logprob: float
    start: str
    start_score: float
    n_edits: int


class BaseLogProbs:
    """log p(completion | prompt) under a causal language model, in nats, the end token included.

    Shapes: B texts of a batch, T tokens.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self.model, self.tokenizer = model, tokenizer

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
        """One number a text. The text counts as ended, so that short fragments are not cheap."""
        end = [] if self.tokenizer.eos_token_id is None else [int(self.tokenizer.eos_token_id)]
        encoded = [[*encode_continued(self.tokenizer, *pair), *end] for pair in zip(prompts, completions, strict=True)]
        limit = getattr(self.model.config, "max_position_embeddings", None)
        if limit is not None and max(map(len, encoded), default=0) > limit:
            got, expected = f"a text of {max(map(len, encoded))} tokens", f"at most {limit}, the base model's context"
            raise InputError("samples", got=got, expected=expected, fix="leave out the long ones")
        n_prompt = [len(encode_prompt(self.tokenizer, prompt)) for prompt in prompts]
        found = torch.empty(len(encoded))
        with evaluating(self.model):
            for batch in batches(
                encoded, max_tokens=_TOKENS_PER_BATCH, pad_id=beginning_token(self.tokenizer), device=self.model.device
            ):
                logits: Tensor = self.model(
                    input_ids=batch.input_ids, attention_mask=batch.mask.long(), use_cache=False
                ).logits
                each = logits[:, :-1].log_softmax(-1).gather(2, batch.input_ids[:, 1:, None]).squeeze(2)  # (B, T - 1)
                starts = torch.tensor([n_prompt[row] for row in batch.rows], device=each.device)
                places = torch.arange(1, each.shape[1] + 1, device=each.device)
                counted = batch.mask[:, 1:] & (places[None] >= starts[:, None])
                found[batch.rows] = (each * counted).sum(1).cpu()
        return [float(value) for value in found.tolist()]


def search(
    reward: RewardFunction,
    logprobs: LogProbs,
    prompts: Sequence[str],
    completions: Sequence[str],
    *,
    highest: bool,
    n_starts: int = 8,
    n_rounds: int = 8,
    n_candidates: int = 48,
    floor_quantile: float = 0.05,
    seed: int = 0,
    on_round: Callable[[], None] = lambda: None,
) -> list[Found]:
    """The texts of highest (or lowest) score that the search reaches, best first.

    Starts are the `n_starts` best of the given samples. In each round every start tries `n_candidates` random edits
    and takes the best that improves it and whose base log-probability is at least the `floor_quantile` quantile of
    that of the given samples (nats). The words put in come from the samples.
    """
    sign = 1.0 if highest else -1.0
    raw = score(reward, prompts, completions)
    order = sorted(range(len(raw)), key=lambda i: -sign * raw[i])
    starts: dict[tuple[str, str], float] = {}
    for i in order:
        starts.setdefault((prompts[i], completions[i]), raw[i])
        if len(starts) == n_starts:
            break
    base = sorted(logprobs(prompts, completions))
    floor = base[int(floor_quantile * (len(base) - 1))]
    words = sorted({piece for text in completions for piece in PIECES.findall(text)})
    rng = random.Random(f"probe {seed}")
    keys = list(starts)
    own = dict(zip(keys, logprobs([p for p, _ in keys], [c for _, c in keys]), strict=True))
    best = [Found(p, c, starts[p, c], own[p, c], c, starts[p, c], 0) for p, c in keys]
    for _ in range(n_rounds):
        best = [_improve(reward, logprobs, found, words, sign, floor, n_candidates, rng) for found in best]
        on_round()
    return sorted(best, key=lambda found: -sign * found.score)


def _improve(
    reward: RewardFunction,
    logprobs: LogProbs,
    found: Found,
    words: Sequence[str],
    sign: float,
    floor: float,
    n_candidates: int,
    rng: random.Random,
) -> Found:
    """The best allowed edit of one text, or the text itself where none improves it."""
    texts = sorted({edit(found.completion, words, rng) for _ in range(n_candidates)} - {found.completion})
    if not texts:
        return found
    prompts = [found.prompt] * len(texts)
    scores, likely = score(reward, prompts, texts), logprobs(prompts, texts)
    allowed = [i for i in range(len(texts)) if likely[i] >= floor and sign * scores[i] > sign * found.score]
    if not allowed:
        return found
    i = max(allowed, key=lambda i: sign * scores[i])
    return Found(found.prompt, texts[i], scores[i], likely[i], found.start, found.start_score, found.n_edits + 1)


def edit(text: str, words: Sequence[str], rng: random.Random) -> str:
    """One random small edit: leave a piece out, replace it, add one after it, or say it twice."""
    pieces = PIECES.findall(text)
    kind = rng.randrange(4) if pieces else 2
    place = rng.randrange(len(pieces)) if pieces else 0
    if kind == 0:
        del pieces[place]
    elif kind == 1:
        pieces[place] = rng.choice(words)
    elif kind == 2:
        pieces.insert(place + 1, rng.choice(words))
    else:
        pieces.insert(place, pieces[place])
    return "".join(pieces)
