"""Simulated annotators as users of the real server: what comes back equals what they answered."""

from __future__ import annotations

from pathlib import Path

import pytest

from labeling.by_rule import simulate_labels
from labeling.campaign import judgement_tasks, plan_tasks, push_all
from labeling.fetching import check_config, fetch
from labeling.folder import Folder
from labeling.pooling import pool
from labeling.rater_agreement import label_alpha, rater_counts
from labeling.screens import SENTIMENT
from labeling.server_raters import annotate_as, simulated_judgements
from labeling.steps.annotate import AnnotateConfig, annotate
from labeling.steps.pull import PullConfig, pull
from labeling.steps.push import PushConfig, push
from labeling.steps.status import StatusConfig, status
from rlhf.foundation.records import LABELS, Label, LabelName, Sample, read_comparisons, read_labels, write_records
from tests.labeling.conftest import RATERS, Live

pytestmark = pytest.mark.real
NOISE = (0.15, 0.15, 0.20)


def truth(completion: str, prompt: str = "") -> LabelName:
    return LABELS[int(completion.split()[-1]) % 3]


@pytest.mark.slow
def test_agreement_from_the_server_equals_the_local_truth(label_studio: Live, folder: Folder, title: str) -> None:
    """One seed of 24 tasks here; five seeds of 300 in benchmarks/labeling_acceptance.py."""
    samples = [Sample(f"uid-{i:03d}", "", f"text {i}", "m") for i in range(24)]
    tasks, _ = judgement_tasks(samples)
    plan, joined = plan_tasks(folder, SENTIMENT, title, tasks)
    push_all(folder, plan, joined, RATERS, label_studio.connect, check=check_config)
    local: list[Label] = []
    by_uid = {task.uid: task for task in joined}
    for project, noise in zip(folder.need_plan().projects, NOISE, strict=True):
        local += simulate_labels(samples, truth, annotator=project.rater, noise=noise, seed=1)
        answers = simulated_judgements(by_uid, truth, annotator=project.rater, noise=noise, seed=1)
        studio = label_studio.connect(project.rater)
        assert annotate_as(studio, project, plan, answers) == 24
    again = folder.need_plan().projects[0]
    answers = {joined[0].uid: "positive"}
    annotate_as(label_studio.connect(again.rater), again, plan, answers)  # a repeat adds nothing
    pulled = fetch(folder, lambda project: label_studio.connect(project.rater))
    labels = read_labels(folder.path / "labels.jsonl")
    assert pulled.annotations == len(labels) == 72
    assert {(x.uid, x.annotator): x.label for x in labels} == {(x.uid, x.annotator): x.label for x in local}
    assert label_alpha(labels) == label_alpha(local)
    for one, two in zip(rater_counts(labels), rater_counts(local), strict=True):
        assert one.against_others == two.against_others
    assert pool(labels).posterior == pool(local).posterior


def test_the_command_line_path_without_a_person(label_studio: Live, tmp_path: Path, title: str) -> None:
    """Comparisons: push, annotate, pull, status; two raters without noise agree entirely."""
    texts = ("I love this happy day", "I hate this horrible day")
    samples = [Sample(f"s{i}", "", f"{texts[i % 2]} {i // 2}", "m") for i in range(8)]
    write_records(tmp_path / "samples.jsonl", samples)
    common = {"output_dir": str(tmp_path / "folder"), "server_dir": str(label_studio.directory), "quiet": True}
    push.run(
        PushConfig(
            samples=str(tmp_path / "samples.jsonl"),
            title=title,
            kind="comparison",
            raters=["ana,ben"],
            **common,  # type: ignore[arg-type]
        )
    )
    done = annotate.run(AnnotateConfig(gold="lexicon", noise=[0.0], **common))  # type: ignore[arg-type]
    assert done == {"ana": 4, "ben": 4}
    pull.run(PullConfig(**common))  # type: ignore[arg-type]
    comparisons = read_comparisons(tmp_path / "folder" / "comparisons.jsonl")
    assert len(comparisons) == 8
    assert all("love" in c.chosen and "hate" in c.rejected for c in comparisons)
    found = status.run(StatusConfig(output_dir=str(tmp_path / "folder")))
    assert "labelled: 4 of 4 tasks, 8 labels" in found.lines[0]
    assert found.ceiling.value == pytest.approx(1.0)
