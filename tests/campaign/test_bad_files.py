"""Every option that takes a file, and every condition a file may be in: one line at once, or the work done."""

from __future__ import annotations

import re
import resource
import shutil
import time
from pathlib import Path

import pytest

from tests.campaign.bad_files import JSON_NEVER, NEVER, PERHAPS, make
from tests.campaign.bad_values import expected_of
from tests.campaign.commands import BY_NAME, COMMANDS, Command
from tests.campaign.told_in_one_line import Place

# (command, option, good file, options left out, further options, what it holds)
FILES: list[tuple[str, str, str, str, str, str]] = [
    ("sample", "prompts", "prompts.txt", "num_samples", "", "lines"),
    ("sample", "prompts", "prompts.jsonl", "num_samples", "", "json"),
    ("sample", "prompts", "prompts.csv", "num_samples", "", "table"),
    ("sample", "dataset_name", "prompts.jsonl", "num_samples", "", "json"),
    ("label simulate", "samples", "samples.jsonl", "", "", "json"),
    ("label import", "input", "table.csv", "", "", "table"),
    ("label import", "input", "export.json", "label", "", "json"),
    ("label import", "input", "labels.jsonl", "label", "--text completion --label label", "json"),
    ("label import", "input", "comparisons.jsonl", "label", "--kind comparison", "other json"),
    ("label page", "samples", "samples.jsonl", "", "", "json"),
    ("label page", "answers", "answers.json", "samples output_dir", "--output_dir page", "json"),
    ("label page", "mix_corpus", "corpus.txt", "", "--mix_share 0.1", "lines"),
    ("label page", "scores", "scores.jsonl", "", "--select uncertainty", "json"),
    ("label push", "samples", "samples.jsonl", "", "", "server json"),
    ("label status", "labels", "labels.jsonl", "", "", "json"),
    ("label status", "comparisons", "comparisons.jsonl", "labels", "", "json"),
    ("reward", "labels", "labels.jsonl", "", "", "json"),
    ("reward", "comparisons", "comparisons.jsonl", "labels num_folds", "", "json"),
    ("reward", "dataset_name", "labels_rows.jsonl", "labels", "", "json"),
    ("reward", "samples", "samples.jsonl", "", "", "json"),
    ("compare", "samples", "samples.jsonl", "", "", "json"),
    ("compare", "rewards", "both.yaml", "", "length", "yaml"),
    ("probe", "samples", "samples.jsonl", "", "", "json"),
    ("probe", "reward", "both.yaml", "", "", "yaml"),
    ("ppo", "prompts", "prompts.txt", "", "", "lines"),
    ("ppo", "prompts", "prompts.jsonl", "", "", "json"),
    ("ppo", "prompts", "prompts.csv", "", "", "table"),
    ("ppo", "eval_prompts", "prompts.jsonl", "", "", "json"),
    ("ppo", "reward_func", "both.yaml", "", "", "yaml"),
    ("ppo", "config", "ppo.yaml", "learning_rate", "", "yaml"),
    ("doctor", "rollouts", "rollouts.jsonl", "run_directory",
     "--model_name_or_path model --ref_model_name_or_path model", "json"),
    ("evaluate", "gold_labels", "labels.jsonl", "", "", "json"),
    ("evaluate", "corpus", "corpus.txt", "", "", "lines"),
    ("evaluate", "heldout", "corpus.txt", "", "", "lines"),
    ("evaluate", "gold_reward_func", "both.yaml", "", "", "yaml"),
    ("pretrain", "corpus", "corpus.txt", "", "", "corpus"),
    ("rate push", "samples", "samples.jsonl", "", "", "named json"),
    ("rate pull", "answers", "rated.json", "", "", "json"),
    ("loop", "reward_config", "ppo.yaml", "", "", "loop yaml"),
]  # fmt: skip
SHORT = [command for command in COMMANDS if command.name not in ("demo", "loop")]
REFUSED_ANYWAY = ("gold_labels",)  # labels of other samples
QUICK = (("label import", "input"), ("reward", "labels"))  # readers are few: the other options with the long campaign
MARKED = [row if row[:2] in QUICK else pytest.param(*row, marks=pytest.mark.campaign) for row in FILES]
ids = pytest.mark.parametrize(
    ("name", "option", "good", "without", "further", "kind"), MARKED, ids=lambda v: v.replace(" ", "_")[:24]
)


def words(name: str, option: str, file: str, without: str, further: str, kind: str) -> list[str]:
    """The call with `file` for the option."""
    given = f"more={file}" if kind == "named json" else file
    call = BY_NAME[name].call(*without.split(), option)
    return [*call, f"--{option}", given, *further.split()]


def in_condition(place: Place, condition: str, good: str) -> str:
    """A file beside the good one, in the condition, of the same kind by its name."""
    path = Path(f"bad{Path(good).suffix}")
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    make(condition, path, (place.material / good).read_bytes())
    return str(path)


@ids
def test_files_that_no_command_can_use(
    place: Place, name: str, option: str, good: str, without: str, further: str, kind: str
) -> None:
    never = {**NEVER, **(JSON_NEVER if "json" in kind else {})}
    for condition in never:
        if condition in ("empty", "white space") and option.endswith("config"):
            continue  # an empty list of options
        file = in_condition(place, condition, good)
        line = place.refused(*words(name, option, file, without, further, kind))
        assert "bad" in line or option in line, (condition, line)


@pytest.mark.parametrize(
    ("name", "option", "good", "without", "further", "kind"),
    [row for row, given in zip(MARKED, FILES, strict=True) if given[0] not in ("label push", "loop")],
    ids=lambda v: v.replace(" ", "_")[:24],
)
def test_files_that_may_be_used(
    place: Place, name: str, option: str, good: str, without: str, further: str, kind: str
) -> None:
    for condition in PERHAPS:
        file = in_condition(place, condition, good)
        outcome = place.refused_or_works(*words(name, option, file, without, further, kind))
        if condition in ("BOM", "CR LF", "blank lines", "no newline at the end") and option not in REFUSED_ANYWAY:
            assert outcome.status == 0, f"{condition}\n{outcome}"
        place.fill()


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("name", "option", "good", "without", "further", "kind"), FILES, ids=lambda v: v.replace(" ", "_")[:24]
)
def test_one_word_of_64_megabytes(
    place: Place, name: str, option: str, good: str, without: str, further: str, kind: str
) -> None:
    """Named with its size, within half a minute and a gigabyte: a tokenizer would take minutes and five of them."""
    file = in_condition(place, "one long word", good)
    peak, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    line = place.refused(*words(name, option, file, without, further, kind), says="bad")
    assert re.search(r"got (a record of )?(more than )?\d+,\d{3},\d{3} ", line), line
    assert time.monotonic() - begun < 30
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 1_000_000  # kB


@pytest.mark.campaign
@pytest.mark.parametrize(
    "command",
    [c for c in COMMANDS if c.name not in ("demo", "loop")],
    ids=lambda command: command.name.replace(" ", "_"),
)
def test_names_of_300_characters(place: Place, command: Command) -> None:
    for field in command.fields:
        if expected_of(command, field).item is str and not expected_of(command, field).choices:
            for value in ("x" * 300, "x" * 300 + ".jsonl", "x" * 300 + ".py:f", "y/" * 3000):
                if field.name == "push_to_hub":  # the hub is asked once the model is written
                    continue
                place.refused_or_works(*command.call(field.name, **{field.name: value}))
