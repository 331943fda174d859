"""`rlhf.pretrain`: a small language model from scratch, saved as an ordinary model directory."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlhf.foundation.digests import digest_files, value_digest, write_sealed
from rlhf.foundation.errors import InputError
from rlhf.foundation.memory import require_memory
from rlhf.foundation.model_pair import LanguageModel
from rlhf.foundation.records import Sample
from rlhf.foundation.steps import step
from rlhf.language_model.pretrain_config import PretrainConfig

if TYPE_CHECKING:
    from rlhf.language_model.training import PretrainFigures

SHOWN_SAMPLES = 4


@dataclass(frozen=True, eq=False)
class Pretrained(LanguageModel):
    """The model with its tokenizer, where it is (None in memory), its figures, and a few unconditional samples."""

    output_dir: Path | None = None
    figures: PretrainFigures = field(kw_only=True)
    samples: Sequence[Sample] = field(kw_only=True, repr=False)

    def _repr_html_(self) -> str:
        said = (
            (name, f"{value:,.3f}" if isinstance(value, float) else f"{value:,}")
            for name, value in self.figures.as_json().items()
        )
        rows = (f"<tr><td>{name}</td><td>{value}</td></tr>" for name, value in said)
        return f"<p>{html.escape(self.name)}</p><table>{''.join(rows)}</table>"


@step(PretrainConfig)
def pretrain(config: PretrainConfig) -> Pretrained:
    """A small language model from scratch; its directory is written whole or not at all.

    Raises InputError, also when another command writes there. A KeyboardInterrupt says that nothing was written: a
    training of seconds to minutes keeps no checkpoints.
    """
    from rlhf.foundation.locks import sole_writer

    with sole_writer(config.output_dir):
        return _pretrain(config)


def _pretrain(config: PretrainConfig) -> Pretrained:
    from rlhf.language_model.sampler import sample_texts
    from rlhf.language_model.training import build_language_model

    _require_free(config)
    require_memory(needed_memory(config), {name: getattr(config, name) for name in SIZES})
    try:
        documents = _documents(config)
        model, tokenizer, figures = build_language_model(config, documents)
        if config.output_dir is not None:
            _save(config, Path(config.output_dir), model, tokenizer, figures, documents)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("no model was written; the same command starts over") from None
    name = config.output_dir or f"a model pretrained in memory (seed {config.seed})"
    samples = sample_texts(
        model,
        tokenizer,
        [""] * SHOWN_SAMPLES,
        max_new_tokens=min(48, config.block_size - 1),
        seed=config.seed,
        source=name,
    )
    directory = Path(config.output_dir) if config.output_dir else None
    return Pretrained(model, tokenizer, name, directory, figures=figures, samples=samples)


def _save(
    config: PretrainConfig,
    directory: Path,
    model: Any,
    tokenizer: Any,
    figures: PretrainFigures,
    documents: Sequence[str],
) -> None:
    from rlhf.foundation.model_directory import replacing_directory

    with replacing_directory(directory) as temporary:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        origin = _origin(config, directory, documents)
        record = {"config": config.recorded(), "figures": figures.as_json(), **origin}
        write_sealed(temporary / "pretrain.json", {**record, "files": digest_files(temporary, ".")})


def _origin(config: PretrainConfig, directory: Path, documents: Sequence[str]) -> dict[str, Any]:
    """The corpus by its place and digest, versions, revision and hardware."""
    from rlhf.foundation.host import host_facts
    from rlhf.foundation.recorded_paths import STAGE_PATHS, recorded_paths

    paths = recorded_paths(config.recorded(), directory, STAGE_PATHS)
    return {"paths": paths, "inputs": {"corpus": value_digest(list(documents))}, **host_facts()}


def _documents(config: PretrainConfig) -> Sequence[str]:
    """The corpus' documents, read or as given. Raises InputError."""
    from rlhf.language_model.corpus import read_corpus

    if isinstance(config.corpus, str):
        return read_corpus(
            config.corpus,
            document_separator=config.document_separator.replace("\\n", "\n"),
            text_column=config.text_column,
            dataset_split=config.dataset_split,
        )
    for number, document in enumerate(config.corpus, start=1):
        if not isinstance(document, str):
            got = f"a {type(document).__name__}"
            raise InputError(f"corpus, document {number}", got=got, expected="text", fix="give texts")
    return list(config.corpus)


SIZES = ("block_size", "hidden_size", "num_hidden_layers", "per_device_train_batch_size")


def needed_memory(config: PretrainConfig) -> int:
    """Bytes of the weights in float32 with gradients and Adam's two moments, and of a step's activations and masks."""
    weights = config.hidden_size * (12 * config.num_hidden_layers * config.hidden_size + config.vocab_size)
    batch, length = config.per_device_train_batch_size, config.block_size
    widths = 20 * config.num_hidden_layers * config.hidden_size + 2 * length
    return 16 * weights + 4 * batch * length * widths


def _require_free(config: PretrainConfig) -> None:
    if config.output_dir and (Path(config.output_dir) / "config.json").exists() and not config.overwrite:
        raise InputError(
            "--output_dir",
            got=f"{config.output_dir}, which holds a model",
            expected="a new directory",
            fix="choose another one, or pass --overwrite",
        )
