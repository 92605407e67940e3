"""The clients of the module-level verbs, made when first needed from the environment or a `stepwell dev` nearby."""

from __future__ import annotations

import asyncio
import atexit
import os
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from stepwell.client.asynchronous import Stepwell
    from stepwell.client.blocking import Stepwell as BlockingStepwell

_async_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, Stepwell] = WeakKeyDictionary()
_blocking_client: tuple[int, BlockingStepwell] | None = None


def default_client() -> Stepwell:
    """The client of the running event loop: connections cannot be shared between loops.

    Raises:
        ConfigError: no server is named.
    """
    loop = asyncio.get_running_loop()
    client = _async_clients.get(loop)
    if client is None:
        from stepwell.client.asynchronous import Stepwell

        client = _async_clients[loop] = Stepwell()
        _close_with(loop, client)
    return client


def default_sync_client() -> BlockingStepwell:
    """The client of this process; any thread may use it.

    Raises:
        ConfigError: no server is named.
    """
    global _blocking_client
    if _blocking_client is None or _blocking_client[0] != os.getpid():  # a forked child must not write to our sockets
        from stepwell.client.blocking import Stepwell

        _blocking_client = (os.getpid(), Stepwell())
        atexit.register(_blocking_client[1].close)
    return _blocking_client[1]


def _close_with(loop: asyncio.AbstractEventLoop, client: Stepwell) -> None:
    """Closes the client when the loop ends: `asyncio.run` finalizes async generators before it closes the loop."""
    lifetime = _lifetime(client)
    begun = lifetime.__anext__()
    try:
        begun.send(None)  # runs to the yield, which needs no loop; from there on the loop knows the generator
    except StopIteration:
        _lifetimes[loop] = lifetime


async def _lifetime(client: Stepwell) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        await client.aclose()


_lifetimes: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncGenerator[None, None]] = WeakKeyDictionary()
