"""Every method on a tiny model: a run directory that opens, whose KL is ours and whose last rung is on the budget."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import rlhf
from rlhf.foundation.errors import InputError
from rlhf.foundation.records import Label
from rlhf.methods.config import METHODS, OFFLINE
from tests.pages import answer


@pytest.fixture(scope="module")
def model() -> Any:
    return rlhf.pretrain(
        corpus=["The lord is merry. O happy day!", "The sad lady weeps. A bitter tear."] * 20, vocab_size=300,
        block_size=48, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, max_steps=20, quiet=True,
    )  # fmt: skip


def shorter(completions: list[str], **_: Any) -> list[float]:
    return [-float(len(text)) for text in completions]


def labels(model: Any) -> list[Label]:
    samples = rlhf.sample(model, num_samples=64, max_new_tokens=8, quiet=True)
    middle = sorted(len(one.completion) for one in samples)[32]
    said = ["positive" if len(one.completion) < middle else "negative" for one in samples]
    return [Label(one.uid, "", one.completion, label, "ana") for one, label in zip(samples, said, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("method", [m if m == "dpo" else pytest.param(m, marks=pytest.mark.long) for m in METHODS])
def test_a_ladder_is_kept(method: str, model: Any, tmp_path: Path) -> None:
    learns: dict[str, Any] = {"labels": labels(model)} if method in OFFLINE else {}
    run = rlhf.align(
        method=method, model_name_or_path=model, reward_func=[shorter], output_dir=str(tmp_path / "run"),
        learning_rate=1e-2, per_device_train_batch_size=16, max_completion_length=8, steps_per_iteration=2,
        max_iterations=20, kl_budget=0.5, num_eval_samples=64, quiet=True, **learns,
    )  # fmt: skip
    opened = rlhf.open_run(run.directory)
    ladder = opened.ladder
    assert ladder.kl_per_completion.iloc[0] == 0.0
    assert ladder.kl_per_completion.iloc[-1] == pytest.approx(0.5, rel=0.021)
    assert "reached" in (opened.stop_reason or "")
    assert opened.record["method"] == method
    found = rlhf.evaluate(run, num_samples=64, best_of_n_samples=0, quiet=True)
    assert found.rungs[-1].kl == pytest.approx(0.5, rel=0.5)  # other samples of the checkpoint on disk
    assert rlhf.inspect([run.directory], output_path=str(tmp_path / "report.html"), quiet=True).report is not None
    page = (tmp_path / "report.html").read_text()
    assert ("Is PPO worth" in page, '"PPO"' in page) == (False, False)
    rlhf.export(run, rung=str(opened.ladder.name.iloc[-1]), output_dir=str(tmp_path / "exported"), quiet=True)
    assert "Finetuned with PPO" not in (tmp_path / "exported" / "README.md").read_text()
    rated = {"output_dir": str(tmp_path / "rating"), "quiet": True}
    rlhf.rate_push(run, page=True, num_samples=6, **rated)
    answer(tmp_path / "rating", tmp_path / "ratings.json")
    rlhf.rate_pull(answers=[str(tmp_path / "ratings.json")], **rated)
    assert rlhf.rate_score(**rated).ratings == 12  # six texts of each of two models
    with pytest.raises(InputError, match="got a run of `rlhf align`"):
        rlhf.reproduce(run, quiet=True)
