"""Which pairs are made of samples: of one file, of two, how many, and which of them next."""

from __future__ import annotations

import json
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest

from labeling.folder import Folder, Plan, Task
from labeling.pairs import Pair, pair_against, pair_samples
from labeling.screens import COMPARISON
from labeling.steps.page import PageConfig, page
from labeling.steps.status import StatusConfig, status
from rlhf.foundation.errors import InputError
from rlhf.foundation.proportion import wilson
from rlhf.foundation.records import Sample, write_records


def sampled(texts: str, prompt: str = "p", source: str = "m") -> list[Sample]:
    return [Sample(f"{source}-{prompt}-{i}", prompt, text, source) for i, text in enumerate(texts)]


@pytest.mark.parametrize("count", [2, 3, 4, 5, 6, 9, 10])
def test_k_different_pairs_of_a_prompt_evenly_dealt(count: int) -> None:
    texts = "abcdefghij"[:count]
    every = {frozenset(two) for two in combinations(texts, 2)}
    for wanted in (1, count // 2, count, len(every), len(every) + 5):
        pairs, _ = pair_samples(sampled(texts), wanted, seed=3)
        found = [frozenset((pair.first, pair.second)) for pair in pairs]
        assert len(found) == len(set(found)) == min(wanted, len(every))
        assert set(found) <= every
        uses = Counter(text for pair in found for text in pair)
        assert max(uses.values()) - min(uses.get(text, 0) for text in texts) <= (1 if wanted <= count // 2 else 2)
        assert len({pair.uid for pair in pairs}) == len(pairs)


def test_the_same_text_never_stands_twice() -> None:
    samples = [*sampled(["good", "good ", "bad"], "p"), *sampled(["same", "same"], "q")]  # type: ignore[arg-type]
    pairs, left_over = pair_samples(samples, 5)
    assert [{pair.first, pair.second} for pair in pairs] == [{"good", "bad"}]
    assert left_over == 3  # one of the two that look alike, and both of q
    assert pair_samples(samples)[0] == []  # neighbours: good and good, bad alone, same and same


def test_a_pair_has_one_uid_whatever_the_number_of_pairs() -> None:
    samples = sampled("ab")
    (few,), _ = pair_samples(samples)
    (many,), _ = pair_samples(samples, 7, seed=5)
    assert few.uid == many.uid
    assert set(few.uids) == {"m-p-0", "m-p-1"}


def test_one_model_against_another() -> None:
    ours = [*sampled("abc", "p", "A"), *sampled("x", "q", "A"), *sampled("y", "only A", "A")]
    theirs = [*sampled("ad", "p", "B"), *sampled("x", "q", "B"), *sampled("z", "only B", "B")]
    pairs, counts = pair_against(ours, theirs, 9)
    assert {(pair.first, pair.second) for pair in pairs} == {("a", "d"), ("b", "a"), ("b", "d"), ("c", "a"), ("c", "d")}
    assert {pair.sources for pair in pairs} == {("A", "B")}
    assert counts == {"prompts of one file only": 2, "prompts whose texts are all the same": 1}
    for seed in range(5):  # each text at most once
        pairs, _ = pair_against(ours, theirs, seed=seed)
        texts = [text for pair in pairs for text in (pair.first, pair.second)]
        assert len(pairs) == 2
        assert len(set(texts)) == len(texts) or texts.count("a") == 2
    swap = [*sampled("ab", "p", "A")], [*sampled("ab", "p", "B")]
    assert len(pair_against(*swap, 9)[0]) == 1  # a against b and b against a are one pair of texts


def write(path: Path, samples: list[Sample]) -> str:
    write_records(path, samples)
    return str(path)


def test_which_side_is_which_model_is_dealt_by_lot_and_known_to_the_folder_alone(tmp_path: Path) -> None:
    texts = [f"text {i}" for i in range(40)]
    ours = [Sample(f"s{i}", f"prompt {i}", f"ours {text}", "model-one") for i, text in enumerate(texts)]
    theirs = [Sample(f"s{i}", f"prompt {i}", f"theirs {text}", "model-two") for i, text in enumerate(texts)]
    files = {"samples": write(tmp_path / "a", ours), "against": write(tmp_path / "b", theirs)}
    made = page.run(PageConfig(output_dir=str(tmp_path / "folder"), kind="comparison", **files))  # type: ignore[arg-type]
    tasks = Folder(tmp_path / "folder").read_tasks()
    assert made.tasks == len(tasks) == 40
    assert all((t.source, t.second_source) == ("model-one", "model-two") for t in tasks.values())
    assert 10 <= sum(task.swapped for task in tasks.values()) <= 30
    assert made.path is not None
    shown = made.path.read_text(encoding="utf-8")
    assert "model-one" not in shown
    assert "model-two" not in shown


def test_the_next_round_takes_the_pairs_most_in_doubt_that_nobody_answered(tmp_path: Path) -> None:
    """Scores 0, 1, 3, 6 of one prompt: differences 1, 2, 3, 3, 5, 6; the smallest is most in doubt."""
    samples = sampled("abcd")
    scores = dict(zip("abcd", (0.0, 1.0, 3.0, 6.0), strict=True))
    rows = [json.dumps({"uid": s.uid, "score": scores[s.completion]}) for s in samples]
    (tmp_path / "scores.jsonl").write_text("\n".join(rows), encoding="utf-8")
    options = {
        "samples": write(tmp_path / "samples.jsonl", samples),
        "kind": "comparison",
        "pairs_per_prompt": 6,
        "select": "uncertainty",
        "scores": str(tmp_path / "scores.jsonl"),
        "num_tasks": 2,
        "random_share": 0.0,
    }
    folder = Folder(tmp_path / "folder")
    page.run(PageConfig(output_dir=str(folder.path), **options))  # type: ignore[arg-type]
    asked = folder.read_tasks()
    assert [{t.text, t.second} for t in asked.values()] == [{"a", "b"}, {"b", "c"}]
    assert all(t.reason.startswith("uncertainty: uncertainty 0.") for t in asked.values())
    page.run(PageConfig(output_dir=str(folder.path), skip_labelled=True, **options))  # type: ignore[arg-type]
    assert folder.read_tasks() == asked  # nobody has answered
    first = next(iter(asked.values()))
    write_records(folder.path / "comparisons.jsonl", [first.comparison("first", annotator="ana", origin="manual")])
    page.run(PageConfig(output_dir=str(folder.path), skip_labelled=True, **options))  # type: ignore[arg-type]
    new = list(folder.read_tasks().values())[2:]
    assert [abs(scores[t.text] - scores[str(t.second)]) for t in new] == [3.0]
    answered = [t.comparison("tie", annotator="ana", origin="manual") for t in asked.values()]
    write_records(folder.path / "comparisons.jsonl", answered)
    only = {"samples": write(tmp_path / "two.jsonl", samples[:2]), "kind": "comparison", "skip_labelled": True}
    with pytest.raises(InputError, match=r"an answer in \S+ to each of the 1 tasks"):
        page.run(PageConfig(output_dir=str(folder.path), **only))  # type: ignore[arg-type]


def test_single_texts_that_were_judged_are_not_chosen_again(tmp_path: Path) -> None:
    samples = sampled("abcd")
    file, folder = write(tmp_path / "samples.jsonl", samples), Folder(tmp_path / "folder")
    page.run(PageConfig(output_dir=str(folder.path), samples=file, num_tasks=2))
    first = set(folder.read_tasks())
    labels = [task.label("positive", annotator="ana") for task in folder.read_tasks().values()]
    write_records(folder.path / "labels.jsonl", labels)
    page.run(PageConfig(output_dir=str(folder.path), samples=file, num_tasks=2))
    assert set(folder.read_tasks()) == first  # the same command again asks nothing new
    page.run(PageConfig(output_dir=str(folder.path), samples=file, num_tasks=2, skip_labelled=True))
    assert set(folder.read_tasks()) == {sample.uid for sample in samples}


def test_options_of_pairs_need_pairs(tmp_path: Path) -> None:
    for name, value in (("pairs_per_prompt", 3), ("against", "b.jsonl")):
        with pytest.raises(InputError, match=f"--{name}: got it without --kind"):
            PageConfig(output_dir="f", samples="a.jsonl", **{name: value})  # type: ignore[arg-type]


def test_whose_texts_are_chosen_is_told_pair_by_pair(tmp_path: Path) -> None:
    """Of p0 two of three raters choose A's, of p1 (B's stands first) the one rater B's, of p2 one each, of p3 a tie."""
    tasks = [Task(f"p{i}", "", f"A{i}", f"B{i}", i % 2 == 0, "A", second_source="B") for i in range(4)]
    tasks[1] = Task("p1", "", "B1", "A1", False, "B", second_source="A")
    tasks += [Task("p4", "", "A4", "A5", source="A", second_source="A"), Task("p5", "", "x", "y")]
    folder = Folder(tmp_path / "folder")
    folder.path.mkdir()
    folder.write_plan(Plan(COMPARISON, False, "Pairs"))
    folder.write_tasks(tasks)
    votes = {"p0": "A A B", "p1": "B", "p2": "A B", "p3": "=", "p4": "A", "p5": "="}
    rows = []
    for uid, said in votes.items():
        task = next(task for task in tasks if task.uid == uid)
        for rater, one in enumerate(said.split()):
            first = task.text.startswith(one)
            rows.append(
                Pair(uid, "", task.text, str(task.second)).answered(
                    "tie" if one == "=" else "first" if first else "second", annotator=f"r{rater}", origin="manual"
                )
            )
    write_records(folder.path / "comparisons.jsonl", rows)
    found = status.run(StatusConfig(output_dir=str(folder.path)))
    assert [(one.source, one.other, one.won) for one in found.versus] == [("A", "B", wilson(1 + 0 + 0.5 + 0.5, 4))]
    # Wilson for 2 of 4: centre one half, half width 0.35.
    assert "A over B: 50% of 4 pairs (95 % interval 15% to 85%; each by the majority" in "\n".join(found.lines)
