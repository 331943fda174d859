"""The front doors: each step takes the options of its command, and values in memory where a path may stand."""

from __future__ import annotations

import copy
import dataclasses
import inspect
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import labeling
import rewards
import rlhf
from rlhf.cli import COMMANDS
from rlhf.commands.command_line import _parser
from rlhf.commands.label import SUBCOMMANDS as LABEL
from rlhf.commands.rate import SUBCOMMANDS as RATE
from rlhf.foundation.errors import InputError
from rlhf.foundation.options import REQUIRED, Options
from rlhf.foundation.records import Label, Sample

STEPS: dict[str, Any] = {
    **{name: getattr(rlhf, name) for name in COMMANDS if name not in ("label", "rate", "reward", "ppo")},
    "reward": rewards.fit,
    "ppo": rlhf.finetune,
    **{f"label {name}": getattr(labeling, name) for name in LABEL if name != "import"},
    "label import": labeling.import_labels,
    **{f"rate {name}": getattr(rlhf, f"rate_{name}") for name in RATE},
}
OPTIONS = [(command, field.name) for command, step in STEPS.items() for field in dataclasses.fields(step.options)]


def option_of(command: str, name: str) -> tuple[Any, dataclasses.Field[Any], inspect.Parameter]:
    step = STEPS[command]
    actions = {action.dest: action for action in _parser(step.options, command, "")._actions}
    field = next(field for field in dataclasses.fields(step.options) if field.name == name)
    return actions[name], field, inspect.signature(step).parameters[name]


def default_of(field: dataclasses.Field[Any]) -> Any:
    return field.default_factory() if callable(field.default_factory) else field.default


@pytest.mark.parametrize(("command", "name"), OPTIONS, ids=lambda value: value)
def test_an_option_is_the_same_on_the_command_line_and_in_python(command: str, name: str) -> None:
    action, field, parameter = option_of(command, name)
    assert action.help == field.metadata["help"]
    written = field.metadata.get("written")
    if written == REQUIRED:
        assert action.required
        assert field.default is None
    elif written is not None:  # a file that the command line always writes
        assert action.default == written
        assert field.default is None
    elif default_of(field) is dataclasses.MISSING:
        assert action.required
        assert parameter.default is inspect.Parameter.empty
    else:
        assert not action.required
        assert action.default == default_of(field)
    assert f"{name}:" in STEPS[command].__doc__


@pytest.mark.parametrize("command", STEPS)
def test_a_function_takes_every_option_and_no_other(command: str) -> None:
    step = STEPS[command]
    assert issubclass(step.options, Options)
    actions = {action.dest for action in _parser(step.options, command, "")._actions} - {"help"}
    assert set(inspect.signature(step).parameters) == actions


@pytest.mark.parametrize("door", [rlhf, labeling, rewards], ids=lambda door: door.__name__)
def test_every_public_name_is_there(door: Any) -> None:
    assert all(getattr(door, name) is not None for name in door.__all__)
    assert set(door.__all__) <= set(dir(door))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        door.nonsense  # noqa: B018


@pytest.fixture(scope="module")
def model() -> Any:
    return rlhf.pretrain(
        corpus=["The lord is merry. O happy day!", "The sad lady weeps. A bitter tear."] * 20, vocab_size=300,
        block_size=48, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, max_steps=20, quiet=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def samples(model: Any) -> Any:
    return rlhf.sample(model, num_samples=80, max_new_tokens=12, quiet=True)


@pytest.fixture(scope="module")
def labels(samples: Any) -> Any:
    words = ["The lord is merry", "A sad tear"]
    return [
        Label(one.uid, "", f"{words[i % 2]} {i}.", ("positive", "negative")[i % 2], who)
        for i, one in enumerate(samples)
        for who in ("ana", "ben")
    ]


@pytest.fixture(scope="module")
def fitted(model: Any, labels: Any, samples: Any) -> Any:
    return rewards.fit(
        model, labels=labels, samples=samples, labelled_samples=[samples], num_train_epochs=2.0, num_folds=2,
        allow_weak=True, quiet=True,
    )  # fmt: skip


def small(folder: Path, **options: Any) -> rlhf.PPOConfig:
    return rlhf.PPOConfig(
        output_dir=str(folder), iteration_batch_size=32, minibatch_size=16, max_completion_length=8, max_iterations=2,
        num_eval_samples=16, normalization_samples=32, learning_rate=3e-3, quiet=True, **options,
    )  # fmt: skip


def test_nothing_is_written_that_has_no_path(
    model: Any, samples: Any, labels: Any, fitted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    simulated = labeling.simulate(samples, gold="lexicon", noise=0.0)
    assert [one.uid for one in simulated] == [one.uid for one in samples]
    assert labeling.agreement(labels).alpha.value == pytest.approx(1.0)
    assert labeling.status(labels=labels).lines[0].startswith("labelled: 80 tasks, 160 labels")
    distances = rlhf.compare([fitted.reward, "lexicon_sentiment"], samples=samples)
    assert list(distances.frame["name"]) == ["80 samples in memory"]
    found = rlhf.probe(fitted.reward, model, samples, num_rounds=1, num_starts=1, candidates=2, quiet=True)
    assert found.samples
    assert not list(tmp_path.iterdir())


def test_what_was_made_in_memory_says_where_it_is_from(fitted: Any, samples: Any) -> None:
    lineage = fitted.report["lineage"]
    assert lineage["base_model"]["sha256"]
    assert lineage["labels"]["raters"] == {"ana": 80, "ben": 80}
    assert lineage["samples"]["sources"] == {samples[0].source: 80}
    assert fitted.directory is None
    assert fitted.report["config"]["labels"] == "160 labels in memory"


def test_a_reward_kept_in_memory_scores_as_the_one_that_was_written(
    model: Any, labels: Any, fitted: Any, tmp_path: Path
) -> None:
    kept = rewards.fit(
        model, labels=labels, output_dir=str(tmp_path / "rm"), num_train_epochs=2.0, num_folds=2, allow_weak=True,
        quiet=True,
    )  # fmt: skip
    texts = ["The lord is merry.", "A sad tear."]
    assert rewards.load(kept.directory)(["", ""], texts) == fitted.reward(["", ""], texts)


def test_a_score_on_a_model_in_memory_begins_with_its_weights(model: Any, tmp_path: Path) -> None:
    from rewards.preference_model import load_classifier

    model.model.save_pretrained(tmp_path / "lm")
    model.tokenizer.save_pretrained(tmp_path / "lm")
    held, read = load_classifier(model, new_head=True), load_classifier(str(tmp_path / "lm"), new_head=True)
    held_weights, read_weights = held.base_model.state_dict(), read.base_model.state_dict()
    assert held_weights.keys() == read_weights.keys()
    assert all(torch.equal(held_weights[name], read_weights[name]) for name in read_weights)


def test_no_step_changes_a_model_in_memory(model: Any, labels: Any, tmp_path: Path) -> None:
    before, words = copy.deepcopy(model.model.state_dict()), len(model.tokenizer)
    rewards.fit(model, labels=labels, num_train_epochs=1.0, num_folds=2, allow_weak=True, quiet=True)
    rlhf.PPOTrainer(model, "full_stop", small(tmp_path / "run")).train()
    after = model.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert len(model.tokenizer) == words


def test_a_run_in_memory_is_evaluated_and_looked_at(model: Any, fitted: Any, tmp_path: Path) -> None:
    run = rlhf.PPOTrainer(model, fitted.reward, small(tmp_path / "run")).train()
    evaluation = rlhf.evaluate(run, gold_reward_func="lexicon", num_samples=16, best_of_n_samples=0, quiet=True)
    assert evaluation.golds == ["lexicon"]
    opened = rlhf.open_run(tmp_path / "run")
    assert list(opened.metrics["iteration"]) == [0, 1, 2]
    assert opened.metrics.attrs["units"]["kl_per_completion"] == "nats per completion"
    first, *_, last = opened.ladder["name"]
    assert first == "kl-00.00"
    assert len(opened.samples(last)) == 16
    assert set(opened.samples()["rung"]) == set(opened.ladder["name"])
    assert {"reward", "kl", "clip", "proxy along KL", "lexicon along KL"} <= set(opened.figures)
    drawn = next(trace for trace in opened.figure("reward").data if trace.name == "proxy")
    assert list(drawn.y) == list(opened.metrics["reward"])
    assert "nats per completion" in opened._repr_html_()
    with pytest.raises(InputError, match="figure: got nonsense; expected one of reward"):
        opened.figure("nonsense")
    with pytest.raises(InputError, match=r"rung: got kl-99; expected one of kl-00\.00, "):
        opened.samples("kl-99")


def test_evaluating_with_another_reward_in_memory_is_refused(model: Any, fitted: Any, tmp_path: Path) -> None:
    run = rlhf.PPOTrainer(model, fitted.reward, small(tmp_path / "run")).train()
    with pytest.raises(InputError, match="changed since the run was trained"):
        rlhf.evaluate(rlhf.OpenedRun(run.directory, [rewards.load("full_stop")]), num_samples=16, quiet=True)
    with pytest.raises(InputError, match="no reward model path and no reward function's name"):
        rlhf.evaluate(tmp_path / "run", num_samples=16, quiet=True)


def test_finetune_takes_what_is_in_memory(model: Any, fitted: Any, tmp_path: Path) -> None:
    options = small(tmp_path / "run").given()
    run = rlhf.finetune(
        model_name_or_path=model, reward_model_path=[fitted.reward], prompts=["The ", "A "], **options
    )  # fmt: skip
    assert set(run.samples()["prompt"]) == {"The ", "A "}
    assert run.record["made_from"]["in_memory"]


def test_tables_are_lists_with_a_frame(samples: Any) -> None:
    assert samples == list(samples)
    assert isinstance(samples[0], Sample)
    assert isinstance(samples.frame, pd.DataFrame)
    assert list(samples[:3].frame["uid"]) == [one.uid for one in samples[:3]]
    assert samples.frame.attrs["units"]["logprob"].startswith("nats")
    assert "<table" in samples._repr_html_()


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda m, s: labeling.simulate(["a text"]), "--samples: got ['a text']; expected a text or a list of Sample"),
        (lambda m, s: labeling.simulate([s[0], "a text"]), "samples in memory, item 2: got a str; expected a Sample"),
        (lambda m, s: labeling.simulate([]), "samples: got none; expected at least one"),
        (lambda m, s: labeling.simulate([s[0], s[0]]), "a second time"),
        (lambda m, s: rewards.fit(m, labels=list(s)), "expected a text or a list of Label or nothing"),
        (lambda m, s: rewards.fit(3, labels=[]), "--model_name_or_path: got 3; expected a text or a L"),
        (lambda m, s: rlhf.sample(m, num_samples="8"), "--num_samples: got '8'; expected a whole number"),
        (lambda m, s: rlhf.pretrain(corpus=["text", 3]), "corpus, document 2: got a int; expected text"),
        (lambda m, s: rlhf.open_run("nowhere"), "nowhere: got no such directory"),
        (lambda m, s: rlhf.PPOConfig.from_recipe("demo", output_dir="x", max_iterations=0), "--max_iterations: got 0"),
        (lambda m, s: rlhf.PPOConfig.from_recipe("nonsense"), "--config: got nonsense"),
    ],
)  # fmt: skip
def test_what_cannot_be_taken_is_one_line(model: Any, samples: Any, call: Any, line: str) -> None:
    with pytest.raises(InputError) as error:
        call(model, samples)
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_a_recipe_gives_the_options_that_it_names() -> None:
    config = rlhf.PPOConfig.from_recipe("chapter7", output_dir="run", kl_budget=3.0)
    assert (config.kl_budget, config.output_dir) == (3.0, "run")
    assert config.given() == {**rlhf.PPOConfig.from_recipe("chapter7", output_dir="run").given(), "kl_budget": 3.0}


def test_what_is_handed_out_is_named_first(samples: Any, tmp_path: Path) -> None:
    """As the line in the package's docstring has it; `push` takes its samples in the same way."""
    assert 'labeling.page(samples, output_dir="folder")' in (labeling.__doc__ or "")
    assert (
        labeling.page(samples, output_dir=str(tmp_path / "folder"), quiet=True).tasks >= len(samples) - 5
    )  # empty ones go
    for step in (labeling.page, labeling.push):
        first, second, *_ = inspect.signature(step).parameters.values()
        assert (first.name, first.kind) == ("samples", first.POSITIONAL_OR_KEYWORD)
        assert second.kind == second.KEYWORD_ONLY
