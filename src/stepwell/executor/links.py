"""Links to the pages of tokens: the server signs them, so a step asks for them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from stepwell.errors import NotFound

if TYPE_CHECKING:
    from stepwell.executor.attempt import Attempt


class Links:
    """Those that steps of an attempt wait for, by their tokens' ids."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._asked: dict[str, list[asyncio.Future[str]]] = {}

    def ask(self, token: str) -> asyncio.Future[str]:
        """The link; NotFound where there is no such token. If the answer is lost it never comes: who asks has a
        time-out, and asks again."""
        future: asyncio.Future[str] = self._attempt.loop.create_future()
        self._asked.setdefault(token, []).append(future)
        self._attempt.port.ask_link(token)
        return future

    def found(self, token: str, url: str | None) -> None:
        for future in self._asked.pop(token, ()):
            if future.done():
                continue  # its step asks anew, or asks no more
            if url is not None:
                future.set_result(url)
            else:
                missing = f"there is no token {token[:80]!r} in this environment"
                future.set_exception(NotFound(missing, code="token-not-found", status=404))
