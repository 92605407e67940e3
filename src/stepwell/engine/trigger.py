"""Trigger: a run that was acknowledged is never lost, and one call makes one run.

Thousands in one transaction. A request key makes HTTP retries of one call harmless, an idempotency key makes separate
calls that mean the same harmless; both are unique rows, so that racing calls wait for one another and get one id.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from stepwell.engine.admit import Asked, Place, admit, check_word, store
from stepwell.errors import Conflict, NotFound, StepwellError
from stepwell.model.run import NewRun
from stepwell.model.trigger import Triggered, TriggerRequest
from stepwell.primitives.ids import new_id
from stepwell.storage import event, idempotency, run
from stepwell.storage.database import Database, Tx
from stepwell.storage.idempotency import Key, Wanted

__all__ = ["TriggerRequest", "Triggered", "trigger", "trigger_in"]

KEY_SECONDS = 30 * 86400.0
_ROUNDS = 3  # a key can expire between being found taken and being read; once is already rare
Outcome = Triggered | StepwellError


async def trigger(db: Database, environment_id: str, requests: Sequence[TriggerRequest]) -> list[Outcome]:
    """One outcome for each request, in order. A refused one stops no other.

    Refusals: NotFound (task-not-found, queue-not-found, run-not-found for the parent), Conflict (idempotency-conflict,
    parent-ended), PayloadInvalid, PayloadTooLarge, ApiError (invalid-request).
    """

    async def body(tx: Tx) -> list[Outcome]:
        outcomes = await trigger_in(tx, environment_id, requests)
        if any(isinstance(outcome, Triggered) and not outcome.cached for outcome in outcomes):
            await event.notify(tx, ready=[environment_id])
        return outcomes

    return await db.transact("trigger", body)


async def trigger_in(tx: Tx, environment_id: str, requests: Sequence[TriggerRequest]) -> list[Outcome]:
    """The same within a transaction; whoever calls it notifies."""
    asked, refused = await _placed(tx, environment_id, requests)
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
    await store(tx, environment_id, list(fresh.values()))
    return [outcome or Triggered(fresh[index].id) for index, outcome in enumerate(outcomes)]


async def _placed(
    tx: Tx, environment_id: str, requests: Sequence[TriggerRequest]
) -> tuple[list[Asked], list[StepwellError | None]]:
    """Each request with its place below its parent, if it has one. Holds off a cancel of the parents."""
    parents = {request.parent_id for request in requests if request.parent_id}
    found = await run.share(tx, environment_id, sorted(parents)) if parents else {}
    asked: list[Asked] = []
    refused: list[StepwellError | None] = []
    for request in requests:
        error: StepwellError | None = None
        place = Place(new_id("run"))
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
    hashes = {index: _hash(requests[index]) for indexes in open_.values() for index in indexes}
    for _ in range(_ROUNDS):
        if not open_:
            break
        wanted = [
            _wanted(key, fresh[indexes[0]], requests[indexes[0]], hashes[indexes[0]]) for key, indexes in open_.items()
        ]
        free = await idempotency.take(tx, environment_id, wanted)
        held = await idempotency.holders(tx, environment_id, list(open_))
        for key, (run_id, payload_hash) in held.items():
            indexes = open_.pop(key)
            for index in indexes[1:] if key in free else indexes:
                same = hashes[index] == payload_hash
                outcomes[index] = Triggered(run_id, cached=True) if same else _conflict(key, run_id)
    await _settle_request_keys(tx, environment_id, requests, fresh, outcomes)


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


def _wanted(key: Key, new: NewRun, request: TriggerRequest, payload_hash: bytes) -> Wanted:
    return Wanted(*key, new.id, payload_hash, request.options.idempotency_key_ttl or KEY_SECONDS)


def _hash(request: TriggerRequest) -> bytes:
    return hashlib.sha256(request.payload_type.encode() + b"\n" + request.payload).digest()


def _conflict(key: Key, run_id: str) -> Conflict:
    return Conflict(
        f"idempotency key {key[1]!r} of task {key[0]!r} belongs to {run_id}, which was triggered with another payload",
        code="idempotency-conflict",
        hint="use a key that changes with the payload, or wait until the key's lifetime is over",
        status=409,
    )
