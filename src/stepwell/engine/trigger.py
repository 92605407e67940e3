"""Trigger: a run that was acknowledged is never lost, and one call makes one run.

Thousands in one transaction, and most of them in one statement. A request key makes HTTP retries of one call harmless,
an idempotency key makes separate calls that mean the same harmless; both are unique rows, so that racing calls wait for
one another and get one id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from stepwell.engine.admission import settle
from stepwell.engine.admit import Asked, Place, admit, admit_remembered, check_word, is_word, store
from stepwell.engine.lineage import check_depth
from stepwell.errors import Conflict, NotFound, QueueFull, StepwellError
from stepwell.model.run import NewRun
from stepwell.model.trigger import KEY_SECONDS, Triggered, TriggerRequest, payload_hash
from stepwell.primitives.ids import new_id
from stepwell.storage import event, idempotency, queue, run
from stepwell.storage.database import Database, Tx
from stepwell.storage.idempotency import Key, Wanted

__all__ = ["Outcome", "TriggerRequest", "Triggered", "complete", "is_usual", "trigger", "trigger_in", "usual"]

RETRY_AFTER = 5.0
"""Seconds after which a trigger that met a full queue may ask again."""
_ROUNDS = 3  # a key can expire between being found taken and being read; once is already rare
Outcome = Triggered | StepwellError


async def trigger(db: Database, environment_id: str, requests: Sequence[TriggerRequest]) -> list[Outcome]:
    """One outcome for each request, in order. A refused one stops no other.

    Refusals: NotFound (task-not-found, queue-not-found, run-not-found for the parent), Conflict (idempotency-conflict,
    parent-ended), LimitExceeded (chain-too-deep), PayloadInvalid, PayloadTooLarge, ApiError (invalid-request).
    """

    ids = [new_id("run") for _ in requests]
    made = await _store_usual(db, environment_id, requests, ids)
    return await complete(db, environment_id, requests, ids, made)


async def complete(
    db: Database, environment_id: str, requests: Sequence[TriggerRequest], ids: Sequence[str], made: set[str]
) -> list[Outcome]:
    """Store what is not made yet, in a transaction that looks closer."""
    rest = [index for index, run_id in enumerate(ids) if run_id not in made]
    outcomes: list[Outcome] = [Triggered(run_id) for run_id in ids]
    if not rest:
        return outcomes

    async def body(tx: Tx) -> list[Outcome]:
        # Under the same ids: one of the runs may be there already, when a reply of Postgres was lost.
        return await _trigger(tx, environment_id, [requests[index] for index in rest], [ids[index] for index in rest])

    for index, outcome in zip(rest, await db.transact("trigger", body), strict=True):
        outcomes[index] = outcome
    return outcomes


async def _store_usual(
    db: Database, environment_id: str, requests: Sequence[TriggerRequest], ids: Sequence[str]
) -> set[str]:
    """Store in one statement, a transaction by itself, if all the requests are usual; the runs that are new."""
    admitted = usual(environment_id, requests, ids)
    if admitted is None:
        return set()
    runs, versions = admitted
    request_keys = [request.request_key for request in requests]
    made = await run.insert_alone(db, "trigger_alone", environment_id, runs, request_keys, versions)
    if made:
        event.announce(db, ready=[environment_id])
    return made


def usual(
    environment_id: str, requests: Sequence[TriggerRequest], ids: Sequence[str]
) -> tuple[list[NewRun], dict[str, datetime]] | None:
    """The runs to store and the versions of their tasks' declarations; None if one of the requests is not usual.

    Usual are runs without a parent and an idempotency key, which the declarations that are remembered admit, if these
    are still the newest.
    """
    if not all(is_usual(request) for request in requests):
        return None
    keys = [(request.task_id, request.request_key) for request in requests if request.request_key is not None]
    if len(set(keys)) < len(keys):
        return None
    asked = [(request, Place(run_id)) for request, run_id in zip(requests, ids, strict=True)]
    return admit_remembered(environment_id, asked) if asked else None


def is_usual(request: TriggerRequest) -> bool:
    """Whether it has neither a parent nor a key that an earlier run may have."""
    if request.parent_id is not None or request.options.idempotency_key is not None:
        return False
    return request.request_key is None or is_word(request.request_key)


async def trigger_in(
    tx: Tx, environment_id: str, requests: Sequence[TriggerRequest], ids: Sequence[str] | None = None
) -> list[Outcome]:
    """The same within a transaction. ids: for the runs that are made; an outcome with another one made none."""
    return await _trigger(tx, environment_id, requests, ids or [new_id("run") for _ in requests])


async def _trigger(
    tx: Tx, environment_id: str, requests: Sequence[TriggerRequest], ids: Sequence[str]
) -> list[Outcome]:
    asked, refused = await _placed(tx, environment_id, requests, ids)
    outcomes: list[Outcome | None] = [*refused]
    admitted = await admit(tx, environment_id, asked)
    fresh: dict[int, NewRun] = {}
    for index, new in enumerate(admitted):
        if outcomes[index] is not None:
            continue
        if isinstance(new, StepwellError):
            outcomes[index] = new
        else:
            fresh[index] = new
    await _by_request_key(tx, environment_id, requests, fresh, outcomes)
    await _by_idempotency_key(tx, environment_id, requests, fresh, outcomes)
    await _by_room(tx, environment_id, requests, fresh, outcomes)
    settled = await settle(tx, environment_id, fresh, outcomes)
    if settled.passed_over:
        await _pass_over(tx, environment_id, requests, fresh, outcomes, settled.passed_over)
    await store(tx, environment_id, list(fresh.values()))
    await settled.carry_out(tx, environment_id)
    return [outcome or Triggered(fresh[index].id) for index, outcome in enumerate(outcomes)]


async def _placed(
    tx: Tx, environment_id: str, requests: Sequence[TriggerRequest], ids: Sequence[str]
) -> tuple[list[Asked], list[StepwellError | None]]:
    """Each request with its place below its parent, if it has one. Holds off a cancel of the parents."""
    parents = {request.parent_id for request in requests if request.parent_id}
    found = await run.share(tx, environment_id, sorted(parents)) if parents else {}
    asked: list[Asked] = []
    refused: list[StepwellError | None] = []
    for request, run_id in zip(requests, ids, strict=True):
        error: StepwellError | None = None
        place = Place(run_id)
        if request.parent_id is not None:
            if request.parent_id not in found:
                error = NotFound(f"there is no run {request.parent_id!r}", code="run-not-found", status=404)
            else:
                root_id, depth, status = found[request.parent_id]
                place = replace(place, parent_id=request.parent_id, root_id=root_id, depth=depth + 1)
                if status == "canceled":
                    error = Conflict(
                        f"the parent run {request.parent_id} has been canceled", code="parent-ended", status=409
                    )
        try:
            if error is None and place.parent_id is not None:
                await check_depth(tx, place.parent_id, place.depth)
            if request.request_key is not None:
                check_word("request_key", request.request_key)
        except StepwellError as invalid:
            error = error or invalid
        asked.append((request, place))
        refused.append(error)
    return asked, refused


async def _by_request_key(
    tx: Tx,
    environment_id: str,
    requests: Sequence[TriggerRequest],
    fresh: dict[int, NewRun],
    outcomes: list[Outcome | None],
) -> None:
    """Requests whose call was answered before, or that come twice, get the run that is already there."""
    open_: dict[Key, list[int]] = {}
    for index, new in fresh.items():
        key = requests[index].request_key
        if key is not None:
            open_.setdefault((new.task_id, key), []).append(index)
    for _ in range(_ROUNDS):
        if not open_:
            return
        rows = [(*key, fresh[indexes[0]].id) for key, indexes in open_.items()]
        free = await idempotency.take_requests(tx, environment_id, rows)
        taken = await idempotency.requests(tx, environment_id, [key for key in open_ if key not in free])
        for key in [*free, *taken]:
            first, *others = open_.pop(key)
            if key in taken:
                others = [first, *others]
            run_id = taken.get(key) or fresh[first].id
            for index in others:
                del fresh[index]
                outcomes[index] = Triggered(run_id)


async def _by_idempotency_key(
    tx: Tx,
    environment_id: str,
    requests: Sequence[TriggerRequest],
    fresh: dict[int, NewRun],
    outcomes: list[Outcome | None],
) -> None:
    """Requests whose key has a run get that run, if they ask for the same; racing ones wait here for the first."""
    open_: dict[Key, list[int]] = {}
    for index, new in fresh.items():
        if new.idempotency_key is not None:
            open_.setdefault((new.task_id, new.idempotency_key), []).append(index)
    hashes = {index: payload_hash(requests[index]) for indexes in open_.values() for index in indexes}
    for _ in range(_ROUNDS):
        if not open_:
            break
        wanted = [
            _wanted(key, fresh[indexes[0]], requests[indexes[0]], hashes[indexes[0]]) for key, indexes in open_.items()
        ]
        free = await idempotency.take(tx, environment_id, wanted)
        held = await idempotency.holders(tx, environment_id, list(open_))
        for key, (run_id, digest) in held.items():
            indexes = open_.pop(key)
            for index in indexes[1:] if key in free else indexes:
                same = hashes[index] == digest
                outcomes[index] = Triggered(run_id, cached=True) if same else _conflict(key, run_id)
    await _settle_request_keys(tx, environment_id, requests, fresh, outcomes)


async def _by_room(
    tx: Tx,
    environment_id: str,
    requests: Sequence[TriggerRequest],
    fresh: dict[int, NewRun],
    outcomes: list[Outcome | None],
) -> None:
    """Requests for a queue that has its greatest length are refused."""
    bounded = [index for index, new in fresh.items() if new.bounded]
    room = await queue.room(tx, environment_id, sorted({fresh[index].queue for index in bounded})) if bounded else {}
    if not room:
        return
    taken = dict.fromkeys(room, 0)
    refused: list[int] = []
    for index in bounded:
        name = fresh[index].queue
        if name not in room:
            continue
        longest, length = room[name]
        if length + taken[name] >= longest:
            outcomes[index] = _full(name, longest)
            refused.append(index)
        elif not fresh[index].rules:  # with rules it may make none
            taken[name] += 1
    if refused:
        await _pass_over(tx, environment_id, requests, fresh, outcomes, refused)


def _full(name: str, longest: int) -> QueueFull:
    return QueueFull(
        f"the queue {name!r} is full: {longest} runs are queued in it",
        hint="trigger it later; more workers, or a higher limit, empty it sooner",
        status=429,
        details={"retry_after": RETRY_AFTER, "should_retry": False},
    )


async def _pass_over(
    tx: Tx,
    environment_id: str,
    requests: Sequence[TriggerRequest],
    fresh: dict[int, NewRun],
    outcomes: list[Outcome | None],
    passed_over: Sequence[int],
) -> None:
    """Keys of runs that admission does not make lead to the run that stands for them, or are given back."""
    instead = {fresh[index].id: outcomes[index] for index in passed_over}
    keys = [(fresh[index], outcomes[index]) for index in passed_over if fresh[index].idempotency_key is not None]
    led = [(new.task_id, new.idempotency_key or "", o.run_id) for new, o in keys if isinstance(o, Triggered)]
    if led:
        await idempotency.assign(tx, environment_id, led)
    for new, outcome in keys:
        if not isinstance(outcome, Triggered):
            await idempotency.reset(tx, environment_id, new.task_id, new.idempotency_key or "")
    await _settle_request_keys(tx, environment_id, requests, fresh, outcomes)
    for index, outcome in enumerate(outcomes):  # those that came twice in this call
        if isinstance(outcome, Triggered) and outcome.run_id in instead:
            outcomes[index] = instead[outcome.run_id]


async def _settle_request_keys(
    tx: Tx,
    environment_id: str,
    requests: Sequence[TriggerRequest],
    fresh: dict[int, NewRun],
    outcomes: list[Outcome | None],
) -> None:
    """Request keys of runs that are not made after all lead to the run that was found, or are given back."""
    assigned: list[tuple[str, str, str]] = []
    returned: list[tuple[str, str, str]] = []
    for index in [index for index in fresh if outcomes[index] is not None]:
        new, outcome, key = fresh.pop(index), outcomes[index], requests[index].request_key
        if key is not None and isinstance(outcome, Triggered):
            assigned.append((new.task_id, key, outcome.run_id))
        elif key is not None:
            returned.append((new.task_id, key, new.id))
    if assigned:
        await idempotency.assign_requests(tx, environment_id, assigned)
    if returned:
        await idempotency.release_requests(tx, environment_id, returned)


def _wanted(key: Key, new: NewRun, request: TriggerRequest, digest: bytes) -> Wanted:
    return Wanted(*key, new.id, digest, request.options.idempotency_key_ttl or KEY_SECONDS)


def _conflict(key: Key, run_id: str) -> Conflict:
    return Conflict(
        f"idempotency key {key[1]!r} of task {key[0]!r} belongs to {run_id}, which was triggered with another payload",
        code="idempotency-conflict",
        hint="use a key that changes with the payload, or wait until the key's lifetime is over",
        status=409,
    )
