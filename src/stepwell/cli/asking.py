"""Asks the server: a client for the length of one command."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from stepwell.client.asynchronous import Stepwell

T = TypeVar("T")


def ask(question: Callable[[Stepwell], Awaitable[T]]) -> T:
    """The answer to a question to the server that the environment or a `stepwell dev` nearby names."""
    from stepwell.client.asynchronous import Stepwell

    async def asked() -> T:
        async with Stepwell() as client:
            return await question(client)

    return asyncio.run(asked())
