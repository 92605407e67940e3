"""Messages to one run: signals, and updates, whose answers are waited for."""

from __future__ import annotations

import time
from typing import Any, Literal

import msgspec
from msgspec import UNSET

from stepwell.engine import messages
from stepwell.model.lifecycle import Status, is_terminal
from stepwell.model.message import Message
from stepwell.protocol import operations
from stepwell.protocol.messages import MessageSent, StreamTaken, UpdateView
from stepwell.server.options import REQUEST_KEY
from stepwell.server.requests import Call

LONGEST_WAIT = 60.0


async def send_signal(call: Call) -> MessageSent:
    return MessageSent(id=(await _send(call, "signal", call.body.name)).id)


async def send_input(call: Call) -> StreamTaken:
    await _send(call, "signal", call.parameters["stream_id"])
    return StreamTaken(ok=True)


async def send_update(call: Call) -> UpdateView:
    return await _answered(call, (await _send(call, "update", call.body.name)).id)


async def get_update(call: Call) -> UpdateView:
    return await _answered(call, call.parameters["update_id"])


HANDLERS = {
    operations.SEND_SIGNAL: send_signal,
    operations.SEND_UPDATE: send_update,
    operations.GET_UPDATE: get_update,
    operations.SEND_INPUT: send_input,
}


async def _send(call: Call, kind: Literal["signal", "update"], name: str) -> Message:
    return await messages.send_to_run(
        call.backend.db,
        call.environment_id,
        call.parameters["run_id"],
        kind,
        name,
        b"null" if call.body.data is UNSET else bytes(call.body.data),
        request_key=call.header(REQUEST_KEY),
    )


async def _answered(call: Call, update_id: str) -> UpdateView:
    """Holds the answer up to `wait` seconds. A hint about the run is followed by a look, so none is missed."""
    run_id = call.parameters["run_id"]
    deadline = time.monotonic() + min(max(call.query.wait, 0.0), LONGEST_WAIT)
    with call.backend.hints.watching(run_id) as hint:
        while True:
            update, status = await messages.get_update(call.backend.db, call.environment_id, run_id, update_id)
            left = deadline - time.monotonic()
            if update.status != "pending" or is_terminal(status) or left <= 0 or call.backend.draining:
                return _shown(update, status)
            await hint.wait(left)


def _shown(update: Message, run_status: Status) -> UpdateView:
    status: Any = update.status
    given: Any = UNSET if update.answer is None else msgspec.json.decode(update.answer)
    if status == "pending" and is_terminal(run_status):
        status = "unanswered"
    refused: dict[str, Any] = given if status == "refused" else {}
    return UpdateView(
        id=update.id,
        name=update.name,
        status=status,
        sent_at=update.sent_at,
        answered_at=update.answered_at,
        answer=given if status == "accepted" else UNSET,
        reason=refused.get("reason"),
        details=UNSET if refused.get("details") is None else refused["details"],
    )
