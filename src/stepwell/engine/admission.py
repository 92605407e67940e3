"""Admission: what the rules of tasks and triggers make of new runs, within the transaction that makes them.

Whoever asks about a key locks its row first, so that racing triggers, on any number of servers, ask one after another.
The time is Postgres's, taken when the locks are held. A trigger without rules does not come here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from stepwell.engine.admit import store
from stepwell.engine.cancel import cancel_in
from stepwell.errors import LimitExceeded, StepwellError
from stepwell.model.admission import (
    BatchRule,
    DebounceRule,
    Keyed,
    KeyState,
    Kind,
    SingletonRule,
    ThrottleRule,
    Verdict,
    decide,
)
from stepwell.model.run import NewRun
from stepwell.model.trigger import Triggered
from stepwell.storage import admission, cancel_on, event, run
from stepwell.storage.admission import Key
from stepwell.storage.database import Tx

_GRACE = 60.0  # seconds that a key is kept after it became useless

Outcome = Triggered | StepwellError


@dataclass(slots=True)
class Settled:
    """passed_over: the places of runs that are not made. Once the others are stored: held: those that wait, and under
    which key; batched: the same of those that wait for a collector, who is told if `tell`; replaced: runs to cancel,
    and for which.
    """

    passed_over: list[int] = field(default_factory=list[int])
    held: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    batched: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    replaced: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    tell: bool = False

    async def carry_out(self, tx: Tx, environment_id: str) -> None:
        for kind, rows in (("singleton", self.held), ("batch", self.batched)):
            if rows:
                await admission.hold(tx, environment_id, kind, rows)
                await event.append(tx, [(run_id, "held", {"key": key or None}) for run_id, key in rows])
        if self.tell:
            await event.notify(tx, held=[environment_id])
        for old, new in self.replaced:
            await cancel_in(tx, [old], f"replaced by {new}")


async def settle(tx: Tx, environment_id: str, fresh: dict[int, NewRun], outcomes: list[Outcome | None]) -> Settled:
    """Ask the rules of runs that are about to be stored. Those that are not made have an outcome then."""
    settled = Settled()
    ruled = [index for index, new in fresh.items() if new.rules]
    if not ruled:
        return settled
    keys = sorted({(fresh[i].task_id, each.kind, each.key) for i in ruled for each in fresh[i].rules})
    states, now = await admission.lock(tx, environment_id, keys)
    status = await _standing(tx, environment_id, states)
    places = {new.id: index for index, new in fresh.items()}
    changed: dict[Key, tuple[KeyState, float]] = {}
    for index in ruled:
        new = fresh[index]
        mine: dict[tuple[Kind, str], KeyState] = {
            (each.kind, each.key): states[new.task_id, each.kind, each.key] for each in new.rules
        }
        verdict = decide(new.id, new.rules, mine, status, now)
        if verdict.why is not None:
            settled.passed_over.append(index)
            outcomes[index] = await _passed_over(tx, environment_id, new, verdict, fresh, places)
        else:
            fresh[index] = new = await _let_in(tx, environment_id, new, verdict, mine, places, settled)
            status[new.id] = "delayed" if verdict.delay is not None else "queued"
        for each in new.rules:
            key = (new.task_id, each.kind, each.key)
            if states[key] != mine[each.kind, each.key]:
                states[key] = mine[each.kind, each.key]
                changed[key] = (states[key], _useful(each, states[key], now))
    if changed:
        await admission.write(tx, environment_id, changed)
    return settled


async def _standing(tx: Tx, environment_id: str, states: dict[Key, KeyState]) -> dict[str, str]:
    """The status of the runs that stand for keys, locked; "held" of one that ended while others wait for their turn."""
    watched = {key: state.run_id for key, state in states.items() if key[1] in ("debounce", "singleton")}
    ids = sorted({run_id for run_id in watched.values() if run_id})
    if not ids:
        return {}
    locked = await run.lock_family(tx, ids)
    status = {run_id: "ended" if locked[run_id].is_terminal else locked[run_id].status for run_id in ids}
    singletons = [
        key for key, run_id in watched.items() if key[1] == "singleton" and status.get(run_id or "") == "ended"
    ]
    for key in await admission.waiting(tx, environment_id, singletons) if singletons else ():
        status[watched[key] or ""] = "held"
    return {**status}


async def _passed_over(
    tx: Tx, environment_id: str, new: NewRun, verdict: Verdict, fresh: dict[int, NewRun], places: dict[str, int]
) -> Outcome:
    """Nothing is made: what another run makes of it, and what the caller is told."""
    stands = verdict.run_id
    if verdict.refuse or stands is None:
        return _throttled(new, verdict)
    if verdict.push is not None and (place := places.get(stands)) is not None:
        names = ("payload", "payload_type", "metadata", "tags", "cancel_on")
        taken = {name: getattr(new, name) for name in names}
        fresh[place] = replace(
            fresh[place], delay=None, delay_until=verdict.push, **taken if verdict.take_payload else {}
        )
    elif verdict.push is not None:
        if verdict.take_payload:
            await admission.take_payload(tx, [(stands, new)])
            if new.cancel_on:
                await cancel_on.insert(tx, environment_id, [(stands, new.cancel_on)])
        await admission.push(tx, [(stands, verdict.push)])
        await event.append(tx, [(stands, "debounced", {"payload": verdict.take_payload or None, "due": verdict.push})])
    return Triggered(stands, cached=True, why=verdict.why)


async def _let_in(
    tx: Tx,
    environment_id: str,
    new: NewRun,
    verdict: Verdict,
    mine: dict[tuple[Kind, str], KeyState],
    places: dict[str, int],
    settled: Settled,
) -> NewRun:
    """A run is made: put off, in place of another, or behind it."""
    if verdict.delay is not None:
        new = replace(new, delay=verdict.delay, delay_until=None)
    if verdict.batched:
        settled.batched += [(new.id, each.key) for each in new.rules if isinstance(each.rule, BatchRule)]
        settled.tell |= verdict.tell
    turn = [each for each in new.rules if isinstance(each.rule, SingletonRule)]
    behind = verdict.behind
    if verdict.replaces is not None:
        [each] = turn
        key = (new.task_id, each.kind, each.key)
        if verdict.replaces in places:  # of this call: it is stored first, so that it can be canceled
            settled.replaced.append((verdict.replaces, new.id))
            behind = False
        else:
            waiting = await admission.held_of(tx, environment_id, key)
            ended = await cancel_in(tx, [verdict.replaces, *waiting], f"replaced by {new.id}")
            await admission.let_go(tx, waiting)
            behind = verdict.replaces not in ended
        if not behind:
            mine[each.kind, each.key] = KeyState(new.id)
    if behind:
        settled.held.append((new.id, turn[0].key))
    return new


def _useful(each: Keyed, state: KeyState, now: float) -> float:
    """Seconds until nobody needs to know this of the key."""
    if isinstance(each.rule, SingletonRule):
        return _GRACE
    if isinstance(each.rule, ThrottleRule):
        return each.rule.window + _GRACE
    if isinstance(each.rule, DebounceRule | BatchRule):
        return state.until - now + _GRACE
    return each.rule.window + _GRACE


def _throttled(new: NewRun, verdict: Verdict) -> LimitExceeded:
    after = math.ceil((verdict.retry_after or 0.0) * 1000) / 1000
    return LimitExceeded(
        f"task {new.task_id!r} is throttled: its window is full for another {after:g} s",
        code="throttled",
        hint="trigger it later, or declare Throttle(..., over='drop') if runs beyond the limit are not needed",
        status=429,
        details={"retry_after": after, "should_retry": False},
    )


async def store_children(tx: Tx, environment_id: str, children: Sequence[NewRun]) -> None:
    """Store the children of a run. One that is not let in is there too, as canceled: its parent knows its id."""
    fresh = dict(enumerate(children))
    outcomes: list[Outcome | None] = [None] * len(children)
    settled = await settle(tx, environment_id, fresh, outcomes)
    await store(tx, environment_id, list(fresh.values()))
    await settled.carry_out(tx, environment_id)
    for index in settled.passed_over:
        await cancel_in(tx, [fresh[index].id], _reason(outcomes[index]), parents=False)


def _reason(outcome: Outcome | None) -> str:
    if isinstance(outcome, Triggered):
        return f"not let in ({outcome.why}): {outcome.run_id} stands for it"
    return outcome.message if outcome is not None else ""
