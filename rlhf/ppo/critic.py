"""The critic, an option: what a prefix is worth, by a head on the policy's own trunk or on a model of its own.

Policy and critic are one module with one forward, so that DDP sees every gradient of a step. The head starts from
zero, so the first advantages are those without a critic (at λ = 1). Shapes: B completions, S tokens, V vocabulary.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rlhf.foundation.adapters import copied, is_adapter, merged
from rlhf.foundation.causal_lm import REFUSE_BEYOND, probe_ids, tolerance
from rlhf.foundation.errors import InputError
from rlhf.ppo.config import PPOConfig
from rlhf.ppo.precision import full, values_by


class ValuedOutput(NamedTuple):
    """A causal LM's output with the value of each prefix beside it."""

    logits: Tensor  # (B, S, V)
    values: Tensor  # (B, S)


class ActorCritic(nn.Module):
    """`policy`, a causal LM; a `trunk` of the critic's own, or None to read the policy's last hidden states."""

    def __init__(self, policy: Any, trunk: Any, width: int) -> None:
        """`width` is the size of the hidden states that the value head reads."""
        super().__init__()
        first: Tensor = next(policy.parameters())
        self.policy, self.trunk = policy, trunk
        self.value_head = nn.Linear(width, 1, device=first.device, dtype=full(first).dtype)
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)

    def forward(self, input_ids: Tensor, *, logits_to_keep: int, **inputs: Any) -> ValuedOutput:
        """Logits and values of the last `logits_to_keep` prefixes of `input_ids` (B, S); `inputs` as for the policy."""
        shared = self.trunk is None
        output = self.policy(input_ids=input_ids, logits_to_keep=logits_to_keep, output_hidden_states=shared, **inputs)
        own = output if shared else self.trunk(input_ids=input_ids, **inputs)
        hidden = own.hidden_states[-1] if shared else own.last_hidden_state  # (B, S, width)
        return ValuedOutput(output.logits, values_by(self.value_head, hidden[:, -logits_to_keep:]))

    def values_of(self, states: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """Values (B, T) of the prefixes whose last states under the policy are `states` (B, T, width).

        A trunk of the critic's own reads them itself: `inputs` are the policy's, whose last place comes after them.
        """
        if self.trunk is not None:
            states = self.trunk(**inputs).last_hidden_state[:, -states.shape[1] - 1 : -1]
        return values_by(self.value_head, states)


def parameter_groups(learner: nn.Module, policy: nn.Module) -> list[dict[str, Any]]:
    """What is trained, for the optimiser: the policy's parameters, then the critic's own where there is one."""
    of_policy = [p for p in policy.parameters() if p.requires_grad]
    known = {id(p) for p in of_policy}
    of_critic = [p for p in learner.parameters() if p.requires_grad and id(p) not in known]
    return [{"params": group} for group in (of_policy, of_critic) if group]


def alone(args: PPOConfig, iteration: int) -> bool:
    """Whether this iteration's update is the critic's alone and leaves the policy as it is.

    As NeMo-RL's and verl's warm-up of the critic. A shared one then trains its head on the policy's states.
    """
    return iteration < args.critic_warmup_iterations


def separate_trunk(model: Any, tokenizer: Any, args: PPOConfig) -> Any:
    """The trunk of a separate critic: the reward model's of `critic_model_path`, else a copy of the policy's.

    `model` is the policy before an adapter is put on it. Every weight of the trunk is trained. Raises InputError when
    the reward model reads other token ids than the policy, or is an ensemble.
    """
    if args.critic_model_path is not None:
        source = _reward_model(args.critic_model_path, tokenizer)
    elif is_adapter(model):
        source = merged(copied(model), "of the policy")
    else:
        source = copy.deepcopy(model)
    first: Tensor = next(model.parameters())
    trunk = source.base_model.to(device=first.device, dtype=full(first).dtype)
    return trunk.eval().requires_grad_(True)


def _reward_model(path: str, tokenizer: Any) -> Any:
    """The model of a directory of `rlhf reward`, or a classifier's, that a critic starts from."""
    from rewards.classifier_files import holds_model, load_classifier_model, load_classifier_tokenizer
    from rewards.ensemble import RewardEnsemble
    from rewards.loading import load_reward_model
    from rewards.reward_file import REWARD_FILE

    if holds_model(path) and not (Path(path) / REWARD_FILE).exists():
        model: Any = load_classifier_model(path, "float32")
        own = load_classifier_tokenizer(path).get_vocab()
        _require_causal_trunk(model, path)
    else:
        reward = load_reward_model(Path(path), device="cpu")
        if isinstance(reward, RewardEnsemble):
            got, fix = f"{path}, an ensemble", "name a member of it"
            raise InputError("--critic_model_path", got=got, expected="one reward model", fix=fix)
        model, own = reward.model, reward.tokenizer.get_vocab()
    foreign = [token for token, number in tokenizer.get_vocab().items() if own.get(token) != number]
    if foreign:
        raise InputError(
            "--critic_model_path",
            got=f"{path}, whose tokenizer has no {foreign[0]!r} of the same id (and {len(foreign) - 1} more)",
            expected="a reward model with the policy's token ids, since the critic reads what the policy wrote",
            fix="fit the reward model on the policy's own model, or start the critic from the policy (leave it out)",
        )
    return model


@torch.no_grad()
def _require_causal_trunk(model: Any, path: str) -> None:
    """A critic values a prefix by the prefix alone. Raises InputError for a trunk that looks ahead, as encoders do."""
    ids = probe_ids(model)
    half = max(1, ids.shape[1] // 2)
    whole, prefix = (getattr(model.base_model(input_ids=x), "last_hidden_state", None) for x in (ids, ids[:, :half]))
    near = tolerance(model) * max(1.0, float(whole.abs().max())) if whole is not None else 0.0
    if whole is None or prefix is None or bool((whole[:, :half] - prefix).abs().max() > REFUSE_BEYOND * near):
        raise InputError(
            "--critic_model_path",
            got=f"{path}, a {type(model).__name__} that reads a text as a whole",
            expected="a classifier on a decoder, which sees only what stands before",
            fix="start the critic from the policy (leave it out), or name another reward model",
        )


def add_critic(policy: Any, trunk: Any, probe_ids: list[int]) -> ActorCritic:
    """Policy and critic as one module; tried on `probe_ids`. Raises InputError when there are no hidden states."""
    device = next(policy.parameters()).device
    ids = torch.tensor([probe_ids], device=device)
    with torch.no_grad():
        if trunk is None:
            states = getattr(policy(input_ids=ids, output_hidden_states=True), "hidden_states", None)
            hidden = states[-1] if states else None
        else:
            hidden = getattr(trunk(input_ids=ids), "last_hidden_state", None)
    if hidden is None:
        raise InputError(
            "--critic",
            got=f"{type(policy if trunk is None else trunk).__name__}, a model that returns no hidden states",
            expected="`hidden_states` (shared) or a base model with `last_hidden_state` (separate)",
            fix="return them from the model's forward, or train without a critic",
        )
    return ActorCritic(policy, trunk, int(hidden.shape[-1]))
