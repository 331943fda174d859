"""From sampling to the report with tokenizers of every kind: everybody sees the text that was sampled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rewards.targets import LabelledText
from rewards.token_model import TokenRewardModel
from rewards.token_recipe import Recipe
from rewards.token_training import FitSettings
from rlhf.cli import main
from rlhf.foundation.conversation import Text, in_turns, prompt_from_text
from rlhf.foundation.encoding import beginning_token, encode_prompt
from rlhf.foundation.errors import InputError
from rlhf.foundation.files import write_jsonl
from rlhf.foundation.model_directory import load_causal_lm, load_tokenizer, save_model
from rlhf.foundation.records import Label, read_labels, read_samples, write_records
from rlhf.inspection.display import display_text
from rlhf.inspection.evaluation import read_evaluation
from rlhf.inspection.page_data import run_data
from rlhf.inspection.run_directory import read_run
from rlhf.language_model.endings import ending_of, never_sampled, pad_token
from rlhf.language_model.randomness import Stream, uniforms
from rlhf.language_model.sampler import generate

from .tokenizer_kinds import CONTINUED, KINDS, MORNING, tiny_model

N, LENGTH = 48, 8


def fitted(model: Any, tokenizer: Any, labels: list[Label]) -> TokenRewardModel:
    texts = [LabelledText(x.prompt, x.completion, float(x.label == "positive"), 1) for x in labels]
    settings = FitSettings(num_train_epochs=1, batch_size=16)
    return Recipe(model, tokenizer, target="positive", settings=settings, seed=0).fit(texts)


def sampled_texts(model: Any, tokenizer: Any, prompts: list[Text], seed: int) -> list[str]:
    """The texts of the ids that sampling draws, by `tokenizer.decode` of the whole alone."""
    encoded = [encode_prompt(tokenizer, prompt) for prompt in prompts]
    done = generate(
        model, encoded, uniforms(seed, Stream.SAMPLE, range(len(prompts)), LENGTH),
        ending=ending_of(model, tokenizer), pad_token_id=pad_token(tokenizer),
        suppress_tokens=never_sampled(model, tokenizer),
    )  # fmt: skip
    ends, found = ending_of(model, tokenizer).token_ids, []
    for prompt, ids, mask in zip(encoded, done.completion_ids, done.completion_mask, strict=True):
        body = [i for i in ids[mask].tolist() if i not in ends]
        front = prompt[1:] if prompt[0] == beginning_token(tokenizer) else prompt
        before, whole = (
            tokenizer.decode(i, skip_special_tokens=False, clean_up_tokenization_spaces=False) if i else ""
            for i in (front, [*front, *body])
        )
        assert whole.startswith(before)
        found.append(whole[len(before) :])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(KINDS))
def test_everybody_sees_what_was_sampled(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    kind = KINDS[name]
    tokenizer = kind.build()
    model = tiny_model(tokenizer, kind)
    save_model(model, tokenizer, Path("model"))
    prompts: list[Text] = [MORNING, CONTINUED] if kind.chat else ["good morning", "the sun "]
    write_jsonl(Path("prompts.jsonl"), [{"prompt": prompt} for prompt in prompts])
    words = "sample --model_name_or_path model --prompts prompts.jsonl --num_return_sequences 24 --quiet"
    assert main([*words.split(), "--max_new_tokens", str(LENGTH)]) == 0
    samples = read_samples(Path("samples.jsonl"))
    texts = sampled_texts(model, tokenizer, [prompt for prompt in prompts for _ in range(24)], 0)
    assert [sample.completion for sample in samples] == texts
    # Labels by a planted rule, through their file, to a token reward model that reads the same texts.
    said = ["positive" if len(sample.completion) % 2 else "negative" for sample in samples]
    made = [Label(s.uid, s.prompt, s.completion, x, "anna") for s, x in zip(samples, said, strict=True)]  # type: ignore[arg-type]
    write_records(Path("labels.jsonl"), made)
    labels = read_labels(Path("labels.jsonl"))
    assert [label.completion for label in labels] == texts
    assert [prompt_from_text(label.prompt) for label in labels[::24]] == prompts
    reward = fitted(model, tokenizer, labels)
    reward.save(Path("reward"), {"kind": "token", "target": "positive"})
    # PPO's rungs hold the reward of the text that they show.
    words = (
        "ppo --model_name_or_path model --reward_model_path reward --prompts prompts.jsonl --output_dir run --quiet "
        f"--max_completion_length {LENGTH} --iteration_batch_size 32 --minibatch_size 16 --num_eval_samples 16 "
        "--normalization_samples 32 --max_iterations 2"
    )
    assert main(words.split()) == 0
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert lines[0]["ratio_first_update_max_dev"] < 1e-3
    assert not any(line.get("doctor") for line in lines)
    again = TokenRewardModel.from_pretrained("reward", device="cpu")
    assert (
        main(["evaluate", "run", "--num_samples", "16", "--heat_samples", "4", "--best_of_n_samples", "0", "--quiet"])
        == 0
    )
    assert main(["inspect", "run"]) == 0
    run = read_run(Path("run"))
    data = run_data(run, read_evaluation(Path("run/evaluation.json")))
    page = Path("run/report.html").read_text(encoding="utf-8")
    for rung, told in zip(run.rungs, data["rungs"], strict=True):
        policy = load_causal_lm(str(Path("run") / rung.path))
        for place in (f"run/samples/{rung.name}.jsonl", f"run/evaluation/{rung.name}.jsonl"):
            rows = read_samples(Path(place))
            scores = again([prompt_from_text(row.prompt) for row in rows], [row.completion for row in rows])
            assert [row.reward for row in rows] == pytest.approx(scores, abs=1e-4)
        assert told["samples"]["text"] == [display_text(row.completion, 2000) for row in rows]
        assert data["prompts"] == [display_text(in_turns(row.prompt), 2000) for row in rows]
        for row, heat in zip(rows, told["heat"], strict=False):
            spelled = "".join(heat["tokens"])
            ends = [display_text(str(tokenizer.decode([i])), 100) for i in ending_of(policy, tokenizer).token_ids]
            assert spelled in {
                display_text(row.completion, 2000) + end for end in ["", *ends, *(" " + e for e in ends)]
            }
    assert "report" in page.lower()


def trained_on(prompts: list[Text], directory: Path) -> None:
    kind = KINDS["chatml"]
    tokenizer = kind.build()
    model = tiny_model(tokenizer, kind)
    save_model(model, tokenizer, directory / "model")
    labels = [
        LabelledText(str(p) if isinstance(p, str) else json.dumps(p), w, t, 1)
        for p in prompts
        for w, t in (("a", 1.0), ("b", 0.0))
    ]
    settings = FitSettings(num_train_epochs=1, batch_size=16)
    reward = Recipe(model, tokenizer, target="positive", settings=settings, seed=0).fit(labels)
    reward.save(directory / "reward", {"kind": "token", "target": "positive"})


@pytest.mark.parametrize(
    ("known", "asked", "message"),
    [
        ([MORNING], ["good morning"], "got plain text to score; expected conversations"),
        ([MORNING], [MORNING, "good morning"], "got plain text to score; expected conversations"),
        (["good morning"], ["good morning", MORNING], "got conversations to score; expected plain text"),
    ],
)
def test_prompts_of_a_kind_that_the_reward_model_does_not_know(
    known: list[Text], asked: list[Text], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Refused in one line before anything but a few completions is sampled."""
    monkeypatch.chdir(tmp_path)
    trained_on(known, tmp_path)
    drawn: list[int] = []

    def counted(model: Any, prompts: Any, *rest: Any, **options: Any) -> Any:
        drawn.append(len(prompts))
        return generate(model, prompts, *rest, **options)

    monkeypatch.setattr("rlhf.ppo.rollout.generate", counted)
    write_jsonl(Path("prompts.jsonl"), [{"prompt": prompt} for prompt in asked])
    words = "ppo --model_name_or_path model --reward_model_path reward --prompts prompts.jsonl --output_dir run --quiet"
    assert main(words.split()) == 2
    said = capsys.readouterr().err.strip()
    assert message in said
    assert "\n" not in said
    assert sum(drawn) <= 4  # one of each kind, for training and evaluation


@pytest.mark.parametrize("change", ["template", "token", "length"])
def test_a_changed_encoding_is_refused(change: str, tmp_path: Path) -> None:
    trained_on(["good"], tmp_path)
    TokenRewardModel.from_pretrained(tmp_path / "reward", device="cpu")
    if change == "length":
        config = json.loads((tmp_path / "reward/config.json").read_text())
        (tmp_path / "reward/config.json").write_text(json.dumps({**config, "max_position_embeddings": 100}))
    else:
        tokenizer = load_tokenizer(str(tmp_path / "reward"))
        if change == "template":
            tokenizer.chat_template += " "
        else:
            tokenizer.add_tokens(["zebra"])
        tokenizer.save_pretrained(tmp_path / "reward")
    with pytest.raises(InputError, match="another encoding than it was fitted in"):
        TokenRewardModel.from_pretrained(tmp_path / "reward", device="cpu")
