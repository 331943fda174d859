"""What a judge cost: counts of calls and tokens."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True, slots=True)
class JudgeCost:
    """Counts since a judge was made, or of one call of it.

    `texts` that were to be scored; of them `repeated` in one call and asked once, and `cached` answers from the disk.
    `calls` are requests that the server answered, `retries` requests that were sent again after a failure, `unreadable`
    texts without a readable answer. Tokens are those that the server's `usage` tells of the calls: 0 where it has none.
    """

    texts: int = 0
    repeated: int = 0
    cached: int = 0
    calls: int = 0
    retries: int = 0
    unreadable: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: JudgeCost) -> JudgeCost:
        return JudgeCost(**{name: getattr(self, name) + getattr(other, name) for name in self.as_dict()})

    def as_dict(self) -> dict[str, int]:
        """By name, for JSON."""
        return dataclasses.asdict(self)

    def tell(self, log_metric: Callable[[str, Any], object], name: str) -> None:
        """As metrics `judge/NAME/...` of one call."""
        for key, value in self.as_dict().items():
            log_metric(f"judge/{name}/{key}", value)
