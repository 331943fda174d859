"""`rlhf pretrain`: a small language model from scratch, saved as an ordinary model directory."""

from __future__ import annotations

from collections.abc import Sequence

from rlhf.commands.command_line import parse
from rlhf.foundation.terminal import plus_minus, shown
from rlhf.language_model.pretrain import pretrain
from rlhf.language_model.pretrain_config import PretrainConfig


def main(argv: Sequence[str]) -> None:
    """Parse, train, print the figures and samples."""
    config = parse(
        PretrainConfig, argv, prog="rlhf pretrain", description="Train a small causal language model from scratch."
    )
    result = pretrain.run(config)
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
