"""`client.guards` for async code: semaphores, limiters and breakers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepwell.client import guarding
from stepwell.model.permit import GuardKind
from stepwell.protocol.guarding import GuardDetail, GuardView

if TYPE_CHECKING:
    from stepwell.client.asynchronous import Stepwell


class GuardsOf:
    """`client.guards`: semaphores, limiters and breakers, by their kind and name."""

    def __init__(self, client: Stepwell) -> None:
        self._client = client

    async def list(self, kind: GuardKind | None = None) -> list[GuardView]:
        """All that were ever used, or those of a kind: semaphore, limiter or breaker."""
        return await self._client.ask(guarding.list_all(kind))

    async def retrieve(self, kind: GuardKind, name: str) -> GuardDetail:
        """One, with the runs that hold it and those that wait. Raises NotFound."""
        return await self._client.ask(guarding.retrieve(kind, name))

    async def forget(self, kind: GuardKind, name: str) -> None:
        """Reset one. Raises NotFound, and Conflict for a semaphore that is in use."""
        await self._client.ask(guarding.forget(kind, name))
