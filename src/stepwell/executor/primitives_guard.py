"""asyncio's locks, queues and events know which run made them, so that one shared by several runs is found.

As orchestration a shared one cannot be replayed: what another run does to it is not in this run's journal.
"""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any

from stepwell.errors import ConfigError
from stepwell.executor.domain import domain

if TYPE_CHECKING:
    from collections.abc import Callable

    from stepwell.executor.attempt import Attempt

_KINDS: tuple[Any, ...] = (
    asyncio.Lock,
    asyncio.Event,
    asyncio.Condition,
    asyncio.Semaphore,
    asyncio.Barrier,
    asyncio.Queue,
)
_OWNER = "_stepwell_owner"
_installed = False


def install() -> None:
    """Has each of them remember the run in whose own lines it is made. Once per process."""
    global _installed
    if _installed:
        return
    _installed = True
    for kind in _KINDS:
        if not hasattr(kind.__init__, "__stepwell__"):
            kind.__init__ = _remembering(kind.__init__)  # type: ignore[method-assign]


def _remembering(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - it is one
        attempt = domain.get()
        setattr(self, _OWNER, None if attempt is None else attempt.token)
        init(self, *args, **kwargs)

    __init__.__stepwell__ = True  # type: ignore[attr-defined]
    return __init__


def check_owner(thing: Any, attempt: Attempt, site: str) -> None:
    """Raises ConfigError when `thing` is one of asyncio's primitives and was not made by this run's own lines."""
    if isinstance(thing, _KINDS) and getattr(thing, _OWNER, None) is not attempt.token:
        kind = type(thing).__name__
        raise ConfigError(
            f"{site}: this asyncio.{kind} was not made by this run (at module level, perhaps), so what others do to it "
            "cannot be replayed",
            code="shared-primitive",
            hint=f"make the {kind} inside the task; to limit what several runs do at once, give the task a queue with "
            "concurrency=..., or a concurrency key",
        )
