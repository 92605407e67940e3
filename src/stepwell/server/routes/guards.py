"""Semaphores, limiters and breakers: how they stand, who holds them and who waits; and to reset one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import get_args

from stepwell.engine import permits
from stepwell.errors import NotFound
from stepwell.model.permit import Guard, GuardKind, Permit
from stepwell.protocol import operations
from stepwell.protocol.guarding import GuardDetail, Guards, GuardView, PermitView
from stepwell.protocol.wire import Id
from stepwell.server.requests import Call

KINDS: tuple[GuardKind, ...] = get_args(GuardKind)


async def list_guards(call: Call) -> Guards:
    kinds = KINDS if call.query.kind is None else (call.query.kind,)
    found = [each for kind in kinds for each in await permits.list_guards(call.backend.db, call.environment_id, kind)]
    return Guards(data=[_view(guard, users) for guard, users in found])


async def retrieve(call: Call) -> GuardDetail:
    guard, users = await permits.get_guard(call.backend.db, call.environment_id, *_named(call))
    holders = [each for each in users if _holds(each, guard)]
    waiters = [each for each in users if _waits(each, guard)]
    return GuardDetail(
        guard=_view(guard, users),
        holders=[_permit(each) for each in holders],
        waiters=[_permit(each) for each in waiters],
    )


async def forget(call: Call) -> Id:
    kind, name = _named(call)
    await permits.forget(call.backend.db, call.environment_id, kind, name)
    return Id(id=name)


def _named(call: Call) -> tuple[GuardKind, str]:
    kind, name = call.parameters["kind"], call.parameters["name"]
    if kind not in KINDS:
        raise NotFound(
            f"there is no kind of guard {kind[:40]!r}",
            code="guard-not-found",
            hint=f"expected one of {', '.join(KINDS)}",
            status=404,
        )
    return kind, name


def _holds(each: Permit, guard: Guard) -> bool:
    """Of a limiter nothing is held: what it let through has passed."""
    return guard.terms.kind != "limiter" and each.granted_at is not None


def _waits(each: Permit, guard: Guard) -> bool:
    if guard.terms.kind == "limiter":
        return each.granted_at is not None and each.granted_at > guard.now
    return each.granted_at is None and each.refusal is None


def _view(guard: Guard, users: Sequence[Permit]) -> GuardView:
    terms = guard.terms
    held, waiting = (guard.held, guard.waiting)
    if terms.kind == "limiter":
        held, waiting = 0, sum(_waits(each, guard) for each in users)
    counted = [at for at in guard.failures if at > guard.now - terms.period]
    retry_at = (
        None if guard.state == "closed" or guard.opened_at is None else _moment(guard.opened_at + terms.cool_down)
    )
    breaker = terms.kind == "breaker"
    return GuardView(
        kind=terms.kind,
        name=terms.name,
        amount=terms.amount,
        task=guard.task_id,
        held=held,
        waiting=waiting,
        period=terms.period or None,
        cool_down=terms.cool_down or None,
        available=round(guard.available, 3) if terms.kind == "limiter" else None,
        state=guard.state if breaker else None,
        failures=len(counted) if breaker else None,
        retry_at=retry_at if breaker else None,
    )


def _permit(each: Permit) -> PermitView:
    return PermitView(
        run=each.run_id,
        key=each.key,
        asked_at=_moment(each.asked_at),
        granted_at=None if each.granted_at is None else _moment(each.granted_at),
        weight=each.weight if each.kind == "limiter" else None,
    )


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


HANDLERS = {
    operations.LIST_GUARDS: list_guards,
    operations.GET_GUARD: retrieve,
    operations.FORGET_GUARD: forget,
}
