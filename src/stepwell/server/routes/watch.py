"""Following one run until it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.responses import Response

from stepwell.engine import observe
from stepwell.errors import ConnectionFailed
from stepwell.model.run import RunDetail
from stepwell.protocol import operations
from stepwell.server.inspect import checkpoint_views, event_view, log_view
from stepwell.server.requests import Call
from stepwell.server.stream import SILENCE, Sent, event_stream
from stepwell.server.views import detail_view

PAGE = 200
# A run that takes a thousand steps a second is looked at four times a second, and told of in pages; one that says
# something now and then is told of at once.
FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.25


@dataclass(slots=True)
class Position:
    """The last event, checkpoint and log line that were sent. Its text is the stream's event id."""

    event: int = -1
    checkpoint: int = -1
    log: int = -1

    def __str__(self) -> str:
        return f"{self.event}.{self.checkpoint}.{self.log}"

    @classmethod
    def parse(cls, text: str | None) -> Position:
        """From the beginning when it is none of ours."""
        try:
            event, checkpoint, log = (int(part) for part in (text or "").split("."))
        except ValueError:
            return cls()
        return cls(event, checkpoint, log)


async def watch(call: Call) -> Response:
    """Fails now, as any answer would, when there is no such run; after that the stream has begun."""
    run_id = call.parameters["run_id"]
    detail = await observe.get_run(call.backend.db, call.environment_id, run_id)
    return event_stream(_follow(call, detail, Position.parse(call.header("last-event-id"))))


async def _follow(call: Call, detail: RunDetail, position: Position) -> AsyncIterator[Sent | None]:
    """The run, what is new of it, and again at each change; of an ended run the news first, and the run last.

    Ends with the run, or when the server goes, for the client to come back to another one.
    """
    run_id = call.parameters["run_id"]
    shown: RunDetail | None = None
    spoke = time.monotonic()
    pause = FIRST_PAUSE
    with call.backend.hints.watching(run_id) as hint:
        while not call.backend.draining:
            ended = detail.run.is_terminal  # read before the news, so that none of it is missed
            if not ended and (shown is None or shown.run != detail.run):
                yield Sent("run", detail_view(detail), str(position))
                shown, spoke = detail, time.monotonic()
            async for news in _news(call, run_id, position):
                yield news
                spoke = time.monotonic()
            if ended:
                yield Sent("run", detail_view(detail), str(position))
                return
            quiet = time.monotonic() - spoke
            if quiet > SILENCE:
                yield None
                spoke = time.monotonic()
            pause = FIRST_PAUSE if quiet > LONGEST_PAUSE else min(pause * 2, LONGEST_PAUSE)
            await hint.wait()
            await asyncio.sleep(pause)
            detail = await _looked_again(call, detail)


async def _looked_again(call: Call, detail: RunDetail) -> RunDetail:
    """The run as it is now; as it was while the database is away, which the watcher need not know."""
    try:
        return await observe.get_run(call.backend.db, call.environment_id, detail.run.id)
    except ConnectionFailed:
        return detail


async def _news(call: Call, run_id: str, position: Position) -> AsyncIterator[Sent]:
    """All that came after the position, which moves along."""
    more = True
    while more:
        try:
            page = await _page(call, run_id, position)
        except ConnectionFailed:
            return
        for sent in page:
            yield sent
        more = len(page) >= PAGE


async def _page(call: Call, run_id: str, position: Position) -> list[Sent]:
    db, environment_id = call.backend.db, call.environment_id
    page: list[Sent] = []
    for event in await observe.events(db, environment_id, run_id, after=position.event, limit=PAGE):
        position.event = event.seq
        page.append(Sent("event", event_view(event), str(position)))
    for view in await checkpoint_views(db, environment_id, run_id, position.checkpoint, PAGE):
        position.checkpoint = view.seq
        page.append(Sent("checkpoint", view, str(position)))
    for line in await observe.logs(db, environment_id, run_id, after=position.log, limit=PAGE):
        position.log = line.seq
        page.append(Sent("log", log_view(line), str(position)))
    return page


HANDLERS = {operations.WATCH_RUN: watch}
