"""Children that an attempt waits for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stepwell.errors import CheckpointError
from stepwell.executor.record import MAX_VALUE, Record
from stepwell.model.child import ChildOutcome
from stepwell.model.wait import Wait

if TYPE_CHECKING:
    from stepwell.executor.attempt import Attempt


@dataclass(slots=True)
class _Awaited:
    key: str
    site: str
    nested: bool
    deliver: Callable[[Record], None] | None
    linger_until: float  # the loop's own clock
    outcomes: list[ChildOutcome] = field(default_factory=list[ChildOutcome])  # pages that have come
    size: int = 0  # bytes of their outputs


class Children:
    """By the key of the entry that triggered them."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._awaited: dict[str, _Awaited] = {}
        self._asked: set[str] = set()

    @property
    def waiting(self) -> bool:
        return bool(self._awaited)

    def wait(
        self, key: str, spawn_key: str, site: str, deliver: Callable[[Record], None], *, nested: bool, replayed: bool
    ) -> None:
        options = self._attempt.options
        linger = options.linger_resumed if replayed else options.linger
        until = self._attempt.loop.time_outside() + linger
        self._awaited[spawn_key] = _Awaited(key, site, nested, deliver, until)

    def ask(self) -> None:
        """Ask to be told, once for each."""
        new = [spawn_key for spawn_key in self._awaited if spawn_key not in self._asked]
        if new:
            self._asked.update(new)
            self._attempt.port.await_children(new)

    def ended(self, spawn_key: str, outcomes: Sequence[ChildOutcome], first: int = 0, *, more: bool = False) -> None:
        """A page of outcomes, from child number `first` on. more: another one follows."""
        awaited = self._awaited.get(spawn_key)
        if awaited is None:
            return  # told twice
        if first == 0:  # from the beginning, perhaps again
            awaited.outcomes, awaited.size = [], 0
        elif first != len(awaited.outcomes):
            return  # a page of what was broken off
        awaited.outcomes += outcomes
        awaited.size += sum(len(each.output) for each in outcomes if each.output is not None)
        if not more or awaited.size > MAX_VALUE:  # which is too much already, whatever follows
            del self._awaited[spawn_key]
            self._post(awaited, complete=not more)
            return
        now = self._attempt.loop.time_outside()  # they are coming: who went now would be told all of it again
        awaited.linger_until = max(awaited.linger_until, now + self._attempt.options.linger_resumed)

    def _post(self, awaited: _Awaited, *, complete: bool) -> None:
        record = Record(awaited.key, "children", "value", site=awaited.site, nested=awaited.nested)
        if complete:
            try:
                record.set_value(awaited.outcomes)
            except CheckpointError as refused:
                record.set_error(_too_much(str(len(awaited.outcomes)), refused.message, refused.code))
        else:
            record.set_error(_too_much(f"the first {len(awaited.outcomes)}", f"they have {awaited.size:,} bytes"))
        record.deliver = awaited.deliver
        self._attempt.mailbox.post(record)

    def forget(self, spawn_key: str) -> Record | None:
        """The wait is given up: the entry that says so. None: they have ended, and that is on its way."""
        awaited = self._awaited.pop(spawn_key, None)
        if awaited is None:
            return None
        record = Record(awaited.key, "children", "canceled", site=awaited.site, nested=awaited.nested)
        record.set_canceled()
        record.deliver = awaited.deliver
        return record

    def linger(self) -> float:
        """For how many seconds more the run should stay for them."""
        latest = max((each.linger_until for each in self._awaited.values()), default=0.0)
        return latest - self._attempt.loop.time_outside()

    def waits(self) -> list[Wait]:
        return [Wait(each.key, "children", spawn_key=spawn_key) for spawn_key, each in self._awaited.items()]


def _too_much(number: str, why: str, code: str | None = None) -> CheckpointError:
    return CheckpointError(
        f"the outputs of {number} children cannot be one checkpoint: {why}",
        code=code,
        hint="take them one by one, with `async for place, output in child.as_completed(...)`; or let each child say "
        "where its result is",
    )
