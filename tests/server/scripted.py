"""A worker that does what the test says, over a real WebSocket."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any, TypeVar

import aiohttp

from stepwell.model.checkpoint import Checkpoint
from stepwell.model.task import Manifest, QueueDeclaration, TaskDeclaration
from stepwell.primitives.ids import new_id
from stepwell.protocol import frames
from stepwell.protocol.frames import (
    Done,
    Finish,
    Frame,
    Hello,
    Refused,
    Request,
    Room,
    StartAttempt,
    Welcome,
    WriteJournal,
)

SECONDS = 15
F = TypeVar("F", bound=Frame)


class ScriptedWorker:
    """Connects, says hello, and then only what it is told to. Frames not asked for yet are kept in `received`."""

    def __init__(self, url: str, key: str, *tasks: TaskDeclaration | str, queues: tuple[QueueDeclaration, ...] = ()):
        self._url = url
        self._key = key
        declared = tuple(TaskDeclaration(id=task) if isinstance(task, str) else task for task in tasks)
        self.manifest = Manifest(tasks=declared, queues=queues)
        self.worker_id = new_id("wrk")
        self.received: list[Frame] = []
        self._numbers = itertools.count(1)
        self._session: aiohttp.ClientSession | None = None
        self._socket: aiohttp.ClientWebSocketResponse | None = None

    async def connect(self, held: list[tuple[str, int]] | None = None) -> Welcome:
        self._session = aiohttp.ClientSession(headers={"authorization": f"Bearer {self._key}"})
        self._socket = await self._session.ws_connect(f"{self._url}/api/v1/worker", max_msg_size=0, compress=0)
        await self.send(
            Hello(
                worker_id=self.worker_id,
                name="scripted",
                pid=1,
                protocol=frames.PROTOCOL_VERSION,
                version="test",
                manifest=self.manifest,
                held=held or [],
            )
        )
        return await self.expect(Welcome)

    async def __aenter__(self) -> ScriptedWorker:
        await self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._socket is not None:
            await self._socket.close()
        await self.disconnect()

    async def disconnect(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def send(self, *given: Frame) -> None:
        assert self._socket is not None
        await self._socket.send_bytes(frames.pack(list(given)))

    async def send_bytes(self, message: bytes) -> None:
        assert self._socket is not None
        await self._socket.send_bytes(message)

    async def closed(self) -> int | None:
        """Wait until the server has closed the connection; the close code."""
        assert self._socket is not None
        async with asyncio.timeout(SECONDS):
            while True:
                message = await self._socket.receive()
                if message.type in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR}:
                    return self._socket.close_code
                if message.type is aiohttp.WSMsgType.CLOSING:
                    continue
                self.received += frames.to_worker.decode(message.data)

    async def expect(self, kind: type[F], fits: Callable[[F], bool] = lambda _: True, *, seconds: float = SECONDS) -> F:
        """The first frame of this kind that fits, received already or still to come."""
        assert self._socket is not None
        async with asyncio.timeout(seconds):
            while True:
                for frame in self.received:
                    if isinstance(frame, kind) and fits(frame):
                        self.received.remove(frame)
                        return frame
                message = await self._socket.receive()
                assert message.type is aiohttp.WSMsgType.BINARY, f"{message} while waiting for {kind.__name__}"
                self.received += frames.to_worker.decode(message.data)

    async def request(self, frame: Any) -> Done | Refused:
        """Ask for a write and wait for the answer."""
        number = await self.begin(frame)
        return await self.answer(number)

    async def begin(self, frame: Any, number: int | None = None) -> int:
        number = number or next(self._numbers)
        await self.send(Request(number, frame))
        return number

    async def answer(self, number: int) -> Done | Refused:
        return await self.expect(Done | Refused, lambda frame: frame.id == number)  # type: ignore[arg-type]

    async def start(self) -> StartAttempt:
        """Make room for one run and take it."""
        await self.send(Room(1))
        return await self.expect(StartAttempt)

    async def complete(self, attempt: StartAttempt, output: bytes = b'"done"') -> Done | Refused:
        return await self.request(Finish(attempt.run_id, attempt.epoch, output=output, output_type="application/json"))

    async def serve(
        self, runs: int, output: Callable[[StartAttempt], bytes] = lambda _: b'"done"'
    ) -> list[StartAttempt]:
        """Take so many runs and complete each at once."""
        done: list[StartAttempt] = []
        await self.send(Room(runs))
        for _ in range(runs):
            attempt = await self.expect(StartAttempt)
            answer = await self.complete(attempt, output(attempt))
            assert isinstance(answer, Done), answer
            done.append(attempt)
        return done


def entry(seq: int, key: str = "|work#0", body: bytes = b'j{"v":1}', at: float = 1.0) -> Checkpoint:
    """A checkpoint as an executor would store it."""
    return Checkpoint(seq=seq, key=key, kind="step", outcome="value", at=at, started=at, body=body, site="tasks.py:3")


def journal(attempt: StartAttempt, *entries: Checkpoint) -> WriteJournal:
    return WriteJournal(attempt.run_id, attempt.epoch, list(entries))
