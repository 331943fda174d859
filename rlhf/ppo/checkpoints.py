"""A rung's directory: written, and read back, so that it is the policy that was measured.

An adapter is written alone where its base can be had again by name, unchanged (where that is in four bits, a file
beside it says how); else it is merged and the rung is a whole model. The first rung of a process is loaded and compared
with the live policy, every tensor and the log-probs of a probe, which proves names, ties, config and base (one more
copy of the model on the CPU while it lasts). After it only numbers change, so that of later rungs the tensors in the
files are compared.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from rlhf.foundation.adapters import copied, is_adapter, load_adapter, merged
from rlhf.foundation.causal_lm import next_token_logprobs, probe_ids, tolerance
from rlhf.foundation.errors import InputError
from rlhf.foundation.four_bit import four_bit_in
from rlhf.foundation.model_directory import load_causal_lm, replacing_directory


class Checkpoints:
    """Writes the policy as model directories."""

    def __init__(self, model: Any, tokenizer: Any, dtype: str | None = None) -> None:
        """`dtype` is what a whole model is rounded to; as the policy is if not given. Adapters stay as they are."""
        self.model, self.tokenizer = model, tokenizer
        self.dtype: torch.dtype = getattr(torch, dtype) if dtype else _dtype(model)
        self.alone, self.four_bit = is_adapter(model), four_bit_in(model)
        self._proven = False

    def save(self, directory: Path) -> None:
        """Write the policy as it is now, atomically.

        Raises InputError when what is read back is another policy, or when the disk refuses.
        """
        with replacing_directory(directory) as temporary:
            tensors = self._write(temporary)
            if not self._proven and self.alone and (reason := self._not_alone(temporary, tensors)):
                self.alone = False
                print(f"rlhf: rungs are whole models, the adapter merged: alone it is not the policy ({reason})",
                      file=sys.stderr)  # fmt: skip
                _empty(temporary)
                tensors = self._write(temporary)
            reason = _other_in_files(temporary, tensors)
            if not self._proven and not self.alone:
                reason = reason or self._other_when_loaded(temporary, tensors)
            if reason:
                raise _not_the_policy(directory, self.model, reason)
        self._proven = True

    def _write(self, directory: Path) -> Mapping[str, Tensor]:
        """Write the model and return the tensors that the files must hold, by name."""
        if self.alone:
            from peft import get_peft_model_state_dict

            tensors: Mapping[str, Tensor] = get_peft_model_state_dict(self.model)
            self.model.save_pretrained(directory)
            if self.four_bit is not None:
                self.four_bit.write(directory)
        else:
            whole = merged(copied(self.model), "of the policy") if is_adapter(self.model) else self.model
            if self.dtype != _dtype(whole):
                whole = copied(whole).to(self.dtype)
            tensors = whole.state_dict()
            whole.save_pretrained(directory)
        self.tokenizer.save_pretrained(directory)
        return tensors

    def _not_alone(self, directory: Path, tensors: Mapping[str, Tensor]) -> str | None:
        """Why the adapter in `directory` is not the policy without the base in memory; None if it is."""
        held = {tensor.data_ptr() for tensor in tensors.values()}
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad and parameter.data_ptr() not in held:
                return f"{name} is trained and not part of it"
        if len(self.model.peft_config) > 1:
            return "there are several"
        [config] = self.model.peft_config.values()
        if not config.base_model_name_or_path:
            return "its base has no name"
        try:
            base = load_causal_lm(config.base_model_name_or_path, dtype=_dtype(self.model), four_bit=self.four_bit)
            changed = _changed_base(base, self.model.get_base_model())
            if changed:
                return f"its base by name has another {changed}"
            return self._other_logprobs(directory, load_adapter(base, str(directory)) if self.four_bit else None)
        except InputError as error:
            return str(error)

    def _other_when_loaded(self, directory: Path, tensors: Mapping[str, Tensor]) -> str | None:
        """What differs between the live policy and the model that is loaded from `directory`."""
        read = load_causal_lm(str(directory), dtype=self.dtype)
        changed = _changed(tensors, read.state_dict())
        return f"{changed} is another" if changed else self._other_logprobs(directory, read)

    def _other_logprobs(self, directory: Path, read: Any = None) -> str | None:
        read = load_causal_lm(str(directory), dtype=_dtype(self.model)) if read is None else read
        ids = probe_ids(self.model)
        live = next_token_logprobs(self.model, ids).cpu()
        moved = float((next_token_logprobs(read, ids.cpu()) - live).abs().max())
        allowed = max(tolerance(self.model), tolerance(read)) * max(1.0, float(live.abs().max()))
        return None if moved <= allowed else f"log-probs differ by {moved:.2g} nats"


def _dtype(model: Any) -> torch.dtype:
    return next(model.parameters()).dtype  # type: ignore[no-any-return]


def _changed_base(base: Any, adapted: Any) -> str | None:
    """The first tensor of `base` that is another in `adapted`, the same model with an adapter on it; trained ones,
    which are saved with the adapter, do not count."""
    trained = {_own_name(name) for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    found = {_own_name(name): tensor for name, tensor in adapted.state_dict().items()}
    return _changed({name: t for name, t in base.state_dict().items() if name not in trained}, found)


def _own_name(name: str) -> str:
    """The name that a tensor has without the layers that PEFT puts around its module."""
    for inserted in ("token_adapter.", "base_layer.", "original_module."):
        name = name.replace(inserted, "")
    return name


def _changed(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str | None:
    """The first tensor of `expected` that `found` lacks or has with other numbers."""
    return next((name for name, tensor in expected.items() if not _same(tensor, found.get(name))), None)


def _same(one: Tensor, other: Tensor | None) -> bool:
    return other is not None and torch.equal(one.cpu(), other.cpu())


def _other_in_files(directory: Path, tensors: Mapping[str, Tensor]) -> str | None:
    """The first tensor of the files that is not the one of its name; names that only the files have are left to the
    loading (some architectures are stored under other names than they run with)."""
    for path in sorted(directory.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 (not a mapping)
                if name in tensors and not _same(file.get_tensor(name), tensors[name]):
                    return f"{name} is another"
    return None


def _empty(directory: Path) -> None:
    for path in directory.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _not_the_policy(directory: Path, model: Any, reason: str) -> InputError:
    return InputError(
        f"checkpoint {directory}",
        got=f"a {type(model).__name__} that reads back as another model ({reason})",
        expected="the policy that was measured",
        fix="let its class save and load all that its forward uses, and its config say whether embeddings are tied",
    )
