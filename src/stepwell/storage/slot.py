"""Slots: what limits the runs that could be claimed, how much of it is held, and who was served."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from stepwell.model.concurrency import Candidate, QueueState
from stepwell.model.rate import Meter, Rate
from stepwell.storage import queue, statements
from stepwell.storage.columns import transposed
from stepwell.storage.database import Tx

_sql = statements.load("slot")


@dataclass(frozen=True, slots=True)
class Pair:
    """A queue and a task that have something to claim. laned: with concurrency keys. most: the task's limit.
    slowed_for: the task starts one run at a time, the next one in so many seconds; None: it is not slowed."""

    queue: str
    task_id: str
    laned: bool
    most: int | None
    slowed_for: float | None = None


@dataclass(slots=True)
class Offer:
    """What could be claimed, under lock. everywhere: the environment's limit and burst factor. states: of all queues
    of the pairs, of which those of `locked` have limits or lanes; their meters are as they were before the locks."""

    pairs: list[Pair] = field(default_factory=list[Pair])
    everywhere: tuple[int, float] | None = None
    states: dict[str, QueueState] = field(default_factory=dict[str, QueueState])
    locked: list[str] = field(default_factory=list[str])


@dataclass(frozen=True, slots=True)
class Lane:
    """One key's runs of a task in a queue, the resumed ones or the others. most: so many of them were looked at."""

    queue: str
    task_id: str
    resumed: bool
    key: str
    virtual_time: float
    most: int


Place = tuple[str, str, bool, str]  # queue, task, whether of resumed runs, key: a lane
Key = tuple[str, str]  # queue, key; "" for the key: the queue as a whole


@dataclass(slots=True)
class Sight:
    """What is known under the locks. held: (queue, task, key, live leases). emptied: lanes without runs, locked too.
    opens_at: when the first parked lane opens."""

    now: float = 0.0
    opens_at: float | None = None
    held: list[tuple[str, str, str | None, int]] = field(default_factory=list[tuple[str, str, str | None, int]])
    meters: dict[Key, Meter] = field(default_factory=dict[Key, Meter])
    lanes: list[Lane] = field(default_factory=list[Lane])
    emptied: list[Place] = field(default_factory=list[Place])
    runs: list[Candidate] = field(default_factory=list[Candidate])


@dataclass(slots=True)
class Charges:
    """What a claim has to note. queues: how far they were served; keys: (queue, key) to (virtual time, parked until),
    None: as it is; meters: by (queue, key), with their rates."""

    queues: Sequence[QueueState] = ()
    keys: Mapping[Key, tuple[float | None, float | None]] = field(
        default_factory=dict[Key, tuple[float | None, float | None]]
    )
    meters: Mapping[Key, tuple[Meter, Rate]] = field(default_factory=dict[Key, tuple[Meter, Rate]])
    emptied: Sequence[Place] = ()

    def __bool__(self) -> bool:
        return bool(self.queues or self.keys or self.meters or self.emptied)


async def lock(tx: Tx, environment_id: str, task_ids: Sequence[str]) -> Offer:
    """What there is for these tasks, locked until the commit: no other claim counts the same slots meanwhile."""
    offer = Offer()
    for row in await tx.fetch(_sql.lock, environment_id, list(task_ids)):
        name = row["queue"]
        offer.pairs.append(Pair(name, row["task_id"], row["laned"], row["of_task"], row["slowed_for"]))
        if row["everywhere"] is not None:
            offer.everywhere = row["everywhere"], row["burst_factor"]
        if name in offer.states:
            continue
        if row["name"] is None:
            offer.states[name] = QueueState(name)
            continue
        offer.locked.append(name)
        offer.states[name] = queue.state_of(row)
        offer.states[name].now = row["now"]
        if row["lacking"] is not None:
            offer.states[name].meters[""] = _meter(row, row["at"])
    return offer


async def look(tx: Tx, environment_id: str, offer: Offer, most: int | None, limit: int) -> Sight:
    """Slots held, and what could be taken, up to `limit` runs. most: how many may execute in the environment."""
    rows = [(each.queue, each.task_id, each.laned, _starts(offer, each), each.most) for each in offer.pairs]
    everywhere = most is not None or any(each.most is not None for each in offer.pairs)
    sight = Sight()
    for row in await tx.fetch(_sql.look, environment_id, *transposed(rows, 5), offer.locked, everywhere, most, limit):
        _note(sight, row)
    return sight


async def charge(tx: Tx, environment_id: str, charges: Charges) -> int:
    """Note all that, and remove emptied lanes into which no run came; how many."""
    queues = [(each.name, each.virtual_time, each.keyless_time) for each in charges.queues]
    keys = [(*place, *served) for place, served in sorted(charges.keys.items())]
    meters = [
        (*place, meter.lacking, meter.at, *_arrays(meter), meter.idle_at(rate))
        for place, (meter, rate) in sorted(charges.meters.items(), key=lambda each: each[0])
    ]
    arrays = (*transposed(queues, 3), *transposed(keys, 4), *transposed(meters, 7), *transposed(charges.emptied, 4))
    return await tx.fetchval(_sql.charge, environment_id, *arrays)


def _starts(offer: Offer, pair: Pair) -> bool:
    """Whether new runs of it may start, by a meter that may be a little old: if they may since, somebody looks
    again at that moment."""
    return offer.states[pair.queue].starts() > 0 and (pair.slowed_for or 0.0) <= 0.0


def _note(sight: Sight, row: asyncpg.Record) -> None:
    kind, name, task_id, key, resumed, amount, moment, run_id, number, *_ = row
    match kind:
        case "run":
            sight.runs.append(Candidate(run_id, name, task_id, key, resumed, moment, number))
        case "held":
            sight.held.append((name, task_id, key, amount))
        case "lane":
            sight.lanes.append(Lane(name, task_id, resumed, key, moment, amount))
        case "emptied":
            sight.emptied.append((name, task_id, resumed, key))
        case "meter":
            sight.meters[name, key] = _meter(row, moment)
        case "opens":
            sight.opens_at = moment
        case _:
            sight.now = moment


def _meter(row: asyncpg.Record, at: float) -> Meter:
    return Meter(row["lacking"], at, tuple(zip(row["moments"], row["amounts"], strict=True)))


def _arrays(meter: Meter) -> tuple[str, str]:
    columns: Iterable[list[Any]] = ([moment for moment, _ in meter.used], [amount for _, amount in meter.used])
    moments, amounts = ("{" + ",".join(map(repr, column)) + "}" for column in columns)
    return moments, amounts
