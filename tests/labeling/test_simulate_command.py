"""`rlhf label simulate`: who labels what, and what is written."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from labeling.steps.simulate import SimulateConfig, simulate
from rlhf.foundation.errors import InputError
from rlhf.foundation.records import Sample, read_comparisons, read_labels, write_records

TEXTS = ("I love this happy day", "I hate this horrible day", "The table has four legs")


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, str]:
    rows = [Sample(f"s{i}", "", f"{TEXTS[i % 3]} {i}", "m") for i in range(12)]
    write_records(tmp_path / "samples.jsonl", rows)
    return {"samples": str(tmp_path / "samples.jsonl"), "output": str(tmp_path / "out.jsonl")}


def test_every_annotator_labels_everything(paths: dict[str, str]) -> None:
    simulate.run(SimulateConfig(**paths, gold="lexicon", annotators=["ana,ben"], noise=[0.0, 0.25]))
    labels = read_labels(Path(paths["output"]))
    assert Counter(x.annotator for x in labels) == {"ana": 12, "ben": 12}
    truth = {f"s{i}": ("positive", "negative", "neutral")[i % 3] for i in range(12)}
    wrong = Counter(x.annotator for x in labels if x.label != truth[x.uid])
    assert wrong == {"ben": 3}  # a quarter of twelve, exactly


@pytest.mark.parametrize("each", [1, 2])
def test_samples_are_dealt_in_turn(paths: dict[str, str], each: int) -> None:
    config = SimulateConfig(**paths, gold="lexicon", annotators=["a", "b", "c"], noise=[0.0], raters_per_sample=each)
    simulate.run(config)
    labels = read_labels(Path(paths["output"]))
    assert set(Counter(x.uid for x in labels).values()) == {each}
    assert set(Counter(x.annotator for x in labels).values()) == {4 * each}


def test_comparisons(paths: dict[str, str]) -> None:
    simulate.run(SimulateConfig(**paths, gold="lexicon", kind="comparison", noise=[0.0]))
    comparisons = read_comparisons(Path(paths["output"]))
    # Pairs (0, 1), (2, 3), ...: love-hate, table-love, hate-table, twice over.
    assert [(c.chosen[2:6], c.rejected[2:6]) for c in comparisons[:3]] == [
        ("love", "hate"),
        ("love", "e ta"),
        ("e ta", "hate"),
    ]
    assert len(comparisons) == 6


def test_options(paths: dict[str, str]) -> None:
    for options, message in [
        ({"annotators": ["a", "a"]}, "--annotators"),
        ({"noise": [0.1, 0.2]}, "--noise"),
        ({"raters_per_sample": 2}, "--raters_per_sample"),
    ]:
        with pytest.raises(InputError, match=message):
            SimulateConfig(**paths, **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="noise: got -1"):
        simulate.run(SimulateConfig(**paths, gold="lexicon", noise=[-1.0]))
    assert not Path(paths["output"]).exists()


OWN = ["OSRIC:\nHow cruel is the voice of my lady!", "OSRIC:\nWho brought the cup to Verrin at dawn?"]
FOREIGN = "What say you, sir?\nThe duke is come from Mantua."


def simulated(
    tmp_path: Path, texts: list[str], capsys: pytest.CaptureFixture[str], **options: object
) -> tuple[Counter[str], str]:
    """Labels of the texts by name, and what was warned of."""
    write_records(tmp_path / "s.jsonl", [Sample(f"s{i}", "", text, "m") for i, text in enumerate(texts)])
    simulate.run(SimulateConfig(str(tmp_path / "s.jsonl"), str(tmp_path / "o.jsonl"), overwrite=True, **options))  # type: ignore[arg-type]
    return Counter(x.label for x in read_labels(tmp_path / "o.jsonl")), capsys.readouterr().err


def test_gold_that_knows_little_of_the_texts_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # One neutral line of the play among forty texts; a tenth of the labels is noise, four, the only ones not neutral.
    labels, said = simulated(tmp_path, [OWN[1], *[FOREIGN] * 39], capsys)
    assert labels["neutral"] == 36
    assert said.count("\n") == 1
    assert "derives a line of 1 of 40 texts (2.5%) only" in said
    assert "the rule says neutral of every text, so that only noise says anything else (4 of 40)" in said
    assert "--gold lexicon reads any English text" in said
    assert simulated(tmp_path, OWN * 20, capsys)[1] == ""
    labels, said = simulated(tmp_path, [OWN[0], *[OWN[1]] * 39], capsys)
    assert "noise exceeds the rule's own answers: 4 of 40 are wrong, the rule decides 1" in said
    assert "derives" not in said
    assert "noise exceeds" not in simulated(tmp_path, [*[OWN[0]] * 4, *[OWN[1]] * 36], capsys)[1]


def test_gold_that_derives_none_of_the_texts_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind in ("judgement", "comparison"):
        with pytest.raises(InputError, match=r"grammar derives no line of any; .*--gold lexicon"):
            simulated(tmp_path, [FOREIGN, FOREIGN + " No."], capsys, kind=kind)
    assert not (tmp_path / "o.jsonl").exists()
    labels, said = simulated(tmp_path, [FOREIGN] * 2, capsys, gold="lexicon")
    assert labels == Counter(neutral=2)
    assert said.endswith("the rule knows no word of these texts (its lexicon has English words of feeling)\n")
