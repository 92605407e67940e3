"""The workers' side of the server: greets them, and knows which of them holds which run."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterable, Mapping
from functools import partial
from typing import Any

import structlog
from starlette.websockets import WebSocket, WebSocketDisconnect

from stepwell.engine import heartbeat, permits, register, tokens
from stepwell.errors import ApiError, StepwellError
from stepwell.model.environment import Environment
from stepwell.model.permit import PermitAnswer
from stepwell.model.token import TokenOutcome
from stepwell.model.trigger import Triggered, TriggerRequest
from stepwell.protocol import frames
from stepwell.protocol.frames import CancelRun, Draining, Hello, LeaseLostNotice, TokenLink, Welcome
from stepwell.server.awaited import Awaited
from stepwell.server.claimer import Claimer, give_back
from stepwell.server.connection import Connection, send_now
from stepwell.server.hints import Hints
from stepwell.server.outcomes import Outcomes
from stepwell.server.requested import ENDINGS, Requests, Written
from stepwell.server.settings import Settings
from stepwell.storage.database import Database

HELLO_SECONDS = 10.0
# Reasons to close a worker's connection; 4000 and above is the application's own range.
BAD_MESSAGE = 4400
REPLACED = 4409
REFUSED = 4422
TRY_AGAIN = 1013
_log = structlog.get_logger("stepwell.gateway")


class Gateway:
    """All connections of this process. Any number of servers can run side by side: they share nothing but Postgres."""

    def __init__(self, db: Database, settings: Settings, hints: Hints) -> None:
        self._db = db
        self._settings = settings
        self._hints = hints
        self._connections: dict[str, Connection] = {}
        self._claimers: dict[str, tuple[Claimer, asyncio.Task[None]]] = {}
        poll = settings.poll
        self._public_url = (settings.public_url or f"http://{settings.host}:{settings.port}").rstrip("/")
        self._outcomes = Outcomes(db, poll)
        self._children = self._outcomes.awaited
        self._tokens = Awaited("tokens", db, poll, tokens.closed_tokens, _tokens_closed)
        self._permits = Awaited("permits", db, poll, permits.answers, _permits_answered)
        self._awaited = (self._children, self._tokens, self._permits)
        self._watches: list[asyncio.Task[None]] = []
        self._looking: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Gateway:
        self._watches = [asyncio.create_task(each.run(), name="stepwell-awaited") for each in self._awaited]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._outcomes.close()
        tasks = [*self._watches, *self._looking, *(task for _, task in self._claimers.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def workers(self) -> int:
        return len(self._connections)

    def is_held(self, environment_id: str, run_id: str) -> bool:
        """Whether a worker that is connected here has the run: as far as is known here, it has not ended."""
        return any(run_id in each.held and each.environment_id == environment_id for each in self._connections.values())

    async def serve(self, websocket: WebSocket, environment: Environment) -> None:
        """One worker, from its hello to the end of its connection."""
        await websocket.accept()
        with contextlib.suppress(WebSocketDisconnect):
            connection = await self._greet(websocket, environment)
            if connection is not None:
                await self._attend(connection)

    def drain(self) -> None:
        """Ask all workers to go elsewhere."""
        for connection in self._connections.values():
            connection.leaving = True
            connection.push(Draining())

    # ── hints ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def work_came(self, environment_id: str | None = None) -> None:
        """Some runs may be claimable now, in one environment or in any."""
        for key, (claimer, _) in self._claimers.items():
            if environment_id in (None, key):
                claimer.work_came()

    async def offer(self, environment_id: str, request: TriggerRequest) -> Triggered | StepwellError | None:
        """Trigger a run for a worker here that has little to do. None: there is none, and nothing was done."""
        claimer = self._claimers.get(environment_id)
        return await claimer[0].offer(request) if claimer is not None else None

    def tokens_closed(self) -> None:
        self._tokens.wake()

    def children_ended(self) -> None:
        self._children.wake()
        self._permits.wake()

    def look_at(self, run_ids: Iterable[str] | None) -> None:
        """Something happened to these runs, or to any: tell the workers that hold one what was taken from them."""
        wanted = None if run_ids is None else set(run_ids)
        for connection in self._connections.values():
            leases = [lease for lease in connection.held.items() if wanted is None or lease[0] in wanted]
            if leases:
                self._begin(self._find_revoked(connection, leases))

    def _begin(self, looking: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(looking)
        self._looking.add(task)
        task.add_done_callback(self._looking.discard)

    async def _find_revoked(self, connection: Connection, leases: list[tuple[str, int]]) -> None:
        try:
            reply = await heartbeat.revoked(self._db, connection.worker_id, leases)
        except StepwellError as error:
            _log.warning("cannot look after leases", reason=error.message)  # a heartbeat tells the worker too
            return
        for run_id, grace in reply.canceling:
            if run_id in connection.held:
                connection.push(CancelRun(run_id, connection.held[run_id], grace))
        for run_id in reply.lost:
            epoch = connection.held.pop(run_id, None)
            if epoch is not None:
                connection.push(LeaseLostNotice(run_id, epoch))

    # ── one connection ───────────────────────────────────────────────────────────────────────────────────────────────

    async def _greet(self, websocket: WebSocket, environment: Environment) -> Connection | None:
        """Read the hello, register the worker, welcome it. None if it was turned away."""
        try:
            hello = await _hello(websocket)
            registered = await register.register_worker(self._db, environment.id, hello)
        except StepwellError as error:
            code = REFUSED if isinstance(error, ApiError) or error.code == "config-error" else TRY_AGAIN
            _log.warning("worker turned away", code=error.code, reason=error.message)
            await websocket.close(code, f"{error.code}: {error.message}"[:120])
            return None
        settings = self._settings
        welcome = Welcome(hello.worker_id, registered.environment, settings.lease, settings.heartbeat, registered.now)
        lost = set(registered.lost)
        notices = [LeaseLostNotice(run_id, epoch) for run_id, epoch in hello.held if run_id in lost]
        await send_now(websocket, welcome, *notices)
        connection = Connection(websocket, environment.id, hello)
        for run_id in lost:
            connection.held.pop(run_id, None)
        return connection

    async def _attend(self, connection: Connection) -> None:
        """Read, send and commit for a worker until one of these ends; then give back what it never got."""
        previous = self._connections.get(connection.worker_id)
        if previous is not None:
            previous.closed.set()
        self._connections[connection.worker_id] = connection
        self._claimer_of(connection).add(connection)
        requests = Requests(self._db, connection, self._committed, self._hints.completed)
        _log.info("worker connected", worker=connection.worker_id, held=len(connection.held))
        tasks = [
            asyncio.create_task(self._read(connection, requests), name="read"),
            asyncio.create_task(connection.send_forever(), name="send"),
            asyncio.create_task(requests.run(), name="commit"),
            asyncio.create_task(connection.given_up(), name="closed"),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            await self._close(connection, done)
        finally:
            connection.closed.set()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._forget(connection)
            await give_back(self._db, connection.worker_id, connection.undelivered())
            _log.info("worker disconnected", worker=connection.worker_id, held=len(connection.held))

    async def _read(self, connection: Connection, requests: Requests) -> None:
        while True:
            message = frames.from_worker.decode(await connection.websocket.receive_bytes())
            for frame in message:
                match frame:
                    case frames.Request():
                        requests.take(frame)
                    case frames.Room(add=add):
                        connection.room = max(0, connection.room + add)
                        self._claimers[connection.environment_id][0].room_came(connection)
                    case frames.AwaitChildren(run_id=run_id, epoch=epoch, spawn_keys=names):
                        # What is awaited may be on its way to the database still, here as in the next two.
                        requests.afterwards(run_id, partial(self._children.add, connection, run_id, epoch, names))
                    case frames.AwaitTokens(run_id=run_id, epoch=epoch, token_ids=names):
                        requests.afterwards(run_id, partial(self._tokens.add, connection, run_id, epoch, names))
                    case frames.AwaitPermits(run_id=run_id, epoch=epoch, keys=names):
                        requests.afterwards(run_id, partial(self._permits.add, connection, run_id, epoch, names))
                    case frames.AskLink(run_id=run_id, token_id=token_id):
                        self._begin(self._tell_link(connection, run_id, token_id))
                    case Hello():
                        raise ValueError("a second hello")

    async def _tell_link(self, connection: Connection, run_id: str, token_id: str) -> None:
        """A link is a permission to answer, which a worker's key is too."""
        try:
            url = await tokens.page_link(self._db, self._public_url, connection.environment_id, token_id)
        except StepwellError as error:
            _log.warning("cannot look for a token", reason=error.message)  # the step asks again
            return
        connection.push(TokenLink(run_id, token_id, url))

    def _committed(self, connection: Connection, frame: Written) -> None:
        """Who watches the run here sees each entry and line; what else follows from it is announced by its commit."""
        if not isinstance(frame, ENDINGS):
            self._hints.announce_entry(frame.run_id)
            return
        if connection.held.get(frame.run_id) == frame.epoch:
            del connection.held[frame.run_id]
        self._hints.announce([frame.run_id])

    async def _close(self, connection: Connection, done: set[asyncio.Task[None]]) -> None:
        """Say why, if the worker is not the one who left."""
        for task in done:
            error = task.exception()
            if isinstance(error, WebSocketDisconnect):
                return
            if isinstance(error, ValueError):  # msgspec's errors are ValueErrors too
                _log.warning("unreadable message", worker=connection.worker_id, reason=str(error))
                await connection.websocket.close(BAD_MESSAGE, str(error)[:120])
            elif error is not None:
                _log.error("connection failed", worker=connection.worker_id, exc_info=error)
                await connection.websocket.close(TRY_AGAIN)
            else:
                await connection.websocket.close(REPLACED, "too slow, or connected anew")

    def _claimer_of(self, connection: Connection) -> Claimer:
        if connection.environment_id not in self._claimers:
            claimer = Claimer(self._db, connection.environment_id, self._settings.lease, self._settings.poll)
            task = asyncio.create_task(claimer.run(), name=f"stepwell-claimer {connection.environment_id}")
            self._claimers[connection.environment_id] = claimer, task
        return self._claimers[connection.environment_id][0]

    def _forget(self, connection: Connection) -> None:
        if self._connections.get(connection.worker_id) is connection:
            del self._connections[connection.worker_id]
        for each in (*self._awaited, self._outcomes):
            each.forget(connection)
        claimer, task = self._claimers[connection.environment_id]
        if claimer.remove(connection):
            task.cancel()
            del self._claimers[connection.environment_id]


def _tokens_closed(connection: Connection, run_id: str, closed: Mapping[str, TokenOutcome]) -> None:
    connection.push(frames.TokensClosed(run_id, list(closed.values())))


def _permits_answered(connection: Connection, run_id: str, answers: Mapping[str, PermitAnswer]) -> None:
    connection.push(frames.PermitsAnswered(run_id, list(answers.values())))


async def _hello(websocket: WebSocket) -> Hello:
    """Raises ApiError when the first message is anything else, or none comes."""
    try:
        async with asyncio.timeout(HELLO_SECONDS):
            message = frames.from_worker.decode(await websocket.receive_bytes())
    except TimeoutError:
        raise ApiError(f"no hello within {HELLO_SECONDS:g} s", code="invalid-request") from None
    except (ValueError, KeyError) as error:
        raise ApiError(f"unreadable hello: {error}", code="invalid-request") from None
    if len(message) != 1 or not isinstance(message[0], Hello):
        raise ApiError("a worker's first message is its hello alone", code="invalid-request")
    hello = message[0]
    if hello.protocol != frames.PROTOCOL_VERSION:
        raise ApiError(
            f"worker {hello.version} speaks protocol {hello.protocol}, this server {frames.PROTOCOL_VERSION}",
            hint="use the same version of Stepwell on both sides",
            code="protocol-version",
        )
    return hello
