"""Is the process alive, is it ready, and what can it do."""

from __future__ import annotations

import asyncio
from importlib.metadata import version

from starlette.responses import Response

from stepwell.engine import environments
from stepwell.errors import StepwellError
from stepwell.protocol import operations
from stepwell.protocol.fleet import Health
from stepwell.server import openapi
from stepwell.server.requests import Answer, Call

PATIENCE = 2.0
"""Seconds after which a database that does not answer counts as away."""


async def live(call: Call) -> Health:
    return Health(status="ok", version=version("stepwell"))


async def ready(call: Call) -> Answer:
    """503 while draining, and while Postgres does not answer. Says nothing that a stranger should not know."""
    status = "draining" if call.backend.draining else await _database(call)
    return Answer(Health(status=status, version=version("stepwell")), status=200 if status == "ok" else 503)


async def _database(call: Call) -> str:
    try:
        async with asyncio.timeout(PATIENCE):
            await environments.get_environment(call.backend.db, "any")  # the cheapest of all reads
    except (StepwellError, TimeoutError):
        return "database-unavailable"
    return "ok"


async def describe(call: Call) -> Response:
    return Response(openapi.document(), media_type="application/json", headers={"cache-control": "max-age=300"})


HANDLERS = {operations.HEALTH: live, operations.READY: ready, operations.OPENAPI: describe}
