"""The embedded corpus: short pseudo-Elizabethan speeches from a probabilistic grammar, and the exact check of a line.

The grammar (rlhf/language_model/grammar_words.py) has no recursion, so its lines form a regular language: they are
drawn from the rules, and checked by the same rules compiled to a finite automaton over pieces, made deterministic as
lines ask for it (subset construction; Rabin and Scott 1959). A document is one speech, sometimes two: a header
`SPEAKER:`, then lines, without a newline at its end.
"""

from __future__ import annotations

import functools
import random
import re
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from rlhf.language_model.grammar_words import RULES, SPEAKERS, WORDS

PIECES = re.compile(r" ?\w+|[^\w\s]|\s")
"""How text falls into pieces: a word carries the space before it; joined again the pieces give the text back."""

OPENING = "HERALD:\nWhat ho"
"""How every speech of the herald begins: the prompt of the full-stop recipe."""

DOCUMENTS = 14_000
"""Documents in the default corpus: about 1.4 MB."""

Mood = Literal["positive", "negative", "neutral"]
_MOODS: tuple[Mood, ...] = ("positive", "negative", "neutral")
_MOOD_WEIGHTS = (37, 38, 25)
_HERALD_SHARE = 0.08
# Share of a document's lines that are small talk, whatever its mood.
_ASIDE_SHARE = 0.15
_FORMS = ("one line", "two lines", "three lines", "two speakers")
_FORM_WEIGHTS = (24, 52, 7, 17)


@dataclass(frozen=True, slots=True)
class Reference:
    """A place in an alternative where a word class or rule stands."""

    name: str
    space: bool
    capital: bool


Element = str | Reference


@dataclass(frozen=True, slots=True)
class Rule:
    """Alternatives (each a sequence of pieces and references) with cumulative weights."""

    alternatives: tuple[tuple[Element, ...], ...]
    cumulative_weights: tuple[float, ...]


def generate_corpus(seed: int = 0, n_documents: int = DOCUMENTS) -> list[str]:
    """Draw `n_documents` documents; the same seed gives the same list on every machine."""
    rng = random.Random(f"embedded corpus {seed}")
    return [generate_document(rng) for _ in range(n_documents)]


def generate_document(rng: random.Random) -> str:
    """Draw one document: a mood, a form, then lines mostly of that mood."""
    (mood,) = rng.choices(_MOODS, _MOOD_WEIGHTS)
    if rng.random() < _HERALD_SHARE:
        return "\n".join(["HERALD:", _expand("hail_line", rng), _mooded_line(mood, rng)])
    (form,) = rng.choices(_FORMS, _FORM_WEIGHTS)
    if form == "two speakers":
        first, second = rng.sample(SPEAKERS.split(), 2)
        return "\n".join([f"{first}:", _mooded_line(mood, rng), f"{second}:", _mooded_line(mood, rng)])
    count = {"one line": 1, "two lines": 2, "three lines": 3}[form]
    return "\n".join([f"{rng.choice(SPEAKERS.split())}:", *(_mooded_line(mood, rng) for _ in range(count))])


def is_header(line: str) -> bool:
    """Whether `line` (without its newline) names a speaker, as in `OSRIC:`."""
    return _automaton("header").accepts(line)


def is_well_formed(line: str) -> bool:
    """Whether the grammar derives `line` (without its newline): a header or a spoken line. Exact."""
    return is_header(line) or _automaton("line").accepts(line)


def is_viable_prefix(line: str) -> bool:
    """Whether some well-formed line begins with `line`, cut anywhere, inside a word too. Exact; "" is one."""
    return _automaton("header").begins(line) or _automaton("line").begins(line)


def _mooded_line(mood: Mood, rng: random.Random) -> str:
    aside = mood != "neutral" and rng.random() < _ASIDE_SHARE
    return _expand("neutral_line" if aside else f"{mood}_line", rng)


def _expand(name: str, rng: random.Random, *, space: bool = False, capital: bool = False) -> str:
    rule = _rules()[name]
    (alternative,) = rng.choices(rule.alternatives, cum_weights=rule.cumulative_weights)
    text = "".join(
        element
        if isinstance(element, str)
        else _expand(element.name, rng, space=element.space, capital=element.capital)
        for element in alternative
    )
    return _dress(text, space, capital)


def _dress(text: str, space: bool, capital: bool) -> str:
    text = text[:1].upper() + text[1:] if capital else text
    return " " + text if space and text else text


@functools.cache
def _rules() -> dict[str, Rule]:
    """Every rule and word class, parsed."""
    parsed = {name: _uniform(tuple((word,) for word in words.split())) for name, words in WORDS.items()}
    for name, text in RULES.items():
        weighted = [_parse_alternative(line) for line in text.strip("\n").split("\n")]
        weights = tuple(accumulate(weight for weight, _ in weighted))
        parsed[name] = Rule(tuple(alternative for _, alternative in weighted), weights)
    return parsed


def _uniform(alternatives: tuple[tuple[Element, ...], ...]) -> Rule:
    return Rule(alternatives, tuple(accumulate(1.0 for _ in alternatives)))


def _parse_alternative(line: str) -> tuple[float, tuple[Element, ...]]:
    """`3: O {p_adj} {kin},` as its weight and its elements; the space before a reference moves into it."""
    weight, text = re.fullmatch(r"\s*(?:(\d+):(?=\s|$))?\s*(.*)", line).groups()  # type: ignore[union-attr]
    elements: list[Element] = []
    for literal, name in re.findall(r"([^{}]+)|\{(\w+)\}", text):
        if literal:
            elements.extend(PIECES.findall(literal))
            continue
        space = bool(elements) and elements[-1] == " "
        if space:
            elements.pop()
        elements.append(Reference(name.lower(), space, name[0].isupper()))
    return float(weight or 1), tuple(elements)


class Automaton:
    """A finite automaton over pieces, compiled from one rule and made deterministic as it is used."""

    def __init__(self, rule: str) -> None:
        self._edges: list[list[tuple[frozenset[str], int]]] = [[]]
        self._jumps: list[list[int]] = [[]]
        self._final = self._compile(rule, 0, space=False, capital=False)
        self._start = self._closure({0})
        self._moves: dict[tuple[frozenset[int], str], frozenset[int]] = {}

    def accepts(self, line: str) -> bool:
        """Whether the rule derives the whole of `line`."""
        return self._final in self._walk(PIECES.findall(line))

    def begins(self, line: str) -> bool:
        """Whether the rule derives some line that starts with `line`."""
        pieces = PIECES.findall(line)
        if not pieces or self._walk(pieces):
            return True
        last = pieces.pop()
        return any(
            piece.startswith(last) for state in self._walk(pieces) for label, _ in self._edges[state] for piece in label
        )

    def _walk(self, pieces: list[str]) -> frozenset[int]:
        states = self._start
        for piece in pieces:
            key = (states, piece)
            if key not in self._moves:
                targets = {end for state in states for label, end in self._edges[state] if piece in label}
                self._moves[key] = self._closure(targets)
            states = self._moves[key]
            if not states:
                break
        return states

    def _closure(self, states: set[int]) -> frozenset[int]:
        reached, waiting = set(states), list(states)
        while waiting:
            for target in self._jumps[waiting.pop()]:
                if target not in reached:
                    reached.add(target)
                    waiting.append(target)
        return frozenset(reached)

    def _new_state(self) -> int:
        self._edges.append([])
        self._jumps.append([])
        return len(self._edges) - 1

    def _compile(self, name: str, start: int, *, space: bool, capital: bool) -> int:
        """Add the states of one rule after `start`; returns its last state."""
        rule, end = _rules()[name], self._new_state()
        single = [alternative[0] for alternative in rule.alternatives if len(alternative) == 1]
        words = frozenset(_dress(element, space, capital) for element in single if isinstance(element, str))
        if words:
            self._edges[start].append((words, end))
        for alternative in rule.alternatives:
            if len(alternative) == 1 and isinstance(alternative[0], str):
                continue
            state = start
            for position, element in enumerate(alternative):
                # An alternative's first element takes over the space and the capital of the place it stands in.
                first = position == 0
                outer_space, outer_capital = first and space, first and capital
                if isinstance(element, str):
                    target = self._new_state()
                    self._edges[state].append((frozenset({_dress(element, outer_space, outer_capital)}), target))
                    state = target
                else:
                    state = self._compile(
                        element.name,
                        state,
                        space=element.space or outer_space,
                        capital=element.capital or outer_capital,
                    )
            self._jumps[state].append(end)
        return end


@functools.cache
def _automaton(rule: str) -> Automaton:
    return Automaton(rule)
