"""Runs: looked at, waited for, canceled, run again, annotated."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec import UNSET

from stepwell.codec.payload import TAGGED
from stepwell.engine import annotate, bump, cancel, observe, replay, reschedule
from stepwell.errors import ApiError, ConfigError, NotFound
from stepwell.model.lifecycle import is_terminal
from stepwell.model.run import RunFilter
from stepwell.primitives.duration import seconds
from stepwell.protocol import operations
from stepwell.protocol.runs import Canceled, Metadata, RunDetail, RunList
from stepwell.protocol.status import statuses_matching
from stepwell.protocol.triggering import Result
from stepwell.protocol.wire import Id, Message, Page
from stepwell.server.metadata import changed
from stepwell.server.options import delay_of, tags_of
from stepwell.server.requests import Call
from stepwell.server.views import detail_view, result_view, run_view

LARGEST_PAGE = 100
LONGEST_WAIT = 60.0
MOST_GRACE = 86_400.0


async def retrieve(call: Call) -> RunDetail:
    return detail_view(await observe.get_run(call.backend.db, call.environment_id, call.parameters["run_id"]))


async def list_runs(call: Call) -> RunList:
    """A page. A filter by one of the npm client's kinds of failure may give fewer than a full one."""
    query = call.query
    if not 1 <= query.page_size <= LARGEST_PAGE:
        raise ApiError(f"page[size]: expected 1 to {LARGEST_PAGE}, got {query.page_size}", code="invalid-request")
    wanted = _statuses(query.status)
    page = await observe.list_runs(
        call.backend.db,
        call.environment_id,
        RunFilter(
            statuses=tuple(dict.fromkeys(status for status, _ in wanted)),
            task_ids=_listed(query.task),
            queues=_listed(query.queue),
            tags=_listed(query.tag),
            batch_id=query.batch,
            parent_id=query.parent,
            schedule_id=query.schedule,
            test=query.is_test,
            created_from=_created_from(query),
            created_to=_moment(query.created_to),
        ),
        after=query.after,
        before=query.before,
        limit=query.page_size,
    )
    runs = [run for run in page.runs if not wanted or _fits(run.status, run.failure and run.failure.code, wanted)]
    return RunList(
        data=[run_view(run, call.environment) for run in runs],
        pagination=Page(next=page.next, previous=page.previous),
    )


async def result(call: Call) -> Result:
    """Holds the answer up to `wait` seconds. A hint of the run's end is followed by a look, so none is missed.

    While a worker here has the run, the first look waits for a hint too; and how it completed comes with the hint.
    Both only of runs of this environment.
    """
    run_id = call.parameters["run_id"]
    tagged = TAGGED in (call.header("accept") or "")
    patience = min(max(call.query.wait, 0.0), LONGEST_WAIT)
    deadline = time.monotonic() + patience
    with call.backend.hints.watching(run_id, entries=False) as hint:
        if patience and call.backend.gateway.is_held(call.environment_id, run_id):
            await hint.wait(patience)
        while True:
            outcome = hint.outcome or await observe.outcome(call.backend.db, call.environment_id, run_id)
            if is_terminal(outcome.status):
                return result_view(outcome, tagged=tagged)
            left = deadline - time.monotonic()
            if left <= 0 or call.backend.draining:
                raise NotFound(
                    f"run {run_id} has not ended; it is {outcome.status}",
                    hint="ask again, or let the server hold the answer: ?wait=20",
                    code="run-unfinished",
                )
            await hint.wait(left)


async def cancel_run(call: Call) -> Canceled:
    run_id = call.parameters["run_id"]
    given, backend = call.body, call.backend
    if given.grace is not None and not 0 <= given.grace <= MOST_GRACE:
        raise ApiError(f"grace: expected 0 to {MOST_GRACE:g} seconds, got {given.grace:g}", code="invalid-request")
    outcome = await cancel.cancel(
        backend.db,
        call.environment_id,
        run_id,
        given.reason,
        grace=given.grace,
        default_grace=backend.settings.cancel_grace,
    )
    backend.gateway.look_at((*outcome.canceled, *outcome.asked))
    return Canceled(id=run_id, state=outcome.status, canceled=outcome.won)


async def replay_run(call: Call) -> Id:
    return await _fork(call, None, None, {})


async def fork(call: Call) -> Id:
    payload = None if call.body.payload is UNSET else bytes(call.body.payload)
    return await _fork(call, call.body.from_checkpoint, payload, call.body.changes)


async def _fork(call: Call, start: str | int | None, payload: bytes | None, changes: dict[str, Any]) -> Id:
    triggered = await replay.fork(
        call.backend.db,
        call.environment_id,
        call.parameters["run_id"],
        from_checkpoint=start,
        payload=payload,
        changes=changes,
    )
    return Id(id=triggered.run_id)


async def put_off(call: Call) -> RunDetail:
    delay, delay_until = delay_of(call.body.delay)
    run_id = call.parameters["run_id"]
    await reschedule.reschedule(call.backend.db, call.environment_id, run_id, delay=delay, delay_until=delay_until)
    return await retrieve(call)


async def to_the_front(call: Call) -> RunDetail:
    await bump.bump(call.backend.db, call.environment_id, call.parameters["run_id"])
    return await retrieve(call)


async def add_tags(call: Call) -> Message:
    tags = tags_of(call.body.tags)
    await annotate.add_tags(call.backend.db, call.environment_id, call.parameters["run_id"], tags)
    return Message(message=f"Successfully set {len(tags)} new tags.")


async def get_metadata(call: Call) -> Metadata:
    detail = await observe.get_run(call.backend.db, call.environment_id, call.parameters["run_id"])
    return Metadata(metadata=msgspec.json.decode(detail.run.metadata) if detail.run.metadata else {})


async def put_metadata(call: Call) -> Metadata:
    document = await annotate.change_metadata(
        call.backend.db,
        call.environment_id,
        call.parameters["run_id"],
        lambda document: changed(document, call.body.metadata, call.body.operations or []),
    )
    return Metadata(metadata=document)


# ── the list's query ─────────────────────────────────────────────────────────────────────────────────────────────────


def _statuses(text: str | None) -> list[tuple[Any, list[str] | None]]:
    try:
        return statuses_matching(list(_listed(text)))
    except ValueError as error:
        raise ApiError(f"filter[status]: no such status: {error}", code="invalid-request") from None


def _fits(status: str, code: str | None, wanted: list[tuple[Any, list[str] | None]]) -> bool:
    return any(status == name and (codes is None or code in codes) for name, codes in wanted)


def _listed(text: str | None) -> tuple[str, ...]:
    return tuple(part for part in (text or "").split(",") if part)


def _created_from(query: operations.runs.RunFilter) -> datetime | None:
    if query.period is None:
        return _moment(query.created_from)
    try:
        return datetime.now(UTC) - timedelta(seconds=seconds(query.period))
    except (ConfigError, OverflowError):
        raise ApiError(f"filter[createdAt][period]: no duration: {query.period!r}", code="invalid-request") from None


def _moment(milliseconds: int | None) -> datetime | None:
    if milliseconds is None:
        return None
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        raise ApiError(f"filter[createdAt]: no moment: {milliseconds}", code="invalid-request") from None


HANDLERS = {
    operations.GET_RUN: retrieve,
    operations.LIST_RUNS: list_runs,
    operations.GET_RESULT: result,
    operations.CANCEL_RUN: cancel_run,
    operations.REPLAY_RUN: replay_run,
    operations.FORK_RUN: fork,
    operations.RESCHEDULE_RUN: put_off,
    operations.BUMP_RUN: to_the_front,
    operations.ADD_TAGS: add_tags,
    operations.GET_METADATA: get_metadata,
    operations.PUT_METADATA: put_metadata,
}
