"""`client.guards` for code that is not async: semaphores, limiters and breakers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepwell.client import guarding
from stepwell.model.permit import GuardKind
from stepwell.protocol.guarding import GuardDetail, GuardView

if TYPE_CHECKING:
    from stepwell.client.blocking import Stepwell


class GuardsOf:
    """`client.guards`: semaphores, limiters and breakers, by their kind and name."""

    def __init__(self, client: Stepwell) -> None:
        self._client = client

    def list(self, kind: GuardKind | None = None) -> list[GuardView]:
        """All that were ever used, or those of a kind: semaphore, limiter or breaker."""
        return self._client.ask(guarding.list_all(kind))

    def retrieve(self, kind: GuardKind, name: str) -> GuardDetail:
        """One, with the runs that hold it and those that wait. Raises NotFound."""
        return self._client.ask(guarding.retrieve(kind, name))

    def forget(self, kind: GuardKind, name: str) -> None:
        """Reset one. Raises NotFound, and Conflict for a semaphore that is in use."""
        self._client.ask(guarding.forget(kind, name))
