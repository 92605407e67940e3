"""Permits: runs ask for semaphores, limiters and breakers, and give back, within their journals' own transactions.

Whoever decides has the guard's row locked, in a statement of its own, so decisions about one guard come one after
another; what is held is counted from permits, each of which belongs to a run and goes with the run's end. Order of
locks: runs, leases, guards (by environment, kind, name), permits. Whoever grants a slot wakes the run that waits for
it in the same transaction; a run that is just being suspended waits for the grant's commit (`storage.permit.hold`) and
sees it by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from stepwell.engine.wake import wake_satisfied
from stepwell.errors import Conflict, NotFound
from stepwell.model import permit as decisions
from stepwell.model.permit import Guard, GuardKind, Permit, PermitAnswer, PermitChange
from stepwell.storage import event, guard, permit, run
from stepwell.storage.columns import storable
from stepwell.storage.database import Database, Tx
from stepwell.storage.guard import Named

Change = tuple[str, str, PermitChange]  # (environment, run, change)
MOST_ROWS = 1000


async def apply(tx: Tx, changes: Sequence[Change]) -> None:
    """Carry out what runs ask for and give back, in this order. Their leases are locked."""
    asks = [(environment_id, run_id, change) for environment_id, run_id, change in changes if change.verb == "ask"]
    tasks = await run.tasks(tx, sorted({run_id for _, run_id, _ in asks})) if asks else {}
    if asks:
        await guard.declare(tx, [(env, change.terms, tasks[run_id]) for env, run_id, change in asks])
    guards = await guard.lock(tx, [_named(env, change) for env, _, change in changes])
    before = dict(guards)
    returned = [(run_id, change.key) for _, run_id, change in changes if change.verb == "return"]
    taken_back = await permit.remove(tx, returned) if returned else {}
    permits: list[Permit] = []
    for environment_id, run_id, change in changes:
        named = _named(environment_id, change)
        found = guards.get(named)
        if found is None:
            continue  # given back after the guard was forgotten
        if change.verb == "return":
            guards[named] = _returned(found, taken_back.get((run_id, change.key)), change.failed)
        else:
            guards[named], asked = _asked(found, run_id, tasks[run_id], change)
            permits.append(asked)
    if permits:
        await permit.insert(tx, permits)
    await _settle(tx, before, guards)


async def drop(tx: Tx, run_ids: Sequence[str]) -> None:
    """Take everything back from runs that have ended, or whose attempt has. Their rows are locked, and no lease of
    theirs writes any more."""
    named = await permit.guards_of(tx, run_ids)
    if not named:
        return
    guards = await guard.lock(tx, named)
    before = dict(guards)
    removed = await permit.remove_all(tx, run_ids)
    for each in sorted(removed, key=lambda each: -(each.granted_at or 0.0)):  # of a limiter, the last turn first
        key: Named = (each.environment_id, each.kind, each.name)
        if key in guards:
            guards[key] = _returned(guards[key], each, None)
    await _settle(tx, before, guards)


async def answers(db: Database, asked: Sequence[tuple[str, str]]) -> dict[tuple[str, str], PermitAnswer]:
    """What came of these (run id, key), of those about which something can be said."""
    async with db.read("permits") as tx:
        found = await permit.find(tx, asked)
    return {place: answer for place in asked if (answer := _answer(place[1], found.get(place))) is not None}


async def heal(db: Database, limit: int = 200) -> int:
    """What can only be left over by a fault: permits of runs that have ended, and free slots that nobody was given."""

    async def body(tx: Tx) -> int:
        ended = await permit.orphans(tx, limit)
        if ended:
            await drop(tx, ended)
        starved = await guard.starved(tx, limit)
        if starved:
            guards = await guard.lock(tx, starved)
            await _settle(tx, guards, guards)
        return len(ended) + len(starved)

    return await db.transact("heal_permits", body)


async def forget(db: Database, environment_id: str, kind: GuardKind, name: str) -> None:
    """Reset a guard: it is as if it had never been used. A limiter is full, a breaker closed, and the next task that
    uses it sets its terms. Raises NotFound, and Conflict (guard-in-use) for a semaphore that is held or waited for."""
    named: Named = (environment_id, kind, name)

    async def body(tx: Tx) -> None:
        if not await guard.lock(tx, [named]):
            raise _not_found(kind, name)
        users = await permit.of_guards(tx, environment_id, kind, name, MOST_ROWS) if kind == "semaphore" else []
        if users:
            raise Conflict(
                f"semaphore {name!r} is in use: {_said(users)}",
                code="guard-in-use",
                hint="wait until these runs are done with it, or cancel them",
                status=409,
            )
        await guard.remove(tx, named)

    await db.transact("forget_guard", body)


async def list_guards(db: Database, environment_id: str, kind: GuardKind) -> list[tuple[Guard, list[Permit]]]:
    """All of a kind by name, with who holds and who waits, in the order of asking (at most 1000 in all)."""
    async with db.read("guards") as tx:
        guards = await guard.every(tx, environment_id, kind)
        permits = await permit.of_guards(tx, environment_id, kind, None, MOST_ROWS)
    return [(each, [p for p in permits if p.name == each.terms.name]) for each in guards]


async def get_guard(db: Database, environment_id: str, kind: GuardKind, name: str) -> tuple[Guard, list[Permit]]:
    """One of them, with who holds and who waits. Raises NotFound."""
    async with db.read("guard") as tx:
        found = [each for each in await guard.every(tx, environment_id, kind) if each.terms.name == name]
        if not found:
            raise _not_found(kind, name)
        return found[0], await permit.of_guards(tx, environment_id, kind, name, MOST_ROWS)


def _not_found(kind: GuardKind, name: str) -> NotFound:
    return NotFound(
        f"there is no {kind} {name[:80]!r} in this environment",
        code="guard-not-found",
        hint="it is there from its first use on; check the name, and the environment of the API key",
        status=404,
    )


# ── deciding ─────────────────────────────────────────────────────────────────


def _asked(found: Guard, run_id: str, task_id: str, change: PermitChange) -> tuple[Guard, Permit]:
    terms = change.terms
    asked = Permit(run_id, storable(change.key), found.environment_id, terms.kind, terms.name, found.now, change.weight)
    if terms != found.terms:
        if task_id != found.task_id:
            return found, replace(asked, refusal=_conflict(found, terms, task_id))
        found = replace(found, terms=terms)  # the task's own code was changed
    match terms.kind:
        case "semaphore":
            return found, asked
        case "limiter":
            found, at = decisions.take(found, change.weight)
            return found, replace(asked, granted_at=at)
        case "breaker":
            found, retry_at, probe = decisions.enter(found)
            if retry_at is not None:
                return found, replace(asked, retry_at=retry_at, refusal="open")
            return found, replace(asked, granted_at=found.now, probe=probe)


def _returned(found: Guard, was: Permit | None, failed: bool | None) -> Guard:
    """The guard after a permit was given back. was: None when it was taken back before, with the end of an attempt."""
    kind = found.terms.kind
    if kind == "breaker":
        return decisions.leave(found, failed, probe=was is not None and was.probe)
    if kind == "limiter" and was is not None and was.granted_at is not None and was.granted_at > found.now:
        return decisions.put_back(found, was.weight, was.granted_at)
    return found


def _answer(key: str, found: Permit | None) -> PermitAnswer | None:
    if found is None:
        return PermitAnswer(key, "unknown")
    if found.granted_at is not None:
        return PermitAnswer(key, "granted", found.granted_at)
    if found.retry_at is not None:
        return PermitAnswer(key, "refused", found.retry_at)
    return None if found.refusal is None else PermitAnswer(key, "conflict", message=found.refusal)


def _conflict(found: Guard, terms: decisions.Terms, task_id: str) -> str:
    return (
        f"{terms.kind} {terms.name!r} is declared with {terms} by task {task_id!r}, "
        f"but with {found.terms} by task {found.task_id!r}"
    )


def _said(users: Sequence[Permit]) -> str:
    held = [each.run_id for each in users if each.granted_at is not None]
    return f"held by {', '.join(held[:5]) or 'nobody'}, waited for by {len(users) - len(held)}"


# ── storing ──────────────────────────────────────────────────────────────────


async def _settle(tx: Tx, before: Mapping[Named, Guard], guards: Mapping[Named, Guard]) -> None:
    """Store what became of locked guards, give free slots away, and wake whoever got one."""
    lucky: set[str] = set()
    for named, found in guards.items():
        if found != before[named]:
            await guard.update(tx, found)
        if found.terms.kind == "semaphore":
            lucky |= await permit.grant(tx, found.environment_id, found.terms.name)
    await _wake(tx, lucky)


async def _wake(tx: Tx, run_ids: Iterable[str]) -> None:
    """Runs that got a slot. One whose row somebody else has now is being suspended, and will see it, or is ending."""
    ids = sorted(run_ids)
    if not ids:
        return
    states = await run.lock_free(tx, ids)
    woken = await wake_satisfied(tx, [run_id for run_id, state in states.items() if state.status == "waiting"])
    ready = {states[run_id].environment_id for run_id in woken}
    await event.notify(tx, ready=ready, children=[run_id for run_id in ids if run_id not in woken], runs=woken)


def _named(environment_id: str, change: PermitChange) -> Named:
    return environment_id, change.terms.kind, storable(change.terms.name)
