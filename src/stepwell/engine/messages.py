"""Messages: an event goes to every run that waits for it and starts tasks; a signal or an update goes to one run.

A message is kept, given to the waits that it completes, and its runs are woken, in one transaction. A wait begins in
the transaction of its journal entry, and looks there for messages that came before. Both have a lock on the topic (the
name, in the environment or in the run): senders alone, waits together; so of a message and a wait that race the second
one sees the other. Order of locks: runs, leases, guards, topics, tokens. A run that is just being suspended waits for
the commit of whoever gives it a message (`storage.message.hold`) and sees it by itself.

A message completes at most one wait of a run, the first that fits; one that a run has ceased to wait for before its
code had it is free again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from stepwell.codec.payload import JSON, check_size
from stepwell.engine import cancel_on
from stepwell.engine.cancel import GRACE, run_not_found
from stepwell.engine.subscriptions import check_name
from stepwell.engine.trigger import trigger_in
from stepwell.engine.wake import wake_satisfied
from stepwell.errors import ApiError, Conflict, LimitExceeded, NotFound, PayloadInvalid, StepwellError
from stepwell.model.lifecycle import Status, is_terminal
from stepwell.model.message import Message, MessageKind, NewEvent, Reply, Sent, Started
from stepwell.model.run import RunState
from stepwell.model.token import TokenSpec
from stepwell.model.trigger import Triggered, TriggerRequest
from stepwell.primitives.ids import derived_id, new_id
from stepwell.storage import event, message, run, run_reading, token
from stepwell.storage.database import Database, Tx

LARGEST = 1024 * 1024
"""Bytes of a message's data, and of an update's answer."""
MOST_EVENTS = 1000
MOST_UNREAD = 1000
MOST_ROWS = 100
LONGEST_ID = 200
Answered = tuple[str, str, Reply]  # (environment, run, reply)
GivenUp = tuple[str, str, str]  # (environment, run, token)
_Given = dict[str, str]  # runs, by the tokens that a message has completed


# ── events ───────────────────────────────────────────────────────────────────


async def send_events(
    db: Database,
    environment_id: str,
    events: Sequence[NewEvent],
    *,
    request_key: str | None = None,
    default_grace: float = GRACE,
) -> list[Sent]:
    """All of them or none, in this order. One whose id was sent before is answered as it was then; so are those without
    an id when the same request comes again, its reply having been lost.

    default_grace: as for `cancel`, of the runs that they cancel. Raises ApiError (invalid-request), PayloadInvalid,
    PayloadTooLarge, and Conflict (event-conflict) for an id that was sent with something else.
    """
    _check_events(events)
    ids = [
        given.id or (_same_id(environment_id, "event", request_key, place) if request_key else new_id("event"))
        for place, given in enumerate(events)
    ]

    async def body(tx: Tx) -> list[Sent]:
        first = dict(zip(reversed(ids), reversed(events), strict=True))
        rows = [(event_id, first[event_id].name, None, first[event_id].data) for event_id in dict.fromkeys(ids)]
        fresh = await message.insert(tx, environment_id, "event", rows)
        kept_now = [(event_id, name, data) for event_id, name, _, data in rows if event_id in fresh]
        if kept_now:
            started = [await _start_tasks(tx, environment_id, *each) for each in kept_now]
            await _cancel(tx, environment_id, kept_now, started, default_grace)
            await message.lock_topics(tx, [(environment_id, name) for _, name, _ in kept_now])
        for event_id, name, data in kept_now:
            await _publish(tx, environment_id, event_id, name, data)
        kept = await message.by_ids(tx, environment_id, "event", list(first))
        seen: set[str] = set()
        sent: list[Sent] = []
        for event_id, given in zip(ids, events, strict=True):
            _must_be_same(kept[event_id], given)
            known = given.id is not None and event_id not in fresh
            sent.append(Sent(kept[event_id], duplicate=known or event_id in seen))
            seen.add(event_id)
        return sent

    return await db.transact("send_events", body)


def _same_id(scope: str, kind: MessageKind, request_key: str, place: int) -> str:
    """The same one each time for the same request; `scope` ends with an id that there is."""
    return derived_id(kind, scope, f"{request_key}:{place}")


async def _start_tasks(tx: Tx, environment_id: str, event_id: str, name: str, data: bytes) -> list[str]:
    """A run of each task that is declared `on` it; those that are new. What a task refuses is noted with the event."""
    task_ids = await message.triggered_by(tx, environment_id, name, data)
    if not task_ids:
        return []
    outcomes = await trigger_in(tx, environment_id, [TriggerRequest(task_id, data, JSON) for task_id in task_ids])
    started = [
        Started(task_id, code=outcome.code, problem=outcome.message)
        if isinstance(outcome, StepwellError)
        else Started(task_id, run_id=outcome.run_id)
        for task_id, outcome in zip(task_ids, outcomes, strict=True)
    ]
    await message.note_started(tx, environment_id, event_id, started)
    return [outcome.run_id for outcome in outcomes if isinstance(outcome, Triggered) and not outcome.cached]


async def _cancel(
    tx: Tx,
    environment_id: str,
    events: Sequence[tuple[str, str, bytes]],
    started: Sequence[Sequence[str]],
    default_grace: float,
) -> None:
    """Cancel the runs that were there before an event that cancels them: not what it, or one after it, has started."""
    sent = [
        cancel_on.Sent(*each, started={run_id for later in started[place:] for run_id in later})
        for place, each in enumerate(events)
    ]
    canceled = await cancel_on.cancel_by(tx, environment_id, sent, default_grace)
    if canceled:
        counted = [(event_id, len(run_ids)) for event_id, run_ids in canceled.items()]
        await message.note_canceled(tx, environment_id, counted)


async def _publish(tx: Tx, environment_id: str, event_id: str, name: str, data: bytes) -> None:
    waiting = await message.waiting_for_event(tx, environment_id, name, data)
    first = {run_id: token_id for token_id, run_id in reversed(waiting)}
    if first:
        given = await message.give(tx, environment_id, "event", event_id, list(first.values()))
        await _tell(tx, given, {"message": event_id, "kind": "event", "name": name})


async def prune(db: Database, seconds: float, limit: int = 1000) -> int:
    """Forget events that were sent more than so many seconds ago, at most `limit`. How many."""

    async def body(tx: Tx) -> int:
        await message.prune_topics(tx, limit)
        return await message.prune(tx, seconds, limit)

    return await db.transact("prune_events", body)


# ── to one run ───────────────────────────────────────────────────────────────


async def send_to_run(
    db: Database,
    environment_id: str,
    run_id: str,
    kind: Literal["signal", "update"],
    name: str,
    data: bytes,
    *,
    request_key: str | None = None,
) -> Message:
    """Keep a message for a run that has not ended, in order, until its code receives it.

    The same request again, its reply having been lost, is answered as it was then. Raises NotFound (run-not-found),
    Conflict (run-ended), LimitExceeded (inbox-full), ApiError (invalid-request), PayloadInvalid, PayloadTooLarge.
    """
    check_name(kind, name)
    check_data(data, f"the data of {kind} {name!r}")
    fresh = new_id(kind)

    async def body(tx: Tx) -> Message:
        state = (await run.lock(tx, [run_id])).get(run_id)
        if state is None or state.environment_id != environment_id:
            raise run_not_found(run_id)
        message_id = fresh if request_key is None else _same_id(f"{environment_id} {run_id}", kind, request_key, 0)
        known = (await message.by_ids(tx, environment_id, kind, [message_id])).get(message_id)
        if known is not None:
            return known
        if is_terminal(state.status):
            raise run_ended(run_id, state.status, "an update" if kind == "update" else "a signal")
        await _check_room(tx, run_id)
        await message.insert(tx, environment_id, kind, [(message_id, name, run_id, data)])
        await message.lock_topics(tx, [_topic(environment_id, run_id, kind, name)])
        for fact, given in await _fill(tx, environment_id, run_id, kind, name):
            await _tell(tx, given, fact, {run_id: state})
        return (await message.by_ids(tx, environment_id, kind, [message_id]))[message_id]

    return await db.transact("send_to_run", body)


async def _check_room(tx: Tx, run_id: str) -> None:
    unread = await message.unread(tx, run_id)
    if unread >= MOST_UNREAD:
        raise LimitExceeded(
            f"run {run_id} has {unread} messages that its code has not received",
            code="inbox-full",
            hint="send again when it has received some; look whether its code receives messages of this name at all",
            status=429,
        )


def run_ended(run_id: str, status: str, what: str) -> Conflict:
    return Conflict(
        f"run {run_id} is {status}: {what} would reach nobody",
        code="run-ended",
        hint="trigger another run",
        status=409,
    )


# ── waits ────────────────────────────────────────────────────────────────────


async def subscribe(
    tx: Tx, tokens: Sequence[tuple[str, str, str, str, TokenSpec]], given_up: Sequence[GivenUp]
) -> None:
    """Make tokens of runs, as (id, environment, run, key, spec), and complete those for which there is a message; close
    those that their runs have given up. Their leases are locked."""
    awaited: list[tuple[str, str, MessageKind, str]] = [
        (env, run_id, spec.subscription.kind, spec.subscription.name)
        for _, env, run_id, _, spec in tokens
        if spec.subscription is not None
    ]
    for env, run_id, token_id in given_up:
        awaited += [(env, run_id, *what) for what in await message.subscribed(tx, run_id, [token_id])]
    places = list(dict.fromkeys(awaited))
    if places:
        await message.share_topics(tx, [_topic(*place) for place in places])
    if tokens:
        await token.insert(tx, tokens)
    for _, run_id, token_id in given_up:
        await message.give_up(tx, run_id, [token_id])
    for place in places:
        for fact, given in await _fill(tx, *place):
            await event.append(tx, [(run_id, "received", {**fact, "token": each}) for each, run_id in given.items()])
            await event.notify(tx, tokens=given.values())


async def _fill(
    tx: Tx, environment_id: str, run_id: str, kind: MessageKind, name: str
) -> list[tuple[dict[str, Any], _Given]]:
    """Give a run's open waits what is there for them, the one that began first first. The topic is locked."""
    filled: list[tuple[dict[str, Any], _Given]] = []
    for token_id in await message.open_waits(tx, run_id, kind, name):
        found = await message.first_for(tx, kind, token_id)
        if found is not None:
            given = await message.give(tx, environment_id, kind, found, [token_id])
            filled.append(({"message": found, "kind": kind, "name": name}, given))
    return filled


async def _tell(tx: Tx, given: _Given, fact: dict[str, Any], locked: Mapping[str, RunState] | None = None) -> None:
    """Wake the runs whose waiting is over, forks among them; hint to those that stayed with their workers. One whose
    row somebody else has now is being suspended, and will see it, or is ending."""
    if not given:
        return
    mine = dict(locked or {})
    concerned = sorted({*given.values(), *await token.waiters(tx, list(given))})
    others = [run_id for run_id in concerned if run_id not in mine]
    states = mine | (await run.lock_free(tx, others) if others else {})
    woken = await wake_satisfied(tx, [run_id for run_id, state in states.items() if state.status == "waiting"])
    await event.append(tx, [(run_id, "received", {**fact, "token": each}) for each, run_id in given.items()])
    environments = {states[run_id].environment_id for run_id in woken}
    await event.notify(tx, ready=environments, tokens=[each for each in concerned if each not in woken], runs=woken)


def _topic(environment_id: str, run_id: str, kind: MessageKind, name: str) -> message.Topic:
    return (environment_id, name) if kind == "event" else (run_id, f"{kind} {name}")


# ── answers ──────────────────────────────────────────────────────────────────


async def reply(tx: Tx, replies: Sequence[Answered]) -> None:
    """Store what runs answer to updates; the first answer counts."""
    for environment_id, run_id, given in replies:
        await message.answer(tx, environment_id, run_id, [given])
        await event.notify(tx, runs=[run_id])


# ── read ─────────────────────────────────────────────────────────────────────


async def get_event(db: Database, environment_id: str, event_id: str) -> Message:
    """Raises NotFound (event-not-found)."""
    async with db.read("event") as tx:
        found = (await message.by_ids(tx, environment_id, "event", [event_id])).get(event_id)
    if found is None:
        raise NotFound(
            f"there is no event {event_id[:80]!r} in this environment",
            code="event-not-found",
            hint="check the id; events are forgotten after the server's event_retention",
            status=404,
        )
    return found


async def get_update(db: Database, environment_id: str, run_id: str, update_id: str) -> tuple[Message, Status]:
    """An update, and how its run stood before that was looked up. Raises NotFound (run-not-found, update-not-found)."""
    outcome = (await run_reading.outcomes(db, environment_id, [run_id])).get(run_id)
    if outcome is None:
        raise run_not_found(run_id)
    async with db.read("update") as tx:
        found = (await message.by_ids(tx, environment_id, "update", [update_id])).get(update_id)
    if found is None or found.run_id != run_id:
        raise NotFound(
            f"run {run_id} was sent no update {update_id[:80]!r}",
            code="update-not-found",
            hint="check the id, and the run",
            status=404,
        )
    return found, outcome.status


async def list_events(
    db: Database, environment_id: str, *, name: str | None = None, after: str | None = None, limit: int = 20
) -> tuple[list[Message], str | None]:
    """A page, newest first, and the cursor of the next one."""
    return await _page(db, environment_id, "event", name=name, run_id=None, after=after, limit=limit)


async def _page(
    db: Database,
    environment_id: str,
    kind: MessageKind,
    *,
    name: str | None,
    run_id: str | None,
    after: str | None,
    limit: int,
) -> tuple[list[Message], str | None]:
    limit = max(1, min(limit, MOST_ROWS))
    async with db.read("list_messages") as tx:
        found = await message.list_messages(
            tx, environment_id, kind, name=name, run_id=run_id, after=after, limit=limit + 1
        )
    return found[:limit], found[limit - 1].id if len(found) > limit else None


# ── refused ──────────────────────────────────────────────────────────────────


def _check_events(events: Sequence[NewEvent]) -> None:
    if not 0 < len(events) <= MOST_EVENTS:
        raise _invalid(f"{len(events)} events", f"send 1 to {MOST_EVENTS} at once")
    for given in events:
        check_name("event", given.name)
        check_data(given.data, f"the data of event {given.name!r}")
        if given.id is not None:
            check_id(given.id)


def check_id(message_id: str) -> None:
    """Raises ApiError (invalid-request)."""
    if not 0 < len(message_id) <= LONGEST_ID or not message_id.isprintable():
        raise _invalid(f"the id {message_id[:80]!r}", f"1 to {LONGEST_ID} printable characters")


def check_data(data: bytes, what: str) -> None:
    """Raises PayloadInvalid and PayloadTooLarge."""
    check_size(data, what, LARGEST)
    try:
        msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise PayloadInvalid(f"{what} is no JSON: {error}", problems=[{"field": "", "reason": str(error)}]) from None


def check_reply(given: Reply) -> None:
    """Raises PayloadInvalid and PayloadTooLarge."""
    check_data(given.value, f"the answer to update {given.update_id}")


def _must_be_same(kept: Message, given: NewEvent) -> None:
    if (kept.name, kept.data) != (given.name, given.data):
        raise Conflict(
            f"event {kept.id!r} was sent before, as {kept.name!r} with other data",
            code="event-conflict",
            hint="an id stands for one event: give another event another id",
            status=409,
        )


def _invalid(what: str, hint: str) -> ApiError:
    return ApiError(f"this cannot be sent: {what}", hint=hint, code="invalid-request", status=422)
