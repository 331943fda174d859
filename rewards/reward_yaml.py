"""A reward described in a YAML file. Several rewards as one (combination.py says what is made of them):

    weights: {full_stop: 1.0, my_rewards.py:shout: 0.5, runs/reward_model: 2.0}
    constraints:
      - {reward: full_stop_at_16_to_24, at_least: 1}
      - {reward: length, at_most: 40}
    penalty: -1.0

A classifier with more to say about it than its name and label (classifier.py):

    classifier: distilbert/distilbert-base-uncased-finetuned-sst-2-english
    label: POSITIVE
    score: logit          # log_prob if not given
    reads: completion     # the completion alone; whole if not given
    append_eos: false
    max_length: 512       # tokens
    dtype: float32        # the one it was saved in if not given

A language model that is asked by two words (words_model.py):

    language_model: runs/lm
    words: [" good", " bad"]
    template: "{prompt}{completion}\\nThat was"
    chat: false

A language model behind an OpenAI-style address that gives scores (judging/reward.py); its key stays in the environment:

    judge: http://127.0.0.1:8000/v1
    model: Qwen/Qwen3-8B
    template: "How polite is this?\\n\\n{completion}"
    scale: [1, 10]

A part is named like any reward; its file or directory may stand beside the YAML file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rewards.combination import CombinedReward, Constraint
from rewards.rules import RewardFunc
from rlhf.foundation.errors import InputError
from rlhf.foundation.yaml_files import read_yaml

Load = Callable[[str], RewardFunc]
# The options of a classifier and of words, by name: what YAML must give for each.
_CLASSIFIER = {"label": (str, int), "score": (str,), "reads": (str,), "append_eos": (bool,), "max_length": (int,)}
_CLASSIFIER |= {"dtype": (str,), "device": (str,)}
_JUDGE: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("model", "template", "instruction", "unreadable", "cache_dir", "key_env"), (str,)),
    **dict.fromkeys(("max_tokens", "retries", "concurrency"), (int,)),
    **{"scale": (list,), "request": (dict,), "temperature": (float, int), "timeout": (float, int)},
}
_WORDS = {"words": (list,), "template": (str,), "chat": (bool,), "device": (str,)}


def read_reward(path: Path, load: Load) -> RewardFunc:
    """The reward in a YAML file; `load` gives its parts by name. Raises InputError naming the key that is wrong."""
    content = read_yaml(path, f"reward file {path}")
    readers = {"weights": _combination, "classifier": _classifier, "language_model": _words, "judge": _judge}
    kinds = [kind for kind in readers if kind in content]
    if len(kinds) != 1:
        got = " and ".join(kinds) if kinds else "none of them"
        fix = "say what the reward is made of"
        raise _bad_file(path, got, f"one of {', '.join(readers)}", fix)
    return readers[kinds[0]](path, content, load)


def _combination(path: Path, content: Mapping[str, Any], load: Load) -> CombinedReward:
    if not isinstance(content["weights"], dict) or not content["weights"]:
        raise _bad_file(path, "no weights", "weights: {REWARD: WEIGHT, ...}", "name at least one reward and its weight")
    _require_keys(path, content, {"weights", "constraints", "penalty"})
    parts = [(_part(path, str(spec), load), _number(path, spec, w)) for spec, w in content["weights"].items()]
    rows = content.get("constraints") or []
    if not isinstance(rows, list):
        raise _bad_file(path, f"constraints: {rows}", "a list of constraints", "write it as the example has it")
    constraints = [_constraint(path, row, load) for row in rows]
    return CombinedReward(path.stem, parts, constraints, _number(path, "penalty", content.get("penalty", -1.0)))


def _constraint(path: Path, row: Any, load: Load) -> Constraint:
    if not isinstance(row, dict) or "reward" not in row or not set(row) <= {"reward", "at_least", "at_most"}:
        raise _bad_file(
            path, f"the constraint {row}", "reward with at_least, at_most or both", "write it as the example has it"
        )
    low = _number(path, "at_least", row.get("at_least", -math.inf))
    high = _number(path, "at_most", row.get("at_most", math.inf))
    if len(row) == 1 or low > high:
        raise _bad_file(path, f"the constraint {row}", "at_least, at_most or both, in this order", "give a bound")
    return Constraint(_part(path, str(row["reward"]), load), low, high)


def _classifier(path: Path, content: Mapping[str, Any], load: Load) -> RewardFunc:
    from rewards.classifier import ClassifierReward

    options = _options(path, content, "classifier", _CLASSIFIER)
    return _named(ClassifierReward.from_pretrained(_beside(path, str(content["classifier"])), **options), path)


def _words(path: Path, content: Mapping[str, Any], load: Load) -> RewardFunc:
    from rewards.words_model import WordsReward

    options = _options(path, content, "language_model", _WORDS)
    words = options.pop("words", [])
    return _named(
        WordsReward.from_pretrained(_beside(path, str(content["language_model"])), list(map(str, words)), **options),
        path,
    )


def _judge(path: Path, content: Mapping[str, Any], load: Load) -> RewardFunc:
    from rewards.judging.endpoint import looks_secret
    from rewards.judging.reward import judge

    for key in content:
        if key not in _JUDGE and looks_secret(key):
            fix = "remove it (and revoke the key); `key_env: NAME` names the variable that holds it"
            raise _bad_file(path, f"the key {key}, its value not shown", "no secret in a file", fix)
    options = _options(path, content, "judge", _JUDGE)
    if "model" not in options:
        raise _bad_file(path, "a judge without a model", "model: NAME", "name the model that the server is to ask")
    found: Any = judge(str(content["judge"]), name=path.stem, **options)
    return _named(found, path)


def _named(reward: Any, path: Path) -> RewardFunc:
    """Under the file's name, as a combination is."""
    reward.__name__ = path.stem
    found: RewardFunc = reward
    return found


def _options(
    path: Path, content: Mapping[str, Any], kind: str, known: Mapping[str, tuple[type, ...]]
) -> dict[str, Any]:
    _require_keys(path, content, {kind, *known})
    for key, kinds in known.items():
        value = content.get(key)
        if value is not None and (not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)):
            raise _bad_file(path, f"{key}: {value}", f"a value of type {kinds[0].__name__}", "mend the value")
    return {key: content[key] for key in known if content.get(key) is not None}


def _require_keys(path: Path, content: Mapping[str, Any], known: set[str]) -> None:
    unknown = sorted(set(content) - known)
    if unknown:
        raise _bad_file(path, f"the key {unknown[0]}", ", ".join(sorted(known)), "check its spelling")


def _part(path: Path, spec: str, load: Load) -> RewardFunc:
    return load(_beside(path, spec))


def _beside(path: Path, spec: str) -> str:
    """What the file at `path` names; what is not in the working directory may stand beside the file."""
    file, colon, name = spec.rpartition(":")
    for place, rest in ((spec, ""), (file, colon + name)):
        if place and not Path(place).exists() and (path.parent / place).exists():
            return f"{path.parent / place}{rest}"
    return spec


def _number(path: Path, name: object, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise _bad_file(path, f"{name}: {value}", "a number", "mend the value")
    return float(value)


def _bad_file(path: Path, got: str, expected: str, fix: str) -> InputError:
    return InputError(f"reward file {path}", got=got, expected=expected, fix=fix)
