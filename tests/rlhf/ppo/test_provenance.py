"""What a run's numbers depend on is digested whole; a change is refused, or accepted and written down."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rewards.loading import load_reward
from rewards.rules import full_stop
from rlhf.evaluation.evaluate import EvaluateConfig, evaluate
from rlhf.foundation.errors import InputError
from rlhf.foundation.model_digests import model_inputs, tokenizer_digest, weights_digest
from rlhf.foundation.model_directory import load_causal_lm, load_tokenizer, save_model
from rlhf.foundation.records import LABELS, Label, Sample, write_records
from rlhf.inspection.opened_run import open_run
from rlhf.ppo.finetune import PPOCommandConfig, finetune
from rlhf.runs.provenance import changed_inputs, is_lineage, prompt_inputs, reward_inputs, training_inputs
from rlhf.whole_loop.inspect_runs import InspectConfig, inspect
from rlhf.whole_loop.verification import verify

REWARD = """def stops(prompts, completions, completion_ids, **kwargs):
    return [float(c.count('.')) for c in completions]
"""


@pytest.fixture
def place(model_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with model/, reward.py and prompts.txt, in which commands run."""
    (tmp_path / "reward.py").write_text(REWARD)
    (tmp_path / "prompts.txt").write_text("a good\nmy lord\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def go(place: Path, iterations: int, **options: Any) -> Path:
    finetune.run(
        PPOCommandConfig(
            **{
                "output_dir": "run", "model_name_or_path": "model", "reward_func": ["reward.py:stops"],
                "prompts": "prompts.txt", "iteration_batch_size": 64, "minibatch_size": 32, "max_completion_length": 8,
                "learning_rate": 1e-3, "num_eval_samples": 16, "normalization_samples": 64, "quiet": True,
                "max_iterations": iterations, **options,
            }
        )
    )  # fmt: skip
    return place / "run"


def scale_all_but_the_first_numbers(place: Path) -> None:
    """Every number x 1.3, except the first 64 of each tensor."""
    model, tokenizer = load_causal_lm("model"), load_tokenizer("model")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.view(-1)[64:] *= 1.3
    save_model(model, tokenizer, place / "model")


def edit_config(place: Path) -> None:
    path = place / "model" / "config.json"
    path.write_text(path.read_text().replace('"n_head": 2', '"n_head": 4'))


def edit_template(place: Path) -> None:
    (place / "model" / "chat_template.jinja").write_text("{{ messages[0].content }}")


CHANGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "weights": (scale_all_but_the_first_numbers, "original model's weights"),
    "heads": (edit_config, "original model's configuration"),
    "template": (edit_template, "chat template"),
    "prompts": (lambda place: (place / "prompts.txt").write_text("a good\nmy lady\n"), "prompts; evaluation prompts"),
    "reward": (lambda place: (place / "reward.py").write_text(REWARD.replace("'.'", "'e'")), "reward 1, stops"),
}


@pytest.mark.parametrize(("change", "name"), CHANGES.values(), ids=CHANGES.keys())
def test_a_changed_input_is_named(place: Path, change: Callable[[Path], Any], name: str) -> None:
    run = go(place, 1)
    change(place)
    before = (run / "metrics.jsonl").read_bytes()
    with pytest.raises(InputError) as caught:
        go(place, 2, resume=True)
    assert f"--resume: got changed since the run began: {name}; expected" in str(caught.value)
    assert (run / "metrics.jsonl").read_bytes() == before


def test_an_accepted_change_is_written_down(place: Path) -> None:
    run = go(place, 1)
    (place / "reward.py").write_text(REWARD.replace("'.'", "'e'"))
    go(place, 2, resume=True, accept_changes=True)
    (noted,) = json.loads((run / "run.json").read_text())["accepted_changes"]
    assert noted["iteration"] == 1
    (change,) = noted["inputs"]
    assert change["name"] == "reward 1, stops"
    assert change["before"] != change["now"]
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["accepted_changes"] for row in rows] == [None, ["reward 1, stops"], None]
    go(place, 3, resume=True)  # the change is the run's own now


def rungs(run: Path) -> Any:
    return json.loads((run / "ladder.json").read_text())["rungs"]


def test_a_run_that_went_on_with_a_change_can_be_evaluated(place: Path) -> None:
    """Its record says accept_changes and resume; fresh samples are drawn with its options all the same."""
    run = go(place, 1)
    (place / "reward.py").write_text(REWARD.replace("'.'", "'e'"))
    go(place, 2, resume=True, accept_changes=True)
    assert json.loads((run / "run.json").read_text())["resolved"]["accept_changes"] is True
    evaluation = evaluate.run(EvaluateConfig(run=str(run), num_samples=4, best_of_n_samples=0, quiet=True))
    assert [rung.name for rung in evaluation.rungs] == [rung["name"] for rung in rungs(run)]


def test_a_run_that_went_on_with_other_prompts_is_evaluated_on_these(place: Path) -> None:
    """Its stored rungs do not pair; fresh samples do, on the prompts that the last rung was measured on."""
    run = go(place, 1)
    (place / "prompts.txt").write_text("a good\nmy lady\n")
    go(place, 2, resume=True, accept_changes=True)
    stored = open_run(run).samples().groupby("rung").prompt.unique()
    assert set(stored.iloc[0]) == {"a good", "my lord"}
    assert set(stored.iloc[-1]) == {"a good", "my lady"}
    few: dict[str, Any] = {"num_samples": 4, "best_of_n_samples": 0, "quiet": True}
    with pytest.raises(InputError, match="another prompt or seed than on rung"):
        evaluate.run(EvaluateConfig(run=str(run), stored_samples=True, quiet=True))
    evaluation = evaluate.run(EvaluateConfig(run=str(run), **few))
    assert [rung.name for rung in evaluation.rungs] == [rung["name"] for rung in rungs(run)]
    for rung in evaluation.rungs:
        fresh = [json.loads(line) for line in (run / "evaluation" / f"{rung.name}.jsonl").read_text().splitlines()]
        assert [row["prompt"] for row in fresh] == ["a good", "my lady"] * 2
    inspect.run(InspectConfig(runs=[str(run)]))
    assert "another prompts" in (run / "report.html").read_text()


def test_a_run_and_its_inputs_may_move(place: Path, tmp_path: Path) -> None:
    go(place, 1)
    (place / "elsewhere").mkdir()
    for name in ("run", "model", "reward.py", "prompts.txt"):
        shutil.move(place / name, place / "elsewhere" / name)
    there = {"output_dir": "elsewhere/run", "model_name_or_path": "elsewhere/model", "prompts": "elsewhere/prompts.txt"}
    go(place, 2, resume=True, reward_func=["elsewhere/reward.py:stops"], **there)
    assert len((place / "elsewhere" / "run" / "metrics.jsonl").read_text().splitlines()) == 3


def test_a_run_without_digests_goes_on_with_a_word(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = go(place, 1)
    record = json.loads((run / "run.json").read_text())
    del record["inputs"]
    (run / "run.json").write_text(json.dumps(record))
    go(place, 2, resume=True)
    assert "inputs" not in json.loads((run / "run.json").read_text())  # what it began with stays unknown
    assert "run.json has no digests of its inputs: whether they are the same could not be checked" in (
        capsys.readouterr().err
    )


def test_every_number_counts_and_tied_ones_once(build_model: Callable[..., Any]) -> None:
    first, second = build_model(), build_model()
    assert weights_digest(first) == weights_digest(second)
    with torch.no_grad():
        second.transformer.wte.weight.view(-1)[-1] += 1e-6
    assert weights_digest(first) != weights_digest(second)
    assert weights_digest(first) != weights_digest(build_model().bfloat16())


def test_padding_left_set_by_a_call_is_no_other_tokenizer(tokenizer: Any) -> None:
    before = tokenizer_digest(tokenizer)
    tokenizer(["a", "b c"], padding=True, truncation=True, max_length=2)
    assert tokenizer_digest(tokenizer) == before


def test_the_parts_of_a_combination_have_digests_of_their_own(place: Path) -> None:
    (place / "both.yaml").write_text(
        "weights: {full_stop: 1.0, reward.py:stops: 0.5}\nconstraints:\n  - {reward: length, at_most: 40}\n"
    )
    first = reward_inputs([load_reward("both.yaml")])
    assert list(first) == [f"reward 1, both{part}" for part in ("", ": full_stop", ": stops", ": length")]
    (place / "reward.py").write_text(REWARD + "# another\n")
    assert changed_inputs(first, reward_inputs([load_reward("both.yaml")])) == ["reward 1, both: stops"]
    (place / "both.yaml").write_text((place / "both.yaml").read_text().replace("0.5", "0.6"))
    assert "reward 1, both" in changed_inputs(first, reward_inputs([load_reward("both.yaml")]))


def test_what_cannot_be_read_is_not_called_changed() -> None:
    typed: dict[str, Any] = {}
    exec("def typed(completions, **kwargs): return [0.0 for c in completions]", typed)
    found = reward_inputs([typed["typed"], full_stop])
    assert found["reward 1, typed"] is None
    assert found["reward 2, full_stop"] is not None
    assert changed_inputs({"a": None, "b": "1", "gone": "2"}, {"a": "3", "b": "1", "new": "4"}) == ["new", "gone"]


def test_adapter_settings_and_columns_count(build_model: Callable[..., Any], tokenizer: Any) -> None:
    from peft import LoraConfig, get_peft_model

    def adapted(rank: int) -> dict[str, str | None]:
        return training_inputs(get_peft_model(build_model(), LoraConfig(r=rank, target_modules=["c_attn"])), None)

    assert adapted(2) == adapted(2)
    assert adapted(2) != adapted(4)
    assert training_inputs(build_model(), None) == {}
    rows = [{"prompt": "a", "answer": "1"}]
    assert prompt_inputs(rows, rows) != prompt_inputs([{"prompt": "a", "answer": "2"}], rows)
    assert set(model_inputs(build_model(), tokenizer)) == {
        "original model's weights", "original model's configuration", "tokenizer", "chat template",
    }  # fmt: skip


def fit_reward(rater: str = "ana", samples: int = 40) -> None:
    """rm/ from the same labels under a rater's name, and so many samples: its weights are always the same."""
    from rewards.steps.fit import fit
    from rewards.steps.reward_config import RewardConfig

    texts = [f"{'my lord' if i % 2 else 'a knave'} {'abcdefghij'[i % 10]}{'klmno'[i % 5]}" for i in range(40)]
    labels = [Label(str(i), "", text, LABELS[2 * (i % 2)], rater) for i, text in enumerate(texts)]
    write_records(Path("labels.jsonl"), labels)
    write_records(Path("drawn.jsonl"), [Sample(str(i), "", f"{texts[i % 40]} {i}", "model") for i in range(samples)])
    fit.run(
        RewardConfig(
            model_name_or_path="model", labels="labels.jsonl", samples="drawn.jsonl", output_dir="rm",
            num_train_epochs=1.0, allow_weak=True, overwrite=True, quiet=True,
        )
    )  # fmt: skip


def test_the_origin_of_a_reward_model_is_the_runs_own(place: Path) -> None:
    fit_reward()
    there = {"reward_model_path": ["rm"], "reward_func": []}
    record = json.loads((go(place, 1, **there) / "run.json").read_text())
    origin = record["reward_origins"]["reward 1, log_p_positive"]
    assert origin["lineage"]["labels"]["raters"] == {"ana": 40}
    assert "labels: labels.jsonl, 40 rows by ana (40)" in origin["says"]
    fit_reward()  # the same again
    go(place, 2, resume=True, **there)
    few = {"num_samples": 4, "heat_samples": 0, "best_of_n_samples": 0, "quiet": True}
    for changes, part in (({"rater": "eve"}, "labels"), ({"samples": 41}, "samples of offset and scale")):
        fit_reward(**changes)  # type: ignore[arg-type]
        with pytest.raises(InputError, match=f"changed since the run began: reward 1, rm: {part}; expected"):
            go(place, 3, resume=True, **there)
        with pytest.raises(InputError, match=rf"changed since the run was trained: reward 1, .*rm: {part}; expected"):
            evaluate.run(EvaluateConfig(run="run", **few))
        assert verify(place / "run").wrong[0].startswith("reward 1, log_p_positive: changed")
    accepted = evaluate.run(EvaluateConfig(run="run", accept_changes=True, **few)).accepted_changes
    assert accepted == ["reward 1, log_p_positive: samples of offset and scale"]


def test_a_moved_run_that_had_no_state_yet_keeps_the_constants_it_began_with(place: Path) -> None:
    fit_reward()
    there: dict[str, Any] = {"reward_model_path": ["rm"], "reward_func": [], "prompts": None}
    run = go(place, 1, max_completion_length=13, **there)
    constants = json.loads((run / "run.json").read_text())["normalization"]
    assert constants["source"] == "reward_model.json"
    for name in ("state", "checkpoints", "samples"):
        shutil.rmtree(run / name)
    (run / "metrics.jsonl").unlink()
    (place / "elsewhere").mkdir()
    for name in ("run", "model", "rm"):
        shutil.move(place / name, place / "elsewhere" / name)
    there |= {"reward_model_path": ["elsewhere/rm"], "model_name_or_path": "elsewhere/model"}
    go(place, 1, output_dir="elsewhere/run", resume=True, max_completion_length=13, **there)
    assert json.loads((place / "elsewhere" / "run" / "run.json").read_text())["normalization"] == constants


def test_a_run_or_reward_model_older_than_lineage_is_not_called_changed(place: Path) -> None:
    fit_reward()
    there = {"reward_model_path": ["rm"], "reward_func": []}
    run = go(place, 1, **there)
    record = json.loads((run / "run.json").read_text())
    del record["reward_origins"]
    record["inputs"] = {name: digest for name, digest in record["inputs"].items() if not is_lineage(name)}
    (run / "run.json").write_text(json.dumps(record))
    go(place, 2, resume=True, **there)
    report = json.loads((place / "rm" / "reward_model.json").read_text())
    for key in ("lineage", "config", "paths", "files", "content_sha256"):
        del report[key]
    (place / "rm" / "reward_model.json").write_text(json.dumps(report))
    go(place, 1, output_dir="other", **there)
    inputs = json.loads((place / "other" / "run.json").read_text())["inputs"]
    assert inputs["reward 1, log_p_positive: labels"] is None
    fit_reward()  # now its origin is known: no change, since nobody knows what it was
    go(place, 2, output_dir="other", resume=True, **there)
