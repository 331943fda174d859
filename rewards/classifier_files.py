"""Classifiers of the field from directories, hub names and adapters: safetensors alone, no code of theirs is run."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, cast

from safetensors import safe_open
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel
from transformers.utils import cached_file

from rlhf.foundation.adapters import adapter_base, load_adapter
from rlhf.foundation.errors import InputError
from rlhf.foundation.load_errors import LOAD_ERRORS, libraries_in_silence, load_failure

_KIND = "a sequence classifier in safetensors"


def load_classifier_model(name_or_path: str, dtype: str = "auto", **options: Any) -> PreTrainedModel:
    """The classifier of a directory or hub name in eval mode; an adapter is merged into its base.

    Attention that its config asks for and this machine has not is replaced by transformers' plain one. Raises
    InputError when files are missing or damaged, weights are lacking (transformers fills them at random), or it is no
    classifier.
    """
    base = adapter_base(name_or_path)
    if base is not None:
        outputs = _outputs_of_adapter(name_or_path)
        adapted = load_adapter(load_classifier_model(base, dtype, num_labels=outputs, head=True), name_or_path)
        return cast(PreTrainedModel, adapted.merge_and_unload(safe_merge=True).eval())
    head = options.pop("head", False)  # the adapter brings it
    try:
        with libraries_in_silence():
            loaded = _loaded(name_or_path, dtype, options)
    except LOAD_ERRORS as error:
        raise load_failure(name_or_path, _KIND, error) from error
    model, report = cast(tuple[PreTrainedModel, dict[str, Any]], loaded)
    _require_whole(name_or_path, model, report, head=head)
    return model


def _loaded(name_or_path: str, dtype: str, options: dict[str, Any]) -> Any:
    given: dict[str, Any] = {"dtype": dtype, "use_safetensors": True, "output_loading_info": True}
    load: Any = AutoModelForSequenceClassification.from_pretrained
    config = AutoConfig.from_pretrained(name_or_path, trust_remote_code=False, **options)
    try:
        return load(name_or_path, config=config, trust_remote_code=False, **given)
    except (ImportError, ValueError) as error:
        if "attention" not in str(error).lower():
            raise
        config._attn_implementation = "eager"
        return load(name_or_path, config=config, trust_remote_code=False, **given)


def _require_whole(name_or_path: str, model: Any, report: dict[str, Any], *, head: bool) -> None:
    absent = sorted(report["missing_keys"])
    if head:
        absent = [name for name in absent if name.startswith(model.base_model_prefix + ".")]
    if not absent:
        return
    made = (model.config.architectures or ["a model without a name"])[0]
    is_other = "SequenceClassification" not in made
    raise InputError(
        f"reward model {name_or_path}",
        got=f"{made}, without weights for {absent[0]}" if is_other else f"no weights for {absent[0]}",
        expected="a trained sequence classifier, every weight of it",
        fix="fit one with `rlhf reward`, or ask a language model about two words (docs/reward_models.md)"
        if is_other
        else "name a directory whose config and weights belong together",
    )


def _outputs_of_adapter(name_or_path: str) -> int:
    """Rows of the head that an adapter was saved with. Raises InputError when it holds none."""
    try:
        config = json.loads(Path(str(cached_file(name_or_path, "adapter_config.json"))).read_text(encoding="utf-8"))
        heads = tuple(f".{module}.weight" for module in config.get("modules_to_save") or ())
        path = cached_file(name_or_path, "adapter_model.safetensors")
        with safe_open(str(path), framework="pt") as file:
            found = [name for name in file.keys() if name.endswith(heads)]  # noqa: SIM118
            rows = [int(file.get_slice(name).get_shape()[0]) for name in found]
    except LOAD_ERRORS as error:
        raise load_failure(name_or_path, _KIND, error) from error
    if not rows:
        raise InputError(
            f"adapter {name_or_path}",
            got="no head among its weights",
            expected="an adapter of a classifier (task_type SEQ_CLS), whose head is saved with it",
            fix="name another one",
        )
    return rows[-1]


def load_classifier_tokenizer(name_or_path: str) -> Any:
    """The tokenizer of a classifier's directory or hub name; where an adapter's has none, its base's."""
    try:
        with libraries_in_silence():
            return AutoTokenizer.from_pretrained(name_or_path, trust_remote_code=False)
    except LOAD_ERRORS as error:
        base = adapter_base(name_or_path)
        if base is None:
            raise load_failure(name_or_path, "a tokenizer", error) from error
        return load_classifier_tokenizer(base)


def holds_model(name: str) -> bool:
    """Whether a name is a directory with a model or an adapter in it, or one of the hub that is in the cache."""
    if os.path.isdir(name):
        return any((Path(name) / file).is_file() for file in ("config.json", "adapter_config.json"))
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        return any(isinstance(try_to_load_from_cache(name, f), str) for f in ("config.json", "adapter_config.json"))
    except (HFValidationError, OSError):  # no name that the hub could have
        return False
