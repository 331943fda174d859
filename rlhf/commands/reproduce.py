"""`rlhf reproduce RUN`: do the recorded work again and compare every number with what stands."""

from __future__ import annotations

from collections.abc import Sequence

from rlhf.commands.command_line import parse
from rlhf.commands.first_words import first_words
from rlhf.foundation.errors import InputError
from rlhf.whole_loop.reproduce import ReproduceConfig, is_main, reproduce


def main(argv: Sequence[str]) -> None:
    """Parse, do it again, print how much is the same. Raises InputError when something is not."""
    words = first_words(list(argv), "run")
    config = parse(ReproduceConfig, words, prog="rlhf reproduce", description=__doc__ or "")
    result = reproduce.run(config)
    if not is_main():
        return
    found = result.sameness
    print("\n".join(found.lines()))
    if result.not_compared:
        print(f"not part of the recorded work, not compared: {', '.join(result.not_compared)}")
    print(f"made again in {result.seconds:.0f} s")
    if not found.same:
        raise InputError(
            str(config.run),
            got=f"{found.numbers - found.equal_numbers:,} of {found.numbers:,} numbers and "
            f"{found.texts - found.equal_texts:,} of {found.texts:,} texts differ, in {len(found.differences):,} files",
            expected="every one bitwise equal",
            fix=f"see the lines above; the second making is in {result.directory}",
        )
