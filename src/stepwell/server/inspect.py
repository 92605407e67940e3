"""What happened within a run, as the API shows it: checkpoints with their values, events, attempts, log lines."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast

import msgspec
from msgspec import UNSET

from stepwell.codec import body
from stepwell.codec.plain import plain
from stepwell.engine import observe
from stepwell.errors import CheckpointError
from stepwell.model.attempt import Attempt
from stepwell.model.checkpoint import Checkpoint
from stepwell.model.event import Event
from stepwell.model.log import LogLine
from stepwell.protocol.runs import AttemptView, CheckpointView, EventView, LogView
from stepwell.protocol.triggering import FailureView
from stepwell.server.views import failure_view
from stepwell.storage.database import Database


async def checkpoint_views(
    db: Database, environment_id: str, run_id: str, after: int, limit: int
) -> list[CheckpointView]:
    """A page of the journal. Entries that are stored as differences from earlier ones are completed from those."""
    page = await observe.journal(db, environment_id, run_id, after=after, limit=limit)
    stored = {entry.seq: entry.body for entry in page}
    await _complete(db, environment_id, run_id, stored)
    return [checkpoint_view(entry, stored) for entry in page]


async def _complete(db: Database, environment_id: str, run_id: str, stored: dict[int, bytes]) -> None:
    """Add the bodies that those in `stored` build on."""
    wanted = _missing(stored)
    while wanted:
        for seq in wanted:
            found = await observe.journal(db, environment_id, run_id, after=seq - 1, limit=1)
            stored[seq] = found[0].body if found and found[0].seq == seq else b""
        wanted = _missing(stored)


def _missing(stored: dict[int, bytes]) -> set[int]:
    return {seq for each in stored.values() if (seq := body.earlier_seq(each)) is not None and seq not in stored}


def checkpoint_view(entry: Checkpoint, stored: dict[int, bytes]) -> CheckpointView:
    """One entry with its value or error in plain JSON. A damaged one is shown as such."""
    value: Any = UNSET
    error: FailureView | None = None
    try:
        unpacked = body.unpack(entry.body, stored.__getitem__)
        if entry.outcome == "error":
            error = _error_view(plain(unpacked.error_tree))
        elif entry.outcome == "value" and entry.kind not in {"order", "timer"}:
            value = plain(unpacked.value_tree)
    except (CheckpointError, KeyError) as damage:
        error = FailureView(code="checkpoint_invalid", message=str(damage))
    return CheckpointView(
        seq=entry.seq,
        key=entry.key,
        name=entry.name,
        kind=entry.kind,
        outcome=entry.outcome,
        at=_moment(entry.at),
        started_at=_moment(entry.started),
        site=entry.site,
        attempt=entry.attempt,
        nested=entry.nested,
        size=len(entry.body),
        value=value,
        error=error,
    )


def _error_view(shown: Any) -> FailureView:
    """Of the plain form of a stored exception: an object with its type and message."""
    if isinstance(shown, dict):
        fields = cast("dict[str, Any]", shown)
        return FailureView(code="error", message=str(fields.get("message", "")), name=fields.get("type"))
    return FailureView(code="error", message=msgspec.json.encode(shown, enc_hook=str).decode())


def event_view(event: Event) -> EventView:
    attempt = event.data.get("attempt")
    return EventView(seq=event.seq, type=event.kind, at=event.at, attempt=attempt, details=event.data)


def attempt_view(attempt: Attempt) -> AttemptView:
    return AttemptView(
        number=attempt.number,
        state=attempt.outcome,
        started_at=attempt.started_at,
        finished_at=attempt.ended_at,
        worker_id=attempt.worker_id,
        failure=failure_view(attempt.failure),
        retry_after=attempt.retry_after,
    )


def log_view(line: LogLine) -> LogView:
    return LogView(
        seq=line.seq,
        at=_moment(line.at),
        level=line.level,
        message=line.message,
        stream=line.stream,
        attempt=line.attempt,
        logger=line.logger or None,
        step=line.step or None,
        attributes=line.attributes,
    )


def next_after(page: Sequence[Any], limit: int) -> int | None:
    """The number to ask on from, None at the end."""
    return page[-1].seq if len(page) == limit else None


def _moment(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)
