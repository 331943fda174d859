"""`rlhf evaluate` on a real, tiny run: fresh samples, KL measured again, rewards loaded again, failures told."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path

import pytest

from rlhf.commands.evaluate import main
from rlhf.evaluation.evaluate import EvaluateConfig, evaluate
from rlhf.evaluation.fresh_samples import samples_for_error
from rlhf.foundation.errors import InputError
from rlhf.foundation.records import read_samples
from rlhf.inspection.evaluation import Evaluation, read_evaluation
from rlhf.runs.reading import read_run

from .conftest import MakeRun

SMALL = ["--best_of_n_samples", "0", "--heat_samples", "0", "--quiet"]


@pytest.fixture
def copied_run(trained_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained_run, tmp_path / "run"))


def test_fresh_samples_measure_the_ladder_again(copied_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(copied_run), "--gold_reward_func", "length", "--quality_func", "full_stop_share", "--num_samples", "300",
          "--heat_samples", "4", "--best_of_n_samples", "0", "--quiet"])  # fmt: skip
    said = capsys.readouterr().out
    assert "length against the original, same prompt and random numbers: " in said
    assert re.search(r"wins +[\d.]+% \([\d.]+% to [\d.]+%, n = 300, \d+ ties\)", said)
    ladder, evaluation = read_run(copied_run), read_evaluation(copied_run / "evaluation.json")
    assert len(evaluation.rungs) == len(ladder.rungs) >= 4
    assert (evaluation.golds, evaluation.qualities) == (["length"], ["full_stop_share"])
    for stored, again in zip(ladder.rungs, evaluation.rungs, strict=True):
        spread = math.hypot(stored.kl_per_completion_se or 0, again.kl_se or 0)
        assert abs(stored.kl_per_completion - again.kl) <= 3.5 * spread + 1e-6
    last = ladder.rungs[-1].name
    fresh = read_samples(copied_run / "evaluation" / f"{last}.jsonl")
    assert len(fresh) == 300
    assert fresh[0].reward == fresh[0].completion.count(".")  # the proxy is the run's own reward
    # Fresh: not the 32 samples that came with the rung, but the same prompts and seed on every rung.
    stored_texts = [sample.completion for sample in read_samples(copied_run / "samples" / f"{last}.jsonl")]
    assert [sample.completion for sample in fresh[:32]] != stored_texts
    assert {sample.seed for sample in fresh} == {0}

    heat = json.loads((copied_run / "evaluation" / "heat.json").read_text())
    assert all(value == 0 for row in heat["kl-00.00"] for value in row["kl"])
    assert "".join(heat[last][0]["tokens"]).removesuffix("<end>") == fresh[0].completion


def test_the_colours_add_up_to_the_kl(copied_run: Path) -> None:
    options = {"num_samples": 24, "heat_samples": 24, "best_of_n_samples": 0, "quiet": True}
    evaluation = evaluate.run(EvaluateConfig(run=str(copied_run), **options))  # type: ignore[arg-type]
    heat = json.loads((copied_run / "evaluation" / "heat.json").read_text())
    for rung in evaluation.rungs:
        sums = [sum(row["kl"]) for row in heat[rung.name]]
        assert sum(sums) / 24 == pytest.approx(rung.kl, rel=0.01, abs=1e-4)  # kept with three digits
        pays = [sum(row["pay"]) for row in heat[rung.name]]
        assert pays == pytest.approx(evaluation.scores[rung.name]["proxy"])  # an empty text earns no full stop


def test_the_same_draw_is_the_same_and_another_is_not(copied_run: Path) -> None:
    def proxies(draw: int) -> list[float | None]:
        config = EvaluateConfig(
            run=str(copied_run), num_samples=20, draw=draw, heat_samples=0, best_of_n_samples=0, quiet=True
        )
        return evaluate.run(config).scores["kl-00.00"]["proxy"]

    assert proxies(1) == proxies(1) != proxies(2)


def test_best_of_n_has_a_pool_of_its_own(copied_run: Path) -> None:
    def evaluated(pool: int) -> Evaluation:
        options = {"num_samples": 20, "best_of_n_samples": pool, "heat_samples": 0, "quiet": True}
        return evaluate.run(EvaluateConfig(run=str(copied_run), gold_reward_func=["length"], **options))

    small, large = evaluated(0), evaluated(300)
    assert (small.best_of_n_pool, small.best_of_n[-1].n) == (20, 16)
    assert (large.best_of_n_pool, large.best_of_n[-1].n) == (300, 256)
    assert large.scores == small.scores  # the rungs themselves are the same
    assert large.draw == 1
    assert large.best_of_n_ties > 0.9  # full stops are whole numbers
    assert "full_stop" not in large.best_of_n[-1].gold
    assert read_evaluation(copied_run / "evaluation.json") == large


def test_stored_samples_need_no_model(copied_run: Path) -> None:
    shutil.rmtree(copied_run / "checkpoints")
    evaluation = evaluate.run(EvaluateConfig(run=str(copied_run), stored_samples=True, gold_reward_func=["length"]))
    assert evaluation.samples == "samples"
    assert len(evaluation.scores["kl-00.00"]["length"]) == 32


def test_the_error_wanted_decides_the_number() -> None:
    # Spreads √2·... by hand: values ±1 have s² = 4/3 with n = 4, ±3 nine times that: (3/1)²/0.1² = 900.
    original, last = [1.0, -1.0, 1.0, -1.0], [3.0, -3.0, 3.0, -3.0]
    assert samples_for_error([[original, last]], 0.1) == pytest.approx(900, abs=1)
    assert samples_for_error([[[1.0, 1.0], [0.0, 1.0]]], 0.1) == 2  # no spread at the start: nothing to scale by
    assert samples_for_error([], 0.1) == 2


def test_a_run_whose_rewards_were_objects(make_run: MakeRun) -> None:
    directory = make_run(rungs=2, samples=4)
    with pytest.raises(InputError, match="no reward model path and no reward function's name"):
        evaluate.run(EvaluateConfig(run=str(directory), num_samples=4, quiet=True))


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ([], "got no run"),
        (["r", "--num_samples", "1"], "--num_samples: got 1; expected at least 2"),
        (["r", "--relative_error", "0"], "--relative_error: got 0.0; expected between 0 and 1"),
        (["r", "--gold_reward_func", "length", "--quality_func", "length"], "got no such directory"),
        (["nowhere"], "got no such directory"),
    ],
)
def test_bad_options(options: list[str], line: str) -> None:
    with pytest.raises(InputError, match=line):
        main(options)


def test_two_rewards_of_one_name(copied_run: Path) -> None:
    with pytest.raises(InputError, match="two rewards of one name"):
        main([str(copied_run), "--gold_reward_func", "length", "--quality_func", "length"])


def test_corpus_and_held_out_text(copied_run: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("abc def ghi jkl mno.\n" * 20)
    options = ["--corpus", str(corpus), "--heldout", str(corpus), "--num_samples", "20", *SMALL]
    main([str(copied_run), *options])
    evaluation = read_evaluation(copied_run / "evaluation.json")
    first = evaluation.rungs[0]
    assert first.heldout is not None
    # Random weights know nothing: about log 32 nats a token, the vocabulary's size.
    assert first.heldout.mean == pytest.approx(math.log(32), abs=1.5)
    assert first.longest_run is not None
    assert first.verbatim_lines == 0
    assert set(evaluation.side_effects) == {rung.name for rung in evaluation.rungs[1:]}
    main([str(copied_run), "--corpus", "embedded", "--heldout", "embedded", "--num_samples", "20", *SMALL])
    assert read_evaluation(copied_run / "evaluation.json").rungs[0].heldout is not None
    corpus.write_text("short")
    with pytest.raises(InputError, match="--heldout: got 5 tokens"):
        main([str(copied_run), *options])
    with pytest.raises(InputError, match="--rewarded_words"):
        main([str(copied_run), "--rewarded_words", "("])
