"""Scoring a ladder: golds, failures, variety, copying, the onset, and the file that comes back the same."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from rewards.gold import GoldRule
from rlhf.commands.evaluate import main
from rlhf.foundation.errors import InputError
from rlhf.inspection.diversity import Share, distinct_n, lines_of, top_completion_share, verbatim_lines
from rlhf.inspection.evaluation import evaluate_run, read_evaluation
from rlhf.inspection.overoptimisation import Course, find_onset
from rlhf.inspection.recommendation import recommend
from rlhf.inspection.report import build_report

from .conftest import MakeRun


def count_lord(prompts: Any, completions: Any, completion_ids: Any = None, **_: Any) -> list[float | None]:
    return [float(text.count("lord")) for text in completions]


def fails_on_hash(prompts: Any, completions: Any, completion_ids: Any = None, **_: Any) -> list[float | None]:
    if any("#" in text for text in completions):
        raise RuntimeError("cannot read #")
    return [1.0 for _ in completions]


def test_golds_are_scored_and_the_file_reads_back(make_run: MakeRun) -> None:
    run = make_run(rungs=3, samples=8, texts=["lord lord", "none"])
    evaluation = evaluate_run(run, {"lords": count_lord}, corpus="my lord thou art\n")
    assert evaluation.golds == ["gold", "lords"]
    assert evaluation.scores["kl-00.00"]["lords"][:2] == [2.0, 0.0]
    stored = json.loads((run / "samples" / "kl-10.00.jsonl").read_text().splitlines()[0])
    assert evaluation.scores["kl-10.00"]["proxy"][0] == stored["reward"]
    last = evaluation.rungs[-1]
    assert last.proxy is not None
    assert last.proxy.n == 8
    assert last.verbatim_lines == 0  # no sample has a line break
    assert evaluation.best_of_n[-1].n == 8
    assert read_evaluation(run / "evaluation.json") == evaluation


def test_one_failing_sample_is_counted_not_zero(make_run: MakeRun) -> None:
    run = make_run(rungs=3, samples=6, gold=None, texts=["a # b"])
    evaluation = evaluate_run(run, {"shy": fails_on_hash})
    assert evaluation.rungs[0].unscored == {"proxy": 0, "shy": 1}
    gold = evaluation.rungs[0].gold["shy"]
    assert gold is not None
    assert (gold.mean, gold.n) == (1.0, 5)


def test_a_gold_that_always_fails_is_refused(make_run: MakeRun) -> None:
    run = make_run(rungs=2, samples=2, texts=["#", "#"])
    with pytest.raises(InputError, match="reward 'shy': got RuntimeError: cannot read #"):
        evaluate_run(run, {"shy": fails_on_hash})
    with pytest.raises(InputError, match="got 1 rewards; expected a list of 2 numbers"):
        evaluate_run(run, {"short": lambda **_: [1.0]})
    assert not (run / "evaluation.json").exists()


def test_a_run_without_samples(make_run: MakeRun) -> None:
    run = make_run(rungs=2, samples=2)
    for path in (run / "samples").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="got no samples of any rung"):
        evaluate_run(run)


def test_a_foreign_evaluation_file(make_run: MakeRun) -> None:
    path = make_run(rungs=2, samples=2) / "evaluation.json"
    path.write_text('{"rungs": [{}]}')
    with pytest.raises(InputError, match="got another shape"):
        read_evaluation(path)


def test_diversity_by_hand() -> None:
    # Words: "the king , the king" and "The queen": pairs the-king, king-",", ","-the, the-king, the-queen.
    texts = ["the king, the king", "The queen"]
    assert distinct_n(texts, 1) == 4 / 7
    assert distinct_n(texts, 2) == 4 / 5
    assert distinct_n(["a", "b"], 2) is None
    assert top_completion_share(["a ", "a", "b", "c"]) == 0.5


def test_only_whole_lines_of_three_words_count_as_copies() -> None:
    corpus = lines_of("To be or not\n  my sweet lord  \nAy\n")
    texts = ["To be or not\nmy sweet lord\nAy\nTo be or not", "quite new line here\n"]
    assert verbatim_lines(texts, corpus) == Share(2, 3)  # the unended last line and the one-word line are left out
    assert Share(0, 0).value is None


ROOTS = np.linspace(0, math.sqrt(10), 9)


def planted(course: Any, samples: int, seed: int, spread: float = 0.5) -> np.ndarray:
    generator = np.random.default_rng(seed)
    shared = generator.normal(0, spread, size=samples)
    return np.stack([course(d) + shared + generator.normal(0, spread / 2, size=samples) for d in ROOTS])


def onset_of(scores: np.ndarray) -> Any:
    names = [f"kl-{d * d:05.2f}" for d in ROOTS]
    proxy = Course(ROOTS, np.cumsum(np.ones_like(scores), axis=0))
    return find_onset("gold", names, [Course(ROOTS, scores)], proxy, draws=500)


def test_a_fall_is_found_with_its_rung() -> None:
    onset = onset_of(planted(lambda d: d * (1.6 - 0.5 * d), 400, 0))  # highest at d = 1.6
    assert onset.status == "onset"
    assert abs(onset.d - 1.6) <= 0.4  # the rungs lie 0.4 apart
    assert onset.interval[0] <= onset.d <= onset.interval[1]
    assert onset.proxy_gain > 0
    assert "stops rising at" in onset.statement()
    assert "goes on rising" in onset.statement()


def test_a_rise_is_no_onset() -> None:
    onset = onset_of(planted(lambda d: d, 400, 0))
    assert onset.status == "none_seen"
    assert "no overoptimisation seen up to 10.0 nats" in onset.statement()


def test_a_plateau_is_seldom_called_an_onset() -> None:
    found = [onset_of(planted(lambda d: 0.0, 100, seed)).status == "onset" for seed in range(100)]
    assert sum(found) <= 11  # 5 % nominal; P(more than 11 of 100) < 0.5 %


def test_two_rungs_say_nothing() -> None:
    scores = planted(lambda d: d, 20, 0)
    few = Course(ROOTS[:2], scores[:2])
    onset = find_onset("gold", ["a", "b"], [few], few)
    assert onset.status == "too_few_rungs"
    assert "nothing can be said" in onset.statement()


def test_a_constant_gold_is_named_and_decides_nothing(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    """Texts of another play: the rule `gold` scores 0 on each; a win rate of 50 % and a peak at 0 nats say nothing."""
    run = make_run(rungs=5, samples=12, gold=None)
    main([str(run), "--stored_samples", "True", "--gold_reward_func", "gold", "lexicon"])
    told = capsys.readouterr().out
    evaluation = read_evaluation(run / "evaluation.json")
    assert evaluation.golds == ["gold", "lexicon"]
    assert evaluation.telling_golds == ["lexicon"]
    assert evaluation.onsets["gold"].status == "constant"
    assert "gold is constant, the same on every sample of every rung: the rule knows no word of these texts" in told
    assert "--gold_reward_func lexicon reads any English text" in told
    assert "gold against the original" not in told
    assert "gold 0.000" not in told
    assert "lexicon against the original" in told
    assert set(evaluation.ppo_fits) == {"proxy", "lexicon"}
    assert "gold" not in evaluation.best_of_n_fits
    page = build_report(run).read_text(encoding="utf-8")
    assert "gold is constant" in page
    assert "gold (constant)" in page
    advice = recommend(evaluation)
    assert advice is not None
    assert "lexicon" in advice.text()


def test_with_nothing_but_a_constant_gold_the_proxy_advises(make_run: MakeRun) -> None:
    evaluation = evaluate_run(
        make_run(rungs=5, samples=12, gold=None), {"one": lambda prompts, **_: [1.0] * len(prompts)}
    )
    advice = recommend(evaluation)
    assert advice is not None
    assert not advice.used_gold
    assert evaluation.onsets["one"].statement() == (
        "one is constant, the same on every sample of every rung: it tells nothing about these texts."
    )


def test_gold_of_few_texts_says_so(make_run: MakeRun) -> None:
    run = make_run(rungs=5, samples=12, gold=None, texts=["OSRIC:\nHow cruel is the voice of my lady!"])
    onset = evaluate_run(run, {"gold": GoldRule()}).onsets["gold"]
    assert "derives a line of 5 of 60 texts (8.3%) only" in onset.statement()
