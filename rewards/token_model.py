"""The token reward model: a causal language model that ends a text with "happy" or "sad".

Two special tokens are added to the vocabulary. After the text's last real token the model predicts one of them; the
reward is log P(target), the log-softmax over these two tokens only:

    r(x) = log [ exp z_target / (exp z_target + exp z_other) ] = log σ(z_target - z_other),   in nats, never above 0

Shapes: N texts, B texts of a batch, T tokens, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
from tokenizers import AddedToken
from torch import Tensor
from torch.nn.functional import logsigmoid
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from rewards.batching import Batch, batches
from rewards.reward_file import REWARD_FILE, read_reward_file, write_reward_file
from rlhf.foundation.conversation import Text
from rlhf.foundation.encoding import TextEncoder, require_encoding
from rlhf.foundation.errors import InputError
from rlhf.foundation.model_digests import identity_of
from rlhf.foundation.model_directory import load_causal_lm, load_tokenizer, replacing_directory
from rlhf.foundation.tables import Report

Target = Literal["positive", "negative"]
TARGETS: tuple[Target, ...] = get_args(Target)
POSITIVE_TOKEN, NEGATIVE_TOKEN = "<|happy|>", "<|sad|>"
# Padded tokens scored at once; more does not go faster on a CPU, and logits stay small.
_TOKENS_PER_BATCH = 4096


class TokenRewardModel:
    """A causal LM and its tokenizer, both with the two reward tokens; also a reward function in TRL's signature.

    `target` says which token's probability is the reward: a model towards negative is trained as such and read by
    its own token; the sign of a trained reward is never flipped. `report` is what reward_model.json says.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        target: Target,
        report: dict[str, Any] | None = None,
    ) -> None:
        """Raises InputError when the tokenizer or the model's vocabulary lacks the two tokens, or BOS and EOS."""
        self.model, self.tokenizer, self.target = model, tokenizer, target
        self.report = Report(report or {})
        self.place: str | None = None
        self.__name__ = f"log_p_{target}"
        self.encoder = TextEncoder(
            tokenizer,
            max_length=getattr(model.config, "max_position_embeddings", None),
            literal=(POSITIVE_TOKEN, NEGATIVE_TOKEN),
        )
        target_token, other_token = (
            (POSITIVE_TOKEN, NEGATIVE_TOKEN) if target == "positive" else (NEGATIVE_TOKEN, POSITIVE_TOKEN)
        )
        self.target_id, self.other_id = self._token_id(target_token), self._token_id(other_token)
        self._reads_linearly = self._two_columns_suffice()

    def _token_id(self, token: str) -> int:
        known = self.tokenizer.get_vocab().get(token)
        rows = _vocabulary_rows(self.model)
        if known is None or known >= rows:
            raise InputError(
                "reward model",
                got=f"a tokenizer without {token}" if known is None else f"{token} as id {known} of {rows} embeddings",
                expected=f"the tokens {POSITIVE_TOKEN} and {NEGATIVE_TOKEN} in tokenizer and model",
                fix="name a directory that `rlhf reward --labels` wrote",
            )
        return int(known)

    @classmethod
    def from_pretrained(cls, directory: str | Path, *, device: torch.device | str | None = None) -> TokenRewardModel:
        """Load what `rlhf reward` wrote; `device` None takes a GPU where there is one.

        Raises InputError when the directory is missing, damaged, or holds a reward of another kind.
        """
        report = read_reward_file(Path(directory), kind="token")
        model, tokenizer = load_causal_lm(str(directory)), load_tokenizer(str(directory))
        torch.nn.Module.to(model, pick_device(device))
        reward = cls(model, tokenizer, target=report["target"], report=report)
        require_encoding(reward.encoder, report.get("encoding"), f"reward model {directory}")
        return reward

    def save(self, directory: Path, report: dict[str, Any]) -> Path:
        """Write model, tokenizer and reward_model.json as one directory, atomically; `report` becomes its contents.

        Raises InputError when `directory` holds something else, or when the disk refuses.
        """
        self.describe(report)
        with replacing_directory(directory, marker=REWARD_FILE) as temporary:
            self.model.save_pretrained(temporary)
            self.tokenizer.save_pretrained(temporary)
            self.report = write_reward_file(temporary, self.report)
        return directory

    def describe(self, report: Mapping[str, Any]) -> None:
        """Take a report as one's own, without writing it."""
        self.report = Report({**report, "encoding": self.encoder.describe()})

    def identity(self) -> dict[str, Any]:
        """What its numbers depend on, for a run's provenance."""
        return identity_of(self.model, self.tokenizer, target=self.target)

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.model.device

    def logit_difference(self, batch: Batch, *, every_position: bool = False) -> Tensor:
        """z_target - z_other: (B, T) at every position, or (B,) after the last real token."""
        # With right padding a causal model's real positions never see a pad; the mask is given all the same.
        inputs = {"input_ids": batch.input_ids, "attention_mask": batch.mask.long(), "use_cache": False}
        if self._reads_linearly:
            hidden = self.model.base_model(**inputs).last_hidden_state  # (B, T, width)
            if not every_position:
                hidden = hidden[torch.arange(len(hidden), device=hidden.device), batch.last]  # (B, width)
            return self._difference_of_rows(hidden)
        logits: Tensor = self.model(**inputs).logits  # (B, T, V)
        difference = (logits[..., self.target_id] - logits[..., self.other_id]).float()
        return difference if every_position else difference.gather(1, batch.last[:, None]).squeeze(1)

    def _difference_of_rows(self, hidden: Tensor) -> Tensor:
        """h·(w_target - w_other) + b_target - b_other: two columns of the output layer instead of V."""
        layer = _output_layer(self.model)
        difference: Tensor = hidden @ (layer.weight[self.target_id] - layer.weight[self.other_id])
        if layer.bias is not None:
            difference = difference + layer.bias[self.target_id] - layer.bias[self.other_id]
        return difference.float()

    @torch.no_grad()
    def _two_columns_suffice(self) -> bool:
        """Whether the logits are the output layer's product and nothing more (some models cap or scale them, and a
        wrapped model may return no hidden states).

        Tried on the first tokens of the vocabulary with an output layer 64 times as large (a power of two, so that
        dividing restores it exactly): a cap that small logits hardly feel must show.
        """
        ids = torch.arange(min(16, _vocabulary_rows(self.model)), device=self.device)[None]
        with evaluating(self.model):
            output = self.model.base_model(input_ids=ids, use_cache=False)
        if getattr(output, "last_hidden_state", None) is None:
            return False
        layer = _output_layer(self.model)
        with evaluating(self.model):
            layer.weight.mul_(64)
            logits = self.model(input_ids=ids, use_cache=False).logits
            product = layer(self.model.base_model(input_ids=ids, use_cache=False).last_hidden_state)
            layer.weight.div_(64)
        return torch.allclose(logits.float(), product.float(), rtol=1e-3, atol=1e-3)

    @torch.no_grad()
    def log_odds(self, prompts: Sequence[Text], completions: Sequence[Text]) -> Tensor:
        """log P(target) - log P(other) of each text, (N,) on the CPU. Texts may have any length and order."""
        encoded = self.encoder.encode(prompts, completions)
        scores = torch.empty(len(encoded))
        with evaluating(self.model):
            for batch in batches(
                encoded, max_tokens=_TOKENS_PER_BATCH, pad_id=self.encoder.first_id, device=self.device
            ):
                scores[batch.rows] = self.logit_difference(batch).cpu()
        return scores

    def log_probs(self, prompts: Sequence[Text], completions: Sequence[Text]) -> Tensor:
        """log P(target) of each text in nats, (N,)."""
        return logsigmoid(self.log_odds(prompts, completions))

    def __call__(
        self,
        prompts: Sequence[Text],
        completions: Sequence[Text],
        completion_ids: Sequence[Sequence[int]] | None = None,
        **kwargs: Any,
    ) -> list[float]:
        """TRL's reward function: log P(target) in nats. Texts and conversations are scored with its own tokenizer."""
        return [float(score) for score in self.log_probs(prompts, completions).tolist()]


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Dropout off inside the block, the former mode back after it."""
    was_training = model.training
    model.train(False)
    try:
        yield
    finally:
        model.train(was_training)


def pick_device(device: torch.device | str | None) -> torch.device:
    """The named device, or a GPU where there is one, else the CPU."""
    if device is not None:
        return torch.device(device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def add_reward_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, seed: int) -> None:
    """Give tokenizer and model the two reward tokens, in place; rows that a model has for them already start anew.

    Both rows start at the mean embedding plus a small random vector, so that neither token is favoured
    (Hewitt 2021, "Initializing New Word Embeddings for Pretrained Language Models"). Rows are never removed: some
    models have more than their tokenizer uses. Raises InputError when the tokenizer has ids the model lacks.
    """
    rows = _vocabulary_rows(model)
    if max(tokenizer.get_vocab().values()) >= rows:
        raise InputError(
            "model and tokenizer",
            got=f"{max(tokenizer.get_vocab().values()) + 1} tokens for {rows} embeddings",
            expected="a tokenizer made for this model",
            fix="save the model together with its own tokenizer",
        )
    tokenizer.add_tokens([AddedToken(token, special=True) for token in (POSITIVE_TOKEN, NEGATIVE_TOKEN)])
    ids = [tokenizer.get_vocab()[token] for token in (POSITIVE_TOKEN, NEGATIVE_TOKEN)]
    old_mean = [matrix.detach()[:rows].mean(0) for matrix in _vocabulary_matrices(model)]
    old_spread = [matrix.detach()[:rows].std() for matrix in _vocabulary_matrices(model)]
    if max(ids) >= rows:
        model.resize_token_embeddings(max(ids) + 1, mean_resizing=False)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for matrix, mean, spread in zip(_vocabulary_matrices(model), old_mean, old_spread, strict=True):
            for row in ids:
                noise = torch.randn(mean.shape, generator=generator).to(mean)
                matrix[row] = mean + spread * noise / math.sqrt(2)


def rescale_log_odds(reward: TokenRewardModel, temperature: float) -> None:
    """Divide every later log-odds of `reward` by `temperature` (> 0), in place, by moving the two output rows only.

    With m the mean of the rows, w' = m + (w - m) / temperature, so the model stays an ordinary language model whose
    two logits are the reward.
    """
    layer = _output_layer(reward.model)
    rows = [reward.target_id, reward.other_id]
    with torch.no_grad():
        for tensor in (layer.weight, *([layer.bias] if layer.bias is not None else [])):
            middle = tensor[rows].mean(0)
            tensor[rows] = middle + (tensor[rows] - middle) / temperature


def _vocabulary_matrices(model: PreTrainedModel) -> list[Tensor]:
    """Input and output embedding matrices, each (V, width), once where they are tied."""
    inputs, outputs = cast(Tensor, model.get_input_embeddings().weight), _output_layer(model).weight
    return [outputs] if inputs is outputs else [inputs, outputs]


def _output_layer(model: PreTrainedModel) -> torch.nn.Linear:
    return cast(torch.nn.Linear, model.get_output_embeddings())  # type: ignore[no-untyped-call]


def _vocabulary_rows(model: PreTrainedModel) -> int:
    return int(_output_layer(model).weight.shape[0])
