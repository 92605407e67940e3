"""Claims where limits bind or concurrency keys take turns: lock, look, choose, lease, charge, in one transaction.

A limit needs a lock and not a count. In the house order: the environment's row, if it has a limit; the rows of queues
that are limited or have lanes, by name; the rows of limited tasks, by id. Only then, in a later statement, the slots
are counted, from leases. So of all claims of a queue one decides at a time, and it sees what the others have committed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from stepwell.model.concurrency import Candidate, QueueState, choose
from stepwell.model.rate import Meter, Rate, opens_at, use
from stepwell.storage import ready, slot, task
from stepwell.storage.database import Tx
from stepwell.storage.ready import Share
from stepwell.storage.slot import Charges, Key, Offer, Sight

Used = dict[Key, tuple[Meter, Rate]]


@dataclass(frozen=True, slots=True)
class _Scene:
    """What is locked and what is seen of it. room, task_room: how many runs may be taken, in all and of limited tasks.
    closed: queues of which, for their rates, only resumed runs were looked at."""

    offer: Offer
    sight: Sight
    limit: int
    room: int
    task_room: Mapping[str, float]
    closed: frozenset[str]

    @property
    def states(self) -> dict[str, QueueState]:
        return self.offer.states

    @property
    def slowed(self) -> set[str]:
        """Tasks that start one run at a time."""
        return {each.task_id for each in self.offer.pairs if each.slowed_for is not None}

    @property
    def rated(self) -> list[QueueState]:
        return [each for each in self.states.values() if each.limits.rate or each.limits.rate_per_key]


async def claim_within(
    tx: Tx, environment_id: str, worker_id: str, task_ids: Sequence[str], limit: int, lease_seconds: float
) -> tuple[Share, float | None]:
    """Lease up to `limit` runs within all limits. Also: in how many seconds to look again, None: when there is news."""
    share = Share([], 0, barred=True)
    offer = await slot.lock(tx, environment_id, task_ids)
    if not offer.pairs:
        return share, None
    scene = await _see(tx, environment_id, offer, limit)
    before = {name: dict(state.meters) for name, state in scene.states.items()}
    chosen = choose(_one_of_slowed(scene), scene.states, scene.task_room, scene.room)
    if chosen:
        share = await ready.claim_chosen(tx, environment_id, [run.run_id for run in chosen], worker_id, lease_seconds)
    leased = {run.id for run in share.claimed}
    taken = [run for run in chosen if run.run_id in leased]
    probes = [(run.task_id, run.run_id) for run in taken if not run.resumed and run.task_id in scene.slowed]
    if probes:
        await task.probe(tx, environment_id, probes)
    used = _use(scene, taken, before, share.claimed_at)
    charges = _charges(scene, taken, used)
    removed = await slot.charge(tx, environment_id, charges) if charges else 0
    if len(chosen) < scene.room and (removed or (chosen and _more(scene))):
        return share, 0.0  # there are lanes that were not looked into yet
    return share, _again(scene, charges)


# ── looking ──────────────────────────────────────────────────────────────────


async def _see(tx: Tx, environment_id: str, offer: Offer, limit: int) -> _Scene:
    closed = frozenset(name for name, state in offer.states.items() if not state.starts())
    most = None if offer.everywhere is None else math.floor(offer.everywhere[0] * offer.everywhere[1])
    sight = await slot.look(tx, environment_id, offer, most, limit)
    for state in offer.states.values():
        state.now, state.meters = sight.now, {}
        if offer.everywhere is not None:  # a burst is one of many queues, none has more than the environment's limit
            own = state.limits.concurrency
            least = offer.everywhere[0] if own is None else min(own, offer.everywhere[0])
            state.limits = replace(state.limits, concurrency=least)
    for (name, key), meter in sight.meters.items():
        offer.states[name].meters[key] = meter
    for lane in sight.lanes:
        lanes = offer.states[lane.queue].lanes
        lanes[lane.key] = max(lane.virtual_time, lanes.get(lane.key, lane.virtual_time))
    room = limit if most is None else min(limit, most - sum(amount for *_, amount in sight.held))
    return _Scene(offer, sight, limit, room, _count(offer, sight), closed)


def _count(offer: Offer, sight: Sight) -> dict[str, float]:
    """Count live leases wherever they hold a slot; how many more runs of limited tasks may execute."""
    task_room = {pair.task_id: float(pair.most) for pair in offer.pairs if pair.most is not None}
    for name, task_id, key, amount in sight.held:
        if task_id in task_room:
            task_room[task_id] -= amount
        state = offer.states.get(name)
        if state is not None:
            state.held += amount
            if key is not None:
                state.held_by_key[key] = state.held_by_key.get(key, 0) + amount
    return task_room


def _one_of_slowed(scene: _Scene) -> list[Candidate]:
    """Without all but the first of those runs that a slowed task would start."""
    slowed, first = scene.slowed, dict[str, Candidate]()
    if not slowed:
        return scene.sight.runs
    for run in sorted(scene.sight.runs, key=lambda run: run.order):
        if not run.resumed:
            first.setdefault(run.task_id, run)
    return [run for run in scene.sight.runs if run.resumed or run.task_id not in slowed or first[run.task_id] is run]


def _more(scene: _Scene) -> bool:
    """Whether there may be runs in lanes beyond those that were looked at."""
    seen = Counter((run.queue, run.task_id, run.resumed, run.key) for run in scene.sight.runs)
    lanes = scene.sight.lanes
    return any(seen[each.queue, each.task_id, each.resumed, each.key] == each.most < scene.limit for each in lanes)


# ── charging ─────────────────────────────────────────────────────────────────


def _use(
    scene: _Scene, taken: Sequence[Candidate], before: Mapping[str, dict[str, Meter]], claimed_at: float | None
) -> Used:
    """What of which rate is used now. It is noted as of a moment after the starts: so no window, however it is laid,
    holds more than allowed."""
    for state in scene.rated:
        state.meters = before[state.name]
        state.now = state.now if claimed_at is None else claimed_at
    used: Used = {}
    for (name, key), amount in _amounts(scene, taken).items():
        state = scene.states[name]
        rate = state.limits.rate_per_key if key else state.limits.rate
        if rate is not None:
            state.meters[key] = use(rate, state.meters.get(key, Meter()), state.now, amount)
            used[name, key] = state.meters[key], rate
    return used


def _amounts(scene: _Scene, taken: Sequence[Candidate]) -> Counter[Key]:
    """How many started, by queue and by key."""
    started = [run for run in taken if not run.resumed]
    amounts = Counter((run.queue, "") for run in started)
    amounts.update((run.queue, run.key) for run in started if run.key is not None)
    return amounts


def _charges(scene: _Scene, taken: Sequence[Candidate], used: Used) -> Charges:
    laned = {lane.queue for lane in scene.sight.lanes}
    moved = [scene.states[name] for name in sorted({run.queue for run in taken} & laned)]
    keys = {(run.queue, run.key): scene.states[run.queue].lanes[run.key] for run in taken if run.key is not None}
    parked: dict[Key, float] = {}
    for lane in scene.sight.lanes:
        until = scene.states[lane.queue].key_reopens(lane.key)
        if until is not None:
            parked[lane.queue, lane.key] = until
    both = {place: (keys.get(place), parked.get(place)) for place in {*keys, *parked}}
    return Charges(moved, both, used, scene.sight.emptied)


def _again(scene: _Scene, charges: Charges) -> float | None:
    """In how many seconds a rate lets something through again, or a slowed task starts its next run."""
    opening = [until for _, until in charges.keys.values() if until is not None]
    if scene.sight.opens_at is not None:
        opening.append(scene.sight.opens_at)
    for state in scene.rated:
        rate = state.limits.rate
        if rate is not None and (state.name in scene.closed or not state.starts()):
            opening.append(opens_at(rate, state.meters.get("", Meter()), state.now))
    now = max((state.now for state in scene.rated), default=scene.sight.now)
    slowed = [each.slowed_for for each in scene.offer.pairs if each.slowed_for is not None]
    opening += [now + left for left in slowed if left > 0]
    return max(0.0, min(opening) - now) if opening else None
