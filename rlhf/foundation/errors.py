"""The exception that means that the person at the keyboard can mend this, and the end that needs no further word."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from rlhf.foundation.terminal import shown, without_secrets

LONGEST_GOT = 1000  # characters: what was got may be a whole file in one line


class InputError(ValueError):
    """A user's mistake, told in one line: what, got, expected, fix.

    The command line prints the line and exits with status 2, without a traceback. Every other exception is a
    fault of ours and exits with status 1.
    """

    def __init__(self, what: str, *, got: object, expected: str, fix: str) -> None:
        """`what` names the option, file or field; `got` is shown as given; `expected` and `fix` are clauses.

        File names, values and other people's exceptions may stand in any of them: the line is made fit for a terminal,
        and holds no secret of the environment.
        """
        self.what, self.got, self.expected, self.fix = what, got, expected, fix
        line = f"{shown(what, LONGEST_GOT)}: got {shown(got, LONGEST_GOT)}; expected {expected}; {fix}"
        super().__init__(shown(without_secrets(" ".join(line.split()))))


NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}


def write_failure(path: Path, error: OSError) -> InputError:
    """The line a person sees when the disk is full or a directory is read-only, or when a disk has no locks."""
    error = disk_refusal(error) or error
    if error.errno in NO_LOCKS:
        return InputError(
            f"writing {path}",
            got=error.strerror,
            expected="a disk with file locks (flock), so that two commands cannot write at once",
            fix="mount it with locks (NFS 4; Lustre with -o flock), or choose a directory on another disk",
        )
    return InputError(
        f"writing {path}",
        got=error.strerror or str(error),
        expected="a writable disk with free space",
        fix="free some space or choose another directory, then run the same command again; what stood there is kept",
    )


def disk_refusal(error: Exception) -> OSError | None:
    """What the operating system said, where `error` means that it refused; None where it means something else.

    Some tell it in words only: shutil a list of copies that failed, libraries written in Rust (safetensors, tokenizers)
    a sentence with `(os error 28)`.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error
    found = re.search(r"\[Errno (\d+)\]|\(os error (\d+)\)", str(error))
    if found is None:
        return error if isinstance(error, OSError) else None
    number = int(found[1] or found[2])
    return OSError(number, os.strerror(number))


class Told(SystemExit):
    """The end of a command whose reason has been said: by the help, or by another process. Carries the exit status."""
