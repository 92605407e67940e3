"""Whose turn it is: which runs a claim takes, by order, within all limits, and fairly between concurrency keys.

Facts in, decision out. Within a queue each concurrency key has a virtual time: how much it has been served, by its
weight. The key that was served least is the next ("start-time fair queueing"), so a key with a hundred thousand runs
delays another by one turn. Runs without a key are one more such flow. Whoever was away begins where the queue is, and
has saved nothing up. Between queues it goes by order.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf

from stepwell.model.queue import QueueLimits
from stepwell.model.rate import Meter, opens_at, room, use


@dataclass(frozen=True, slots=True)
class Candidate:
    """A queued run. rank: when it was due, in seconds, less its head start."""

    run_id: str
    queue: str
    task_id: str
    key: str | None
    resumed: bool
    rank: float
    number: int

    @property
    def order(self) -> tuple[bool, float, int]:
        """Resumed ones first, then by rank, then the oldest."""
        return not self.resumed, self.rank, self.number


@dataclass(slots=True)
class QueueState:
    """What is known of a queue, under its lock. now: of the meters.

    held, held_by_key: live leases. virtual_time: how far it has been served; keyless_time: the same of runs without a
    key; lanes: of its keys. meters: of keys, and of the queue itself, "".
    """

    name: str
    limits: QueueLimits = field(default_factory=QueueLimits)
    now: float = 0.0
    held: int = 0
    held_by_key: dict[str, int] = field(default_factory=dict[str, int])
    virtual_time: float = 0.0
    keyless_time: float = 0.0
    lanes: dict[str, float] = field(default_factory=dict[str, float])
    meters: dict[str, Meter] = field(default_factory=dict[str, Meter])

    def room(self) -> float:
        """How many more of its runs may execute."""
        most = self.limits.concurrency
        return inf if most is None else max(0, most - self.held)

    def key_room(self, key: str | None) -> float:
        """The same of a key."""
        most = self.limits.concurrency_per_key
        return inf if most is None or key is None else max(0, most - self.held_by_key.get(key, 0))

    def starts(self) -> float:
        """How many runs may start that are not resumed."""
        rate = self.limits.rate
        return inf if rate is None else room(rate, self.meters.get("", Meter()), self.now)

    def key_starts(self, key: str | None) -> float:
        """The same of a key."""
        rate = self.limits.rate_per_key
        return inf if rate is None or key is None else room(rate, self.meters.get(key, Meter()), self.now)

    def weight(self, key: str | None) -> float:
        return 1.0 if key is None else (self.limits.key_weights or {}).get(key, 1.0)

    def begins(self, key: str | None) -> float:
        """The virtual time at which a key's next run starts."""
        return max(self.virtual_time, self.keyless_time if key is None else self.lanes.get(key, self.virtual_time))

    def blocked_keys(self) -> list[str]:
        """Keys that hold as much as they may."""
        return [key for key in self.held_by_key if not self.key_room(key)]

    def take(self, run: Candidate) -> None:
        """Count a run that was taken."""
        begun = self.begins(run.key)
        ended = begun + 1.0 / self.weight(run.key)
        if run.key is None:
            self.keyless_time = ended
        else:
            self.lanes[run.key] = ended
            self.held_by_key[run.key] = self.held_by_key.get(run.key, 0) + 1
        self.virtual_time = max(self.virtual_time, begun)
        self.held += 1
        if not run.resumed:
            self._spend(run.key)

    def _spend(self, key: str | None) -> None:
        rates = (("", self.limits.rate), (key, self.limits.rate_per_key))
        for name, rate in rates:
            if rate is not None and name is not None:
                self.meters[name] = use(rate, self.meters.get(name, Meter()), self.now, 1)

    def reopens(self) -> float | None:
        """When the queue's used up rate lets the next one through; None if it is not used up."""
        rate = self.limits.rate
        return opens_at(rate, self.meters.get("", Meter()), self.now) if rate and not self.starts() else None

    def key_reopens(self, key: str) -> float | None:
        """The same of a key."""
        rate = self.limits.rate_per_key
        return opens_at(rate, self.meters.get(key, Meter()), self.now) if rate and not self.key_starts(key) else None


@dataclass(slots=True)
class _Flow:
    """What one key of a queue, or no key, has to offer, the first last."""

    key: str | None
    runs: list[Candidate]

    def first(self, state: QueueState, task_room: Mapping[str, float]) -> Candidate | None:
        """The run whose turn it is, if there is one. What cannot be taken now is dropped: room only shrinks."""
        if not state.key_room(self.key):
            return None
        while self.runs:
            run = self.runs[-1]
            starts = run.resumed or (state.starts() and state.key_starts(self.key))
            if starts and task_room.get(run.task_id, inf) > 0:
                return run
            self.runs.pop()
        return None


_Place = tuple[bool, float, float, int]


class _Line:
    """One queue's flows, the next to be served first."""

    def __init__(self, state: QueueState, runs: Iterable[Candidate], task_room: Mapping[str, float]) -> None:
        self._state = state
        self._task_room = task_room
        flows: dict[str | None, list[Candidate]] = {}
        for run in sorted(runs, key=lambda run: run.order, reverse=True):
            flows.setdefault(run.key, []).append(run)
        self._heap: list[tuple[_Place, int, _Flow]] = []
        for number, (key, of_key) in enumerate(flows.items()):
            self._push(number, _Flow(key, of_key))

    def _push(self, number: int, flow: _Flow) -> None:
        first = flow.first(self._state, self._task_room)
        if first is not None:
            place = (not first.resumed, self._state.begins(flow.key), first.rank, first.number)
            heapq.heappush(self._heap, (place, number, flow))

    def first(self) -> Candidate | None:
        """The next run, None: the queue has none, or no room for it."""
        if not self._state.room():
            return None
        while self._heap:
            place, number, flow = heapq.heappop(self._heap)
            first = flow.first(self._state, self._task_room)
            if first is not None and place[0] == (not first.resumed):
                heapq.heappush(self._heap, (place, number, flow))
                return first
            self._push(number, flow)
        return None

    def take(self) -> None:
        _, number, flow = heapq.heappop(self._heap)
        self._state.take(flow.runs.pop())
        self._push(number, flow)


def choose(
    candidates: Iterable[Candidate],
    states: Mapping[str, QueueState],
    task_room: Mapping[str, float],
    most: float,
) -> list[Candidate]:
    """At most `most` of the candidates, in the order in which they are to start. Counts them in `states`.

    task_room: how many more runs of a task may execute, of tasks with a limit.
    """
    left = dict(task_room)
    by_queue: dict[str, list[Candidate]] = {}
    for run in candidates:
        by_queue.setdefault(run.queue, []).append(run)
    lines = [_Line(states[name], runs, left) for name, runs in by_queue.items()]
    chosen: list[Candidate] = []
    while len(chosen) < most:
        firsts = [(first.order, index, first) for index, line in enumerate(lines) if (first := line.first())]
        if not firsts:
            break
        _, index, run = min(firsts)
        lines[index].take()
        if run.task_id in left:
            left[run.task_id] -= 1
        chosen.append(run)
    return chosen
