"""One evaluation of a run at a time: two would mix their fresh samples."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlhf.evaluation.evaluate import EvaluateConfig, evaluate
from rlhf.foundation.errors import InputError
from rlhf.foundation.locks import sole_writer

from .conftest import MakeRun


def test_a_second_evaluation_is_refused_and_leaves_nothing(make_run: MakeRun) -> None:
    directory: Path = make_run(samples=8)
    before = sorted(path.name for path in directory.iterdir())
    config = EvaluateConfig(run=str(directory), stored_samples=True, gold_reward_func=["full_stop"])
    with sole_writer(directory / "evaluation"), pytest.raises(InputError, match=r"rlhf evaluate: got .*in use by"):
        evaluate.run(config)
    assert sorted(path.name for path in directory.iterdir()) == before
    evaluate.run(config)
    assert (directory / "evaluation.json").is_file()


def test_a_folder_in_the_evaluation_s_place_is_refused_before_the_work(make_run: MakeRun) -> None:
    directory: Path = make_run(samples=8)
    (directory / "evaluation.json").mkdir()
    with pytest.raises(InputError, match=r"evaluation\.json, a directory"):
        evaluate.run(EvaluateConfig(run=str(directory), stored_samples=True))
