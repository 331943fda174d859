"""Many questions to a judge: each distinct one asked once, what is known already not at all, and what comes kept at
once.

A reply that cannot be read is asked for again once, with the form of the answer as a reminder. When a question fails
for good no new one is asked; those under way are waited for, and kept.

The SDK of OpenAI is imported in this file alone. It repeats a question itself (see endpoint.py); a client of its own
serves each call, since its connections belong to the event loop of that call.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from rewards.calling import waited_for
from rewards.judging.cache import Answer, AnswerCache
from rewards.judging.cost import JudgeCost
from rewards.judging.endpoint import Endpoint
from rlhf.foundation.errors import InputError

if TYPE_CHECKING:
    import openai

Value = TypeVar("Value")
_SHORTEST_SECRET = 8  # characters; a shorter key is a stand-in, such as "none" or "1", which a reply may well say


class NoCompletion(Exception):
    """The server says that all is well, and sends something else than a chat completion."""


class Asking(Generic[Value]):
    """One call of a judge. `read` makes a value of a reply, or None; `reminder` says again how to answer."""

    def __init__(self, endpoint: Endpoint, read: Callable[[str], Value | None], reminder: str) -> None:
        self.endpoint, self.read, self.reminder = endpoint, read, reminder
        self.cost = JudgeCost()
        self._answers: dict[str, Answer] = {}
        self._failures: list[Exception] = []

    def ask(self, questions: Sequence[str], *, again: bool = False) -> list[Value | None]:
        """What the replies say, in the order of the questions. `again` asks anew where a kept reply is unreadable.

        Raises InputError when the server fails for good, saying how many are answered, and as the cache does.
        """
        if not questions:
            return []
        keys = [self.endpoint.digest(question) for question in questions]
        # A lone surrogate has no UTF-8, in which questions are sent.
        sendable = (question.encode("utf-8", "replace").decode() for question in questions)
        asked = dict(zip(keys, sendable, strict=True))
        self._count(texts=len(keys), repeated=len(keys) - len(asked))
        with AnswerCache.open(self.endpoint.cache) as cache:
            known = cache.find(list(asked))
        self._answers = {key: a for key, a in known.items() if not again or self.read(a.reply) is not None}
        self._count(cached=len(self._answers))
        open_ones = {key: question for key, question in asked.items() if key not in self._answers}
        if open_ones:
            secret = self.endpoint.key()
            waited_for(self._all(open_ones, secret))
            if self._failures:
                raise self._failed(self._failures[0], len(asked), secret) from None
        values = [self.read(self._answers[key].reply) for key in keys]
        self._count(unreadable=sum(value is None for value in values))
        return values

    async def _all(self, questions: Mapping[str, str], key: str) -> None:
        """Ask all, so many at once; each worker takes the next that nobody has taken."""
        import asyncio

        remaining = iter(questions.items())
        workers = min(self.endpoint.concurrency, len(questions))
        with AnswerCache.open(self.endpoint.cache) as cache:
            async with self._client(key) as client:
                await asyncio.gather(*(self._work(client, cache, remaining, key) for _ in range(workers)))

    async def _work(
        self, client: openai.AsyncOpenAI, cache: AnswerCache, remaining: Iterator[tuple[str, str]], secret: str
    ) -> None:
        for key, question in remaining:
            try:
                answer = await self._answer(client, question)
                if len(secret) >= _SHORTEST_SECRET:
                    answer = answer._replace(reply=answer.reply.replace(secret, "***"))
                cache.keep(key, answer)
                self._answers[key] = answer
            except Exception as error:
                self._failures.append(error)
            if self._failures:
                return

    async def _answer(self, client: openai.AsyncOpenAI, question: str) -> Answer:
        asked = [{"role": "user", "content": question}]
        first = await self._reply(client, asked)
        if self.read(first.reply) is not None:
            return first
        said = [{"role": "assistant", "content": first.reply}] if first.reply.strip() else []
        second = await self._reply(client, [*asked, *said, {"role": "user", "content": self.reminder}])
        return Answer(second.reply, *(a + b for a, b in zip(first[1:], second[1:], strict=True)))

    async def _reply(self, client: openai.AsyncOpenAI, messages: list[dict[str, str]]) -> Answer:
        """One request with its repetitions, also where another page came in place of an answer."""
        import asyncio

        for attempt in range(self.endpoint.retries + 1):
            found = await self._request(client, messages)
            if found is not None:
                return found
            if attempt < self.endpoint.retries:
                self._count(retries=1)
                await asyncio.sleep(min(8.0, 0.5 * 2**attempt))
        raise NoCompletion("something else than a chat completion")

    async def _request(self, client: openai.AsyncOpenAI, messages: list[dict[str, str]]) -> Answer | None:
        """None where no chat completion came. A reply that was cut at the limit of tokens is an empty one."""
        import openai

        sent: Any = messages
        create = client.chat.completions.with_raw_response.create
        try:
            raw = await create(model=self.endpoint.model, messages=sent, extra_body=self.endpoint.fields())
        except (openai.APIStatusError, openai.APIConnectionError) as error:
            self._count(retries=int(error.request.headers.get("x-stainless-retry-count", 0)))
            raise
        self._count(calls=1, retries=raw.retries_taken)
        try:
            found = json.loads(raw.content)
            choice, usage = found["choices"][0], found.get("usage") or {}
            content, end = choice["message"].get("content"), choice.get("finish_reason")
            tokens = [int(usage.get(name) or 0) for name in ("prompt_tokens", "completion_tokens")]
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
            return None
        self._count(prompt_tokens=tokens[0], completion_tokens=tokens[1])
        return Answer(content if isinstance(content, str) and end != "length" else "", *tokens)

    def _client(self, key: str) -> openai.AsyncOpenAI:
        try:
            import openai
        except ImportError as error:
            raise InputError(
                f"judge {self.endpoint.name}",
                got="a Python without the package openai",
                expected="the client library of OpenAI-style servers",
                fix="pip install 'rlhf-ladder[judge]'",
            ) from error
        return openai.AsyncOpenAI(
            api_key=key or "none",
            base_url=self.endpoint.url,
            max_retries=self.endpoint.retries,
            timeout=self.endpoint.timeout,
        )

    def _count(self, **counts: int) -> None:
        self.cost += JudgeCost(**counts)

    def _failed(self, error: Exception, n: int, secret: str) -> Exception:
        """The line about a question that failed for good; another exception as it is."""
        import openai

        if not isinstance(error, (openai.OpenAIError, NoCompletion)):
            return error
        got, fix = _told(error, self.endpoint)
        got = got.replace(secret, "***") if secret else got
        kept = f"{len(self._answers):,} of {n:,} texts are answered and kept in {self.endpoint.cache}"
        return InputError(
            f"judge {self.endpoint.name} at {self.endpoint.url}",
            got=f"{got}; {kept}",
            expected="an answer to every text",
            fix=f"{fix}, then run it again (a run with --resume): only the rest is asked",
        )


def _told(error: Exception, endpoint: Endpoint) -> tuple[str, str]:
    """What happened, in a few words without a key, and what to do about it."""
    import openai

    if isinstance(error, openai.APITimeoutError):
        return f"no word for {endpoint.timeout:g} s", "see what keeps the server, or raise `timeout`"
    if isinstance(error, openai.APIConnectionError):
        return f"no connection ({_innermost(error)})", "start the server, or correct `url`"
    if not isinstance(error, openai.APIStatusError):
        return str(error), "see that `url` is an OpenAI-style server's"
    body: Any = error.body
    said = body.get("message") if isinstance(body, dict) else None
    got = f"{error.status_code} {said if isinstance(said, str) else error.response.reason_phrase}"[:300]
    fixes = {
        401: f"set ${endpoint.key_env} to a key that it knows",
        404: "correct `url` (it often ends in /v1) or `model`",
    }
    fixes |= {403: fixes[401], 429: "wait, lower `concurrency`, or look at the account's limits"}
    other = "see what the server says" if error.status_code < 500 else "wait for the server, or look at its log"
    return got, fixes.get(error.status_code, other)


def _innermost(error: BaseException) -> str:
    """What the operating system said, where the chain of causes ends."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip()[:120] or type(error).__name__
