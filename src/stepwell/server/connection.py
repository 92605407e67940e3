"""One worker's WebSocket: what it can take, what it holds, and what waits to be sent to it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

import msgspec
from starlette.websockets import WebSocket

from stepwell.protocol.frames import Frame, Hello, StartAttempt, pack

MESSAGE = 1024 * 1024
"""Bytes after which a message is full; a larger frame travels alone."""
BUSY = 8 * 1024 * 1024
"""Bytes waiting to be sent after which the worker gets no new runs."""
STUCK = 256 * 1024 * 1024
"""Bytes waiting to be sent after which the connection is given up: its worker does not read."""

_encoder = msgspec.msgpack.Encoder()


class Connection:
    """Never blocks who pushes to it: a slow worker delays nobody else."""

    def __init__(self, websocket: WebSocket, environment_id: str, hello: Hello) -> None:
        self.websocket = websocket
        self.environment_id = environment_id
        self.worker_id = hello.worker_id
        self.task_ids = [task.id for task in hello.manifest.tasks]
        self.held: dict[str, int] = dict(hello.held)
        self.room = 0
        self.promised = 0  # runs that are being claimed for it
        self.leaving = False
        self.closed = asyncio.Event()
        self._outbox: deque[tuple[bytes, StartAttempt | None]] = deque()
        self._waiting = 0
        self._something = asyncio.Event()
        self._sent = asyncio.Event()

    @property
    def wants_runs(self) -> int:
        """How many runs it may be given now."""
        return 0 if self.leaving or self.closed.is_set() or self._waiting > BUSY else max(0, self.room - self.promised)

    def push(self, *frames: Frame) -> None:
        """Queue frames to be sent, in this order."""
        for frame in frames:
            encoded = _encoder.encode(frame)
            self._outbox.append((encoded, frame if isinstance(frame, StartAttempt) else None))
            self._waiting += len(encoded)
        self._something.set()
        if self._waiting > STUCK:
            self.closed.set()

    def start(self, attempts: Iterable[StartAttempt]) -> None:
        """Hand over claimed runs."""
        for attempt in attempts:
            self.held[attempt.run_id] = attempt.epoch
            self.room = max(0, self.room - 1)
            self.push(attempt)

    async def nearly_sent(self) -> None:
        """Return once little waits to be sent: for who has much to say, and reads it only when it can be sent."""
        while self._waiting > MESSAGE:
            self._sent.clear()
            await self._sent.wait()

    async def given_up(self) -> None:
        """Return once the connection is to be closed: replaced by a newer one, or not read by its worker."""
        await self.closed.wait()

    def undelivered(self) -> list[StartAttempt]:
        """Runs that were claimed for this worker and never left the server."""
        return [attempt for _, attempt in self._outbox if attempt is not None]

    async def send_forever(self) -> None:
        """Send what is queued, many frames in one message, as fast as the worker reads."""
        while True:
            await self._something.wait()
            message, count = self._message()
            await self.websocket.send_bytes(message)
            for _ in range(count):
                encoded, _ = self._outbox.popleft()
                self._waiting -= len(encoded)
            self._sent.set()
            if not self._outbox:
                self._something.clear()

    def _message(self) -> tuple[bytes, int]:
        parts: list[msgspec.Raw] = []
        size = 0
        for encoded, _ in self._outbox:
            if parts and size + len(encoded) > MESSAGE:
                break
            parts.append(msgspec.Raw(encoded))
            size += len(encoded)
        return _encoder.encode(parts), len(parts)


async def send_now(websocket: WebSocket, *frames: Frame) -> None:
    """Send without queueing; for a connection that is not set up yet."""
    await websocket.send_bytes(pack(list(frames)))
