"""Model directories: loading with one-line errors, saving atomically, safetensors only.

A pickle can run code when it is read, so none is ever loaded or left behind. A directory is either the whole model
or not there at all: it is written under a temporary name, flushed, and renamed.
"""

from __future__ import annotations

import copy
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from rlhf.foundation.adapters import adapter_base, load_adapter, merged
from rlhf.foundation.causal_lm import settle
from rlhf.foundation.errors import InputError, disk_refusal, write_failure
from rlhf.foundation.extras import require_bitsandbytes
from rlhf.foundation.files import current_umask, fsync_directory
from rlhf.foundation.four_bit import FourBit, base_of_adapter, made_ready
from rlhf.foundation.leftovers import sweep
from rlhf.foundation.load_errors import LOAD_ERRORS, libraries_in_silence, load_failure
from rlhf.foundation.locks import take_lock
from rlhf.foundation.model_names import require_names
from rlhf.foundation.model_pair import LanguageModel, Model

# What libraries write beside the weights and what nobody should have to trust.
PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl")


def load_tokenizer(name_or_path: Model) -> PreTrainedTokenizerBase:
    """The tokenizer of a model directory or hub name; of a model in memory a copy of its own.

    Raises InputError when the directory is missing, holds no tokenizer or a damaged one, or the hub is unreachable.
    """
    if isinstance(name_or_path, LanguageModel):
        return cast(PreTrainedTokenizerBase, copy.deepcopy(name_or_path.tokenizer))
    require_names(name_or_path)
    try:
        with libraries_in_silence():
            tokenizer = AutoTokenizer.from_pretrained(name_or_path)
    except LOAD_ERRORS as error:
        raise load_failure(name_or_path, "a tokenizer", error) from error
    return cast(PreTrainedTokenizerBase, tokenizer)


def load_causal_lm(
    name_or_path: Model, *, dtype: torch.dtype = torch.float32, four_bit: FourBit | None = None
) -> PreTrainedModel:
    """A causal language model in eval mode (so every dropout is off), from safetensors; of one in memory a copy.

    Attention is torch's SDPA where the architecture has it, else its own. A PEFT adapter is loaded with its base and
    merged into it; where that was in four bits, into the numbers that these stand for. With `four_bit` the model is
    quantised on its way, fit to be put below an adapter. Raises InputError when the directory is missing, holds no such
    model, a damaged one, one that lacks weights or has more than its config, an adapter that cannot be merged, or when
    the hub is unreachable.
    """
    if isinstance(name_or_path, LanguageModel):
        return _copied(name_or_path.model, dtype)
    require_names(name_or_path)
    base = adapter_base(name_or_path)
    if base is not None:
        return _merged_adapter(name_or_path, base, dtype, four_bit)
    if four_bit is not None:
        require_bitsandbytes(f"{name_or_path} in four bits")
    how = four_bit.arguments() if four_bit is not None else {}
    try:
        with libraries_in_silence():
            loaded = AutoModelForCausalLM.from_pretrained(
                name_or_path, dtype=dtype, use_safetensors=True, output_loading_info=True, **how
            )
    except LOAD_ERRORS as error:
        raise load_failure(name_or_path, "a causal language model in safetensors", error) from error
    model, report = cast(tuple[PreTrainedModel, dict[str, Any]], loaded)
    _require_same_weights(name_or_path, model, report)
    if four_bit is not None:
        made_ready(model, name_or_path)
    settle(model)
    return model


def _merged_adapter(name: str, base: str, dtype: torch.dtype, four_bit: FourBit | None) -> PreTrainedModel:
    if four_bit is not None:
        raise InputError(
            f"model {name}",
            got="an adapter, and a base in four bits asked for",
            expected="an ordinary model, which is quantised as it is read",
            fix="write the merged model first (rlhf export, or merge_and_unload) and name that directory",
        )
    below = base_of_adapter(name)
    if below is None:
        return merged(load_adapter(load_causal_lm(base, dtype=dtype), name), name)
    quantised = load_causal_lm(base, four_bit=below)
    whole: Any = merged(load_adapter(quantised, name), name)
    return cast(PreTrainedModel, whole.to(dtype))


def _copied(model: Any, dtype: torch.dtype) -> PreTrainedModel:
    copied: Any = copy.deepcopy(model).to(dtype).requires_grad_(True).eval()
    settle(copied)
    return cast(PreTrainedModel, copied)


def _require_same_weights(name_or_path: str, model: PreTrainedModel, report: dict[str, Any]) -> None:
    """transformers fills absent weights with random numbers, leaves surplus ones out, and only warns."""
    absent, surplus = sorted(report["missing_keys"]), sorted(report["unexpected_keys"])
    if absent:
        raise InputError(
            f"model {name_or_path}",
            got=f"no weights for {absent[0]}" + (f" and {len(absent) - 1} more" if len(absent) > 1 else ""),
            expected="every weight of a causal language model",
            fix=_how_to_tie(model, absent)
            or "name a directory that holds a language model, not a classifier or a part of one",
        )
    if surplus:
        raise InputError(
            f"model {name_or_path}",
            got=f"weights that its config.json has no place for: {surplus[0]}"
            + (f" and {len(surplus) - 1} more" if len(surplus) > 1 else ""),
            expected="the weights of the model that config.json describes, and no others",
            fix="restore the config.json that belongs to them, or save the model without them",
        )


def _how_to_tie(model: Any, absent: Sequence[str]) -> str | None:
    """What to do where the input or output embedding alone is absent, as where both are one; None otherwise."""
    read, write = (_weight_of(model, layer) for layer in (model.get_input_embeddings(), model.get_output_embeddings()))
    if list(absent) not in ([read], [write]):
        return None
    other = read if absent[0] == write else write
    named = any(re.search(pattern, str(write)) for pattern in model._tied_weights_keys or ())
    steps = [] if named else [f"`_tied_weights_keys = {{{write!r}: {read!r}}}` in {type(model).__name__}"]
    if not getattr(model.config, "tie_word_embeddings", False):
        steps.append('`"tie_word_embeddings": true` in config.json')
    return f"if it is one matrix with {other}, say so: {' and '.join(steps)}; else save it too" if steps else None


def _weight_of(model: Any, layer: Any) -> str | None:
    """The name of a layer's weight in its model."""
    return next((f"{name}.weight" for name, module in model.named_modules() if module is layer), None)


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, directory: Path) -> None:
    """Write model (safetensors) and tokenizer as one model directory, atomically; an older model there is replaced.

    Raises InputError when `directory` holds something that is not a model, or when the disk refuses.
    """
    with replacing_directory(directory) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)


@contextmanager
def replacing_directory(directory: Path, *, marker: str = "config.json") -> Iterator[Path]:
    """Yield a temporary directory beside `directory`; on success flush it and rename it into place, else remove it.

    Pickles written into it are removed. An existing directory is replaced only if it is empty or holds the file
    `marker`, by which a model directory is known. What a killed writer of `directory` left is cleared first
    (leftovers.py). Raises InputError otherwise, and when the disk refuses.
    """
    directory = Path(os.path.abspath(directory))
    sweep(directory.parent, directory.name)
    require_replaceable(directory, marker=marker)
    temporary: Path | None = None
    held: int | None = None
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=directory.parent, prefix=f".{directory.name}.", suffix=".tmp"))
        held = take_lock(temporary)
        with libraries_in_silence():
            yield temporary
        for pattern in PICKLES:
            for pickle in temporary.rglob(pattern):
                pickle.unlink()
        _flush(temporary)
        temporary.chmod(0o777 & ~current_umask())
        _swap(temporary, directory)
    except Exception as error:
        if refusal := disk_refusal(error):
            raise write_failure(directory, refusal) from error
        raise
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        if held is not None:
            os.close(held)


def require_replaceable(directory: Path, *, marker: str = "config.json") -> None:
    """Raise InputError when `directory` holds something that is not a model: ask before long work, not after it."""
    if not directory.exists():
        return
    if not directory.is_dir():
        got = "a file"
    elif any(directory.iterdir()) and not (directory / marker).exists():
        got = "a directory with other files"
    else:
        return
    raise InputError(
        f"output directory {directory}",
        got=got,
        expected="a new or empty directory, or one that holds a model",
        fix="choose another directory",
    )


def _flush(directory: Path) -> None:
    for path in directory.rglob("*"):
        if path.is_dir():
            fsync_directory(path)
        else:
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
    fsync_directory(directory)


def _swap(temporary: Path, directory: Path) -> None:
    """Rename `temporary` to `directory`; what stood there goes away only once the new one is in place."""
    if not directory.exists():
        temporary.rename(directory)
        fsync_directory(directory.parent)
        return
    old = Path(tempfile.mkdtemp(dir=directory.parent, prefix=f".{directory.name}.", suffix=".old"))
    held = take_lock(old)  # between the two renames nobody else may put it back
    try:
        directory.rename(old / directory.name)
        try:
            temporary.rename(directory)
        except OSError:
            (old / directory.name).rename(directory)
            raise
        fsync_directory(directory.parent)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        if held is not None:
            os.close(held)
