"""What one result of a Label Studio annotation says: the values that a person chose, as text.

https://labelstud.io/guide/export lists the shapes; read are those whose values can be given a meaning one by one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rlhf.foundation.errors import InputError

FIELDS = {
    "choices": "choices",
    "rating": "rating",
    "number": "number",
    "taxonomy": "taxonomy",
    "pairwise": "selected",
    "textarea": "text",
}
"""The key of a result's `value` that holds the answer, by the result's type."""
READABLE = "choices, a rating, a number, a taxonomy, a pairwise choice or a text area"


def kind_of(result: Mapping[str, Any]) -> str:
    """The result's type in small letters; where it names none, that of the one answer its value holds."""
    if result.get("type"):
        return str(result["type"]).lower()
    keys = (result.get("value") or {}).keys()
    kinds = [kind for kind, field in FIELDS.items() if field in keys]
    return kinds[0] if len(kinds) == 1 and "start" not in keys else "/".join(map(str, keys)) or "choices"


def values_of(result: Mapping[str, Any], place: str) -> tuple[str, ...]:
    """The values of a result, () when nothing was chosen; a taxonomy's path is joined by "/".

    Raises InputError naming the control for a type that holds no value a label could be (a ranker, marked spans,
    boxes), and naming `place` for a value of another shape.
    """
    kind, control = kind_of(result), result.get("from_name")
    if kind not in FIELDS:
        raise InputError(
            f"{place}, control {control!r}",
            got=f"a result of type {kind}",
            expected=READABLE,
            fix="name another control with --label, or remove this one from the export",
        )
    found = (result.get("value") or {}).get(FIELDS[kind])
    if found is None:
        return ()
    listed = found if isinstance(found, list) else [found]
    if isinstance(found, list) and kind in ("rating", "number", "pairwise"):
        raise _other_shape(place, control, found)
    return tuple(text for value in listed if (text := _text(value, kind, f"{place}, control {control!r}")))


def _text(value: object, kind: str, place: str) -> str:
    if kind in ("rating", "number"):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise _other_shape(place, None, value)
        return str(int(value)) if value == int(value) else str(value)
    if kind in ("choices", "taxonomy") and isinstance(value, list) and value:  # a path through nested choices
        if all(isinstance(step, str) for step in value):
            return "/".join(step.strip() for step in value)
    elif isinstance(value, str):
        return value.strip()
    raise _other_shape(place, None, value)


def _other_shape(place: str, control: object, value: object) -> InputError:
    where = place if control is None else f"{place}, control {control!r}"
    got = f"the value {value!r}"
    return InputError(
        where,
        got=got if len(got) <= 80 else got[:77] + "...",
        expected="the answer's text, a list of texts or a number, as Label Studio writes it",
        fix="export the project again",
    )
