"""Claims where limits bind or concurrency keys take turns: lock, count, choose, lease, charge, in one transaction.

A limit needs a lock and not a count. In the house order: the environment's row, if it has a limit; the rows of queues
that are limited or have lanes, by name; the rows of limited tasks, by id. Only then, in later statements, the slots are
counted, from leases. So of all claims of a queue one decides at a time, and it sees what the others have committed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from stepwell.model.concurrency import Candidate, QueueState, choose
from stepwell.model.rate import Meter, Rate, use
from stepwell.storage import environment, lane, lease, meter, queue, ready, task, worker
from stepwell.storage.database import Tx
from stepwell.storage.lane import Lane
from stepwell.storage.ready import Pair, Share

Meters = dict[str, dict[str, Meter]]  # by queue, by key


@dataclass(slots=True)
class _Scene:
    """What is locked, and what is known of it. room: how many runs may be taken."""

    environment_id: str
    pairs: list[Pair]
    states: dict[str, QueueState]
    locked: list[str]
    task_room: dict[str, float]
    room: int
    lanes: list[Lane] = field(default_factory=list[Lane])

    @property
    def open_pairs(self) -> list[Pair]:
        """Those of which a run could be taken."""
        has_room = {name for name, state in self.states.items() if state.room()}
        return [pair for pair in self.pairs if pair.queue in has_room and self.task_room.get(pair.task_id, 1) > 0]

    def locked_states(self) -> list[QueueState]:
        return [self.states[name] for name in self.locked]


async def claim_within(
    tx: Tx, environment_id: str, worker_id: str, task_ids: Sequence[str], limit: int, lease_seconds: float
) -> tuple[Share, float | None]:
    """Lease up to `limit` runs within all limits. Also: in how many seconds to look again, None: when there is news."""
    scene = await _locked(tx, environment_id, task_ids, limit)
    if scene.room <= 0 or not scene.pairs:
        return Share([], 0, barred=True), None
    await _read_meters(tx, scene)
    candidates, capped = await _candidates(tx, scene)
    before: Meters = {state.name: dict(state.meters) for state in scene.locked_states()}
    chosen = choose(candidates, scene.states, scene.task_room, scene.room)
    share = Share([], 0, barred=True)
    if chosen:
        share = await ready.claim_chosen(tx, environment_id, [run.run_id for run in chosen], worker_id, lease_seconds)
    taken = {run.id for run in share.claimed}
    again = await _charge(tx, scene, [run for run in chosen if run.run_id in taken], before)
    removed = await _tidy(tx, scene, candidates)
    if len(chosen) < scene.room and (removed or (capped and chosen)):
        again = 0.0  # there are lanes that were not looked into yet
    return share, again


# ── locking and counting ─────────────────────────────────────────────────────


async def _locked(tx: Tx, environment_id: str, task_ids: Sequence[str], limit: int) -> _Scene:
    most = await environment.lock(tx, environment_id)
    pairs = await ready.pairs(tx, environment_id, task_ids)
    names = sorted({pair.queue for pair in pairs if pair.locked_queue})
    states = await queue.lock(tx, environment_id, names) if names else {}
    limited = sorted({pair.task_id for pair in pairs if pair.locked_task})
    tasks = await task.lock(tx, environment_id, limited) if limited else {}
    for pair in pairs:
        states.setdefault(pair.queue, QueueState(pair.queue))
    scene = _Scene(environment_id, pairs, states, names, {name: float(room) for name, room in tasks.items()}, limit)
    everywhere = most is not None or bool(tasks)
    if everywhere or names:
        for name, task_id, key, amount in await lease.held(tx, environment_id, None if everywhere else names):
            _count(scene, name, task_id, key, amount, in_environment=most is not None)
    if most is not None:
        scene.room = min(limit, scene.room + math.floor(most[0] * most[1]) - limit)
        for state in states.values():  # a burst is one of many queues, none has more than the environment's limit
            own = state.limits.concurrency
            state.limits = replace(state.limits, concurrency=most[0] if own is None else min(own, most[0]))
    return scene


def _count(scene: _Scene, name: str, task_id: str, key: str | None, amount: int, *, in_environment: bool) -> None:
    """Count live leases wherever they hold a slot."""
    if in_environment:
        scene.room -= amount
    if task_id in scene.task_room:
        scene.task_room[task_id] -= amount
    state = scene.states.get(name)
    if state is not None:
        state.held += amount
        if key is not None:
            state.held_by_key[key] = state.held_by_key.get(key, 0) + amount


async def _read_meters(tx: Tx, scene: _Scene) -> None:
    rated = [state for state in scene.locked_states() if state.limits.rate or state.limits.rate_per_key]
    if not rated:
        return
    now = await worker.now(tx)  # not the lock's: it may have waited
    for state in rated:
        state.now = now
    await _load_meters(tx, scene, [(state.name, "") for state in rated if state.limits.rate])
    by_key = [state.name for state in rated if state.limits.rate_per_key]
    if by_key:
        await lane.unpark(tx, scene.environment_id, by_key)


async def _load_meters(tx: Tx, scene: _Scene, places: Sequence[tuple[str, str]]) -> None:
    if places:
        for (name, key), found in (await meter.load(tx, scene.environment_id, places)).items():
            scene.states[name].meters[key] = found


# ── looking ──────────────────────────────────────────────────────────────────


async def _candidates(tx: Tx, scene: _Scene) -> tuple[list[Candidate], bool]:
    """The runs whose turn it may be, and whether there are lanes of which more could be seen."""
    pairs = scene.open_pairs
    kinds = [
        (pair.queue, pair.task_id, resumed)
        for pair in pairs
        if pair.laned
        for resumed in (True, False)
        if resumed or scene.states[pair.queue].starts()
    ]
    if kinds:
        blocked = [(name, key) for name in {kind[0] for kind in kinds} for key in scene.states[name].blocked_keys()]
        scene.lanes = await lane.walk(tx, scene.environment_id, kinds, blocked, scene.room)
    by_key = {(each.queue, each.key) for each in scene.lanes if scene.states[each.queue].limits.rate_per_key}
    await _load_meters(tx, scene, sorted(by_key))
    for each in scene.lanes:
        scene.states[each.queue].lanes[each.key] = each.virtual_time
    wanted = _wanted(scene)
    keyless = [(pair.queue, pair.task_id, scene.states[pair.queue].starts() > 0) for pair in pairs]
    found = await ready.heads(tx, scene.environment_id, wanted, keyless, scene.room)
    seen = Counter((run.queue, run.task_id, run.resumed, run.key) for run in found)
    return found, any(seen[each[:4]] == each[4] < scene.room for each in wanted)


def _wanted(scene: _Scene) -> list[tuple[str, str, bool, str, int]]:
    """How many runs to look at in each lane: twice its share of what can be taken, as the others may have none."""
    total: dict[str, float] = {}
    for name, key in {(each.queue, each.key) for each in scene.lanes}:
        total[name] = total.get(name, 0.0) + scene.states[name].weight(key)
    wanted: list[tuple[str, str, bool, str, int]] = []
    for each in scene.lanes:
        state = scene.states[each.queue]
        share = math.ceil(2 * scene.room * state.weight(each.key) / total[each.queue]) + 1
        most = int(min(scene.room, share, state.room(), state.key_room(each.key)))
        wanted.append((each.queue, each.task_id, each.resumed, each.key, most))
    return wanted


# ── charging ─────────────────────────────────────────────────────────────────


async def _charge(tx: Tx, scene: _Scene, taken: Sequence[Candidate], before: Meters) -> float | None:
    """Note what lanes were served and what rates were used; in how many seconds a rate lets something through again."""
    served = {(run.queue, run.key) for run in taken if run.key is not None}
    if served:
        rows = [(name, key, scene.states[name].lanes[key]) for name, key in sorted(served)]
        await lane.advance(tx, scene.environment_id, rows)
    laned = {each.queue for each in scene.lanes}
    moved = sorted({run.queue for run in taken} & laned)
    if moved:
        await queue.advance(tx, scene.environment_id, [scene.states[name] for name in moved])
    rated = [state for state in scene.locked_states() if state.limits.rate or state.limits.rate_per_key]
    return await _charge_rates(tx, scene, rated, taken, before) if rated else None


async def _charge_rates(
    tx: Tx, scene: _Scene, rated: Sequence[QueueState], taken: Sequence[Candidate], before: Meters
) -> float | None:
    now = await worker.now(tx)  # after the starts: so no window, however it is laid, holds more than allowed
    for state in rated:
        state.now, state.meters = now, before[state.name]
    used = _used(scene.states, taken)
    for (name, key), (amount, rate) in used.items():
        state = scene.states[name]
        state.meters[key] = use(rate, state.meters.get(key, Meter()), now, amount)
    if used:
        rows = [(place, scene.states[place[0]].meters[place[1]], rate) for place, (_, rate) in used.items()]
        await meter.store(tx, scene.environment_id, rows)
    opening = [at for state in rated if (at := state.reopens()) is not None]
    by_key = [state.name for state in rated if state.limits.rate_per_key]
    if by_key:
        parked = [
            (name, key, at)
            for name, key in sorted({(each.queue, each.key) for each in scene.lanes if each.queue in by_key})
            if (at := scene.states[name].key_reopens(key)) is not None
        ]
        if parked:
            await lane.park(tx, scene.environment_id, parked)
        first = await lane.next_open(tx, scene.environment_id, by_key)
        opening += [] if first is None else [first]
    return max(0.0, min(opening) - now) if opening else None


def _used(states: Mapping[str, QueueState], taken: Iterable[Candidate]) -> dict[tuple[str, str], tuple[int, Rate]]:
    """How much of which rate, by queue and key."""
    amounts: Counter[tuple[str, str]] = Counter()
    for run in taken:
        if run.resumed:
            continue
        limits = states[run.queue].limits
        if limits.rate:
            amounts[run.queue, ""] += 1
        if limits.rate_per_key and run.key is not None:
            amounts[run.queue, run.key] += 1
    used: dict[tuple[str, str], tuple[int, Rate]] = {}
    for (name, key), amount in amounts.items():
        limits = states[name].limits
        rate = limits.rate_per_key if key else limits.rate
        if rate is not None:
            used[name, key] = (amount, rate)
    return used


async def _tidy(tx: Tx, scene: _Scene, candidates: Iterable[Candidate]) -> int:
    """Remove emptied lanes, but not one that has been served more than its share while others wait; how many."""
    seen = {(run.queue, run.task_id, run.resumed, run.key) for run in candidates}
    busy = {place[0] for place in seen}
    empty = [
        each
        for each in scene.lanes
        if (each.queue, each.task_id, each.resumed, each.key) not in seen
        and (each.queue not in busy or each.virtual_time <= scene.states[each.queue].virtual_time)
    ]
    return await lane.remove_empty(tx, scene.environment_id, empty) if empty else 0
