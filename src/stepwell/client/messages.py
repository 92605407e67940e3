"""What is sent to one run: signals, and updates, whose answers are waited for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from stepwell.client.exchange import Exchange, ask
from stepwell.client.patience import SLACK, Patience
from stepwell.client.runs import raw
from stepwell.errors import Conflict, ConnectionFailed, UpdatePending, UpdateRefused
from stepwell.protocol import operations
from stepwell.protocol.messages import MessageSent, SendMessage, UpdateQuery, UpdateView
from stepwell.protocol.wire import UNSET


def signal(run_id: str, name: str, data: Any) -> Exchange[str]:
    return (yield from ask(operations.SEND_SIGNAL, MessageSent, _body(name, data), run_id=run_id)).id


def update(
    run_id: str, name: str, data: Any, timeout: float | None, clock: Callable[[], float] = time.monotonic
) -> Exchange[Any]:
    """What the run accepted. Raises UpdateRefused, UpdatePending after `timeout` seconds, Conflict (run-ended)."""
    patience = Patience(timeout, clock)
    found = yield from ask(operations.SEND_UPDATE, UpdateView, _body(name, data), run_id=run_id)
    return (yield from _answer(run_id, found, timeout, patience))


def update_answer(
    run_id: str, update_id: str, timeout: float | None, clock: Callable[[], float] = time.monotonic
) -> Exchange[Any]:
    """The same of one that was sent before."""
    patience = Patience(timeout, clock)
    found = yield from _look(run_id, update_id, 0.0)
    return (yield from _answer(run_id, found, timeout, patience))


def _answer(run_id: str, found: UpdateView, timeout: float | None, patience: Patience) -> Exchange[Any]:
    patience.heard()
    while found.status == "pending":
        if patience.over:
            raise UpdatePending(
                f"update {found.name!r} of run {run_id} has no answer after {timeout:g} s: unknown, still pending",
                update_id=found.id,
                hint="ask again: client.update_answer(run_id, error.update_id)",
            )
        try:
            found = yield from _look(run_id, found.id, patience.ask(), patience.pause)
            patience.heard()
        except ConnectionFailed:
            if patience.unheard():
                raise
    return _outcome(run_id, found)


def _look(run_id: str, update_id: str, hold: float, pause: float = 0.0) -> Exchange[UpdateView]:
    return ask(
        operations.GET_UPDATE,
        UpdateView,
        query=UpdateQuery(wait=round(hold, 3)),
        within=hold + SLACK,
        pause=pause,
        run_id=run_id,
        update_id=update_id,
    )


def _outcome(run_id: str, found: UpdateView) -> Any:
    if found.status == "accepted":
        return None if found.answer is UNSET else found.answer
    if found.status == "refused":
        raise UpdateRefused(
            f"run {run_id} refused the update {found.name!r}: {found.reason}",
            update_id=found.id,
            details=None if found.details is UNSET else found.details,
        )
    raise Conflict(
        f"run {run_id} ended without an answer to the update {found.name!r} ({found.id})",
        code="run-ended",
        hint="its code received no updates of this name any more",
        status=409,
    )


def _body(name: str, data: Any) -> SendMessage:
    return SendMessage(name=name, data=UNSET if data is None else raw(data))
