"""asyncpg's pool, to which connections are not given back as long as nobody waits for one.

To take a connection out of asyncpg's pool and to give it back costs each statement a task, a future and two turns of
the loop. One that is kept here is taken and laid back at once. What each has been used for is remembered: a statement
that it knows is planned already, while the first time of it on a connection takes some milliseconds.
"""

from __future__ import annotations

from typing import Any

from stepwell.storage.connection import is_gone


class Pool:
    """`connections` is asyncpg's, which makes, counts and closes them."""

    def __init__(self, connections: Any) -> None:
        self._connections = connections
        self._kept: list[Any] = []  # taken from the pool, and used by nobody now; the last one was used last
        self._gone: list[Any] = []  # found closed when they were to be used
        self._known: dict[Any, set[str]] = {}  # by connection: the names of what it has done
        self._asking = 0

    def at_hand(self, name: str) -> Any | None:
        """A connection for what has this name, if one is kept: rather one that has done the same before."""
        while self._kept:
            connection = self._kept.pop(self._best(name))
            if not is_gone(connection):
                self._known[connection].add(name)
                return connection
            self._gone.append(connection)
        return None

    async def acquire(self, name: str) -> Any:
        """Another one, as soon as there is one."""
        self._asking += 1
        try:
            while self._gone:
                await self.release(self._gone.pop())
            connection = await self._connections.acquire()
        finally:
            self._asking -= 1
        self._known[connection] = {name}
        return connection

    async def lay_back(self, connection: Any) -> None:
        """Keep a connection on which all went well, unless somebody waits for one."""
        if self._asking or is_gone(connection):
            await self.release(connection)
        else:
            self._kept.append(connection)

    async def release(self, connection: Any) -> None:
        """Give it back to asyncpg's pool, in whatever state."""
        self._known.pop(connection, None)
        await self._connections.release(connection)

    async def close(self) -> None:
        """Wait for those that are in use, and close all."""
        self._asking += 1  # none is kept from now on
        kept, self._kept = self._kept, []
        for connection in (*kept, *self._gone):
            await self.release(connection)
        await self._connections.close()

    def terminate(self) -> None:
        """Close all at once."""
        self._connections.terminate()

    def _best(self, name: str) -> int:
        for place in range(len(self._kept) - 1, -1, -1):
            if name in self._known[self._kept[place]]:
                return place
        return -1
