"""Runs one server process from start to drained end."""

from __future__ import annotations

import asyncio
import gc
import signal
import socket
from collections.abc import Callable
from types import FrameType

import msgspec
import structlog
import uvicorn

from stepwell.errors import ConfigError
from stepwell.server.app import create_app
from stepwell.server.backend import Backend, open_backend
from stepwell.server.onewrite import OneWrite
from stepwell.server.records import configure_log
from stepwell.server.settings import Settings

# The largest message of a worker: an output of the largest size, with room for what travels beside it.
LARGEST_MESSAGE = 64 * 1024 * 1024
_log = structlog.get_logger("stepwell.server")


def serve(settings: Settings, *, ready: Callable[[str], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then drain and return. `ready` is called with the URL once requests are answered.

    Raises ConfigError: `port-taken`, a database that is not there, not migrated or too new.
    """
    configure_log(settings.log_level, settings.log_format)
    with (
        bound_socket(settings.host, settings.port) as listening,
        asyncio.Runner(loop_factory=_loop_factory()) as runner,
    ):
        runner.run(_serve(settings, listening, ready))


async def _serve(settings: Settings, listening: socket.socket, ready: Callable[[str], None] | None) -> None:
    url = url_of(listening)
    if settings.public_url is None:
        settings = msgspec.structs.replace(settings, public_url=url)
    async with open_backend(settings) as backend:
        server = DrainingServer(_uvicorn_config(backend), backend, url, ready)
        await server.serve(sockets=[listening])
    _log.info("stopped")


def _uvicorn_config(backend: Backend) -> uvicorn.Config:
    return uvicorn.Config(
        create_app(backend),
        http=OneWrite,
        ws="websockets-sansio",
        ws_per_message_deflate=False,  # payloads are compressed already where it is worth it
        ws_max_size=LARGEST_MESSAGE,
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=75,  # longer than workers pause between heartbeats
        timeout_graceful_shutdown=max(1, round(backend.settings.shutdown)),
    )


class DrainingServer(uvicorn.Server):
    """First signal: not ready, workers sent elsewhere, closed after `drain` seconds. Second signal: closed."""

    def __init__(
        self, config: uvicorn.Config, backend: Backend, url: str, ready: Callable[[str], None] | None = None
    ) -> None:
        super().__init__(config)
        self._backend = backend
        self._url = url
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        gc.collect()
        gc.freeze()  # what lives as long as the server is not looked through again and again while requests wait
        _log.info("serving", url=self._url)
        if self._ready is not None:
            self._ready(self._url)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal handler. Unlike uvicorn's own it does not raise the signal again: a drained end is exit 0."""
        if self._backend.draining or sig not in {signal.SIGINT, signal.SIGTERM}:
            self.should_exit = True
            self.force_exit = self.force_exit or self._backend.draining
            return
        self._backend.loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        _log.info("draining", seconds=self._backend.settings.drain)
        self._backend.drain()
        self._backend.loop.call_later(self._backend.settings.drain, self._exit)

    def _exit(self) -> None:
        self.should_exit = True


def bound_socket(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ConfigError: the port is taken, or the host is not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(1024)
    except OSError as error:
        listening.close()
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error.strerror or error}",
            hint="another process has it: end that one, or choose another port (--port, STEPWELL_PORT)",
            code="port-taken",
        ) from error
    listening.setblocking(False)
    return listening


def url_of(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # not made for Windows
        return None
    return uvloop.new_event_loop
