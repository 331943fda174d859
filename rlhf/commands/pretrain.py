"""`rlhf pretrain`: a small language model from scratch, saved as an ordinary model directory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlhf.foundation.digests import digest_files, value_digest, write_sealed
from rlhf.foundation.errors import InputError
from rlhf.foundation.memory import require_memory
from rlhf.foundation.records import Sample
from rlhf.foundation.terminal import plus_minus, shown
from rlhf.language_model.pretrain_config import PretrainConfig
from rlhf.options import parse

if TYPE_CHECKING:
    from rlhf.language_model.pretrain import PretrainFigures

SHOWN_SAMPLES = 4


@dataclass(frozen=True, slots=True)
class PretrainResult:
    """Where the model is, its figures, and a few unconditional samples."""

    output_dir: Path
    figures: PretrainFigures
    samples: list[Sample]


def run(config: PretrainConfig) -> PretrainResult:
    """Read the corpus, train, write the model directory whole or not at all.

    Raises InputError, also when another command writes there. A KeyboardInterrupt says that nothing was written: a
    training of seconds to minutes keeps no checkpoints.
    """
    from rlhf.foundation.locks import sole_writer

    with sole_writer(config.output_dir):
        return _run(config)


def _run(config: PretrainConfig) -> PretrainResult:
    from rlhf.foundation.model_directory import replacing_directory
    from rlhf.language_model.corpus import read_corpus
    from rlhf.language_model.pretrain import build_language_model
    from rlhf.language_model.sampler import sample_texts

    _require_free(config)
    require_memory(needed_memory(config), {name: getattr(config, name) for name in SIZES})
    try:
        documents = read_corpus(
            config.corpus,
            document_separator=config.document_separator.replace("\\n", "\n"),
            text_column=config.text_column,
            dataset_split=config.dataset_split,
        )
        model, tokenizer, figures = build_language_model(config, documents)
        with replacing_directory(Path(config.output_dir)) as temporary:
            model.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
            record = {"config": asdict(config), "figures": figures.as_json(), **_origin(config, documents)}
            write_sealed(temporary / "pretrain.json", {**record, "files": digest_files(temporary, ".")})
    except KeyboardInterrupt:
        raise KeyboardInterrupt("no model was written; the same command starts over") from None
    samples = sample_texts(
        model,
        tokenizer,
        [""] * SHOWN_SAMPLES,
        max_new_tokens=min(48, config.block_size - 1),
        seed=config.seed,
        source=config.output_dir,
    )
    return PretrainResult(Path(config.output_dir), figures, samples)


def _origin(config: PretrainConfig, documents: Sequence[str]) -> dict[str, Any]:
    """The corpus by its place and digest, versions, revision and hardware."""
    from rlhf.foundation.host import host_facts
    from rlhf.ppo.run_paths import STAGE_PATHS, recorded_paths

    paths = recorded_paths(asdict(config), Path(config.output_dir), STAGE_PATHS)
    return {"paths": paths, "inputs": {"corpus": value_digest(list(documents))}, **host_facts()}


SIZES = ("block_size", "hidden_size", "num_hidden_layers", "per_device_train_batch_size")


def needed_memory(config: PretrainConfig) -> int:
    """Bytes of the weights in float32 with gradients and Adam's two moments, and of a step's activations and masks."""
    weights = config.hidden_size * (12 * config.num_hidden_layers * config.hidden_size + config.vocab_size)
    batch, length = config.per_device_train_batch_size, config.block_size
    widths = 20 * config.num_hidden_layers * config.hidden_size + 2 * length
    return 16 * weights + 4 * batch * length * widths


def _require_free(config: PretrainConfig) -> None:
    if (Path(config.output_dir) / "config.json").exists() and not config.overwrite:
        raise InputError(
            "--output_dir",
            got=f"{config.output_dir}, which holds a model",
            expected="a new directory",
            fix="choose another one, or pass --overwrite",
        )


def main(argv: Sequence[str]) -> None:
    """Parse, train, print the figures and samples."""
    config = parse(
        PretrainConfig, argv, prog="rlhf pretrain", description="Train a small causal language model from scratch."
    )
    result = run(config)
    figures = result.figures
    print(
        f"model of {figures.parameters:,} parameters, {figures.vocabulary} tokens: {result.output_dir}\n"
        f"held-out loss {figures.held_out_loss:.3f} {plus_minus(figures.held_out_loss_se, 3)} nats per token "
        f"(± one standard error, n = {figures.held_out_documents} documents), "
        f"{figures.bits_per_character:.3f} bits per character\n"
        f"trained on {figures.train_tokens:,} tokens ({figures.epochs:.1f} epochs) in {figures.seconds:.0f} s, "
        f"{figures.tokens_per_second:,.0f} tokens/s\n"
    )
    for sample in result.samples:
        print("\n".join(["--- sample", *map(shown, sample.completion.split("\n"))]))
