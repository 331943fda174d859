"""Any sequence classifier of transformers as a reward: a TRL reward model, a sentiment model of the hub, one's own.

With one output its logit is the reward. With several labels the reward is log P(label) in nats,

    r(x) = z_label - log Σ_j exp z_j      (log σ(z_label) where the labels do not exclude each other),

or, if asked for, the logit z_label itself. Scores are those of transformers' own forward of each text by itself:
whether batches of mixed lengths keep them is tried when the model comes in; texts go one by one where they do not.

Shapes: N texts, B texts of a batch, T tokens, L labels.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid
from transformers import PreTrainedModel

from rewards.batching import batches, pad
from rewards.classifier_files import load_classifier_model, load_classifier_tokenizer
from rewards.classifier_texts import ClassifierTexts, Reads
from rewards.token_model import evaluating, pick_device
from rlhf.foundation.causal_lm import tolerance, vocabulary_rows
from rlhf.foundation.conversation import Text
from rlhf.foundation.errors import InputError
from rlhf.foundation.load_errors import libraries_in_silence
from rlhf.foundation.model_digests import identity_of

Score = Literal["log_prob", "logit"]
SCORES: tuple[Score, ...] = get_args(Score)
_TOKENS_PER_BATCH = 4096
_SPECIMENS = ("Good.", "It was the best of times, it was the worst of times, it was the age of wisdom.")


class ClassifierReward:
    """A sequence classifier and its tokenizer; a reward function in TRL's signature.

    `label` is a name of `config.id2label` or its number, needed where there are several; `reads` says whether prompt
    and completion are scored, or the completion alone; `append_eos` puts EOS behind plain texts, as TRL's RewardTrainer
    does in training (its trainers score without).
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        label: str | int | None = None,
        score: Score = "log_prob",
        reads: Reads = "whole",
        append_eos: bool = False,
        max_length: int | None = None,
        name: str | None = None,
    ) -> None:
        """`model` is used as it is, never changed. Raises InputError when it is no classifier, or has no such label."""
        require_classifier(model)
        if score not in SCORES:
            raise InputError("classifier: score", got=repr(score), expected=" or ".join(SCORES), fix="choose one")
        self.model, self.score = model, score
        self.place = name or str(getattr(model.config, "_name_or_path", "") or type(model).__name__)
        self.column = label_column(model.config, label, self.place)
        self.label = None if self.column is None else str(model.config.id2label[self.column])
        if score == "log_prob" and self.column is not None and model.config.problem_type == "regression":
            raise _refuse(self.place, "several outputs of a regression", "labels with probabilities", "`score: logit`")
        limit = _shorter(_length_limit(model), max_length)
        self.texts = ClassifierTexts(tokenizer, max_length=limit, reads=reads, append_eos=append_eos)
        short = self.place.rstrip("/").rsplit("/", 1)[-1]
        self.__name__ = short if self.label is None else f"{short}:{self.label}"
        self._in_batches = self._batches_agree()

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str,
        *,
        device: torch.device | str | None = None,
        dtype: str = "auto",
        label: str | int | None = None,
        score: Score = "log_prob",
        reads: Reads = "whole",
        append_eos: bool = False,
        max_length: int | None = None,
    ) -> ClassifierReward:
        """Load a directory or hub name, an adapter's too; `dtype` "auto" is the one it was saved in.

        Raises InputError when it is missing, damaged, lacks weights, or is no classifier with such a label.
        """
        model = load_classifier_model(name_or_path, dtype)
        nn.Module.to(model, pick_device(device))
        return cls(
            model,
            load_classifier_tokenizer(name_or_path),
            label=label,
            score=score,
            reads=reads,
            append_eos=append_eos,
            max_length=max_length,
            name=name_or_path,
        )

    def identity(self) -> dict[str, Any]:
        """What its numbers depend on, for a run's provenance."""
        read = {"reads": self.texts.reads, "append_eos": self.texts.append_eos, "max_length": self.texts.max_length}
        return identity_of(self.model, self.texts.tokenizer, label=self.label, score=self.score, **read)

    @torch.no_grad()
    def logits(self, prompts: Sequence[Text], completions: Sequence[Text]) -> Tensor:
        """The classifier's outputs for each text, (N, L) float32 on the CPU. Any length and order."""
        encoded = self.texts.encode(prompts, completions)
        return self._logits(encoded, in_batches=self._in_batches)

    def scores(self, prompts: Sequence[Text], completions: Sequence[Text]) -> Tensor:
        """The reward of each text, (N,) float32 on the CPU: nats where it is log P(label)."""
        logits = self.logits(prompts, completions)
        if self.column is None or self.score == "logit":
            return logits[:, self.column or 0]
        if self.model.config.problem_type == "multi_label_classification":
            return logsigmoid(logits[:, self.column])
        return logits.log_softmax(-1)[:, self.column]

    def __call__(
        self,
        prompts: Sequence[Text],
        completions: Sequence[Text],
        completion_ids: Sequence[Sequence[int]] | None = None,
        **kwargs: Any,
    ) -> list[float]:
        """TRL's reward function, plain text or conversations."""
        return [float(score) for score in self.scores(prompts, completions).tolist()]

    def _logits(self, encoded: Sequence[Sequence[int]], *, in_batches: bool) -> Tensor:
        filler = _config(self.model).pad_token_id
        shown = filler if filler is not None else self.texts.tokenizer.pad_token_id or 0
        device = self.model.device
        alone = (pad(encoded, [i], shown, device) for i in range(len(encoded)))
        some = batches(encoded, max_tokens=_TOKENS_PER_BATCH, pad_id=shown, device=device) if in_batches else alone
        found = torch.empty(len(encoded), int(self.model.config.num_labels))
        with evaluating(self.model), torch.autocast(device.type, enabled=False):
            for batch in some:
                found[batch.rows] = self._forward(batch.input_ids, batch.mask).float().cpu()
        return found

    def _forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Outputs (B, L) of right-padded ids (B, T).

        A decoder's classifier finds the end of a text by the pad token. Where its config has none, it reads the last
        token of a text by itself: so what fills the rows of a batch is an id that none of them ends with.
        """
        config = _config(self.model)
        if config.pad_token_id is not None or len(ids) == 1:
            return cast(Tensor, self.model(input_ids=ids, attention_mask=mask.long()).logits)
        ends = set(ids[torch.arange(len(ids), device=ids.device), mask.long().sum(1) - 1].tolist())
        free = next((i for i in range(vocabulary_rows(self.model)) if i not in ends), None)
        if free is None:  # more texts than ids
            rows = [
                (ids[i : i + 1, : int(mask[i].sum())], mask[i : i + 1, : int(mask[i].sum())]) for i in range(len(ids))
            ]
            return torch.cat([self._forward(*row) for row in rows])
        with _set_pad_token(config, free):
            logits = self.model(input_ids=ids.masked_fill(~mask, free), attention_mask=mask.long()).logits
        return cast(Tensor, logits)

    @torch.no_grad()
    def _batches_agree(self) -> bool:
        """Whether texts of two lengths have the same outputs together as alone. Raises InputError if they have none."""
        encoded = [self.texts._ids(text) for text in _SPECIMENS]
        try:
            with libraries_in_silence():
                alone = self._logits(encoded, in_batches=False)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            got = f"{type(error).__name__} when it reads a text ({str(error).splitlines()[0] if str(error) else ''})"
            raise _refuse(self.place, got, "a classifier that reads its tokenizer's ids", "check both") from error
        if not bool(alone.isfinite().all()):
            raise _refuse(self.place, "outputs that are no finite numbers", "finite ones", "load it in float32")
        with contextlib.suppress(RuntimeError, ValueError, IndexError):
            together = self._logits(encoded, in_batches=True)
            near = tolerance(self.model) * max(1.0, float(alone.abs().max()))
            return bool((together - alone).abs().max() <= near)
        return False


def require_classifier(model: Any) -> None:
    """Raise InputError for a model that is no sequence classifier of transformers'."""
    name = type(model).__name__
    inner = getattr(model, "get_base_model", lambda: model)()  # what an adapter is put on
    if isinstance(inner, PreTrainedModel) and "SequenceClassification" in type(inner).__name__:
        return
    if isinstance(inner, PreTrainedModel) and getattr(inner, "score", None) is not None:
        return
    raise InputError(
        "reward model",
        got=f"a {name}, which is no classifier",
        expected="a model with a head for sequence classification",
        fix="fit one with `rlhf reward`, or ask a language model about two words (docs/reward_models.md)",
    )


def label_column(config: Any, label: str | int | None, place: str) -> int | None:
    """The output that `label` names; None for the only one. Raises InputError naming the labels there are."""
    names = {int(number): str(name) for number, name in config.id2label.items()}
    count = int(config.num_labels)
    if count == 1:
        if label is None:
            return None
        raise _refuse(place, f"the label {label} for one output", "no label: its output is the score", "leave it out")
    told = ", ".join(names.get(i, str(i)) for i in range(count))
    if label is None:
        fix = "name the one to be rewarded: MODEL:LABEL, or --reward_label"
        raise _refuse(place, f"{count} labels ({told})", "one of them as the reward", fix)
    matches = [number for number, name in names.items() if name == str(label)]
    matches = matches or [number for number, name in names.items() if name.lower() == str(label).lower()]
    if not matches and str(label).isdecimal() and int(label) < count:
        matches = [int(label)]
    if len(matches) != 1:
        raise _refuse(place, f"the label {label}", f"one of {told}", "check its spelling")
    return matches[0]


def _refuse(place: str, got: str, expected: str, fix: str) -> InputError:
    return InputError(f"classifier {place}", got=got, expected=expected, fix=fix)


def _config(model: Any) -> Any:
    return model.config.get_text_config()


@contextlib.contextmanager
def _set_pad_token(config: Any, number: int) -> Iterator[None]:
    before = config.pad_token_id
    config.pad_token_id = number
    try:
        yield
    finally:
        config.pad_token_id = before


def _shorter(limit: int | None, asked: int | None) -> int | None:
    return min((one for one in (limit, asked) if one is not None), default=None)


def _length_limit(model: Any) -> int | None:
    """Tokens that the model can place. RoBERTa and its kin count places from behind their padding id."""
    limit = getattr(_config(model), "max_position_embeddings", None)
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding) and name.endswith("position_embeddings") and module.padding_idx is not None:
            return int(module.num_embeddings) - int(module.padding_idx) - 1
    return None if limit is None or limit < 1 else int(limit)
