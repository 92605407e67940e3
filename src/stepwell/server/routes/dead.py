"""Dead letters: failed runs that somebody should look at."""

from __future__ import annotations

from stepwell.engine import dead
from stepwell.protocol import operations
from stepwell.protocol.fleet import Dead
from stepwell.protocol.wire import Id, Page
from stepwell.server.requests import Call
from stepwell.server.routes.history import limit_of
from stepwell.server.views import run_view


async def list_dead(call: Call) -> Dead:
    page = await dead.list_dead(
        call.backend.db,
        call.environment_id,
        (call.query.task,) if call.query.task else (),
        after=call.query.after,
        limit=limit_of(call),
    )
    return Dead(data=[run_view(run, call.environment) for run in page.runs], pagination=Page(next=page.next))


async def redrive(call: Call) -> Id:
    triggered = await dead.redrive(call.backend.db, call.environment_id, call.parameters["run_id"])
    return Id(id=triggered.run_id)


HANDLERS = {operations.LIST_DEAD: list_dead, operations.REDRIVE: redrive}
