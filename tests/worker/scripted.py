"""The server's side of a worker's connection as a test says it: a real WebSocket and real HTTP on loopback."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec
from aiohttp import WSMsgType, web

from stepwell.model.retry import RetryPolicy
from stepwell.model.task import DEFAULT_MEMORY, Isolation
from stepwell.primitives.ids import new_id
from stepwell.protocol import frames
from stepwell.protocol.frames import Heartbeat, HeartbeatReply, StartAttempt

F = TypeVar("F")
PATIENCE = 20.0
KEY = "tr_dev_a-key-for-tests"


class ScriptedServer:
    """Answers every request with Done unless told otherwise. `said` is everything workers have said, in order."""

    def __init__(self) -> None:
        self.url = ""
        self.hellos: list[frames.Hello] = []
        self.said: list[Any] = []
        self.requests: list[frames.Request] = []
        self.messages: list[list[Any]] = []
        self.heartbeats: list[Heartbeat] = []
        self.room = 0
        self.lease = 30.0
        self.heartbeat_seconds = 10.0
        self.lost: set[str] = set()
        self.unheld: list[tuple[str, int]] = []
        self.canceled: set[str] = set()
        self.answering = True
        self.heartbeat_status = 200
        self.refusals: dict[type[Any], tuple[str, bool]] = {}
        self._epochs = itertools.count(1)
        self._socket: web.WebSocketResponse | None = None
        self._changed = asyncio.Condition()
        self._runner: web.AppRunner | None = None
        self._port = 0

    async def __aenter__(self) -> ScriptedServer:
        await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.go_away()

    async def listen(self) -> None:
        app = web.Application()
        app.router.add_get("/api/v1/worker", self._serve)
        app.router.add_post("/api/v1/worker/heartbeat", self._beat)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self._port}"

    async def go_away(self) -> None:
        """Stop listening, and cut the connection."""
        if self._socket is not None:
            await self._socket.close()
        if self._runner is not None:
            await self._runner.cleanup()

    async def cut(self) -> None:
        """Cut the connection; the worker may come again."""
        assert self._socket is not None
        await self._socket.close()

    # ── saying ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def start(self, task_id: str, payload: dict[str, Any] | None = None, **given: Any) -> str:
        """Hand a run (`frame`) to the worker, once it has room."""
        start = self.frame(task_id, payload, **given)
        await self.start_together(start)
        return start.run_id

    async def start_together(self, *starts: StartAttempt) -> None:
        """Hand these runs to the worker in one message, once it has room for all."""
        await self.until(lambda: self.room >= len(starts), "room")
        self.room -= len(starts)
        await self.say(*starts)

    def frame(
        self,
        task_id: str,
        payload: dict[str, Any] | None = None,
        *,
        run_id: str | None = None,
        epoch: int | None = None,
        isolation: Isolation = "process",
        memory: int = DEFAULT_MEMORY,
        warm: bool = True,
        duration_left: float | None = None,
        attempt_left: float | None = None,
        journal: list[Any] | None = None,
        age: float = 0.0,
    ) -> StartAttempt:
        """A claimed run. age: seconds since it was claimed."""
        return StartAttempt(
            run_id=run_id or new_id("run"),
            task_id=task_id.replace("_", "-"),  # as the SDK derives it from the function
            epoch=epoch or next(self._epochs),
            attempt=1,
            payload=json.dumps(payload or {}).encode(),
            payload_type="application/json",
            started_at=time.time(),
            now=time.time() - age,
            lease_seconds=self.lease,
            retry=RetryPolicy(),
            journal=journal or [],
            isolation=isolation,
            memory=memory,
            warm=warm,
            duration_left=duration_left,
            attempt_left=attempt_left,
        )

    async def say(self, *said: frames.Frame) -> None:
        assert self._socket is not None
        await self._socket.send_bytes(frames.pack(list(said)))

    # ── hearing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def until(self, condition: Callable[[], Any], what: str = "it") -> Any:
        """Wait for something that the worker says; looked at after every message."""
        async with self._changed:
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._changed.wait_for(condition)
            except TimeoutError:
                raise AssertionError(f"waited {PATIENCE:g} s for {what}; said were: {self.said[-8:]}") from None
        return condition()

    async def heard(self, kind: type[F], run_id: str) -> F:
        """The first frame of this kind about this run."""
        return await self.until(lambda: self.first(kind, run_id), f"{kind.__name__} of {run_id}")

    def all(self, kind: type[F], run_id: str) -> list[F]:
        return [frame for frame in self.said if isinstance(frame, kind) and frame.run_id == run_id]  # type: ignore[attr-defined]

    def first(self, kind: type[F], run_id: str) -> F | None:
        return next(iter(self.all(kind, run_id)), None)

    async def finished(self, run_id: str) -> frames.Finish:
        return await self.heard(frames.Finish, run_id)

    async def output(self, run_id: str) -> Any:
        finish = await self.finished(run_id)
        assert finish.failure is None, finish.failure
        assert finish.output is not None
        return json.loads(finish.output)

    def lines(self, run_id: str, stream: str | None = None) -> list[str]:
        """What the run has said as log lines until now."""
        records = [record for frame in self.all(frames.WriteLogs, run_id) for record in frame.records]
        return [record.message for record in records if stream in (None, record.stream)]

    async def step_value(self, run_id: str, name: str) -> frames.WriteJournal:
        """The write in which the checkpoint of this step is."""

        def found() -> frames.WriteJournal | None:
            writes = self.all(frames.WriteJournal, run_id)
            return next((write for write in writes if any(name in entry.key for entry in write.entries)), None)

        return await self.until(found, f"checkpoint {name} of {run_id}")

    # ── the wire ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return web.Response(status=401)
        socket = web.WebSocketResponse(max_msg_size=0)
        await socket.prepare(request)
        async for message in socket:
            if message.type is WSMsgType.BINARY:
                self.messages.append(frames.from_worker.decode(message.data))
                for frame in self.messages[-1]:
                    await self._hear(socket, frame)
                async with self._changed:
                    self._changed.notify_all()
        return socket

    async def _hear(self, socket: web.WebSocketResponse, frame: Any) -> None:
        if isinstance(frame, frames.Hello):
            self.hellos.append(frame)
            self._socket = socket
            self.room = 0
            welcome = frames.Welcome(frame.worker_id, "dev", self.lease, self.heartbeat_seconds, time.time())
            await socket.send_bytes(frames.pack([welcome]))
        elif isinstance(frame, frames.Room):
            self.room += frame.add
        elif isinstance(frame, frames.Request):
            self.requests.append(frame)
            self.said.append(frame.frame)
            if self.answering:
                await self._answer(socket, frame)
        else:
            self.said.append(frame)

    async def _answer(self, socket: web.WebSocketResponse, request: frames.Request) -> None:
        code, retryable = self.refusals.get(type(request.frame), ("", False))
        answer = frames.Refused(request.id, code, f"refused: {code}", retryable) if code else frames.Done(request.id)
        if not socket.closed:
            await socket.send_bytes(frames.pack([answer]))

    async def _beat(self, request: web.Request) -> web.Response:
        if self.heartbeat_status != 200:
            return web.Response(status=self.heartbeat_status)
        beat = msgspec.json.decode(await request.read(), type=Heartbeat)
        self.heartbeats.append(beat)
        held = {run_id for run_id, _ in beat.leases}
        reply = HeartbeatReply(time.time(), sorted(self.lost & held), sorted(self.canceled & held), self.unheld)
        async with self._changed:
            self._changed.notify_all()
        return web.Response(body=msgspec.json.encode(reply), content_type="application/json")


@asynccontextmanager
async def scripted_server() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as server:
        yield server
