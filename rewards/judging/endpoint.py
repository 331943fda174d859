"""Where a judge is asked, and how: the address and model of an OpenAI-style server, checked when they are given.

The key is read from the environment when it is needed. No object, file or message of ours holds it.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rewards.judging.cache import cache_directory
from rlhf.foundation.digests import value_digest
from rlhf.foundation.errors import InputError

_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,99}")
_SECRET = re.compile(r"api.?key|secret|passw|credential|authori[sz]ation|bearer|(^|access_|auth_)token$", re.IGNORECASE)
_OURS = ("model", "messages", "stream", "n")


@dataclasses.dataclass(frozen=True, slots=True)
class Endpoint:
    """An address such as http://127.0.0.1:8000/v1, and how it is asked. Raises InputError for what cannot be.

    `timeout` is in seconds without a word from the server. `retries` of one question follow a cut connection, a
    timeout, 408, 409, 429 and 5xx, after a pause that doubles from 0.5 s to 8 s (less up to a quarter of it, at random)
    or is the one that `Retry-After` asks for, up to two minutes. `concurrency` questions are open at once. `key_env`
    names the variable with the key, "" none. `request` has further fields of the request; a null takes one of ours out.
    """

    url: str
    model: str
    temperature: float = 0.0
    max_tokens: int = 512
    timeout: float = 60.0
    retries: int = 5
    concurrency: int = 16
    cache_dir: str | Path | None = None
    key_env: str = "OPENAI_API_KEY"
    request: Mapping[str, Any] | None = None
    name: str = "judge"

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", self._checked_url())
        if not isinstance(self.model, str) or not self.model.strip():
            raise self.refuse("model", repr(self.model), "a name that the server knows", "name it")
        self._require_number("temperature", 0, 2)
        self._require_number("max_tokens", 1, 1_000_000, whole=True)
        self._require_number("timeout", 0.01, 86_400)
        self._require_number("retries", 0, 100, whole=True)
        self._require_number("concurrency", 1, 500, whole=True)
        if not isinstance(self.key_env, str) or (self.key_env and not _VARIABLE.fullmatch(self.key_env)):
            # It may be the key itself, so it is not shown.
            got = "something else than a variable's name"
            raise self.refuse("key_env", got, "such as OPENAI_API_KEY", "put the key into the environment alone")
        for field in _names_in(dict(self.request or {})):
            if _SECRET.search(field):
                raise self.secret_given(f"request, {field}")
        taken = sorted(set(self.request or {}) & set(_OURS))
        if taken:
            raise self.refuse("request", f"the field {taken[0]}", "other fields", "the judge sets it itself")

    def asked(self) -> dict[str, Any]:
        """What an answer depends on besides the question."""
        return {"url": self.url, "model": self.model, **self.fields()}

    def fields(self) -> dict[str, Any]:
        """The fields of a request besides model and messages."""
        fields = {"temperature": self.temperature, "max_tokens": self.max_tokens, **(self.request or {})}
        return {name: value for name, value in fields.items() if value is not None}

    def digest(self, question: str) -> str:
        """The name of an answer in the cache."""
        return value_digest({**self.asked(), "question": question})

    @property
    def cache(self) -> Path:
        """The folder of the cache."""
        return cache_directory() if self.cache_dir is None else Path(self.cache_dir).expanduser()

    def key(self) -> str:
        """The key, from the environment. Raises InputError where it is missing, or can be none."""
        if not self.key_env:
            return ""
        key = os.environ.get(self.key_env, "").strip()
        if not key:
            fix = f"export {self.key_env}=..., or `key_env` names another variable (an empty one: no key is needed)"
            raise self.refuse("key", f"no ${self.key_env} in the environment", "the key of the judge's server", fix)
        if not key.isascii() or not key.isprintable():
            got = f"${self.key_env} with characters that no key has"
            raise self.refuse("key", got, "printable ASCII", "set it again")
        return key

    def secret_given(self, field: str) -> InputError:
        """The line about a key where none may stand."""
        expected, fix = "keys in the environment alone", "remove it (and revoke the key); key_env names its variable"
        return self.refuse(field, "a secret, not shown", expected, fix)

    def refuse(self, field: str, got: str, expected: str, fix: str) -> InputError:
        """A line about one of the options."""
        return InputError(f"judge {self.name}: {field}", got=got, expected=expected, fix=fix)

    def _checked_url(self) -> str:
        expected, fix = "an address such as http://127.0.0.1:8000/v1", "give the server's base address"
        try:
            parts = urlsplit(self.url if isinstance(self.url, str) else "")
            known = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            raise self.refuse("url", "no address", expected, fix) from None
        if "@" in parts.netloc or _SECRET.search(parts.query):
            raise self.secret_given("url")
        if not known or parts.query or parts.fragment or not self.url.isprintable():
            raise self.refuse("url", repr(self.url)[:200], expected, fix)
        return self.url.strip().rstrip("/").removesuffix("/chat/completions")

    def _require_number(self, field: str, low: float, high: float, *, whole: bool = False) -> None:
        value = getattr(self, field)
        kinds = (int,) if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high or math.isnan(value):
            kind = "a whole number" if whole else "a number"
            raise self.refuse(field, repr(value)[:60], f"{kind} from {low:g} to {high:,g}", "choose another value")


def looks_secret(field: str) -> bool:
    """Whether a field's name says that it holds a key."""
    return bool(_SECRET.search(field))


def _names_in(value: Any) -> Iterator[str]:
    """The names of the fields of a JSON value, at any depth."""
    if isinstance(value, Mapping):
        for name, inside in value.items():
            yield str(name)
            yield from _names_in(inside)
    elif isinstance(value, list):
        for inside in value:
            yield from _names_in(inside)
