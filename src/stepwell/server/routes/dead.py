"""Dead letters: failed runs that somebody should look at, alone and in groups."""

from __future__ import annotations

import re

from msgspec import UNSET

from stepwell.codec.payload import check_size
from stepwell.engine import dead, observe
from stepwell.errors import ApiError, Conflict
from stepwell.model.dead import DeadFilter, ErrorGroup, Pace
from stepwell.model.error_group import pattern, place
from stepwell.protocol import operations
from stepwell.protocol.dead import Chosen, Dead, DeadLetter, Discarded, Groups, GroupView, Redriven, Refusal
from stepwell.protocol.wire import Id, Page
from stepwell.server.paging import page_numbers, rows_before
from stepwell.server.requests import Call
from stepwell.server.routes.history import limit_of
from stepwell.server.views import detail_view, failure_view, run_view

_RATE = re.compile(r"(\d+(?:\.\d+)?)/(s|m|h)")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_REST = re.compile(r"(\d{1,18})\.(\d{1,18})\.(\d{1,15}\.\d{1,6})")


async def list_dead(call: Call) -> Dead:
    query = call.query
    page = await dead.list_dead(
        call.backend.db,
        call.environment_id,
        (query.task,) if query.task else (),
        groups=(query.group,) if query.group else (),
        after=query.after,
        limit=limit_of(call),
    )
    return Dead(data=[run_view(run, call.environment) for run in page.runs], pagination=Page(next=page.next))


async def list_groups(call: Call) -> Groups:
    skip, query = rows_before(call.query), call.query
    tasks = (query.task,) if query.task else ()
    found, total = await dead.list_groups(call.backend.db, call.environment_id, tasks, limit=query.per_page, skip=skip)
    return Groups(data=[_group_view(each) for each in found], pagination=page_numbers(query, total))


async def retrieve_group(call: Call) -> GroupView:
    return _group_view(await dead.get_group(call.backend.db, call.environment_id, call.parameters["group"]))


async def retrieve(call: Call) -> DeadLetter:
    detail = await observe.get_run(call.backend.db, call.environment_id, call.parameters["run_id"])
    run = detail.run
    if run.error_group is None or run.reviewed_at is not None:
        why = f"it is {run.status}" + (", and was dealt with" if run.reviewed_at else "")
        raise Conflict(
            f"{run.id} is no dead letter: {why}", code="not-dead", hint=f"stepwell runs show {run.id}", status=409
        )
    group = await dead.get_group(call.backend.db, call.environment_id, run.error_group)
    return DeadLetter(run=detail_view(detail), group=_group_view(group))


async def redrive(call: Call) -> Id:
    payload = None if call.body.payload is UNSET else bytes(call.body.payload)
    if payload is not None:
        check_size(payload, "the payload", call.backend.settings.max_payload)
    triggered = await dead.redrive(
        call.backend.db,
        call.environment_id,
        call.parameters["run_id"],
        from_start=call.body.from_start,
        payload=payload,
    )
    return Id(id=triggered.run_id)


async def redrive_many(call: Call) -> Redriven:
    body = call.body
    done = await dead.redrive_many(
        call.backend.db,
        call.environment_id,
        _where(body),
        rate=None if body.rate is None else _rate(body.rate),
        from_start=body.from_start,
        patch=body.patch,
        rest=None if body.rest is None else _pace(body.rest),
        limit=body.limit,
    )
    refused = [Refusal(id=old, code=error.code, message=error.message) for old, error in done.refused.items()]
    rest = done.rest and f"{done.rest.after}.{done.rest.upto}.{done.rest.next_at:.6f}"
    return Redriven(runs=done.runs, refused=refused, rest=rest)


async def discard(call: Call) -> Id:
    run_id = call.parameters["run_id"]
    await dead.discard(call.backend.db, call.environment_id, run_id, call.body.reason, call.body.by)
    return Id(id=run_id)


async def discard_many(call: Call) -> Discarded:
    where, body = _where(call.body), call.body
    return Discarded(count=await dead.discard_many(call.backend.db, call.environment_id, where, body.reason, body.by))


# ── from what was said, and to what is shown ─────────────────────────────────


def _where(chosen: Chosen) -> DeadFilter:
    """Nothing chosen is a mistake, and not everything."""
    if not (chosen.all or chosen.runs or chosen.group or chosen.task):
        raise _wrong("expected runs, group, task, or all: true; got none of them")
    return DeadFilter(
        run_ids=tuple(chosen.runs or ()),
        task_ids=(chosen.task,) if chosen.task else (),
        groups=(chosen.group,) if chosen.group else (),
    )


def _rate(text: str) -> float:
    """Runs a second."""
    found = _RATE.fullmatch(text.strip())
    if found is None or not float(found[1]):
        raise _wrong(f'rate: expected so many a second, minute or hour, e.g. "10/s" or "100/m"; got {text[:40]!r}')
    return float(found[1]) / _SECONDS[found[2]]


def _pace(text: str) -> Pace:
    found = _REST.fullmatch(text)
    if found is None:
        raise _wrong(f"rest: expected what an earlier answer gave as its rest, got {text[:80]!r}")
    return Pace(int(found[1]), int(found[2]), float(found[3]))


def _group_view(group: ErrorGroup) -> GroupView:
    failure = group.failure
    return GroupView(
        id=group.id,
        count=group.count,
        first_seen=group.first_seen,
        last_seen=group.last_seen,
        tasks=sorted(group.task_ids),
        newest=group.newest,
        code="not_undone" if failure is None else failure.code,
        name=failure and failure.name,
        pattern=pattern(failure.message if failure else "; ".join(group.not_undone)),
        place=failure and place(failure.stack),
        failure=failure_view(failure),
        not_undone=list(group.not_undone) or None,
    )


def _wrong(message: str) -> ApiError:
    return ApiError(message, code="invalid-request", status=422)


HANDLERS = {
    operations.LIST_DEAD: list_dead,
    operations.LIST_DEAD_GROUPS: list_groups,
    operations.GET_DEAD_GROUP: retrieve_group,
    operations.GET_DEAD: retrieve,
    operations.REDRIVE: redrive,
    operations.REDRIVE_MANY: redrive_many,
    operations.DISCARD: discard,
    operations.DISCARD_MANY: discard_many,
}
