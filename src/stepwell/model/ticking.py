"""What the ticks of a schedule that are due come to: decided here, without a database, from the moment alone."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from stepwell.model.schedule import GRACE, Schedule, Tick

RECHECK = 1.0
"""Seconds between two looks at a run for whose end a tick waits."""
MOST_AT_ONCE = 100


@dataclass(slots=True)
class Decided:
    """fire: ticks that trigger a run, in order. passed: ticks that do not, with the reason.

    next_tick: the first that is not decided yet. buffered: a tick that waits for the end of the last run; cancel: that
    run is to be canceled for it. look_at: when to look again, None: never.
    """

    fire: list[float] = field(default_factory=list[float])
    passed: list[Tick] = field(default_factory=list[Tick])
    next_tick: float | None = None
    last_tick: float | None = None
    buffered: float | None = None
    cancel: bool = False
    look_at: float | None = None


def due_at(schedule: Schedule, tick: float) -> float:
    """When a tick is to be handled: itself, and a part of the jitter that is always the same for it."""
    jitter = _spread(schedule, tick)
    if not jitter:
        return tick
    digest = hashlib.sha256(f"{schedule.id} {tick!r}".encode()).digest()
    return tick + jitter * int.from_bytes(digest[:8], "big") / 2**64


def _spread(schedule: Schedule, tick: float) -> float:
    """Seconds by which this tick may be put off."""
    policy = schedule.declaration.policy
    if not policy.jitter_share:
        return policy.jitter
    following = schedule.declaration.timetable.after(tick)
    if following is None:
        return policy.jitter
    share = policy.jitter_share * (following - tick)
    return min(policy.jitter, share) if policy.jitter else share


def first_tick(schedule: Schedule, now: float) -> float | None:
    """The tick with which a new, changed or resumed schedule goes on: those before now are not made up for."""
    return schedule.declaration.timetable.after(now)


def decide(schedule: Schedule, now: float, *, busy: bool) -> Decided:
    """busy: whether the last run of this schedule has not ended."""
    policy, table = schedule.declaration.policy, schedule.declaration.timetable
    made = Decided(next_tick=schedule.next_tick, last_tick=schedule.last_tick, buffered=schedule.buffered)
    if made.buffered is not None and not busy:
        made.fire.append(made.buffered)
        made.buffered, busy = None, True
    while (tick := made.next_tick) is not None and due_at(schedule, tick) <= now and len(made.fire) < MOST_AT_ONCE:
        late = now - due_at(schedule, tick) > GRACE
        if late and policy.missed == "catch_up":
            kept = _due(schedule, tick, now)[-policy.catch_up_limit :]
            if kept and kept[0] > tick:
                _miss(made, schedule, tick, kept[0], now, f"only the last {policy.catch_up_limit} are made up for")
                continue
            if busy:
                break  # in sequence: each when the one before has ended
        elif late:
            current = _first_in_time(schedule, tick, now)
            if policy.missed == "latest" and (current is None or due_at(schedule, current) > now):
                latest = table.last(tick, now, 1)[-1]
                if latest > tick:
                    _miss(made, schedule, tick, latest, now, "only the latest is made up for")
                    continue
            else:
                _miss(made, schedule, tick, current, now, "no server was there in time")
                continue
        _come(made, schedule, tick, busy=busy)
        made.last_tick, made.next_tick, busy = tick, table.after(tick), True
    made.cancel = made.buffered is not None and policy.overlap == "cancel_other"
    waits = made.next_tick is not None and due_at(schedule, made.next_tick) <= now
    if waits or made.buffered is not None:
        made.look_at = now if len(made.fire) >= MOST_AT_ONCE else now + RECHECK
    if made.next_tick is not None and not waits:
        due = due_at(schedule, made.next_tick)
        made.look_at = due if made.look_at is None else min(due, made.look_at)
    return made


def _come(made: Decided, schedule: Schedule, tick: float, *, busy: bool) -> None:
    """A tick in time, or one that is made up for."""
    overlap = schedule.declaration.policy.overlap
    if not busy or overlap == "allow":
        made.fire.append(tick)
    elif overlap == "cancel_other" and made.fire:
        made.passed.append(_skipped(schedule, made.fire.pop(), "a later tick came before it began"))
        made.fire.append(tick)
    elif overlap == "cancel_other":
        if made.buffered is not None:
            made.passed.append(_skipped(schedule, made.buffered, "a later tick came before it began"))
        made.buffered = tick
    elif overlap == "buffer_one" and made.buffered is None:
        made.buffered = tick
    else:
        waits = "one tick waits already" if overlap == "buffer_one" else "the run before has not ended"
        made.passed.append(_skipped(schedule, tick, waits))


def _skipped(schedule: Schedule, tick: float, reason: str) -> Tick:
    return Tick(schedule.id, tick, "skipped", reason=reason)


def _first_in_time(schedule: Schedule, tick: float, now: float) -> float | None:
    """The first tick from `tick` on that is not too late; it may be one that is yet to come."""
    table, policy = schedule.declaration.timetable, schedule.declaration.policy
    begin = now - GRACE - policy.jitter
    if policy.jitter_share:  # none is put off beyond the next one
        begin = math.nextafter(table.last(tick, now - GRACE, 1)[-1], -math.inf)
    candidates: Iterable[float] = table.ticks(max(tick, begin))
    return next((each for each in candidates if now - due_at(schedule, each) <= GRACE), None)


def _due(schedule: Schedule, tick: float, now: float) -> list[float]:
    """The last ticks from `tick` on that are due, at least as many as are made up for, if there are."""
    table, policy = schedule.declaration.timetable, schedule.declaration.policy
    if not policy.jitter_share:
        return table.last(tick, now - policy.jitter, policy.catch_up_limit)
    return [each for each in table.last(tick, now, policy.catch_up_limit + 1) if due_at(schedule, each) <= now]


def _miss(made: Decided, schedule: Schedule, first: float, beyond: float | None, now: float, why: str) -> None:
    """Ticks from `first` up to, but not including, `beyond` are missed."""
    end = now if beyond is None else beyond - 1e-3
    last = schedule.declaration.timetable.last(first, end, 1)[-1]
    made.passed.append(Tick(schedule.id, first, "missed", reason=why, until=last if last > first else None))
    made.last_tick, made.next_tick = last, beyond
