"""Permits of one attempt: those it waits for, and those that its journal says it holds.

To ask is an entry, and the answer is another. A permit belongs to the run, not to its process: a run that is resumed
after a crash goes on with it. An attempt that failed holds nothing, though, and neither does a fork; so before a
journal is replayed, what it holds at its end is looked for, and taken again where it is gone: one guard after another,
in the order in which the task's own lines enter them, so that two runs which take theirs again never wait for each
other when their code would not.

An attempt that noted what it failed by, and died before its end was known, still holds what it held. Its journal says
otherwise from there on, so all of that is given back first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from stepwell.errors import BreakerOpen, ConfigError
from stepwell.executor.journal import AGAIN, RETRY, Journal, branch_of
from stepwell.executor.record import Record
from stepwell.model.checkpoint import Checkpoint
from stepwell.model.permit import PermitAnswer, PermitChange, Terms
from stepwell.model.wait import Wait
from stepwell.primitives.duration import describe

if TYPE_CHECKING:
    from stepwell.executor.attempt import Attempt


@dataclass(slots=True)
class _Awaited:
    change: PermitChange
    deliver: Callable[[PermitAnswer], None] | None  # None: it is taken again
    linger_until: float


class Permits:
    """By the key of the entry that asked."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._awaited: dict[str, _Awaited] = {}
        self._asked: set[str] = set()
        self._checked = False
        self._again = 0
        self.entered: dict[tuple[str, str, str], list[str]] = {}  # keys, by branch, kind and name: the last one leaves

    # ---- waiting

    @property
    def waiting(self) -> bool:
        return bool(self._awaited)

    def wait(
        self, change: PermitChange, deliver: Callable[[PermitAnswer], None] | None, *, replayed: bool = True
    ) -> None:
        options = self._attempt.options
        linger = options.linger_resumed if replayed else options.linger
        until = self._attempt.loop.time_outside() + linger
        self._awaited[change.key] = _Awaited(change, deliver, until)

    def cease(self, key: str) -> None:
        """Nobody waits for this one any more."""
        self._awaited.pop(key, None)
        self._asked.discard(key)

    def ask(self) -> bool:
        """Ask to be told, once for each. What is taken again comes before what is new. Whether anything was asked."""
        first = self.taking_again
        new = [key for key in (self._first() if first else self._awaited) if key not in self._asked]
        if new:
            self._asked.update(new)
            self._attempt.port.await_permits(new)
        return bool(new)

    def linger(self) -> float:
        """For how many seconds more the run should stay for them."""
        latest = max((each.linger_until for each in self._awaited.values()), default=0.0)
        return latest - self._attempt.loop.time_outside() if self._awaited else 0.0

    def waits(self) -> list[Wait]:
        waited = self._first() if self.taking_again else list(self._awaited)
        return [Wait(answer_key(key), "permit", spawn_key=key) for key in waited]

    # ---- answers

    def answered(self, answer: PermitAnswer) -> None:
        awaited = self._awaited.get(answer.key)
        self._asked.discard(answer.key)
        if awaited is None:
            return  # told twice, or nobody waits any more
        if answer.status == "unknown":  # it went with the end of an attempt, or somebody reset the guard
            self._ask_again(awaited.change)
            return
        del self._awaited[answer.key]
        if awaited.deliver is not None:
            awaited.deliver(answer)
        elif answer.status != "granted":
            self._attempt.fail(error_of(awaited.change, answer, self._attempt.port.now()))
            self._attempt.kick()
        else:
            self._attempt.kick()

    # ---- taking again

    @property
    def taking_again(self) -> bool:
        return any(each.deliver is None for each in self._awaited.values())

    def _first(self) -> list[str]:
        """Of what is taken again, that which comes first: all of one guard."""
        keys = [key for key, each in self._awaited.items() if each.deliver is None]
        name = name_of(self._awaited[keys[0]].change)
        return [key for key in keys if name_of(self._awaited[key].change) == name]

    def ready(self) -> bool:
        """Whether the run really holds what its journal says. False: it will be told."""
        if not self._checked:
            self._checked = True
            for change in left_over(self._attempt.given.journal, self._attempt.journal, self._attempt.number):
                self._post(replace(change, verb="return"))
            for change in in_order(held_by(self._attempt.journal)):
                self.wait(change, None)
        return not self._awaited or not self.taking_again

    def _ask_again(self, change: PermitChange) -> None:
        self._post(replace(change, verb="ask"))

    def _post(self, change: PermitChange) -> None:
        self._again += 1
        key = f"{AGAIN}#{self._attempt.given.epoch}.{self._again}|{change.key}"
        record = Record(key, "permit", "value")
        record.permit = change
        self._attempt.mailbox.post(record)


def answer_key(key: str) -> str:
    return f"{key}.answer"


def error_of(change: PermitChange, answer: PermitAnswer, now: float) -> Exception:
    """What a task gets that got no permit."""
    if answer.status == "refused":
        delay = max(0.0, math.ceil((answer.at - now) * 1000) / 1000)
        return BreakerOpen(
            f"breaker {change.terms.name!r} is open for another {describe(delay)}",
            name=change.terms.name,
            delay=delay,
            hint="Retry(when=...) may return RetryAfter(error.delay)",
        )
    return ConfigError(
        answer.message,
        code="guard-conflict",
        hint="declare it with the same numbers everywhere, in one place that all tasks import",
    )


def held_by(journal: Journal) -> list[PermitChange]:
    """What the run holds at the end of what is replayed. Of a limiter nothing is held."""
    kept = journal.recorded
    asked = [entry for key, entry in kept.items() if entry.kind == "permit" and f"{key}.return" not in kept]
    granted = [e for e in asked if (answer := kept.get(answer_key(e.key))) is not None and answer.outcome == "value"]
    changes = [_asked(entry, journal) for entry in granted]
    return [change for change in changes if change.terms.kind != "limiter"]


def left_over(entries: Sequence[Checkpoint], journal: Journal, attempt: int) -> list[PermitChange]:
    """What this very attempt asked for before it noted, as the last thing of its life, what it failed by."""
    if not entries or not entries[-1].key.startswith(RETRY) or entries[-1].attempt != attempt:
        return []
    derived = (".answer", ".return")
    asks = {e.key: e for e in entries if e.kind == "permit" and not e.nested and not e.key.endswith(derived)}
    return [_asked(entry, journal) for key, entry in asks.items() if not key.startswith(AGAIN)]


def in_order(held: Sequence[PermitChange]) -> list[PermitChange]:
    """Outer guards before inner ones, in whatever branch; else as they were asked for."""
    graph: TopologicalSorter[str] = TopologicalSorter()
    entered: dict[str, list[str]] = {}
    for change in held:
        name, branch = name_of(change), branch_of(change.key)
        outer = [each for path, names in entered.items() if f"{branch}/".startswith(f"{path}/") for each in names]
        graph.add(name, *(each for each in outer if each != name))
        entered.setdefault(branch, []).append(name)
    try:
        places = {name: place for place, name in enumerate(graph.static_order())}
    except CycleError:  # they may wait for each other in any order
        return list(held)
    return sorted(held, key=lambda change: places[name_of(change)])


def name_of(change: PermitChange) -> str:
    return f"{change.terms.kind}:{change.terms.name}"


def _asked(entry: Checkpoint, journal: Journal) -> PermitChange:
    return PermitChange(entry.key, Terms(*journal.texts.read(entry).value()))  # pyright: ignore[reportArgumentType]
