"""A reviewer's answers measure the raters and train nothing, by whatever way they came; and where raters lean."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path

import pytest

from labeling.annotations import Annotation
from labeling.answers import collect
from labeling.folder import Folder, Plan, Task
from labeling.leaning import verdict_shares
from labeling.returned import REFERENCE, Returned, add_up, write_returned
from labeling.screens import COMPARISON, SENTIMENT
from labeling.steps.import_labels import ImportConfig, import_labels
from labeling.steps.page import PageConfig, page
from labeling.steps.push import PushConfig
from labeling.steps.status import StatusConfig, status
from labeling.votes import votes_of
from rlhf import cli
from rlhf.foundation.errors import InputError
from rlhf.foundation.proportion import wilson
from rlhf.foundation.records import LABELS, Label, LabelName, Sample, read_comparisons, read_labels, write_records


def said(name: str, answers: str) -> list[Label]:
    """A label a letter: p, n or o (neutral); a space is a task without one."""
    kinds: dict[str, LabelName] = {"p": "positive", "n": "negative", "o": "neutral"}
    return [Label(f"u{i}", "", f"text {i}", kinds[x], name) for i, x in enumerate(answers) if x != " "]


ANA, BEN, RITA = "pppnnnoopp", "ppnnnnnopp", "ppnnoo    "


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "labels.jsonl"
    write_records(path, [*said("ana", ANA), *said("ben", BEN)])
    return path


def test_each_rater_is_measured_by_the_reviewer(labels: Path) -> None:
    """Of the six tasks that rita answered ana has p p p n n n (right: 1, 2, 4), ben p p n n n n (right: 1 to 4)."""
    before = status.run(StatusConfig(labels=str(labels)))
    assert before.reviewed == []
    write_records(labels.with_name("labels.reference.jsonl"), said("rita", RITA))
    found = status.run(StatusConfig(labels=str(labels)))
    by_hand = {"ana": Counter(zip(ANA, RITA[:6], strict=False)), "ben": Counter(zip(BEN, RITA[:6], strict=False))}
    letter = dict(zip(LABELS, "pon", strict=True))
    for one, right in zip(found.reviewed, (3, 4), strict=True):
        assert (one.reviewer, one.agreement) == ("rita", wilson(right, 6))
        assert one.table == {x: {y: by_hand[one.rater][letter[x], letter[y]] for y in LABELS} for x in LABELS}
    # and nothing else has changed
    assert (found.alpha, found.ceiling, found.pooled) == (before.alpha, before.ceiling, before.pooled)
    assert found.lines[0] == before.lines[0]
    text = "\n".join(found.lines)
    # Wilson for 4 of 6: centre (0.667 + 0.320) / 1.640 = 0.602, half width 0.301.
    assert "agrees with reviewer rita on 4 of 6 tasks (67%, 95 % interval 30% to 90%)" in text
    assert "said positive: reviewer rita 2 positive, 0 neutral, 1 negative" in text  # ana's
    assert "reviewer rita: 6 answers (2 positive, 2 neutral, 2 negative), what raters are measured by" in text


def test_a_reviewer_among_the_labels_is_named(labels: Path, tmp_path: Path) -> None:
    apart = status.run(StatusConfig(labels=str(labels), reference=str(write(tmp_path / "r.jsonl", said("rita", RITA)))))
    together = write(tmp_path / "all.jsonl", [*said("rita", RITA), *read_labels(labels)])
    named = status.run(StatusConfig(labels=str(together), reviewer="rita "))  # type: ignore[arg-type]
    assert named.lines == apart.lines
    assert named.reviewed == apart.reviewed
    with pytest.raises(InputError, match="zoe, who gave none of the answers"):
        status.run(StatusConfig(labels=str(together), reviewer=["zoe"]))


def write(path: Path, rows: list[Label]) -> Path:
    write_records(path, rows)
    return path


def test_import_keeps_a_reviewer_apart_and_training_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [*said("ana", ANA), *said("rita", RITA)]
    table = "text,sentiment,who\n" + "".join(f"{x.completion},{x.label},{x.annotator}\n" for x in rows)
    (tmp_path / "all.csv").write_text(table, encoding="utf-8")
    output = tmp_path / "labels.jsonl"
    config = ImportConfig(str(tmp_path / "all.csv"), str(output), annotator_column="who", reviewer=["rita"])
    done = import_labels.run(config)
    assert done.imported.counts["kept apart as reference (ground truth)"] == 6
    assert {x.annotator for x in read_labels(output)} == {"ana"}
    beside = tmp_path / "labels.reference.jsonl"
    assert [x.annotator for x in read_labels(beside)] == ["rita"] * 6
    with pytest.raises(InputError, match="--reviewer: got rit; expected someone who answered: ana, rita"):
        import_labels.run(dataclasses.replace(config, reviewer=["rit"], overwrite=True))
    (tmp_path / "no model").mkdir()
    train = ["reward", "--model_name_or_path", str(tmp_path / "no model"), "--output_dir", str(tmp_path / "r")]
    assert cli.main([*train, "--labels", str(beside)]) == 2
    assert "answers that raters are measured by" in capsys.readouterr().err
    assert cli.main([*train, "--labels", str(output)]) == 2  # no such model, which is told after the labels were read
    assert f"6 answers of rita in {beside} are left out" in capsys.readouterr().err


def annotation(uid: str, name: str, choice: str) -> Annotation:
    return Annotation(uid, name, "labelled", choice, "2026-01-01T00:00:00Z", 1, 1.0, "manual", (choice,))


def test_who_becomes_a_reviewer_later_leaves_the_labels(folder: Folder) -> None:
    tasks = {f"u{i}": Task(f"u{i}", "", f"text {i}") for i in range(3)}
    found = [annotation(uid, name, "Positive") for uid in tasks for name in ("ana", "rita")]
    folder.write_plan(Plan(SENTIMENT, False, "Feelings"))
    plan = folder.need_plan()
    for reviewers, apart in (((), 0), (("rita",), 3), ((), 3)):
        plan = folder.with_reviewers(plan, reviewers)
        returned = Returned()
        add_up(returned, found, plan, tasks)
        write_returned(folder, plan, returned, tasks)
        assert returned.counts[REFERENCE] == apart
        assert returned.counts["taken back since"] == 0
        assert len(read_labels(folder.path / "labels.jsonl")) == 6 - apart
    assert folder.need_plan().reviewers == ("rita",)
    assert {x.annotator for x in read_labels(folder.path / "labels.reference.jsonl")} == {"rita"}


def test_rows_of_other_texts_follow_the_reviewer(folder: Folder) -> None:
    folder.write_plan(dataclasses.replace(Plan(SENTIMENT, False, "Feelings"), reviewers=("rita",)))
    write_records(folder.path / "labels.jsonl", [*said("ana", "p"), *said("rita", "n")])
    returned = Returned()
    write_returned(folder, folder.need_plan(), returned, {})
    assert [x.annotator for x in read_labels(folder.path / "labels.jsonl")] == ["ana"]
    assert [x.annotator for x in read_labels(folder.path / "labels.reference.jsonl")] == ["rita"]


def test_an_offline_pages_reviewer_compares(tmp_path: Path) -> None:
    write_records(tmp_path / "s.jsonl", [Sample(f"s{i}", f"prompt {i // 2}", f"text {i}", "m") for i in range(8)])
    folder = Folder(tmp_path / "folder")
    page.run(PageConfig(output_dir=str(folder.path), samples=str(tmp_path / "s.jsonl"), kind="comparison"))
    files = []
    for name, choices in (("ana", ["Left", "Left", "Right", "Tie"]), ("rita", ["Left", "Right", "Right", "Tie"])):
        answers = [
            {"uid": uid, "choice": choice, "lead_time": 1.0, "at": ""}
            for uid, choice in zip(folder.read_tasks(), choices, strict=True)
        ]
        files.append(tmp_path / f"{name}.json")
        row = {"packet": folder.need_plan().packet, "annotator": name, "answers": answers}
        files[-1].write_text(json.dumps(row), encoding="utf-8")
    options = PageConfig(output_dir=str(folder.path), answers=list(map(str, files)), reviewer=["rita"])
    page.run(options)
    collect(folder, files)  # the folder remembers
    assert {x.annotator for x in read_comparisons(folder.path / "comparisons.jsonl")} == {"ana"}
    (one,) = status.run(StatusConfig(output_dir=str(folder.path))).reviewed
    assert (one.rater, one.agreement) == ("ana", wilson(3, 4))
    assert folder.need_plan().screen.kind == COMPARISON.kind


def test_a_reviewer_needs_raters(tmp_path: Path) -> None:
    config = PushConfig(samples="s", output_dir="f", raters=["ana"], reviewer=["rita"])
    assert config.raters == ["ana", "rita"]
    with pytest.raises(InputError, match="--reviewer: got no --raters"):
        PushConfig(samples="s", output_dir="f", reviewer=["rita"])
    with pytest.raises(InputError, match="--reviewer"):
        PageConfig(samples="s", output_dir="f", reviewer=["rita"])


def test_verdicts_beside_the_others() -> None:
    """20 tasks: eva says positive of all, ana and ben of the first 8 (ben not of the eighth, which splits them)."""
    rows = [*said("eva", "p" * 20), *said("ana", "p" * 8 + "n" * 12), *said("ben", "p" * 7 + "o" * 13)]
    rows += [Label("alone", "", "alone", "positive", "ana")]  # nobody else judged it
    found = verdict_shares(votes_of(rows))
    assert (found["eva"].share, found["eva"].n) == (1.0, 20)
    assert found["eva"].others == pytest.approx((7 + 0.5) / 20)
    assert found["eva"].higher == wilson(13, 13)
    assert found["eva"].leaning == "POSITIVE"
    # ana is above the others on task 8 (1 against 1/2), below on tasks 9 to 20 (0 against 1/2), even on 1 to 7.
    assert found["ana"].higher == wilson(1, 13)
    assert found["ana"].leaning == "NEGATIVE"
    assert found["ana"].others == pytest.approx((7 + 0.5 + 12 * 0.5) / 20)
    # ben: below on 8 (0 against 1) and on 9 to 20
    assert found["ben"].higher == wilson(0, 13)
    even = verdict_shares(votes_of([*said("ana", "pn"), *said("ben", "np"), *said("cy", "pn")]))
    assert even["ben"].higher == wilson(1, 2)
    assert even["ben"].leaning == ""


def test_status_tells_who_leans(tmp_path: Path) -> None:
    path = write(
        tmp_path / "l.jsonl",
        [*said("eva", "p" * 20), *said("ana", "p" * 8 + "n" * 12), *said("ben", "p" * 8 + "n" * 12)],
    )
    text = "\n".join(status.run(StatusConfig(labels=str(path))).lines)
    # Wilson for 12 of 12: 12 / (12 + 1.96²) = 76 %.
    assert (
        "LEANS POSITIVE: said positive on 100% of 20 shared tasks, the others on 40%; the higher share on 100% of 12 "
        "tasks where they differ (95 % interval 76% to 100%)" in text
    )
    assert text.count("LEANS NEGATIVE: said positive on 40% of 20 shared tasks, the others on 70%") == 2
