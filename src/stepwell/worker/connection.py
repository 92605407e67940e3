"""The one WebSocket to the server: kept up for ever, everything queued leaves as one message.

aiohttp takes longer to import than all of the worker. So that is done in `prepare`, while another process imports the
user's modules.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import random
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from stepwell.errors import ConfigError, Unauthorized
from stepwell.primitives.backoff import backoff_delay
from stepwell.protocol import frames
from stepwell.protocol.frames import Frame, Hello, Welcome
from stepwell.worker.companions import HOLD, Companions

if TYPE_CHECKING:
    import aiohttp

PATH = "/api/v1/worker"
MESSAGE = 1024 * 1024
"""Bytes after which a message is full; a larger frame travels alone."""
REFUSED = 4422
"""The server's close code for a hello that will never be welcome."""
_FIRST_DELAY, _LONGEST_DELAY = 0.5, 15.0
_STEADY_SECONDS = 5.0
"""A connection that lasted so long did not fail."""
_WELCOME_SECONDS = 30.0
_KEEPALIVE = 20.0

_log = logging.getLogger("stepwell.worker")
_encoder = msgspec.msgpack.Encoder()


class TurnedAway(Exception):
    """This attempt to connect failed; the next one may not."""


class Connection:
    """`hello` makes the first frame of each connection, `welcomed` gets its answer and when it was asked for,
    `receive` every later frame. What is queued waits for `companions`, a few milliseconds at most."""

    def __init__(
        self,
        url: str,
        api_key: str,
        hello: Callable[[], Hello],
        welcomed: Callable[[Welcome, float], None],
        receive: Callable[[frames.ToWorker], None],
        companions: Companions,
    ) -> None:
        self._url = url.rstrip("/") + PATH
        self._api_key = api_key
        self._hello = hello
        self._welcomed = welcomed
        self._receive = receive
        self._companions = companions
        self._held: asyncio.TimerHandle | None = None  # what is queued waits for companions until then
        self._queued: deque[bytes] = deque()
        self._something = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self._websocket: aiohttp.ClientWebSocketResponse | None = None
        self._was_connected = False
        self.connected = False

    @staticmethod
    def prepare() -> None:
        """Have the library ready for `run`."""
        importlib.import_module("aiohttp")

    def send(self, frame: Frame) -> bool:
        """Queue a frame. False, and nothing is kept, while there is no connection."""
        if self.connected:
            self._queued.append(_encoder.encode(frame))
            self._empty.clear()
            if not self._companions.are_coming():
                self._something.set()
            elif self._held is None:
                self._held = asyncio.get_running_loop().call_later(HOLD, self._something.set)
        return self.connected

    async def run(self) -> None:
        """Connect, and connect again, for ever.

        Raises:
            Unauthorized: the server does not know the key. ConfigError: it will never welcome this worker. Both only
                before the first welcome; later the worker goes on trying: it may hold results.
        """
        import aiohttp

        failures = 0
        headers = {"Authorization": f"Bearer {self._api_key}"}
        async with aiohttp.ClientSession(headers=headers) as session:
            while True:
                began = time.monotonic()
                try:
                    await self._connect(session)
                    failures = 0 if time.monotonic() - began > _STEADY_SECONDS else failures + 1
                except (aiohttp.ClientError, OSError, TimeoutError, TurnedAway) as error:
                    failures += 1
                    if failures in (1, 10, 100):
                        _log.warning(
                            "no connection to %s (%d in a row): %s", self._url, failures, error or type(error).__name__
                        )
                delay = backoff_delay(max(1, failures), 2, _FIRST_DELAY, _LONGEST_DELAY, random=random.random())
                await asyncio.sleep(delay)

    async def close(self) -> None:
        """Leave this connection; `run` makes another one."""
        if self._websocket is not None:
            await self._websocket.close()

    async def flushed(self) -> None:
        """Returns once everything queued is sent, or there is no connection to send it on."""
        await self._empty.wait()

    async def _connect(self, session: aiohttp.ClientSession) -> None:
        """One connection, from the handshake to its end."""
        import aiohttp

        try:
            websocket = await session.ws_connect(
                self._url,
                heartbeat=_KEEPALIVE,
                max_msg_size=0,
                compress=0,
                timeout=aiohttp.ClientWSTimeout(ws_close=2.0),  # pyright: ignore[reportCallIssue] - an attrs class
            )
        except aiohttp.WSServerHandshakeError as error:
            if error.status in (401, 403) and not self._was_connected:
                raise Unauthorized(
                    f"{self._url} does not accept this API key (it answered {error.status})",
                    hint="set STEPWELL_API_KEY to a key of the environment that this worker shall work for",
                    status=error.status,
                ) from None
            raise
        async with websocket:
            self._websocket = websocket
            asked_at = time.monotonic()
            await websocket.send_bytes(frames.pack([self._hello()]))
            first, *rest = await self._first_message(websocket)
            if not isinstance(first, Welcome):
                raise TurnedAway(f"the server's first frame was {type(first).__name__}, not a welcome")
            self._queued.clear()
            self.connected = self._was_connected = True
            try:
                self._welcomed(first, asked_at)
                for frame in rest:
                    self._receive(frame)
                await self._attend(websocket)
            finally:
                self.connected = False
                self._websocket = None
                self._queued.clear()
                self._hold_no_more()
                self._empty.set()

    async def _first_message(self, websocket: aiohttp.ClientWebSocketResponse) -> list[frames.ToWorker]:
        from aiohttp import WSMsgType

        message = await websocket.receive(_WELCOME_SECONDS)
        if message.type is WSMsgType.BINARY:
            return frames.to_worker.decode(message.data)
        if message.type is WSMsgType.CLOSE and message.data == REFUSED and not self._was_connected:
            code, _, reason = str(message.extra).partition(": ")
            raise ConfigError(f"the server refused this worker: {reason or code}", code=code if reason else None)
        raise TurnedAway(f"the server closed the connection ({message.data}): {message.extra}")

    async def _attend(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        from aiohttp import WSMsgType

        writer = asyncio.create_task(self._write_forever(websocket), name="stepwell-writer")
        try:
            async for message in websocket:
                if message.type is WSMsgType.BINARY:
                    for frame in frames.to_worker.decode(message.data):
                        self._receive(frame)
            if websocket.close_code is not None:  # else it was closed from here
                _log.info("connection closed by the server (%s)", websocket.close_code)
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)

    async def _write_forever(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        while True:
            await self._something.wait()
            self._something.clear()
            self._hold_no_more()
            self._companions.sent()
            while self._queued:
                await websocket.send_bytes(self._message())
            self._empty.set()

    def _hold_no_more(self) -> None:
        if self._held is not None:
            self._held.cancel()
            self._held = None

    def _message(self) -> bytes:
        parts: list[msgspec.Raw] = []
        size = 0
        while self._queued and (not parts or size + len(self._queued[0]) <= MESSAGE):
            encoded = self._queued.popleft()
            parts.append(msgspec.Raw(encoded))
            size += len(encoded)
        return _encoder.encode(parts)
