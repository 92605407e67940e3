"""A worker: wires its parts together and runs them until it is told to stop.

`run(settings)` is the whole process for `stepwell worker`; `Worker` is the same inside somebody's event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
from collections.abc import Callable, Generator
from typing import Any

from stepwell.client.version import VERSION
from stepwell.model.task import Manifest
from stepwell.primitives.ids import new_id
from stepwell.protocol import frames
from stepwell.worker.companions import Companions
from stepwell.worker.connection import Connection
from stepwell.worker.dispatcher import Dispatcher
from stepwell.worker.drain import drain
from stepwell.worker.early import Beginning, hide_environment
from stepwell.worker.endings import Ending
from stepwell.worker.forking import ForkServer, ImportFailed
from stepwell.worker.heartbeat import HeartbeatThreads
from stepwell.worker.leases import Leases
from stepwell.worker.limits import INTERVAL, Limits
from stepwell.worker.outbox import Outbox
from stepwell.worker.presence import Presence
from stepwell.worker.process import Executor
from stepwell.worker.settings import WorkerSettings
from stepwell.worker.staff import Staff

__all__ = ["ImportFailed", "Worker", "WorkerSettings", "run"]

_log = logging.getLogger("stepwell.worker")


class Worker:
    """One worker. `manifest` is there once the modules are imported, `ready` is set by the first welcome.

    when_ready: called with the manifest then, for whoever is outside of this event loop.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        *,
        when_ready: Callable[[Manifest], None] | None = None,
        begun: Beginning | None = None,
    ) -> None:
        self.settings = settings
        self.id = begun.worker_id if begun is not None else new_id("worker")
        self.manifest = Manifest()
        self.ready = asyncio.Event()
        self._when_ready = when_ready
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._leases = Leases()
        companions = Companions()
        self._connection = Connection(
            settings.url, settings.api_key, self._hello, self._welcomed, self._receive, companions
        )
        self._outbox = Outbox(self._connection.send)
        self._dispatcher = Dispatcher(settings, self._outbox, self._leases, self._connection.send, companions)
        limits = Limits(settings.control_groups, settings.max_processes)
        if begun is None:
            self._presence = Presence(settings.state_dir, self.id, settings.url, settings.api_key)
        else:
            self._presence = begun.presence
        self._forks = ForkServer(settings, self, limits, self._presence, begun and begun.fork_server)
        self._staff = Staff(settings, self._forks, limits)
        self._dispatcher.staff = self._staff
        self._heartbeat = HeartbeatThreads(
            settings.url,
            settings.api_key,
            self.id,
            self._leases,
            self._presence,
            self._leases_expired,
            self._heartbeat_replied,
        )

    async def run(self) -> None:
        """Until `stop()`, and until what was in hand then is given back.

        Raises:
            ImportFailed: the modules cannot be imported. Unauthorized: the server does not know the key. ConfigError:
                it refuses what the modules declare.
        """
        if self._presence.descriptor is None:
            self._presence.enter()
        try:
            self._forks.launch()
            self._connection.prepare()
            self.manifest = await self._forks.loaded()
            _log.info("worker %s has the tasks: %s", self.id, _names(self.manifest))
            async with asyncio.TaskGroup() as group:
                connection = group.create_task(self._connection.run(), name="stepwell-connection")
                watch = group.create_task(self._watch(), name="stepwell-watch")
                group.create_task(self._stop_when_told(connection, watch), name="stepwell-stop")
        except* Exception as errors:  # noqa: BLE001 - raised again, without the group that it came in
            raise _first(errors) from None
        finally:
            self._heartbeat.stop()
            await self._forks.close()
            if await asyncio.to_thread(self._has_left):
                self._presence.leave()
            self._presence.close()

    def stop(self) -> None:
        """Claim nothing more, give runs time to end, give the rest back, and return from `run`. Again: hurry."""
        if self._stopping.is_set():
            self._hurry.set()
        self._stopping.set()

    @property
    def executor_pids(self) -> list[int]:
        """The executor processes that are alive, idle ones too."""
        return [executor.pid for executor in self._forks.executors]

    @property
    def fork_server_pid(self) -> int | None:
        return self._forks.pid

    # ── what the parts tell one another ──────────────────────────────────────────────────────────────────────────────

    def said(self, executor: Executor, frame: frames.FromExecutor) -> None:
        self._dispatcher.said(executor, frame)

    def ended(self, executor: Executor, ending: Ending) -> None:
        self._dispatcher.ended(executor, ending)

    def _hello(self) -> frames.Hello:
        return frames.Hello(
            self.id,
            self.settings.name,
            os.getpid(),
            frames.PROTOCOL_VERSION,
            VERSION,
            self.manifest,
            self._leases.held(),
        )

    def _welcomed(self, welcome: frames.Welcome, asked_at: float) -> None:
        _log.info("connected to %s (environment %s)", self.settings.url, welcome.environment)
        self._leases.clock_seen(welcome.now, asked_at)
        self._heartbeat.start(welcome.heartbeat_seconds)
        self._dispatcher.welcomed()
        if self._when_ready is not None and not self.ready.is_set():
            self._when_ready(self.manifest)
        self.ready.set()

    def _receive(self, frame: frames.ToWorker) -> None:
        if isinstance(frame, frames.Draining):
            _log.info("the server is going away")
            self._dispatcher.disconnected()
        self._dispatcher.receive(frame)

    def _leases_expired(self, expired: list[tuple[str, int]]) -> None:
        """In the thread that has killed their executors just now."""
        self._on_loop(self._lose, expired)

    def _heartbeat_replied(self, reply: frames.HeartbeatReply, held: list[tuple[str, int]]) -> None:
        """In the heartbeat's thread."""
        if reply.lost or reply.canceling:
            epochs = dict(held)
            self._on_loop(self._lose, [(run_id, epochs[run_id]) for run_id in reply.lost if run_id in epochs])
            known = [(run_id, epochs[run_id], grace) for run_id, grace in reply.canceling if run_id in epochs]
            self._on_loop(self._cancel, known)
        if reply.unheld:
            self._on_loop(self._give_back_unheld, reply.unheld)

    def _has_left(self) -> bool:
        """Nothing of ours runs any more. Whether that is the server's knowledge, too, or nothing that concerns it."""
        return not self.ready.is_set() or self._heartbeat.say_goodbye()

    def _give_back_unheld(self, leases: list[tuple[str, int]]) -> None:
        """Leased to us by a claim whose answer was lost on its way, or left here without a word."""
        busy = {run_id for executor in self._forks.executors for run_id in executor.runs}
        for run_id, epoch in leases:
            if run_id not in busy:
                self._dispatcher.give_back_unheld(run_id, epoch)

    def _lose(self, leases: list[tuple[str, int]]) -> None:
        for run_id, epoch in leases:
            self._dispatcher.lost(run_id, epoch)

    def _cancel(self, leases: list[tuple[str, int, float]]) -> None:
        for run_id, epoch, grace in leases:
            self._dispatcher.cancel(run_id, epoch, grace)

    def _on_loop(self, callback: Callable[..., object], *args: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and everything with it
            self._loop.call_soon_threadsafe(callback, *args)

    # ── tasks ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _watch(self) -> None:
        while True:
            self._staff.look_after()
            self._dispatcher.look_after()
            await asyncio.sleep(INTERVAL)

    async def _stop_when_told(self, *tasks: asyncio.Task[None]) -> None:
        await self._stopping.wait()
        await drain(self._dispatcher, self._outbox, self.settings.drain_grace, self._hurry)
        await self._connection.flushed()
        await self._connection.close()
        for task in tasks:
            task.cancel()


def run(
    settings: WorkerSettings,
    *,
    when_ready: Callable[[Manifest], None] | None = None,
    begun: Beginning | None = None,
) -> None:
    """A worker process: SIGTERM and SIGINT stop it gently, the second one in a hurry. Raises as `Worker.run` does.

    begun: `early.begin(settings)`, of who has called that before this module was imported.
    """
    hide_environment()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(settings, when_ready, begun))


async def _serve(
    settings: WorkerSettings, when_ready: Callable[[Manifest], None] | None, begun: Beginning | None
) -> None:
    def is_ready(manifest: Manifest) -> None:
        gc.freeze()  # what lives as long as the worker is not looked through again and again while runs wait
        if when_ready is not None:
            when_ready(manifest)

    worker = Worker(settings, when_ready=is_ready, begun=begun)
    with _signals(worker.stop):
        await worker.run()


@contextlib.contextmanager
def _signals(stop: Callable[[], None]) -> Generator[None]:
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _names(manifest: Manifest) -> str:
    return ", ".join(task.id for task in manifest.tasks)


def _first(errors: BaseExceptionGroup[Exception]) -> Exception:
    """A task group wraps what happened in one of its tasks."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]  # type: ignore[assignment]
    assert isinstance(error, Exception)
    return error
