"""What one server process holds open while it runs; every handler gets it with its call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

from starlette.requests import HTTPConnection

from stepwell.errors import ConfigError
from stepwell.server.auth import Authenticator
from stepwell.server.gateway import Gateway
from stepwell.server.hints import Hints
from stepwell.server.settings import Settings
from stepwell.server.triggers import Triggers
from stepwell.services.admitter import Admitter
from stepwell.services.event_pruner import EventPruner
from stepwell.services.notices import notice_services
from stepwell.services.runner import Loop, every_service, running
from stepwell.services.service import Service
from stepwell.storage.announcer import Announcer
from stepwell.storage.database import Database
from stepwell.storage.event import CHILDREN, HELD, READY, RUNS, TOKENS
from stepwell.storage.migrations import check, migrate
from stepwell.storage.notify import Listener

_TURN_SECONDS = 0.02  # from the end of a run to the look for whom it makes room


@dataclass(slots=True)
class Backend:
    """draining: the server is about to go; it answers, but is not ready for new callers."""

    settings: Settings
    db: Database
    listener: Listener
    authenticator: Authenticator
    hints: Hints
    gateway: Gateway
    triggers: Triggers
    loop: asyncio.AbstractEventLoop
    draining: bool = field(default=False)

    def drain(self) -> None:
        """No longer ready; workers are asked to go elsewhere."""
        self.draining = True
        self.gateway.drain()


@asynccontextmanager
async def open_backend(settings: Settings) -> AsyncGenerator[Backend]:
    """Database, listener, gateway and services, opened in this order and closed in the other.

    Raises DatabaseUnavailable, and ConfigError when the schema is not the one of this code.
    """
    async with AsyncExitStack() as stack:
        await _prepare_schema(settings)
        db = await stack.enter_async_context(
            await Database.connect(
                settings.database_url, max_size=settings.pool_size, application_name="stepwell server"
            )
        )
        direct_url = settings.database_direct_url or settings.database_url
        listener = await stack.enter_async_context(Listener(direct_url))
        hints = Hints(settings.poll)
        gateway = await stack.enter_async_context(Gateway(db, settings, hints))
        _listen(db.announcer, listener, gateway, hints)
        loops = await stack.enter_async_context(running(db, settings.sweep, _services(settings)))
        _listen_for_turns(db.announcer, listener, loops)
        triggers = Triggers(db, gateway.offer)
        stack.push_async_callback(triggers.close)
        loop = asyncio.get_running_loop()
        yield Backend(settings, db, listener, Authenticator(db), hints, gateway, triggers, loop)


def _services(settings: Settings) -> list[Service]:
    public_url = settings.public_url or f"http://{settings.host}:{settings.port}"
    return [
        *every_service(),
        EventPruner(settings.event_retention),
        *notice_services(settings.notices, public_url, settings.notice_lead),
    ]


def _listen_for_turns(announcer: Announcer, listener: Listener, loops: Sequence[Loop]) -> None:
    """The end of a run may be the turn of another. Ends come in swarms: one look serves all of some milliseconds.
    A batch that begins will be due, one that is full is.
    """
    [(admitter, loop)] = [(each.service, each) for each in loops if isinstance(each.service, Admitter)]
    looking: list[asyncio.TimerHandle] = []

    def look() -> None:
        looking.clear()
        loop.wake()

    def ended(_: list[str]) -> None:
        if admitter.waits and not looking:
            looking.append(asyncio.get_running_loop().call_later(_TURN_SECONDS, look))

    announcer.subscribe(RUNS, ended, listener)
    announcer.subscribe(HELD, lambda _: loop.wake(), listener)


def _listen(announcer: Announcer, listener: Listener, gateway: Gateway, hints: Hints) -> None:
    """Pass on what commits announce, here or elsewhere. No ids: some announcements may have been missed."""

    def ready(environment_ids: list[str]) -> None:
        for environment_id in environment_ids or [None]:
            gateway.work_came(environment_id)

    def runs(run_ids: list[str]) -> None:
        gateway.look_at(run_ids or None)
        if run_ids:
            hints.announce(run_ids)
        else:
            hints.announce_all()

    announcer.subscribe(READY, ready, listener)
    announcer.subscribe(CHILDREN, lambda _: gateway.children_ended(), listener)
    announcer.subscribe(TOKENS, lambda _: gateway.tokens_closed(), listener)
    announcer.subscribe(RUNS, runs, listener)


def backend_of(connection: HTTPConnection) -> Backend:
    """The backend of the application that a request came to."""
    return cast("Backend", connection.app.state.backend)


async def _prepare_schema(settings: Settings) -> None:
    direct_url = settings.database_direct_url or settings.database_url
    if settings.auto_migrate:
        await migrate(direct_url)
    state = await check(direct_url)
    if not state.fits:
        wrong = [*state.pending, *state.drifted, *state.newer]
        raise ConfigError(
            f"the database does not have this version's schema: {', '.join(wrong)}",
            hint="run `stepwell db migrate`; `stepwell db check` says more",
            code="schema-outdated",
        )
