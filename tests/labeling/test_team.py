"""A team in a real Label Studio: three raters, a reviewer, two rounds of pairs in doubt, the status by hand."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from collections import Counter
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from labeling import server
from labeling.folder import Folder
from labeling.server_raters import result_of
from labeling.steps.pull import PullConfig, pull
from labeling.steps.push import PushConfig, push
from labeling.steps.status import Status, StatusConfig, status
from rlhf.foundation.records import Sample, read_comparisons, write_records
from tests.labeling.browser import chromium_browser, label_by_key, log_in
from tests.labeling.conftest import Live

pytestmark = [pytest.mark.real, pytest.mark.slow]
RATERS = ("ana", "ben", "eva")
N = 8  # pairs a round
NEW_PAIR = """seen => {
  const sides = [...document.querySelectorAll(".sides .lsf-richtext")].map(side => side.innerText.trim());
  return sides.length === 2 && sides.every(Boolean) && !seen.includes(sides.join("|"));
}"""


@pytest.fixture
def reviewed(label_studio: Live, monkeypatch: pytest.MonkeyPatch) -> Live:
    """The session's server with one more account, rita's."""
    monkeypatch.delenv("LABEL_STUDIO_URL", raising=False)
    monkeypatch.delenv("LABEL_STUDIO_API_KEY", raising=False)
    raters = [*RATERS, "rita"]
    server.start(label_studio.directory, venv=server.cache_directory(), raters=raters, say=lambda line: None)
    return dataclasses.replace(label_studio, accounts=server.read_accounts(label_studio.directory))


def quality(text: str) -> int:
    return int(text.split()[-1])


def choice(rater: str, left: str, right: str, number: int) -> str:
    """ana reads, ben always presses left, eva errs on every fourth and ties every fifth, rita is right."""
    better = "Left" if quality(left) > quality(right) else "Right"
    if rater == "ben":
        return "Left"
    if rater == "eva" and number % 5 == 0:
        return "Tie"
    if rater == "eva" and number % 4 == 0:
        return "Right" if better == "Left" else "Left"
    return better


def answer(live: Live, folder: Folder, rater: str, tasks: list[dict[str, Any]], *, reviewed_share: int = 1) -> None:
    """As this rater, over the server's API, what it shows in this rater's project."""
    studio = live.connect(rater)
    screen = folder.need_plan().screen
    for number, task in enumerate(tasks):
        if number % reviewed_share == 0:
            said = choice(rater, task["data"]["answer1"], task["data"]["answer2"], number)
            studio.annotate(task["id"], result_of(screen, said), lead_time=1.0 + number)


def unanswered(live: Live, folder: Folder, rater: str) -> list[dict[str, Any]]:
    """The raw tasks of a rater's project that have no annotation, by id."""
    items = raw(live, folder, rater)
    return [item for item in items if not item["annotations"]]


def raw(live: Live, folder: Folder, rater: str) -> list[dict[str, Any]]:
    """A rater's project as Label Studio exports it."""
    (project,) = (one for one in folder.need_plan().projects if one.rater == rater)
    return sorted(live.connect(rater).export(project.id, unannotated=True), key=lambda item: int(item["id"]))


@pytest.mark.parametrize("by_hand", [1, pytest.param(N, marks=pytest.mark.long)])
def test_two_rounds_and_the_status_by_hand(
    reviewed: Live, chromium: str, tmp_path: Path, title: str, by_hand: int
) -> None:
    """`by_hand` of each rater's answers a round are given in a browser, the rest over the server's API."""
    folder = Folder(tmp_path / "folder")
    # Ten texts to each of four prompts, whose quality goes from 0 to 39; the model's scores grow with its square, so
    # that it doubts the poor ones most.
    samples = [Sample(f"s{i}", f"prompt {i % 4}", f"text {i}", "m") for i in range(40)]
    write_records(tmp_path / "samples.jsonl", samples)
    scores = {s.uid: quality(s.completion) ** 2 for s in samples}
    rows = [json.dumps({"uid": uid, "score": value}) for uid, value in scores.items()]
    (tmp_path / "scores.jsonl").write_text("\n".join(rows), encoding="utf-8")
    config: dict[str, Any] = {
        "samples": str(tmp_path / "samples.jsonl"),
        "output_dir": str(folder.path),
        "title": title,
        "kind": "comparison",
        "pairs_per_prompt": 45,
        "select": "uncertainty",
        "scores": str(tmp_path / "scores.jsonl"),
        "num_tasks": N,
        "raters": list(RATERS),
        "reviewer": "rita",
        "skip_labelled": True,
        "quiet": True,
    }
    push.run(PushConfig(**config, server_dir=str(reviewed.directory)))
    first_round = folder.read_tasks()
    assert len(first_round) == N
    for rater in RATERS:
        by_browser(reviewed, folder, chromium, rater, by_hand)
        answer(reviewed, folder, rater, unanswered(reviewed, folder, rater))
    pull.run(PullConfig(str(folder.path), quiet=True))  # the folder knows the server
    before = status.run(StatusConfig(output_dir=str(folder.path)))
    assert before.reviewed == []
    check_status(before, reviewed, folder)

    push.run(PushConfig(**config))
    tasks = folder.read_tasks()
    new = [task for uid, task in tasks.items() if uid not in first_round]
    assert len(tasks) == 2 * N
    assert all("random" in t.reason or t.reason.startswith("uncertainty") for t in new)
    in_doubt = [[t for t in some if t.reason != "random"] for some in (first_round.values(), new)]
    spread = [[abs(quality(t.text) ** 2 - quality(str(t.second)) ** 2) for t in some] for some in in_doubt]
    assert max(spread[0]) <= min(spread[1])  # what was most in doubt was asked first
    for rater in RATERS:
        by_browser(reviewed, folder, chromium, rater, by_hand)
        answer(reviewed, folder, rater, unanswered(reviewed, folder, rater))
    by_browser(reviewed, folder, chromium, "rita", by_hand)
    answer(reviewed, folder, "rita", unanswered(reviewed, folder, "rita"), reviewed_share=2)
    pull.run(PullConfig(str(folder.path), quiet=True))
    found = status.run(StatusConfig(output_dir=str(folder.path)))
    check_status(found, reviewed, folder)
    assert {one.annotator for one in read_comparisons(folder.path / "comparisons.jsonl")} == set(RATERS)
    text = "\n".join(found.lines)
    assert text.count("PREFERS A SIDE") == 1
    assert re.search(r"ben: 16 labels(.|\n)*?PREFERS A SIDE: chose the text on the left in 100% of 16", text)


def by_browser(live: Live, folder: Folder, chromium: str, rater: str, count: int) -> None:
    """One rater's round as a person does it: log in, read both sides, press a key."""
    account = live.accounts[rater]
    (project,) = (one for one in folder.need_plan().projects if one.rater == rater)
    with chromium_browser(chromium) as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        log_in(page, live.url, account.email, account.password)
        page.goto(f"{live.url}/projects/{project.id}/data?labeling=1")
        seen: set[tuple[str, str]] = set()
        for number in range(count):
            page.wait_for_function(NEW_PAIR, arg=["|".join(pair) for pair in seen])
            left, right = (side.strip() for side in page.locator(".sides .lsf-richtext").all_inner_texts())
            seen.add((left, right))
            label_by_key(page, {"Left": "1", "Right": "2", "Tie": "3"}[choice(rater, left, right, number)])


def check_status(found: Status, live: Live, folder: Folder) -> None:
    """Every number of the status, from the raw annotations alone: the texts left and right, and what was pressed."""
    answers: dict[str, dict[frozenset[str], str]] = {}  # rater -> pair of texts -> text chosen, "" for a tie
    left: Counter[str] = Counter()
    for rater in (*RATERS, "rita"):
        answers[rater] = {}
        for item in raw(live, folder, rater):
            for annotation in item["annotations"]:
                (result,) = annotation["result"]
                (pressed,) = result["value"]["choices"]
                sides = {"Left": item["data"]["answer1"], "Right": item["data"]["answer2"], "Tie": ""}
                answers[rater][frozenset((sides["Left"], sides["Right"]))] = sides[pressed]
                left[rater] += pressed == "Left"
    pairs = {pair for rater in RATERS for pair in answers[rater]}
    total = sum(len(answers[rater]) for rater in RATERS)
    assert found.lines[0].startswith(f"labelled: {len(pairs)} of {len(folder.read_tasks())} tasks, {total} labels")
    by_name = {one.annotator: one for one in found.raters}
    assert set(by_name) == set(RATERS)
    for rater in RATERS:
        mine = answers[rater]
        ties = sum(said == "" for said in mine.values())
        assert (by_name[rater].labels, by_name[rater].answers["neutral"]) == (len(mine), ties)
        agreements = []
        for pair, said in mine.items():
            others = [answers[name][pair] for name in RATERS if name != rater and pair in answers[name]]
            agreements.append(sum(other == said for other in others) / len(others))
        assert by_name[rater].agreement == pytest.approx(sum(agreements) / len(agreements))
        decided = len(mine) - ties
        share = found.left[rater]
        assert (share.n, share.share) == (decided, pytest.approx(left[rater] / decided))
        assert (share.low, share.high) == pytest.approx(wilson_by_hand(left[rater], decided))
    said_of = [(pair, [answers[name][pair] for name in RATERS if pair in answers[name]]) for pair in pairs]
    assert found.alpha.value == pytest.approx(alpha_by_hand(said_of))
    measured = {one.rater: one for one in found.reviewed}
    assert set(measured) == (set(RATERS) if answers["rita"] else set())
    for rater, one in measured.items():
        shared = [pair for pair in answers["rita"] if pair in answers[rater]]
        right = sum(answers[rater][pair] == answers["rita"][pair] for pair in shared)
        assert (one.reviewer, one.agreement.n) == ("rita", len(shared))
        assert one.agreement.share == pytest.approx(right / len(shared))
        assert (one.agreement.low, one.agreement.high) == pytest.approx(wilson_by_hand(right, len(shared)))
        ties = sum(answers[rater][pair] == "" for pair in shared)
        assert sum(one.table["neutral"].values()) == ties


def wilson_by_hand(k: int, n: int) -> tuple[float, float]:
    """The roots p of (k/n - p)² = z² p (1 - p) / n."""
    z2, share = 1.96**2, k / n
    a, b, c = 1 + z2 / n, -(2 * share + z2 / n), share * share
    root = math.sqrt(max(0.0, b * b - 4 * a * c))
    return (-b - root) / (2 * a), (-b + root) / (2 * a)


def alpha_by_hand(units: list[tuple[frozenset[str], list[str]]]) -> float:
    """Krippendorff 2011, section C, vote by vote: 1 - D_observed / D_expected with the ordinal metric.

    Of a pair's texts, ordered by their digests, the first is 0, a tie 1, the second 2.
    """
    values = []
    for pair, unit in units:
        order = sorted(pair, key=lambda text: hashlib.blake2b(text.encode(), digest_size=16).hexdigest())
        values.append([1 if not said else 2 * order.index(said) for said in unit])
    values = [unit for unit in values if len(unit) > 1]
    every = [value for unit in values for value in unit]
    n = Counter(every)

    def distance(one: int, two: int) -> float:
        low, high = sorted((one, two))
        return (sum(n[g] for g in range(low, high + 1)) - (n[low] + n[high]) / 2) ** 2

    observed = sum(
        distance(unit[i], unit[j]) / (len(unit) - 1) for unit in values for i, j in permutations(range(len(unit)), 2)
    ) / len(every)
    expected = sum(distance(x, y) for x, y in permutations(every, 2)) / (len(every) * (len(every) - 1))
    return 1 - observed / expected
