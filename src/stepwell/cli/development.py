"""The process tree of `stepwell dev`: Postgres, then the server, then the worker; ended in the other order.

What dies by itself is started again. A worker whose modules cannot be imported waits for the next change of a file.
Data, key and runs stay under STEPWELL_HOME, so the next start goes on where this one ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Awaitable, Generator, Sequence

import psutil

from stepwell.cli.configuration import database_url, server_settings
from stepwell.cli.home import Home, Running
from stepwell.cli.reloading import changes
from stepwell.cli.supervised import MISUSED
from stepwell.cli.supervisor import Child, Delays, how_it_ended
from stepwell.cli.voices import Voices
from stepwell.client.connection import stepwell_home
from stepwell.engine.environments import authenticate, create_key, ensure_environment
from stepwell.errors import ConfigError, StepwellError
from stepwell.server.main import bound_socket, url_of
from stepwell.storage.database import Database
from stepwell.storage.embedded import EmbeddedPostgres
from stepwell.storage.migrations import migrate

ENVIRONMENT = "dev"
DRAIN = 3.0
"""Seconds that executing runs have to end when the worker is replaced; what has not ended goes on in the next one."""
_STOP_WITHIN = 8.0
_LOOK = 0.5


def run(modules: Sequence[str], *, port: int | None, reload: bool) -> None:
    """Until Ctrl-C or SIGTERM. Raises ConfigError (already-running, port-taken) and DatabaseUnavailable."""
    home = Home(stepwell_home().resolve())
    home.prepare()
    with home.held():
        asyncio.run(Development(home, modules, port=port, reload=reload).run())


class Development:
    """All that runs, and what is known of it."""

    def __init__(self, home: Home, modules: Sequence[str], *, port: int | None, reload: bool) -> None:
        url = database_url()
        self._home = home
        self._modules = list(modules)
        self._reload = reload
        self._voices = Voices()
        self._settings = server_settings({"database_url": url or "-"} | ({} if port is None else {"port": port}))
        self._embedded = EmbeddedPostgres(home.folder) if url is None else None
        self._database_url = url or ""
        self._api_key = ""
        self._url = ""
        self._pids = {"dev": os.getpid()}
        self._stop = asyncio.Event()
        self._changed = asyncio.Event()
        self._worker_over = asyncio.Event()
        self._workers = 0

    async def run(self) -> None:
        """Start all, keep it running, end it."""
        with self._signals():
            with bound_socket(self._settings.host, self._settings.port) as free:
                self._url = url_of(free)
            try:
                await self._open_database()
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._keep_server())
                    group.create_task(self._keep_worker())
                    watchers = [group.create_task(self._keep_postgres()), group.create_task(self._watch_files())]
                    await self._stop.wait()
                    for watcher in watchers:
                        watcher.cancel()
            except* StepwellError as errors:
                raise errors.exceptions[0] from None
            finally:
                if self._embedded is not None:
                    self._embedded.stop()
        self._voices.say("dev", "stopped")

    @contextlib.contextmanager
    def _signals(self) -> Generator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._asked_to_stop)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    def _asked_to_stop(self) -> None:
        """The second time nobody is waited for: the kernel ends our children with us."""
        if self._stop.is_set():
            self._home.file.unlink(missing_ok=True)
            os._exit(130)
        self._voices.say("dev", "stopping; what has not ended goes on at the next start")
        self._stop.set()

    def _announce(self) -> None:
        self._home.announce(
            Running(url=self._url, api_key=self._api_key, database_url=self._database_url, pids=self._pids)
        )

    # ── Postgres ─────────────────────────────────────────────────────────────

    async def _open_database(self) -> None:
        self._voices.say("dev", f"starting; everything is kept in {self._home.folder}", "dim")
        if self._embedded is not None:
            self._database_url = await self._embedded.start_async()
            self._note_postgres()
        await migrate(self._settings.database_direct_url or self._database_url)
        async with await Database.connect(self._database_url, max_size=1, application_name="stepwell dev") as database:
            self._api_key = await self._key(database)

    async def _key(self, database: Database) -> str:
        """The one of last time, if this database knows it; so that what others were given stays valid."""
        stored = self._home.stored_key()
        found = None if stored is None else await authenticate(database, stored)
        if stored is not None and found is not None and found.slug == ENVIRONMENT:
            return stored
        environment = await ensure_environment(database, ENVIRONMENT)
        key, _ = await create_key(database, environment, name="stepwell dev")
        self._home.store_key(key)
        return key

    def _note_postgres(self) -> None:
        if self._embedded is not None and self._embedded.pid is not None:
            self._pids["postgres"] = self._embedded.pid

    async def _keep_postgres(self) -> None:
        while self._embedded is not None:
            await asyncio.sleep(_LOOK)
            if not _alive(self._embedded.pid):
                self._voices.say("postgres", "died; it is started again")
                await self._embedded.start_async()
                self._note_postgres()
                self._announce()

    # ── server ───────────────────────────────────────────────────────────────

    async def _keep_server(self) -> None:
        delays = Delays()
        while not self._stop.is_set():
            child = await Child.start(["server"], self._server_environment(), self._voices.of("server"))
            delays.started()
            self._pids["server"] = child.pid
            with contextlib.ExitStack() as stack:
                stack.callback(child.kill)
                stack.callback(asyncio.create_task(self._greet(child)).cancel)
                if await first(self._worker_over.wait(), child.ended()) == 0:
                    await child.stop(_STOP_WITHIN)
                    return
            code = await child.ended()
            if code == MISUSED:
                raise ConfigError(
                    "the server cannot start", hint="what it said above says why", code="server-not-started"
                )
            self._voices.say("server", f"{how_it_ended(code)}; it is started again", "red")
            await within(delays.next(), self._stop.wait())

    def _server_environment(self) -> dict[str, str]:
        return (
            {"STEPWELL_LOG_LEVEL": "warning", "STEPWELL_LOG_FORMAT": "text"}
            | dict(os.environ)
            | {
                "STEPWELL_DATABASE_URL": self._database_url,
                "STEPWELL_HOST": self._settings.host,
                "STEPWELL_PORT": self._url.rpartition(":")[2],
            }
        )

    async def _greet(self, child: Child) -> None:
        if await child.ready() is not None:
            self._announce()
            self._voices.say("dev", f"ready at {self._url}  (key and more in {self._home.file})", "bold green")

    # ── worker ───────────────────────────────────────────────────────────────

    async def _keep_worker(self) -> None:
        delays = Delays()
        try:
            while not self._stop.is_set():
                self._changed.clear()
                child = await self._start_worker()
                delays.started()
                with contextlib.ExitStack() as stack:
                    stack.callback(child.kill)
                    stack.callback(asyncio.create_task(self._tell_tasks(child)).cancel)
                    what = await first(child.ended(), self._changed.wait(), self._stop.wait())
                    if what != 0:
                        await child.stop(DRAIN + _STOP_WITHIN)
                        continue
                await self._worker_ended(await child.ended(), delays)
        finally:
            self._worker_over.set()

    async def _start_worker(self) -> Child:
        self._workers += 1
        child = await Child.start(["worker", *self._modules], self._worker_environment(), self._voices.of("worker"))
        self._pids["worker"] = child.pid
        if self._home.file.exists():
            self._announce()
        return child

    async def _worker_ended(self, code: int, delays: Delays) -> None:
        """By itself."""
        if code == MISUSED:
            self._voices.say("dev", "waiting for a change; the server goes on and runs wait", "yellow")
            await first(self._changed.wait(), self._stop.wait())
            return
        delay = delays.next()
        self._voices.say("worker", f"{how_it_ended(code)}; it is started again in {delay:g} s", "red")
        await within(delay, first(self._changed.wait(), self._stop.wait()))

    async def _tell_tasks(self, child: Child) -> None:
        told = await child.ready()
        if told is not None:
            self._voices.say("worker", f"ready, tasks: {', '.join(json.loads(told))}", "green")

    def _worker_environment(self) -> dict[str, str]:
        """User code runs in it: so nothing of the database is in it."""
        ours = {"STEPWELL_DATABASE_URL", "STEPWELL_DATABASE_DIRECT_URL"}
        inherited = {name: value for name, value in os.environ.items() if name not in ours}
        return (
            {"STEPWELL_DRAIN_GRACE": str(DRAIN), "STEPWELL_NAME": f"dev-{self._workers}"}
            | inherited
            | {
                "STEPWELL_URL": self._url,
                "STEPWELL_API_KEY": self._api_key,
            }
        )

    async def _watch_files(self) -> None:
        if not self._reload:
            return
        async for names in changes(self._modules):
            if not self._changed.is_set():
                self._voices.say("dev", f"{', '.join(names)} changed: the worker is replaced")
                self._changed.set()


async def first(*awaited: Awaitable[object]) -> int:
    """Which of them is over first, by its place; the others are canceled."""
    tasks = [asyncio.ensure_future(each) for each in awaited]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
    return next(number for number, task in enumerate(tasks) if task in done)


async def within(seconds: float, awaited: Awaitable[object]) -> None:
    """Until then, or so many seconds."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(awaited, seconds)


def _alive(pid: int | None) -> bool:
    try:
        return pid is not None and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
