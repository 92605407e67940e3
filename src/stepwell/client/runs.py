"""What can be asked of a run, and done to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, TypedDict, TypeVar, cast

import msgspec

from stepwell.client.caller import Caller, caller, waits_for_ancestor, waits_for_itself
from stepwell.client.checks import epoch_seconds
from stepwell.client.exchange import Call, Exchange, Reply, ask, call, raise_for_refusal, read
from stepwell.client.options import Duration
from stepwell.client.outcomes import failure_of, outcome_of, output_of
from stepwell.client.patience import SLACK, Patience
from stepwell.codec.payload import JSON, TAGGED, Packet, plain_bytes
from stepwell.codec.values import dumps
from stepwell.codec.walk import SAFE_INTEGER
from stepwell.errors import ConnectionFailed, NotFound
from stepwell.model.lifecycle import is_terminal
from stepwell.primitives.duration import seconds
from stepwell.protocol import operations
from stepwell.protocol.operations import Operation
from stepwell.protocol.runs import (
    After,
    Attempts,
    AttemptView,
    Cancel,
    Canceled,
    CheckpointView,
    Empty,
    Events,
    EventView,
    Fork,
    Journal,
    Logs,
    LogView,
    Reschedule,
    RunDetail,
    RunFilter,
    RunList,
    WaitQuery,
)
from stepwell.protocol.triggering import Result
from stepwell.protocol.wire import UNSET, Id

V_co = TypeVar("V_co", covariant=True)
V = TypeVar("V")

UNFINISHED = "run-unfinished"


class Filter(TypedDict, total=False):
    """Which runs to list. status: names of ours, separated by commas. period: those created in the last "24h"."""

    status: str | None
    task: str | None
    tag: str | None
    queue: str | None
    batch: str | None
    parent: str | None
    schedule: str | None
    period: str | None
    after: str | None
    before: str | None


def retrieve(run_id: str) -> Exchange[RunDetail]:
    return ask(operations.GET_RUN, RunDetail, run_id=run_id)


def list_runs(limit: int, filters: Filter) -> Exchange[RunList]:
    return ask(operations.LIST_RUNS, RunList, query=RunFilter(page_size=limit, **filters))


def cancel(run_id: str, reason: str | None, grace: Duration | None = None) -> Exchange[Canceled]:
    left = None if grace is None else seconds(grace)
    return ask(operations.CANCEL_RUN, Canceled, Cancel(reason=reason, grace=left), run_id=run_id)


def replay(run_id: str) -> Exchange[Id]:
    return ask(operations.REPLAY_RUN, Id, Empty(), repeatable=False, run_id=run_id)


def fork(run_id: str, at: str | int | None, payload: Any, changes: Mapping[str, Any] | None) -> Exchange[Id]:
    body = Fork(from_checkpoint=at, payload=UNSET if payload is UNSET else raw(payload), changes=plain(changes or {}))
    return ask(operations.FORK_RUN, Id, body, repeatable=False, run_id=run_id)


def reschedule(run_id: str, delay: Duration | datetime) -> Exchange[RunDetail]:
    if isinstance(delay, datetime):
        epoch_seconds(delay, "reschedule: delay")
    to = delay.isoformat() if isinstance(delay, datetime) else delay if isinstance(delay, str) else seconds(delay)
    return ask(operations.RESCHEDULE_RUN, RunDetail, Reschedule(delay=to), run_id=run_id)


def bump(run_id: str) -> Exchange[RunDetail]:
    return ask(operations.BUMP_RUN, RunDetail, Empty(), run_id=run_id)


def attempts(run_id: str) -> Exchange[list[AttemptView]]:
    return (yield from ask(operations.GET_ATTEMPTS, Attempts, run_id=run_id)).data


def journal(run_id: str, after: int) -> Exchange[list[CheckpointView]]:
    return _numbered(operations.GET_JOURNAL, Journal, run_id, after)


def events(run_id: str, after: int) -> Exchange[list[EventView]]:
    return _numbered(operations.GET_EVENTS, Events, run_id, after)


def logs(run_id: str, after: int) -> Exchange[list[LogView]]:
    return _numbered(operations.GET_LOGS, Logs, run_id, after)


def result(run_id: str, timeout: float | None, clock: Callable[[], float] = time.monotonic) -> Exchange[Any]:
    """The run's output, as soon as it has ended.

    Raises:
        RunFailed: it ended without one. TimeoutError: it had not ended after `timeout` seconds; it goes on.
        ConnectionFailed: the server did not answer for a minute, or up to the time-out.
        ConfigError (waits-for-itself): the run whose code asks is this one, or would wait for ever for one above it.
    """
    yield from _check_caller(run_id, timeout)
    patience = Patience(timeout, clock)
    while True:
        try:
            reply = yield _question(run_id, patience.ask(), patience.pause)
            if not _is_unfinished(reply):
                return _output(read(reply, Result))
            patience.heard()
        except ConnectionFailed:
            if patience.unheard():
                raise
        if patience.over:
            raise TimeoutError(f"run {run_id} had not ended after {timeout:g} s; it goes on")


def _question(run_id: str, hold: float, pause: float) -> Call:
    return call(
        operations.GET_RESULT,
        query=WaitQuery(wait=round(hold, 3)),
        headers={"accept": f"{TAGGED}, {JSON}"},
        within=hold + SLACK,
        pause=pause,
        run_id=run_id,
    )


def _check_caller(run_id: str, timeout: float | None) -> Exchange[None]:
    """A wait for a run above ends, where it has a time-out; the one for itself is a mistake all the same."""
    ask_caller = caller.get()
    here = ask_caller() if ask_caller is not None else None
    if here is not None and here.run_id == run_id:
        raise waits_for_itself(run_id)
    if here is not None and timeout is None and (yield from _is_above(run_id, here)):
        raise waits_for_ancestor(here.run_id, run_id)


def _is_above(run_id: str, here: Caller) -> Exchange[bool]:
    """Whether the run is an ancestor, and has not ended. The server is asked where the caller alone cannot tell."""
    known = (here.parent_id, here.root_id)
    if here.parent_id is None or (run_id not in known and here.parent_id == here.root_id):
        return False
    try:
        wanted = yield from retrieve(run_id)
        root = wanted.related_runs.root
        if is_terminal(wanted.state) or (root.id if root else wanted.id) != here.root_id:
            return False
        if run_id in known:
            return True
        above: str | None = here.parent_id
        while above is not None and above != run_id:
            run = yield from retrieve(above)
            above = run.related_runs.parent.id if run.related_runs.parent and run.depth > wanted.depth else None
    except NotFound:
        return False  # of another environment, or gone: the wait itself says so
    return above == run_id


def raw(payload: Any) -> msgspec.Raw:
    """Any Python value as the plain JSON that a payload is. Raises CheckpointError for what has no JSON."""
    if _is_flat(payload):  # most are: a tenth of the time
        try:
            return msgspec.Raw(msgspec.json.encode(payload))
        except (msgspec.MsgspecError, UnicodeEncodeError):
            pass  # said in better words below
    return msgspec.Raw(plain_bytes(Packet(dumps(payload), TAGGED)))


def _is_flat(payload: Any) -> bool:
    """Whether it is a dict by names of what JSON has, and every language reads alike."""
    if type(payload) is not dict:
        return False
    fields = cast("dict[Any, Any]", payload)
    return all(type(name) is str and _is_simple(value) for name, value in fields.items())


def _is_simple(value: Any) -> bool:
    kind = cast("type[object]", type(value))
    if kind is int:
        return -SAFE_INTEGER < value < SAFE_INTEGER
    return kind is str or kind is bool or value is None or (kind is float and value - value == 0)


def plain(changes: Mapping[str, Any]) -> dict[str, Any]:
    return {str(key): raw(value) for key, value in changes.items()}


def _output(ended: Result) -> Any:
    outcome = outcome_of(ended)
    failure = failure_of(outcome)
    if failure is not None:
        raise failure
    return output_of(outcome)


def _is_unfinished(reply: Reply) -> bool:
    if reply.status != 404:
        return False
    try:
        raise_for_refusal(reply)
    except NotFound as error:
        return error.code == UNFINISHED
    return False


class _NumberedPage(Protocol[V_co]):
    @property
    def data(self) -> Sequence[V_co]: ...
    @property
    def next(self) -> int | None: ...


def _numbered(operation: Operation, page: type[_NumberedPage[V]], run_id: str, after: int) -> Exchange[list[V]]:
    """All pages of something that is numbered, from `after` on."""
    found: list[V] = []
    following: int | None = after
    while following is not None:
        part = yield from ask(operation, page, query=After(after=following), run_id=run_id)
        found += part.data
        following = part.next
    return found
