"""Rule rewards by hand-counted values; a user's own function, and every way its file can be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from rewards.by_name import load_function
from rewards.rules import RULES, full_stop, full_stop_share, length, lexicon_sentiment
from rlhf.foundation.errors import InputError


def test_rules_by_hand() -> None:
    prompts = ["a.b.c.", "", "x.", ""]  # the prompts' own full stops must not count
    completions = ["Hail. Farewell.", "", "...", "no stop here"]
    assert full_stop(prompts, completions) == [2.0, 0.0, 3.0, 0.0]
    # 2 of 15 characters; none; 3 of 3; 0 of 12.
    assert full_stop_share(prompts, completions) == [pytest.approx(2 / 15), 0.0, 1.0, 0.0]
    assert length(prompts, completions) == [2.0, 0.0, 1.0, 3.0]


def test_lexicon_sentiment_has_the_sign_of_the_words() -> None:
    happy, sad, plain = lexicon_sentiment(["", "", ""], ["I love this joy!", "I hate this grief.", "the table stands"])
    assert 0 < happy <= 1
    assert -1 <= sad < 0
    assert plain == 0


def test_rules_take_trls_extra_columns_and_have_stable_names() -> None:
    for name, rule in RULES.items():
        assert rule.__name__ == name
        assert len(rule(prompts=[""], completions=["x"], completion_ids=[[1]], trainer_state=None, gold=[1])) == 1
        assert load_function(name) is rule


def test_own_function_and_own_object(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "def shout(prompts, completions, completion_ids=None, **kwargs):\n"
        "    return [float(text.count('!')) for text in completions]\n"
        "class Counter:\n"
        "    def __call__(self, prompts, completions, completion_ids=None, **kwargs):\n"
        "        return [1.0] * len(completions)\n"
        "counter = Counter()\n"
    )
    shout = load_function(f"{file}:shout")
    assert shout([""], ["ho! ho!"]) == [2.0]
    assert shout.__name__ == "shout"
    assert load_function(f"{file}:counter").__name__ == "counter"


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("x = 1\n", "shout", "a file without shout"),
        ("shout = 3\n", "shout", "a value of type int"),
        ("import math\n\nx = math.sqrt(-1)\n", "shout", r"ValueError at .*mine\.py:3"),
        ("x = 1\ndef shout(:\n", "shout", r"SyntaxError at .*mine\.py:2"),
        ("import no_such_module_anywhere\n", "shout", r"ModuleNotFoundError at .*mine\.py:1"),
        ("def f():\n    return {}['a']\n\n\nf()\n", "shout", r"KeyError at .*mine\.py:2"),
    ],
)
def test_mistakes_in_a_users_file_are_told_with_their_line(tmp_path: Path, text: str, name: str, message: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        load_function(f"{file}:{name}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spec", ["full_stops", "", "nowhere.py:f", "mine.txt:f", "mine.py:", ":f", "mine.py"])
def test_unknown_specs(spec: str) -> None:
    with pytest.raises(InputError, match=r"expected one of full_stop, .*, lexicon_sentiment, FILE\.py:NAME, FILE"):
        load_function(spec)
