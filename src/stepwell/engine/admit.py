"""Turns what was asked for into runs that can be stored, or into the reason why not: for every verb that makes runs."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from unicodedata import category

from stepwell.codec.payload import JSON, Packet, to_plain
from stepwell.engine import declarations, payloads
from stepwell.errors import ApiError, LimitExceeded, NotFound, StepwellError
from stepwell.model.admission import Admission, Keyed, fault_of, keyed, merged, rules_of
from stepwell.model.cancel_on import Canceling, canceling
from stepwell.model.child import TriggerOptions
from stepwell.model.run import NewRun
from stepwell.model.task import TaskDeclaration
from stepwell.model.trigger import MAX_TAGS, MAX_WORD, TriggerRequest
from stepwell.storage import cancel_on, event, queue, run, task
from stepwell.storage.database import Tx
from stepwell.storage.task import StoredTask

_CONTROLS = frozenset({"Cc", "Cs"})
_FARTHEST = 100 * 365 * 86400.0  # seconds: no delay or ttl is longer
_NO_OPTIONS = TriggerOptions()
_NOT_BATCHED = ("queue", "concurrency_key", "priority", "delay", "delay_until", "ttl", "max_attempts", "max_duration")
_PRIORITIES = range(-(2**31), 2**31)


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a tree of runs a new one stands. None for all but the id: it begins a tree of its own."""

    run_id: str
    parent_id: str | None = None
    root_id: str | None = None
    depth: int = 0
    spawn_key: str | None = None
    child_index: int | None = None


Asked = tuple[TriggerRequest, Place]


async def admit(tx: Tx, environment_id: str, asked: Sequence[Asked]) -> list[NewRun | StepwellError]:
    """Each request with its task's declaration applied, or the error that refuses it. Stores nothing."""
    tasks = await declarations.load(tx, environment_id, (request.task_id for request, _ in asked))
    await payloads.load_schemas(tx, environment_id, tasks)
    queues = await _known_queues(tx, environment_id, asked, tasks)
    admitted: list[NewRun | StepwellError] = []
    for request, place in asked:
        found = tasks.get(request.task_id)
        queue_name = request.options.queue or (found.declaration.queue_name if found else "")
        try:
            if found is None:
                raise await _no_task(tx, environment_id, request.task_id)
            if queue_name not in queues:
                raise await _no_queue(tx, environment_id, queue_name)
            admitted.append(_admitted(request, place, found, queue_name))
        except StepwellError as error:
            admitted.append(error)
    return admitted


def admit_remembered(environment_id: str, asked: Sequence[Asked]) -> tuple[list[NewRun], dict[str, datetime]] | None:
    """The same by what is remembered of the tasks, with the versions of their declarations, without asking Postgres.

    None when one is not known, or names a queue other than its task's own, or would be refused: a newer declaration may
    allow it.
    """
    tasks = declarations.remembered(environment_id, (request.task_id for request, _ in asked))
    if not payloads.are_loaded(tasks.values()):
        return None
    admitted: list[NewRun] = []
    for request, place in asked:
        found = tasks.get(request.task_id)
        if found is None or request.options.queue not in (None, found.declaration.queue_name):
            return None
        if (
            found.declaration.admission is not None
            or request.options.admission is not None
            or found.declaration.bounded
            or found.declaration.cancel_on
        ):
            return None  # its keys, or its queue, must be locked; or what cancels it is stored with it
        try:
            admitted.append(_admitted(request, place, found, found.declaration.queue_name))
        except StepwellError:
            return None
    return admitted, {task_id: found.updated_at for task_id, found in tasks.items()}


async def admit_alike(tx: Tx, environment_id: str, request: TriggerRequest, given: Sequence[bytes]) -> NewRun | None:
    """The first of many runs that differ in their payloads alone, all of which are checked.

    None if one is refused, or if rules of admission decide.
    """
    [first] = await admit(tx, environment_id, [(request, Place(""))])
    if isinstance(first, StepwellError) or first.rules or first.bounded or first.cancel_on:
        return None  # each is asked by itself
    found = declarations.remembered(environment_id, [request.task_id])[request.task_id]
    try:
        for payload in given:
            payloads.check(request.task_id, found, payload, request.payload_type)
    except StepwellError:
        return None
    return first


async def store(tx: Tx, environment_id: str, runs: Sequence[NewRun]) -> set[str]:
    """Store admitted runs and make them claimable, or due later. Returns those that are new."""
    made = await run.insert(tx, environment_id, runs) if runs else set[str]()
    abandoned = [new.id for new in runs if new.abandoned and new.id in made]
    if abandoned:
        await run.abandon(tx, abandoned)
    canceled_on = [(new.id, new.cancel_on) for new in runs if new.cancel_on and new.id in made]
    if canceled_on:
        await cancel_on.insert(tx, environment_id, canceled_on)
    if made:
        await event.notify(tx, ready=[environment_id])
    return made


async def _known_queues(tx: Tx, environment_id: str, asked: Sequence[Asked], tasks: dict[str, StoredTask]) -> set[str]:
    """A task's own queue exists since its task does; those that callers name must be looked up."""
    named = {request.options.queue for request, _ in asked if request.options.queue}
    own = {found.declaration.queue_name for found in tasks.values()}
    return own | await queue.known(tx, environment_id, list(named)) if named else own


def _admitted(request: TriggerRequest, place: Place, found: StoredTask, queue_name: str) -> NewRun:
    declared, options = found.declaration, request.options
    if options != _NO_OPTIONS:
        _check_options(options)
    payloads.check(request.task_id, found, request.payload, request.payload_type)
    batch_id, batch_index = request.batch or (None, None)
    return NewRun(
        id=place.run_id,
        task_id=request.task_id,
        queue=queue_name,
        payload=request.payload,
        payload_type=request.payload_type,
        root_id=place.root_id or place.run_id,
        max_attempts=options.max_attempts or max(1, declared.retry.max_attempts),
        trigger_function=request.trigger_function,
        priority=declared.priority if options.priority is None else options.priority,
        parent_id=place.parent_id,
        depth=place.depth,
        spawn_key=place.spawn_key,
        child_index=place.child_index,
        batch_id=batch_id,
        batch_index=batch_index,
        concurrency_key=options.concurrency_key,
        max_duration=options.max_duration or declared.max_duration,
        ttl=options.ttl or declared.ttl,
        tags=tuple(dict.fromkeys((*declared.tags, *options.tags))),
        metadata=options.metadata,
        idempotency_key=options.idempotency_key,
        traceparent=request.traceparent,
        test=options.test,
        delay=options.delay,
        delay_until=options.delay_until,
        abandoned=options.on_parent_cancel == "abandon",
        rules=_rules(request, declared.admission),
        cancel_on=_canceling(request, declared),
        bounded=declared.bounded or queue_name != declared.queue_name,
    )


def collector_of(declared: TaskDeclaration, run_id: str, payload: bytes) -> NewRun:
    """The one execution of a batch: of what its members asked for, it has nothing but their payloads."""
    return NewRun(
        id=run_id,
        task_id=declared.id,
        queue=declared.queue_name,
        payload=payload,
        payload_type=JSON,
        root_id=run_id,
        max_attempts=max(1, declared.retry.max_attempts),
        trigger_function="collect",
        priority=declared.priority,
        max_duration=declared.max_duration,
        ttl=declared.ttl,
        tags=declared.tags,
    )


def _check_batched(request: TriggerRequest, chosen: Admission) -> None:
    """What goes for one run alone cannot be asked for where many share an execution."""
    given = [name for name in _NOT_BATCHED if getattr(request.options, name) is not None]
    given += [kind for kind, rule in (("debounce", chosen.debounce), ("singleton", chosen.singleton)) if rule]
    if given and request.trigger_function not in ("fork", "redrive"):
        raise _wrong(given[0], "nothing, for runs of this task are executed many at once (batch)", "a value")


def _rules(request: TriggerRequest, declared: Admission | None) -> tuple[Keyed, ...]:
    """The rules that apply to a request, with their keys. Raises ApiError for one that cannot be."""
    asked = request.options.admission
    if asked is None and declared is None:
        return ()
    for kind, rule in rules_of(asked) if asked is not None else ():
        fault = fault_of(rule)
        if fault is not None:
            raise _wrong(kind, fault[1], fault[0])
    chosen = merged(declared, asked)
    if chosen is not None and chosen.batch is not None:
        _check_batched(request, chosen)
    return () if chosen is None else keyed(chosen, to_plain(Packet(request.payload, request.payload_type)))


def _canceling(request: TriggerRequest, declared: TaskDeclaration) -> tuple[Canceling, ...]:
    """The events that cancel this run. Raises PayloadInvalid for a field that is needed for that and missing."""
    if not declared.cancel_on:
        return ()
    return canceling(request.task_id, declared.cancel_on, to_plain(Packet(request.payload, request.payload_type)))


async def _no_task(tx: Tx, environment_id: str, task_id: str) -> NotFound:
    known = await task.ids(tx, environment_id)
    close = difflib.get_close_matches(task_id, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else "start a worker whose modules declare it"
    return NotFound(f"there is no task {task_id[:MAX_WORD]!r}", code="task-not-found", hint=hint, status=404)


async def _no_queue(tx: Tx, environment_id: str, name: str) -> NotFound:
    close = difflib.get_close_matches(name, await queue.names(tx, environment_id), n=1)
    hint = f"did you mean {close[0]!r}?" if close else "declare it with queue(...) in a worker's modules"
    return NotFound(f"there is no queue {name[:MAX_WORD]!r}", code="queue-not-found", hint=hint, status=404)


def _check_options(options: TriggerOptions) -> None:
    for name, word in (
        ("idempotency_key", options.idempotency_key),
        ("concurrency_key", options.concurrency_key),
        *(("tags", tag) for tag in options.tags),
    ):
        if word is not None:
            check_word(name, word)
    if len(options.tags) > MAX_TAGS:
        raise LimitExceeded(
            f"{len(options.tags)} tags, more than the limit of {MAX_TAGS}", hint="use metadata for the rest"
        )
    for name in ("delay", "ttl", "max_duration", "idempotency_key_ttl"):
        given = getattr(options, name)
        least = 0.0 if name == "delay" else 1e-3
        if given is not None and not least <= given <= _FARTHEST:
            raise _wrong(name, f"{least:g} to {_FARTHEST:g} seconds", f"{given:g}")
    if options.delay_until is not None and not 0 <= options.delay_until <= 2**36:
        raise _wrong("delay_until", "a moment in seconds since the epoch", f"{options.delay_until:g}")
    if options.priority is not None and options.priority not in _PRIORITIES:
        raise _wrong("priority", "a 32-bit integer", str(options.priority))
    if options.max_attempts is not None and not 1 <= options.max_attempts < 2**31:
        raise _wrong("max_attempts", "1 or more", str(options.max_attempts))


def check_word(name: str, word: str) -> None:
    """Raises ApiError for an empty or endless text, and one with control characters."""
    if not 1 <= len(word) <= MAX_WORD:
        raise _wrong(name, f"1 to {MAX_WORD} characters", f"{len(word)}")
    if not is_word(word):
        raise _wrong(name, "a text without control characters", repr(word))


def is_word(text: str) -> bool:
    """Whether it is neither empty nor endless, and has no control characters."""
    return 1 <= len(text) <= MAX_WORD and (text.isprintable() or not _CONTROLS.intersection(map(category, text)))


def _wrong(name: str, expected: str, got: str) -> ApiError:
    return ApiError(f"{name}: expected {expected}, got {got[:80]}", code="invalid-request", status=422)
