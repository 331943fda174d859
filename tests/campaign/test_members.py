"""Inputs that ended in a traceback once, each by its name: one line from every command that meets them."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from rlhf.foundation.files import write_jsonl
from tests.campaign.bad_files import DEEP, LONG_NUMBER
from tests.campaign.commands import BY_NAME, COMMANDS, Command
from tests.campaign.test_bad_models import USES
from tests.campaign.told_in_one_line import CONTROL, Place
from tests.labeling.test_strange_server import HEAD, server, whole

RESUME = [*BY_NAME["ppo"].call(output_dir="run"), "--resume"]
ANSWERS = BY_NAME["label page"].call("samples", output_dir="page", answers="answers.json")

# A file of the material, and a command that reads it.
JSON_FILES: dict[str, list[str]] = {
    "samples.jsonl": BY_NAME["label simulate"].call(),
    "labels.jsonl": BY_NAME["reward"].call(),
    "comparisons.jsonl": BY_NAME["reward"].call("labels", "num_folds", comparisons="comparisons.jsonl"),
    "prompts.jsonl": BY_NAME["sample"].call("num_samples", prompts="prompts.jsonl"),
    "scores.jsonl": BY_NAME["label page"].call(scores="scores.jsonl", select="uncertainty"),
    "export.json": BY_NAME["label import"].call("label", input="export.json"),
    "answers.json": ANSWERS,
    "rated.json": BY_NAME["rate pull"].call(),
    "page/project.json": ANSWERS,
    "rating/study.json": BY_NAME["rate score"].call(),
    "run/run.json": BY_NAME["inspect"].call(),
    "run/ladder.json": BY_NAME["evaluate"].call(),
    "rm/reward_model.json": BY_NAME["compare"].call(rewards=("rm", "length")),
    "model/config.json": BY_NAME["sample"].call(),
    "demo/demo.json": BY_NAME["demo"].call(output_dir="demo"),
    "loop/loop.json": BY_NAME["loop"].call(output_dir="loop"),
}


@pytest.mark.parametrize("content", [f'{{"a": {LONG_NUMBER}}}', DEEP], ids=["5000_digits", "nested_deep"])
@pytest.mark.parametrize("file", JSON_FILES, ids=lambda name: name.replace("/", "_"))
def test_json_that_python_cannot_hold(place: Place, file: str, content: str) -> None:
    (place.folder / file).parent.mkdir(exist_ok=True)
    (place.folder / file).write_text(content)  # of JSON lines a last one without its end, which is not torn for that
    line = place.refused(*JSON_FILES[file], says=file.split("/")[0].split(".")[0])
    assert "thousands of digits" in line or "nested too deep" in line or file == "model/config.json"


YAML_FILES: dict[str, list[str]] = {
    "config": BY_NAME["ppo"].call(config="a.yaml"),
    "reward": BY_NAME["compare"].call(rewards=("a.yaml", "length")),
    "reward_of_ppo": BY_NAME["ppo"].call(reward_func="a.yaml"),
    "config_of_a_loop": BY_NAME["loop"].call(reward_config="a.yaml"),
}


@pytest.mark.parametrize("content", ["quiet: &a [*a]", f"quiet: {DEEP}", "weights: {a: &b {c: *b}}"])
@pytest.mark.parametrize("command", YAML_FILES)
def test_yaml_that_names_itself_or_has_no_end(place: Place, command: str, content: str) -> None:
    (place.folder / "a.yaml").write_text(content)
    line = place.refused(*YAML_FILES[command], says="a.yaml")
    assert "contains itself" in line or "no valid YAML" in line


SHAPES = [
    "[]",
    "null",
    "3",
    '"text"',
    "[1, 2]",
    '{"a": 1}',
    "{",
    "NaN",
    '{"admin": []}',
    '{"config": 3, "seconds": {}}',
]
ACCOUNT = {"name": "admin", "email": "a@b", "password": "planted-word", "token": "f" * 40}
RUNNING = {"url": "http://127.0.0.1:9", "pid": 1, "host": "127.0.0.1", "port": 9}
SERVER = [
    BY_NAME["label serve"].call(),
    [*BY_NAME["label serve"].call("status"), "--stop"],
    BY_NAME["label push"].call(),
    BY_NAME["label pull"].call(),
    BY_NAME["label annotate"].call(),
]


def pushed_to(place: Place, url: str) -> None:
    """Make the folder of the offline page one that was pushed to a server."""
    path = place.folder / "page/project.json"
    plan = json.loads(path.read_text())
    plan["projects"] = [{"rater": "", "url": url, "id": 1, "title": "any"}]
    path.write_text(json.dumps(plan))


@pytest.mark.parametrize("content", SHAPES)
@pytest.mark.parametrize("file", ["server.json", "credentials.json"])
def test_files_of_a_server_of_another_shape(place: Place, file: str, content: str) -> None:
    (place.folder / "server").mkdir()
    for name, good in (("credentials.json", {"admin": ACCOUNT}), ("server.json", RUNNING)):
        (place.folder / "server" / name).write_text(content if name == file else json.dumps(good))
    pushed_to(place, "http://127.0.0.1:9")
    for words in SERVER:
        if file == "credentials.json" and "--stop" in words:
            continue  # ends a process and needs no account
        assert "planted-word" not in place.refused(*words, says=file)


@pytest.mark.parametrize("content", SHAPES)
@pytest.mark.parametrize("file", ["demo/demo.json", "loop/loop.json"])
def test_records_of_staged_work_of_another_shape(place: Place, file: str, content: str) -> None:
    (place.folder / file).parent.mkdir()
    (place.folder / file).write_text(content)
    place.refused(*JSON_FILES[file], says=file)


@pytest.mark.parametrize("content", SHAPES)
def test_run_json_of_another_shape(place: Place, content: str) -> None:
    (place.folder / "run/run.json").write_text(content)
    for words in USES["run"]:
        if words[0] not in ("doctor", "compare"):  # read metrics or samples alone
            place.refused(*words, says="run.json")


REWARDS = {
    "texts": "return ['a' for _ in completions]",
    "nested lists": "return [[1.0] for _ in completions]",
    "a float": "return 1.0",
    "a generator": "return (1.0 for _ in completions)",
    "complex numbers": "return [1j for _ in completions]",
    "10**400": "return [10**400 for _ in completions]",
    "1e300": "return [1e300 for _ in completions]",
    "coroutines": "return [ask() for _ in completions]",
    "a coroutine": "return ask()",
    "an error of hostile text": r"raise ValueError('\x1b[31m\x07\u202e\nboo')",
}


@pytest.mark.parametrize("kind", REWARDS)
def test_rewards_that_are_no_numbers(place: Place, kind: str) -> None:
    code = f"async def ask():\n    return 1.0\ndef bad(completions, **_):\n    {REWARDS[kind]}\n"
    (place.folder / "bad.py").write_text(code)
    calls = [
        BY_NAME["ppo"].call(reward_func="bad.py:bad"),
        BY_NAME["compare"].call(rewards=("bad.py:bad", "length")),
        BY_NAME["probe"].call(reward="bad.py:bad"),
    ]
    for words in calls:
        place.refused(*words, says="reward function bad: got ")


def test_constraints_that_are_a_number(place: Place) -> None:
    (place.folder / "bad.yaml").write_text("weights: {length: 1}\nconstraints: 5\n")
    for words in (BY_NAME["ppo"].call(reward_func="bad.yaml"), BY_NAME["compare"].call(rewards=("bad.yaml", "length"))):
        place.refused(*words, says="got constraints: 5; expected a list")


@pytest.mark.parametrize("words", [BY_NAME["ppo"].call(), BY_NAME["sample"].call("num_samples")], ids=["ppo", "sample"])
def test_half_a_character_in_a_prompt(place: Place, words: list[str]) -> None:
    write_jsonl(place.folder / "half.jsonl", [{"prompt": "the king"}, {"prompt": "joy \ud800"}])
    place.refused(*words, "--prompts", "half.jsonl", says=["half.jsonl, line 2", "half of a character"])
    if words[0] == "ppo":
        place.refused(*words, "--prompt", "joy \udcff", says=["--prompt", "half of a character"])


def test_prompts_with_different_columns(place: Place) -> None:
    """What a row lacks is None for the reward, whichever row comes first."""
    (place.folder / "see.py").write_text(
        "def see(completions, n, m, **_):\n"
        "    assert set(zip(n, m)) <= {(1, None), (None, 2)}, (n, m)\n"
        "    return [float(len(text)) for text in completions]\n"
    )
    write_jsonl(place.folder / "rows.jsonl", [{"prompt": "the king", "n": 1}, {"prompt": "joy and", "m": 2}])
    place.works(*BY_NAME["ppo"].call(reward_func="see.py:see"), "--prompts", "rows.jsonl")


PLACES = [(c, o) for c in COMMANDS for o in ("output_dir", "output_path", "output") if o in c.needed]


@pytest.mark.parametrize(("command", "option"), PLACES, ids=lambda v: getattr(v, "name", v).replace(" ", "_"))
def test_a_name_of_300_characters_to_write_to(place: Place, command: Command, option: str) -> None:
    place.refused(*command.call(option, **{option: "x" * 300}), says=["xxx", "name too long"])


@pytest.mark.parametrize("use", range(len(USES["model"])), ids=lambda i: USES["model"][i][0])
def test_a_model_whose_logits_are_nan_or_whose_config_is_a_list(place: Place, use: int) -> None:
    words = USES["model"][use]
    weights = place.folder / "model/model.safetensors"
    kept = weights.read_bytes()
    tensors = load_file(weights)
    save_file({k: torch.full_like(v, torch.nan) for k, v in tensors.items()}, weights, metadata={"format": "pt"})
    place.refused(*words, says="finite")
    weights.write_bytes(kept)
    (place.folder / "model/config.json").write_text("[]")
    place.refused(*words, says="model")


@pytest.mark.parametrize("body", [b"[1, 2]", b"null"])
@pytest.mark.parametrize("name", ["label push", "label pull", "label annotate"])
def test_a_server_that_answers_other_json(
    place: Place, monkeypatch: pytest.MonkeyPatch, name: str, body: bytes
) -> None:
    with server(whole(body)) as url:
        monkeypatch.setenv("LABEL_STUDIO_URL", url)
        monkeypatch.setenv("LABEL_STUDIO_API_KEY", "f" * 40)
        pushed_to(place, url)
        place.refused(*BY_NAME[name].call(), says="not Label Studio's JSON")


@pytest.mark.parametrize("name", ["label push", "label pull"])
def test_a_server_that_drips(place: Place, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with server([HEAD + b"Content-Length: 90\r\n\r\n", *[b" "] * 90], pause=0.1) as url:
        monkeypatch.setenv("LABEL_STUDIO_URL", url)
        monkeypatch.setenv("LABEL_STUDIO_API_KEY", "f" * 40)
        pushed_to(place, url)
        place.refused(*BY_NAME[name].call(), "--timeout", "0.5", says="no answer within 0.5 s")


@pytest.mark.parametrize(
    ("name", "option"),
    [("sample", "num_samples"), ("ppo", "max_iteration_batch_size"), ("evaluate", "num_samples"),
     ("evaluate", "best_of_n_samples"), ("sample", "num_return_sequences")],
)  # fmt: skip
def test_a_thousand_million_completions(place: Place, name: str, option: str) -> None:
    line = place.refused(*BY_NAME[name].call(**{option: str(10**9)}), says=f"--{option}: got 1,000,000,000")
    assert "GB of memory would be needed" in line


def test_a_reward_that_turns_gradients_off(place: Place) -> None:
    (place.folder / "off.py").write_text(
        "import torch\ndef off(completions, **_):\n    torch.set_grad_enabled(False)\n"
        "    return [float(len(text)) for text in completions]\n"
    )
    place.works(*BY_NAME["ppo"].call(reward_func="off.py:off"))
    assert torch.is_grad_enabled()
    *_, last = (json.loads(line) for line in (place.folder / "new/metrics.jsonl").read_text().splitlines())
    assert last["kl_per_completion"] > 0.01  # it was trained


@pytest.mark.parametrize("content", [*SHAPES, '{"iteration": "two"}', '{"iteration": 2, "rungs": 3}'])
def test_states_of_another_shape(place: Place, content: str) -> None:
    for path in (place.folder / "run/state").glob("*/state.json"):
        path.write_text(content)
    place.refused(*RESUME, says="state")


def test_own_files_links_and_folders_among_checkpoints_and_samples(place: Place) -> None:
    run = place.folder / "run"
    (place.folder / "elsewhere").mkdir()
    (place.folder / "elsewhere/thesis.txt").write_text("years of work")
    for inside in ("checkpoints", "samples"):
        (run / inside / "notes.txt").write_text("mine")
        (run / inside / "link").symlink_to(place.folder / "elsewhere")
        (run / inside / "dangling").symlink_to("nowhere")
        shutil.copytree(place.folder / "elsewhere", run / inside / "folder")
    mine = [run / i / n for i in ("checkpoints", "samples") for n in ("notes.txt", "link", "dangling", "folder")]
    for words in (
        [*BY_NAME["ppo"].call(output_dir="run", max_iterations="3"), "--resume"],
        [*BY_NAME["evaluate"].call(), "--accept_changes"],
        BY_NAME["inspect"].call(),
        BY_NAME["export"].call(),
    ):
        place.works(*words)
        assert all(path.is_symlink() or path.exists() for path in mine)
    assert (place.folder / "elsewhere/thesis.txt").read_text() == "years of work"
    assert (run / "samples/folder/thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("what", ["samples", "labels"])
def test_file_names_that_a_terminal_would_obey(place: Place, what: str) -> None:
    name = "\x1b[31mred\x07\u202e.jsonl"
    command = {"samples": "label simulate", "labels": "label status"}[what]
    place.refused(*BY_NAME[command].call(**{what: name}), says=r"\x1b[31mred\x07\u202e.jsonl")
    shutil.copy(place.folder / f"{what}.jsonl", place.folder / name)
    outcome = place.works(*BY_NAME[command].call(**{what: name}))
    assert not CONTROL.search((outcome.out + outcome.err).replace("\n", "")), str(outcome)
