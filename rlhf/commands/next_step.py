"""The command that comes next, with the options that were given now and mean the same there."""

from __future__ import annotations

import shlex

from rlhf.foundation.options import Options


def next_step(command: str, config: Options, *carried: str, **others: str) -> str:
    """`next: COMMAND --option value`, with those options of `config`, and `others`, that are not empty."""
    options = {**{name: str(getattr(config, name)) for name in carried}, **others}
    words = [f"--{name} {shlex.quote(value)}" for name, value in options.items() if value]
    return " ".join(["next:", command, *words])
