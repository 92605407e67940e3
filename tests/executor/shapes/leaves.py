"""What the shapes await: functions that are steps, and write down what they did."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from stepwell.testing import Effects

effects = Effects()


async def fetch(value: Any, delay: float | None = None) -> Any:
    """A step that takes a moment, in an order that nobody knows."""
    effects.record("fetch", value)
    await asyncio.sleep(random.random() * 0.004 if delay is None else delay)
    return value * 10 if isinstance(value, int) else value


async def boom(value: Any, delay: float = 0.001) -> Any:
    effects.record("boom", value)
    await asyncio.sleep(delay)
    raise ValueError("bad", value)


async def forever() -> None:
    """Ends by being canceled only."""
    effects.record("forever")
    await asyncio.get_running_loop().create_future()


def blocking(value: int) -> int:
    effects.record("blocking", value)
    return value * 2


class MyError(Exception):
    """Cannot be built from its args alone."""

    def __init__(self, code: int, *, extra: dict[str, Any]) -> None:
        super().__init__(f"code {code}")
        self.code = code
        self.extra = extra


async def my_error() -> None:
    effects.record("my_error")
    raise MyError(7, extra={"a": 1})
