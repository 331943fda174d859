"""Language model of the embedded corpus: its figures over seeds, mean and spread.

    python benchmarks/language_model.py [--seeds 0 1 2] [--samples 2000] [any option of `rlhf pretrain`]

A line is complete when a newline or the end token ended it; speakers' headers are not counted. "Verbatim": the line
stands in the training corpus.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from rlhf import environment

environment.prepare()

from rewards.gold import GoldRule
from rlhf.commands.command_line import parse
from rlhf.foundation.model_directory import load_causal_lm, load_tokenizer
from rlhf.language_model.endings import ending_of
from rlhf.language_model.grammar import OPENING, generate_corpus, is_header, is_well_formed
from rlhf.language_model.pretrain import pretrain
from rlhf.language_model.pretrain_config import PretrainConfig
from rlhf.language_model.randomness import Stream, uniforms
from rlhf.language_model.sampler import generate

MAX_NEW_TOKENS = 32


class Texts(NamedTuple):
    """Completions and whether the end token ended them."""

    texts: list[str]
    ended: list[bool]


def sample(directory: Path, prompt: str, count: int, seed: int) -> Texts:
    """Completions of one prompt ("": unconditional) at temperature 1."""
    model, tokenizer = load_causal_lm(str(directory)), load_tokenizer(str(directory))
    end = int(tokenizer.eos_token_id)
    ids = [end, *tokenizer(prompt, add_special_tokens=False)["input_ids"]]
    drawn = uniforms(seed, Stream.SAMPLE, range(count), MAX_NEW_TOKENS)
    done = generate(model, [ids] * count, drawn, ending=ending_of(model, tokenizer), pad_token_id=end)
    ended = ((done.completion_ids == end) & done.completion_mask).any(-1).tolist()
    return Texts(done.texts(ending_of(model, tokenizer)), ended)


def line_shares(samples: Texts, corpus_lines: set[str]) -> tuple[float, float, int]:
    """Well-formed and verbatim shares of complete spoken lines, and their number."""
    lines = [
        line
        for text, ended in zip(samples.texts, samples.ended, strict=True)
        for line in (text.split("\n") if ended else text.split("\n")[:-1])
        if not is_header(line)
    ]
    well_formed = sum(map(is_well_formed, lines)) / len(lines)
    return well_formed, sum(line in corpus_lines for line in lines) / len(lines), len(lines)


def measure(config: PretrainConfig, samples: int, corpus_lines: set[str]) -> dict[str, float]:
    """Train one model and measure it."""
    started, cpu = time.perf_counter(), time.process_time()
    figures = pretrain.run(config).figures
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    free = sample(Path(config.output_dir), "", samples, config.seed)
    well_formed, verbatim, lines = line_shares(free, corpus_lines)
    labels = [GoldRule().label(text) for text in free.texts]
    herald = sample(Path(config.output_dir), OPENING, samples, config.seed)
    return {
        "well-formed lines, share": well_formed,
        "verbatim lines, share": verbatim,
        "complete lines, n": lines,
        "samples ended by the end token, share": statistics.mean(samples_ended for samples_ended in free.ended),
        "positive samples by gold, share": labels.count("positive") / samples,
        "negative samples by gold, share": labels.count("negative") / samples,
        "full stops a completion of the opening": statistics.mean(text.count(".") for text in herald.texts),
        "full stops, standard deviation": statistics.pstdev(text.count(".") for text in herald.texts),
        "held-out loss, nats/token": figures.held_out_loss,
        "its standard error": figures.held_out_loss_se,
        "bits per character": figures.bits_per_character,
        "parameters": figures.parameters,
        "epochs": figures.epochs,
        "training, s": figures.seconds,
        "whole command, s": seconds,
        "processor time, s": cpu,
    }


def main() -> None:
    """Print a row a figure: mean, standard deviation over seeds, each seed."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--samples", type=int, default=2000)
    own, rest = parser.parse_known_args()
    corpus_lines = {line for document in generate_corpus() for line in document.split("\n")}
    rows = []
    for seed in own.seeds:
        with tempfile.TemporaryDirectory() as directory:
            words = ["--output_dir", f"{directory}/model", "--seed", str(seed), "--quiet", *rest]
            config = parse(PretrainConfig, words, prog="benchmarks/language_model.py", description="")
            rows.append(measure(config, own.samples, corpus_lines))
    for name in rows[0]:
        values = [row[name] for row in rows]
        spread = statistics.stdev(values) if len(values) > 1 else float("nan")
        each = " ".join(f"{value:.4g}" for value in values)
        print(f"{name:<42}{statistics.mean(values):>12.4f} ± {spread:.4f}   ({each})", flush=True)


if __name__ == "__main__":
    main()
