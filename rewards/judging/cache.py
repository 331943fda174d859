"""Answers of a judge on the disk, so that none is paid for twice: one SQLite file that processes share.

An answer is there as soon as it came: a killed process loses none. The file holds digests of questions, replies and
counts of tokens: no prompt, no completion, no key.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from rlhf.foundation.errors import InputError
from rlhf.foundation.records import now

FILE = "answers.sqlite"
_AT_ONCE = 500  # keys of one query
_TABLE = (
    "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, reply TEXT NOT NULL, prompt_tokens INTEGER NOT NULL, "
    "completion_tokens INTEGER NOT NULL, answered_at TEXT NOT NULL) WITHOUT ROWID"
)


class Answer(NamedTuple):
    """What a judge replied, and the tokens of the calls that it took."""

    reply: str
    prompt_tokens: int
    completion_tokens: int


def cache_directory() -> Path:
    """Where answers are kept unless a judge says otherwise: a folder of the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rlhf" / "judge"


class AnswerCache:
    """An open cache. Methods raise InputError when the file is damaged, or the disk refuses."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path, self._connection = path, connection

    @classmethod
    @contextmanager
    def open(cls, directory: Path) -> Iterator[AnswerCache]:
        """The cache in a directory, which is made if need be."""
        path = directory / FILE
        with _told(path):
            directory.mkdir(parents=True, exist_ok=True)
            # Each statement is its own transaction; a second process waits its turn for up to a minute.
            connection = sqlite3.connect(path, timeout=60, isolation_level=None)
        with closing(connection):
            with _told(path):
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=NORMAL")
                connection.execute(_TABLE)
            yield cls(path, connection)

    def find(self, keys: Sequence[str]) -> dict[str, Answer]:
        """The answers that are known, by key."""
        found: dict[str, Answer] = {}
        with _told(self.path):
            for start in range(0, len(keys), _AT_ONCE):
                some = keys[start : start + _AT_ONCE]
                places = ", ".join("?" * len(some))
                query = f"SELECT key, reply, prompt_tokens, completion_tokens FROM answers WHERE key IN ({places})"
                found |= {key: Answer(*rest) for key, *rest in self._connection.execute(query, some)}
        return found

    def keep(self, key: str, answer: Answer) -> None:
        """Write one answer."""
        with _told(self.path):
            self._connection.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?)", (key, *answer, now()))


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        expected, fix = "a local disk that can be written", "free some space, or name another folder: cache_dir"
        raise InputError(f"the judge's cache {path}", got=str(error), expected=expected, fix=fix) from error
    except sqlite3.DatabaseError as error:
        expected, fix = "answers as a judge wrote them", "move the file away: what it held is asked again"
        got = f"a damaged file ({error})"
        raise InputError(f"the judge's cache {path}", got=got, expected=expected, fix=fix) from error
    except OSError as error:
        got, fix = (error.strerror or str(error)).lower(), "name another folder: cache_dir"
        raise InputError(f"the judge's cache {path}", got=got, expected="a writable folder", fix=fix) from error
