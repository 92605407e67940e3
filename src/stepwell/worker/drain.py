"""Stopping without harm: claim nothing more, let runs end, give the rest back so that others go on with them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from stepwell.worker.dispatcher import Dispatcher
from stepwell.worker.outbox import Outbox

CONFIRM_SECONDS = 10.0
"""How long the server has to confirm what it is told at last; after that leases run out by themselves."""
_LOOK = 0.05
_log = logging.getLogger("stepwell.worker")


async def drain(dispatcher: Dispatcher, outbox: Outbox, grace: float, hurry: asyncio.Event) -> None:
    """Returns when this worker holds nothing, or has done what it could. `hurry` cuts the grace short."""
    dispatcher.take_no_more()
    if dispatcher.executing:
        _log.info("stopping: %d runs have %g s to end by themselves", dispatcher.executing, grace)
    await _until(lambda: not dispatcher.executing or hurry.is_set(), grace)
    if dispatcher.executing:
        _log.info("stopping: %d runs go back to the queue, to be resumed elsewhere", dispatcher.executing)
        dispatcher.stop_all()
    await _until(lambda: not dispatcher.executing and not dispatcher.held and not len(outbox), CONFIRM_SECONDS)
    if dispatcher.held:
        _log.warning("stopping with %d runs unconfirmed: their leases will run out", dispatcher.held)


async def _until(condition: Callable[[], bool], seconds: float) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not condition() and loop.time() < deadline:  # noqa: ASYNC110 - many parts change what is looked at, once
        await asyncio.sleep(_LOOK)
