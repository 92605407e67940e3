"""From the model's nouns to the bodies of the API."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import UNSET

from stepwell.codec.payload import TAGGED, Packet, plain_bytes
from stepwell.errors import StepwellError
from stepwell.model import run as model
from stepwell.model.environment import Environment
from stepwell.model.failure import Failure
from stepwell.model.wait import Wait
from stepwell.protocol import runs as wire
from stepwell.protocol.status import public_status
from stepwell.protocol.triggering import FailureView, RemoteError, Result

# The npm client knows none but these by its own verbs.
_NPM_FUNCTIONS = {"fork": "trigger", "redrive": "trigger", "schedule": "trigger", "collect": "trigger"}


def run_view(run: model.Run, environment: Environment | None = None) -> wire.Run:
    """A run as lists show it."""
    env = wire.EnvironmentView(id=environment.id, name=environment.slug) if environment else None
    return wire.Run(**_fields(run), env=env)


def detail_view(detail: model.RunDetail) -> wire.RunDetail:
    """A run in full."""
    run = detail.run
    fields = _fields(run)
    fields["waits"] = [wait_view(wait) for wait in detail.waits] or None
    return wire.RunDetail(
        **fields,
        depth=run.depth,
        trigger_function=_NPM_FUNCTIONS.get(run.trigger_function, run.trigger_function),
        related_runs=wire.RelatedRuns(
            root=related_view(detail.root) if detail.root else None,
            parent=related_view(detail.parent) if detail.parent else None,
            children=[related_view(child) for child in detail.children] or None,
        ),
        payload=plain_value(detail.payload, detail.payload_type),
        output=UNSET if detail.output is None else plain_value(detail.output, detail.output_type or ""),
        error=_error(run.failure),
        origins=[_lineage(each) for each in detail.origins] or None,
        offspring=[_lineage(each) for each in detail.offspring] or None,
        collector=detail.collector,
        members=list(detail.members) or None,
        reviewed_at=run.reviewed_at,
    )


def _lineage(run: model.Run) -> wire.LineageView:
    made_by = run.trigger_function if run.forked_from else "trigger"
    return wire.LineageView(
        id=run.id, state=run.status, made_by=made_by, created_at=run.created_at, failure=failure_view(run.failure)
    )


def related_view(run: model.Run) -> wire.RelatedRun:
    fields = _fields(run)
    names = wire.RelatedRun.__struct_fields__
    return wire.RelatedRun(
        **{name: value for name, value in fields.items() if name in names},
        depth=run.depth,
        trigger_function=_NPM_FUNCTIONS.get(run.trigger_function, run.trigger_function),
    )


def _fields(run: model.Run) -> dict[str, Any]:
    failure_code = run.failure.code if run.failure else None
    canceling = run.cancel_requested_at is not None and not run.is_terminal
    return {
        "id": run.id,
        # The npm client takes a run for canceled as soon as it is asked to end.
        "status": "CANCELED" if canceling else public_status(run.status, failure_code),
        "state": run.status,
        "task_identifier": run.task_id,
        "is_queued": run.status in {"queued", "delayed"},
        "is_executing": run.status == "executing",
        "is_waiting": run.status == "waiting",
        "is_completed": run.is_terminal,
        "is_success": run.status == "completed",
        "is_failed": run.status in {"failed", "expired"},
        "is_cancelled": canceling or run.status == "canceled",
        "is_test": run.test,
        "created_at": run.created_at,
        "updated_at": run.updated_at,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "delayed_until": run.delayed_until,
        "expired_at": run.finished_at if run.status == "expired" else None,
        "ttl": None if run.ttl is None else f"{run.ttl:g}s",
        "tags": list(run.tags),
        "cost_in_cents": 0.0,
        "base_cost_in_cents": 0.0,
        "duration_ms": round(run.executed * 1000),
        "queue": run.queue,
        "priority": run.priority,
        "attempt_count": run.attempt,
        "crashes": run.crashes,
        "not_undone": None if run.not_undone is None else list(run.not_undone),
        "error_group": run.error_group,
        "idempotency_key": run.idempotency_key,
        "concurrency_key": run.concurrency_key,
        "metadata": UNSET if run.metadata is None else msgspec.json.decode(run.metadata),
        "failure": failure_view(run.failure),
        "parent_id": run.parent_id,
        "root_id": run.root_id,
        "forked_from": run.forked_from,
        "batch_id": run.batch_id,
    }


def result_view(outcome: model.RunOutcome, *, tagged: bool = False) -> Result:
    """How an ended run ended. The output travels as JSON text: plain, as the npm client wants it, or `tagged`, as it
    is stored, for a reader that rebuilds its classes."""
    if outcome.status == "completed":
        packet = Packet(outcome.output or b"", outcome.output_type or "application/json")
        as_stored = tagged and packet.type == TAGGED
        output = packet.data if as_stored else plain_bytes(packet)
        return Result(
            ok=True,
            id=outcome.run_id,
            task_identifier=outcome.task_id,
            state=outcome.status,
            output=output.decode(),
            output_type=TAGGED if as_stored else "application/json",
        )
    failure = outcome.failure
    return Result(
        ok=False,
        id=outcome.run_id,
        task_identifier=outcome.task_id,
        state=outcome.status,
        error=RemoteError(
            type="BUILT_IN_ERROR",
            name=(failure and failure.name) or f"Run{outcome.status.capitalize()}",
            message=failure.message if failure else f"the run was {outcome.status}",
            stack_trace=(failure and failure.stack) or "",
        ),
        failure=failure_view(failure),
    )


def failure_view(failure: Failure | None) -> FailureView | None:
    if failure is None:
        return None
    return FailureView(
        code=failure.code, message=failure.message, name=failure.name, stack=failure.stack, hint=failure.hint
    )


def wait_view(wait: Wait) -> wire.WaitView:
    return wire.WaitView(
        key=wait.key, kind=wait.kind, due_at=moment(wait.due_at), spawn_key=wait.spawn_key, token_id=wait.token_id
    )


def plain_value(data: bytes, media_type: str) -> Any:
    """A payload or an output as JSON for any reader, embedded as it is. What cannot be read is shown as a text."""
    try:
        return msgspec.Raw(plain_bytes(Packet(data, media_type)))
    except StepwellError as error:
        return {"unreadable": error.message}


def moment(at: float | None) -> datetime | None:
    return None if at is None else datetime.fromtimestamp(at, UTC)


def _error(failure: Failure | None) -> wire.RunError | None:
    if failure is None:
        return None
    return wire.RunError(message=failure.message, name=failure.name, stack_trace=failure.stack)
