"""What a user of TRL's trainers asks of ours by its former name: one line that says where it went."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Self

from rlhf.foundation.options import unknown_option
from rlhf.foundation.trl_names import METHODS


class AnswersToFormerNames:
    """Base of the trainer: its constructor and its attributes know TRL's names."""

    def __new__(cls, *args: Any, **options: Any) -> Self:
        """Raises InputError for an argument that there is not, before Python's TypeError."""
        known = [name for name in inspect.signature(cls.__init__).parameters if name != "self"]
        for name in options:
            if name not in known:
                raise unknown_option(f"{cls.__name__}({name}=...)", name, known, "")
        return super().__new__(cls)

    if not TYPE_CHECKING:  # a type checker is to know the attributes that there are

        def __getattr__(self, name: str) -> Any:
            said = f"; {METHODS[name]}" if name in METHODS else ""
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}{said}", name=name, obj=self)
