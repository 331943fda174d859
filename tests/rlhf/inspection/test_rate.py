"""`rlhf rate` from packet to verdict: blinding undone, bad folders refused, a real server, a page filled in."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from labeling.blind import read_key
from labeling.folder import Folder
from labeling.returned import Rating
from labeling.server_raters import annotate_as
from rlhf.cli import main as console
from rlhf.commands import rate
from rlhf.evaluation.evaluate import EvaluateConfig, evaluate
from rlhf.evaluation.rate_plan import RatePlanConfig, rate_plan
from rlhf.evaluation.rate_pull import RatePullConfig, Ratings, rate_pull
from rlhf.evaluation.rate_push import RatePushConfig, rate_push
from rlhf.evaluation.rate_score import RateScoreConfig, rate_score
from rlhf.foundation.errors import InputError
from rlhf.foundation.records import Sample, read_samples, write_records
from rlhf.inspection.blind_verdict import Verdict
from rlhf.inspection.human_ladder import HumanLadder
from rlhf.inspection.rating_packet import ladder_rungs, read_study, write_ratings
from rlhf.inspection.report import build_report
from rlhf.runs.reading import read_run
from rlhf.whole_loop.verification import verify
from tests.labeling.browser import chromium_browser
from tests.labeling.conftest import Live, label_studio  # noqa: F401  (a fixture)

from .conftest import MakeRun


def quality(text: str) -> int:
    """A simulated rater's opinion: one point, and one more for each "lord" and "grief" up to five."""
    return min(5, 1 + text.count("lord") + text.count("grief"))


def push(run: Path, folder: Path, **options: object) -> list[str]:
    config = {"run": str(run), "output_dir": str(folder), "stored_samples": True, "page": True} | options
    return rate_push.run(RatePushConfig(**config))  # type: ignore[arg-type]


def rate_all(folder: Path, raters: tuple[str, ...] = ("ana", "ben")) -> None:
    """Every text of the packet rated by every rater, by rule."""
    tasks = Folder(folder).read_tasks().values()
    write_ratings(folder, [Rating(t.uid, quality(t.text), name, "", None) for name in raters for t in tasks])


def counted(ratings: Ratings) -> tuple[int, int]:
    return len(ratings.returned.ratings), ratings.missing


def test_two_models_end_to_end_on_paper(make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, folder = make_run(samples=60), tmp_path / "study"
    push(run, folder)
    page = (folder / "label.html").read_text(encoding="utf-8")
    assert "kl-" not in page  # no source where a rater could see it
    assert len(read_key(folder / "key.jsonl")) == 40
    rate_all(folder)
    rate.main(["score", "--output_dir", str(folder)])
    said = capsys.readouterr().out
    assert "kl-10.00 against the original" in said
    verdict = json.loads((folder / "verdict.json").read_text())
    assert verdict["kind"] == "models"
    # Unblinding inverts blinding: the verdict's means are those of the samples themselves.
    key = {row.sample_uid for row in read_key(folder / "key.jsonl") if row.source == "kl-10.00"}
    texts = [s.completion for s in read_samples(run / "samples" / "kl-10.00.jsonl") if s.uid in key]
    assert len(texts) == 20
    assert verdict["contrasts"][0]["mean"] == pytest.approx(np.mean([quality(text) for text in texts]))
    assert verdict["alpha"] == 1
    # The run's report tells it.
    assert "Blind rating: kl-10.00 against the original" in build_report(run).read_text(encoding="utf-8")
    (run / "blind_verdicts.json").write_text('{"study": [1]}')
    with pytest.raises(InputError, match=r"blind_verdicts\.json: got another shape"):
        build_report(run)


def test_a_study_finds_its_run_from_elsewhere_and_knows_its_files(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there").mkdir()
    make_run(name="there/run", samples=60)
    monkeypatch.chdir(tmp_path / "there")
    push(Path("run"), Path("study"))
    rate_all(Path("study"))
    monkeypatch.chdir(tmp_path)
    shutil.move("there", "moved")
    rate_score.run(RateScoreConfig("moved/study"))
    assert (tmp_path / "moved" / "run" / "blind_verdicts.json").exists()
    push(Path("moved/run"), Path("moved/study"))  # the same study, wherever its run is
    assert verify(Path("moved/study")).wrong == []
    ratings = Path("moved/study/ratings.jsonl")
    ratings.write_text(ratings.read_text().replace('"rating": 1', '"rating": 5', 1))
    assert verify(Path("moved/study")).wrong == ["verdict: ratings.jsonl was changed since it was written"]
    study = Path("moved/study/study.json")
    study.write_text(study.read_text().replace("kl-00.00", "kl-10.00"))
    with pytest.raises(InputError, match=r"study\.json: got changed since it was written"):
        rate_score.run(RateScoreConfig("moved/study"))
    push(Path("moved/run"), Path("second"))
    rate_all(Path("second"))
    shutil.rmtree("moved/run")
    capsys.readouterr()
    rate_score.run(RateScoreConfig("second"))
    assert "moved/run is not found, so the run's report will not show this verdict" in capsys.readouterr().err


def test_unblinding_waits_for_the_whole_packet(make_run: MakeRun, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    push(make_run(samples=60), folder)
    with pytest.raises(InputError, match="no ratings yet"):
        rate_score.run(RateScoreConfig(str(folder)))
    rate_all(folder)
    lines = (folder / "ratings.jsonl").read_text().splitlines(keepends=True)
    (folder / "ratings.jsonl").write_text("".join(lines[:-3]))
    with pytest.raises(InputError, match="got 3 ratings missing"):
        rate_score.run(RateScoreConfig(str(folder)))
    assert not (folder / "verdict.json").exists()
    verdict = rate_score.run(RateScoreConfig(str(folder), partial=True))
    assert isinstance(verdict, Verdict)
    assert verdict.partial
    assert "PARTIAL: 3" in "\n".join(verdict.statements())


def test_several_models_and_holm(make_run: MakeRun, tmp_path: Path) -> None:
    twin = tmp_path / "twin.jsonl"
    write_records(twin, [Sample(f"t{i}", "", "lord grief lord grief", "x") for i in range(20)])
    folder = tmp_path / "study"
    push(make_run(samples=60), folder, samples=[f"twin={twin}"])
    rate_all(folder)
    verdict = rate_score.run(RateScoreConfig(str(folder)))
    assert isinstance(verdict, Verdict)
    assert {c.model: c.finding for c in verdict.contrasts}["twin"] == "better"
    assert all(c.p_holm >= c.p for c in verdict.contrasts)


def test_the_ladder_on_paper(make_run: MakeRun, tmp_path: Path) -> None:
    run, folder = make_run(samples=80, rungs=12), tmp_path / "study"
    push(run, folder, ladder=True, per_rung=10)
    key = read_key(folder / "key.jsonl")
    assert len({row.source for row in key}) == 8
    assert {"kl-00.00", "kl-10.00"} <= {row.source for row in key}
    rows = [row.sample_uid.rsplit("-", 1)[1] for row in key]
    assert len(set(rows)) == 80  # no row of the evaluation twice: no rater meets nearly the same text again
    rate_all(folder)
    ladder = rate_score.run(RateScoreConfig(str(folder)))
    assert isinstance(ladder, HumanLadder)
    assert ladder.ratings == 160
    assert json.loads((run / "human_ladder.json").read_text())["status"] == ladder.status
    assert "Human quality" in "\n".join(ladder.statements())
    html = build_report(run).read_text(encoding="utf-8")
    assert "Human quality along KL" in html
    assert "160 ratings of 2 raters" in html


def test_rungs_are_spread_evenly(make_run: MakeRun) -> None:
    rungs = ladder_rungs(read_run(make_run(rungs=22)).rungs)
    assert len(rungs) == 8
    assert (rungs[0].name, rungs[-1].name) == ("kl-00.00", "kl-10.00")
    with pytest.raises(InputError, match="--ladder: got 1 rungs"):
        ladder_rungs(rungs[:1])


def test_fresh_samples_go_out_unless_told_otherwise(trained_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    push(trained_run, folder, stored_samples=False, num_samples=5)
    uids = {row.sample_uid for row in read_key(folder / "key.jsonl")}
    assert len(uids) == 10
    assert all("-fresh-" in uid for uid in uids)
    push(trained_run, folder, stored_samples=False, num_samples=5)  # a repeat is the same packet
    assert {row.sample_uid for row in read_key(folder / "key.jsonl")} == uids


def test_a_rung_is_confirmed_on_samples_that_did_not_choose_it(trained_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained_run, tmp_path / "run"))

    def draw_of(folder: Path) -> int | None:
        return read_study(folder).draw

    push(run, tmp_path / "early", stored_samples=False, num_samples=3)
    assert draw_of(tmp_path / "early") == 1  # nothing has chosen yet
    evaluate.run(
        EvaluateConfig(run=str(run), num_samples=10, best_of_n_samples=0, heat_samples=0, quiet=True)
    )  # draw 1
    with pytest.raises(InputError, match="--draw: got 1, on which the rung may have been chosen"):
        push(run, tmp_path / "late", stored_samples=False, num_samples=3, draw=1)
    push(run, tmp_path / "ladder", stored_samples=False, ladder=True, per_rung=3)
    assert draw_of(tmp_path / "ladder") == 2
    rate_all(tmp_path / "ladder")
    rate_score.run(RateScoreConfig(str(tmp_path / "ladder")))
    push(run, tmp_path / "confirm", stored_samples=False, num_samples=3)
    assert draw_of(tmp_path / "confirm") == 3
    ladder, confirm = (
        {row.sample_uid for row in read_key(tmp_path / name / "key.jsonl")} for name in ("ladder", "confirm")
    )
    assert not ladder & confirm


def test_bad_input(make_run: MakeRun, tmp_path: Path) -> None:
    run, folder = make_run(samples=30), tmp_path / "study"
    with pytest.raises(InputError, match="--rung: got kl-99"):
        push(run, folder, rung="kl-99")
    with pytest.raises(InputError, match="expected at least 50"):
        push(run, folder, num_samples=50)
    with pytest.raises(InputError, match="got nonsense; expected NAME="):
        push(run, folder, samples=["nonsense"])
    with pytest.raises(InputError, match="expected the ladder alone"):
        push(run, folder, ladder=True, rung="kl-10.00")
    with pytest.raises(InputError, match="does not name what is compared"):
        push(run, folder, num_samples=5, title="kl-10.00 or not")
    with pytest.raises(InputError, match="got no study"):
        rate_score.run(RateScoreConfig(str(tmp_path / "empty")))
    shutil.rmtree(folder, ignore_errors=True)
    push(run, folder, num_samples=5)
    with pytest.raises(InputError, match="with another study"):
        push(run, folder, ladder=True, per_rung=2)
    other = tmp_path / "other"
    push(run, other, ladder=True, per_rung=2)
    rate_all(folder)
    uid = Folder(other).read_tasks().keys().__iter__().__next__()
    good = (folder / "ratings.jsonl").read_text()
    stranger = json.dumps({"uid": uid, "rating": 3, "annotator": "ana", "created_at": "", "lead_time": None})
    (folder / "ratings.jsonl").write_text(good + stranger + "\n")
    with pytest.raises(InputError, match="expected a uid of this packet"):
        rate_score.run(RateScoreConfig(str(folder)))
    (folder / "ratings.jsonl").write_text(good + good.splitlines()[0] + "\n")
    with pytest.raises(InputError, match="rated twice by ana"):
        rate_score.run(RateScoreConfig(str(folder)))
    (folder / "ratings.jsonl").write_text(good.replace('"rating": ', '"rating": 9'))
    with pytest.raises(InputError, match="record 1: got rating 9"):
        rate_score.run(RateScoreConfig(str(folder)))
    (folder / "ratings.jsonl").write_text(good)
    shutil.copy(other / "key.jsonl", folder / "key.jsonl")
    with pytest.raises(InputError):
        rate_score.run(RateScoreConfig(str(folder)))


def test_the_plan_and_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert console(["rate", "plan", "--num_samples", "20", "--effect", "1"]) == 0
    assert "20 samples a model, 1 rater" in capsys.readouterr().out
    told = rate_plan.run(RatePlanConfig(ladder=True, per_rung=5, effect=1.0))
    assert "8 rungs of 5 samples, 40 ratings in all" in told[0]
    assert console(["rate", "plan", "--effect", "9"]) == 2
    assert "--effect: got 9" in capsys.readouterr().err
    assert console(["rate"]) == 0
    assert console(["rate", "guess"]) == 2


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("ladder", [False, True], ids=["two models", "ladder"])
def test_a_whole_study_through_label_studio(
    label_studio: Live,  # noqa: F811
    make_run: MakeRun,
    tmp_path: Path,
    ladder: bool,
) -> None:
    run, folder = make_run(samples=60), tmp_path / "study"
    server = {"server_dir": str(label_studio.directory), "page": False, "raters": ["ana", "ben"]}
    sizes = {"ladder": True, "per_rung": 5} if ladder else {"num_samples": 10}
    assert len(push(run, folder, **server, **sizes)) == 2
    plan, tasks = Folder(folder).need_plan(), Folder(folder).read_tasks()
    answers = {uid: str(quality(task.text)) for uid, task in tasks.items()}
    first, second = plan.projects
    annotate_as(label_studio.connect(first.rater), first, plan, answers)
    config = RatePullConfig(str(folder), server_dir=str(label_studio.directory))
    assert counted(rate_pull.run(config)) == (len(tasks), len(tasks))  # the second rater has not begun
    with pytest.raises(InputError, match="ratings missing"):
        rate_score.run(RateScoreConfig(str(folder)))
    annotate_as(label_studio.connect(second.rater), second, plan, answers)
    assert counted(rate_pull.run(config)) == (2 * len(tasks), 0)
    verdict = rate_score.run(RateScoreConfig(str(folder)))
    assert (verdict.raters, verdict.ratings) == (2, 2 * len(tasks))
    assert isinstance(verdict, HumanLadder if ladder else Verdict)


@pytest.mark.real
def test_an_offline_page_filled_in_chromium(chromium: str, make_run: MakeRun, tmp_path: Path) -> None:
    run, folder = make_run(samples=60), tmp_path / "study"
    push(run, folder, num_samples=4)
    with chromium_browser(chromium) as browser:
        context = browser.new_context(accept_downloads=True)
        context.set_offline(True)
        page = context.new_page()
        page.goto((folder / "label.html").as_uri())
        given = []
        for _ in range(8):
            given.append(quality(page.inner_text(".text")))
            page.keyboard.press(str(given[-1]))
        page.fill("#name", "Ana")
        with page.expect_download() as download:
            page.click("#send")
        download.value.save_as(tmp_path / "answers.json")
    assert counted(rate_pull(str(folder), answers=[str(tmp_path / "answers.json")])) == (8, 0)
    verdict = rate_score.run(RateScoreConfig(str(folder)))
    assert isinstance(verdict, Verdict)
    assert verdict.ratings == 8
    contrast = verdict.contrasts[0]
    assert 4 * (contrast.mean + contrast.original_mean) == pytest.approx(sum(given))
