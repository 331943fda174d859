"""Other people's text on the terminal and in pages, and secrets that are about: nothing is obeyed, nothing is told."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from rlhf.foundation.digests import write_sealed
from rlhf.foundation.files import write_jsonl
from tests.campaign.commands import BY_NAME, COMMANDS
from tests.campaign.told_in_one_line import CONTROL, Place

ESCAPES = "\x1b[31mred\x07\x9b2J\u202egnp\u2066"
MARKUP = "</script><img src=x onerror=alert(1)>`rm -rf`|[a](javascript:b)"
HOSTILE = f"{ESCAPES} {MARKUP}\nsecond line"
SECRETS = {
    "HF_TOKEN": "hf_PlantedPlantedPlantedPlanted",
    "LABEL_STUDIO_API_KEY": "planted0123456789abcdef0123456789abcdef",
    "WANDB_API_KEY": "plantedwandb0123456789",
    "OPENAI_API_KEY": "sk-plantedplanted",
}


def everything_in(folder: Path) -> bytes:
    """The bytes of every file, for a search."""
    return b"\n".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name.replace(" ", "_"))
def test_hostile_values_of_every_text_option(bare: Place, command: object) -> None:
    from tests.campaign.bad_values import expected_of
    from tests.campaign.commands import Command

    assert isinstance(command, Command)
    for field in command.fields:
        if expected_of(command, field).item is str and command.name not in ("demo", "loop"):
            outcome = bare.run(*command.call(field.name), f"--{field.name}={ESCAPES}{MARKUP}")
            assert not CONTROL.search(outcome.err.replace("\n", "")), str(outcome)
            assert not CONTROL.search(outcome.out.replace("\n", "").replace("\t", "")), str(outcome)
            assert outcome.status in (0, 2), str(outcome)


def with_hostile_rows(place: Place) -> None:
    """Samples, labels and comparisons whose every text is hostile."""
    for name in ("samples", "labels", "comparisons"):
        rows = [json.loads(line) for line in (place.folder / f"{name}.jsonl").read_text().splitlines()]
        for number, row in enumerate(rows):
            for key in ("completion", "chosen", "rejected", "source"):
                if key in row:
                    row[key] = f"{row[key]} {HOSTILE} {number}"
            row["prompt"] = HOSTILE
            if "annotator" in row:
                row["annotator"] = f"\u202e{MARKUP}"[:100]
        write_jsonl(place.folder / f"{name}.jsonl", rows)


@pytest.mark.parametrize(
    "name",
    ["label simulate", "label page", "label status", "reward", "compare", "probe", "sample"],
)
def test_hostile_rows(place: Place, name: str) -> None:
    with_hostile_rows(place)
    outcome = place.run(*BY_NAME[name].call())
    assert outcome.status in (0, 2), str(outcome)
    assert not CONTROL.search((outcome.err + outcome.out).replace("\n", "")), str(outcome)
    for page in place.folder.rglob("label.html"):
        text = page.read_text(encoding="utf-8")
        assert "<img src=x" not in text
        assert "</script><img" not in text


def test_a_hostile_run_in_the_report_and_the_card(place: Place) -> None:
    path = place.folder / "run/run.json"
    info = json.loads(path.read_text())
    info["command"] = ["rlhf", HOSTILE]
    info["config"]["model_name_or_path"] = info["resolved"]["model_name_or_path"] = HOSTILE
    info["stop_reason"] = HOSTILE
    path.write_text(json.dumps(info))
    for samples in (place.folder / "run").glob("*/kl-*.jsonl"):
        rows = [json.loads(line) for line in samples.read_text().splitlines()]
        write_jsonl(samples, [{**row, "completion": HOSTILE} for row in rows])
    (place.folder / "run").rename(place.folder / "run <b>x`")
    place.run(*BY_NAME["inspect"].call(runs="run <b>x`"), "--accept_changes")
    html = (place.folder / "new.html").read_text(encoding="utf-8")
    assert "<img src=x" not in html
    assert "run <b>x" not in html


@pytest.mark.parametrize("name", ["model", "git_revision", "reward_functions", "seed"])
def test_a_card_quotes_what_a_run_is_called(place: Place, name: str) -> None:
    """Each name is one line inside a code span or escaped: nothing of it is markup, nothing ends the span."""
    info = json.loads((place.folder / "run/run.json").read_text())
    info[name] = [HOSTILE] if isinstance(info[name], list) else HOSTILE
    write_sealed(place.folder / "run/run.json", info)
    shutil.copy(place.folder / "both.yaml", place.folder / "<b>|x`\x07.yaml")
    outcome = place.works(*BY_NAME["evaluate"].call(), "--gold_reward_func", "<b>|x`\x07.yaml")
    assert not CONTROL.search((outcome.err + outcome.out).replace("\n", "")), str(outcome)
    (place.folder / "run").rename(place.folder / "run <b>x`")
    outcome = place.works(*BY_NAME["export"].call(run="run <b>x`"))
    assert not CONTROL.search((outcome.err + outcome.out).replace("\n", "")), str(outcome)
    card = (place.folder / "new/README.md").read_text(encoding="utf-8")
    outside = re.sub(r"`[^`\n]*`", "", card)
    assert "second line" in card
    assert not CONTROL.search(card.replace("\n", ""))
    assert not re.search(r"(?<!\\)(<[a-z/]|\[a\]\(|`)", outside), outside
    assert not any(line.startswith("second line") for line in card.splitlines())


@pytest.mark.parametrize("name", [c.name for c in COMMANDS if c.name not in ("demo", "loop")])
def test_secrets_stay_where_they_are(place: Place, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for variable, value in SECRETS.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("LABEL_STUDIO_URL", "http://127.0.0.1:9")
    outcome = place.run(*BY_NAME[name].call())
    told = outcome.out.encode() + outcome.err.encode() + everything_in(place.folder)
    for value in SECRETS.values():
        assert value.encode() not in told, str(outcome)


@pytest.mark.parametrize("url", ["http://me:planted@127.0.0.1:9", "http://:planted@h", "http://planted@127.0.0.1:9"])
@pytest.mark.parametrize("name", ["label push", "label pull", "label annotate"])
def test_a_password_in_the_address(place: Place, monkeypatch: pytest.MonkeyPatch, url: str, name: str) -> None:
    monkeypatch.setenv("LABEL_STUDIO_URL", url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "0" * 40)
    outcome = place.run(*BY_NAME[name].call())
    assert outcome.status == 2
    assert not re.search("planted", outcome.out + outcome.err), str(outcome)


def test_one_module_writes_csv() -> None:
    """A cell that begins with = is an order to a spreadsheet: the one place that writes such files takes it away."""
    sources = [
        path
        for package in ("rlhf", "rewards", "labeling")
        for path in Path(__file__).parents[2].glob(f"{package}/**/*.py")
    ]
    writers = [path for path in sources if re.search(r"csv\.(writer|DictWriter)|\.to_csv\(", path.read_text())]
    assert [path.name for path in writers] == ["table_files.py"]
