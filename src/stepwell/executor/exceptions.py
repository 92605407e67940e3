"""Which entry of the journal an exception stems from.

An attempt that fails because a step failed is tried again from before that step, not from the error in its journal.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator

_REMEMBERED = 4096


class Origins:
    """Remembers the exceptions that were delivered, by identity, with the entry to go back to."""

    def __init__(self) -> None:
        self._by_id: OrderedDict[int, tuple[BaseException, int]] = OrderedDict()

    def remember(self, error: BaseException, seq: int) -> None:
        """`error` was delivered; a retry of the attempt must go back to before entry `seq`."""
        self._by_id[id(error)] = (error, seq)
        if len(self._by_id) > _REMEMBERED:
            self._by_id.popitem(last=False)

    def of(self, error: BaseException) -> int | None:
        found = self._by_id.get(id(error))
        return found[1] if found is not None and found[0] is error else None

    def stems_of(self, error: BaseException, cancel_cause: int | None) -> list[int]:
        """The entries that `error` stems from; none when it is of the task's own making.

        `cancel_cause`: what a cancellation of unknown origin came from.
        """
        return sorted(set(self._stems(error, cancel_cause, set())))

    def _stems(self, error: BaseException, cancel_cause: int | None, seen: set[int]) -> Iterator[int]:
        """Its own entry, else those of its members, else that of what it was raised from.

        An error that the task caught and got over is the context of nothing that is raised later.
        """
        if id(error) in seen:
            return
        seen.add(id(error))
        own = self.of(error)
        if own is not None:
            yield own
            return
        if isinstance(error, BaseExceptionGroup):
            members: tuple[BaseException, ...] = error.exceptions  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
            for member in members:
                yield from self._stems(member, cancel_cause, seen)
            return
        cause = error.__cause__ or error.__context__
        if cause is not None:
            yield from self._stems(cause, cancel_cause, seen)
        elif isinstance(error, asyncio.CancelledError) and cancel_cause is not None:
            yield cancel_cause
