"""The executor process: runs the attempts that its worker sends, one after another or many at once.

It is forked from the fork server with the user's modules loaded, or, where these cannot be forked, started anew:
`python -m stepwell.executor.main` imports them first. It ends by `os._exit`, always: nothing of a suspended run may be
unwound, and interpreter shutdown would do just that.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import json
import os
import socket
import sys
import time
import traceback
from collections.abc import Sequence
from contextvars import Context
from functools import partial
from typing import NoReturn

import msgspec

from stepwell.errors import PayloadInvalid
from stepwell.executor import discover
from stepwell.executor.attempt import Attempt
from stepwell.executor.burials import Burials
from stepwell.executor.capture import Capture
from stepwell.executor.channel import Channel
from stepwell.executor.childhood import Birth
from stepwell.executor.loop import DurableLoop
from stepwell.executor.options import AttemptOptions
from stepwell.executor.outcomes import Completed, Failed, Outcome, Suspended, failed, failure_of
from stepwell.executor.runport import RunPort, frame_of, payload_of
from stepwell.executor.tray import Tray
from stepwell.executor.watchdog import Watchdog
from stepwell.protocol import frames
from stepwell.protocol.forking import LoadFailed
from stepwell.sdk import registry

_CANNOT_LOAD = 78  # EX_CONFIG


class Executor:
    """All attempts of this process."""

    def __init__(self, loop: DurableLoop, capture: Capture, tray: Tray) -> None:
        self._loop = loop
        self._capture = capture
        self._channel = Channel(loop, self._receive, lambda: os._exit(0))
        self._attempts: dict[str, tuple[Attempt, RunPort]] = {}
        self._options = AttemptOptions(watchdog=Watchdog(loop, self._channel.send_now))
        self._tray = tray
        self._burials = Burials(loop)
        self._next: frames.StartAttempt | None = None  # the worker is being told that it begins
        self._began_at = 0.0

    async def serve(self, channel: socket.socket) -> NoReturn:
        """Until the worker is gone or an attempt ends this process."""
        await self._loop.create_connection(lambda: self._channel, sock=channel)
        await asyncio.Event().wait()
        raise AssertionError("nobody sets that event")

    def _receive(self, frame: frames.ToExecutor) -> None:
        if isinstance(frame, frames.Persisted):  # the most frequent by far
            if (known := self._attempts.get(frame.run_id)) is not None:
                known[1].persisted(frame)
        elif isinstance(frame, frames.StartAttempt):
            self._start(frame)
        elif frame.run_id in self._attempts:
            _tell(*self._attempts[frame.run_id], frame)
        elif self._next is not None and frame.run_id == self._next.run_id and isinstance(frame, frames.CancelRun):
            self._next = msgspec.structs.replace(self._next, cancel_grace=frame.grace)

    def _start(self, start: frames.StartAttempt) -> None:
        self._began_at = time.monotonic()
        self._burials.begins(start)
        port = RunPort(start, self._channel, self._loop)
        self._capture.add(start.run_id, port.logs)
        attempt = self._attempt(start, port)
        if isinstance(attempt, Failed):
            self._ended(start, port, attempt)
            return
        self._attempts[start.run_id] = attempt, port
        self._capture.replays(start.run_id, lambda: attempt.replaying)
        attempt.start(partial(self._ended, start, port))

    def _attempt(self, start: frames.StartAttempt, port: RunPort) -> Attempt | Failed:
        """What cannot be begun has failed; no run can end the process by raising."""
        try:
            task = registry.task_of(start.task_id)
            args, kwargs = Context().run(task.call, payload_of(start))
            return Attempt(self._loop, task, args, kwargs, start, port, self._options)
        except PayloadInvalid as error:
            return Failed(failure_of(error, "payload_invalid"), no_retry=True, error=error)
        except Exception as error:  # noqa: BLE001 - the attempt's edge: it becomes the failure of this run
            return failed(error)

    def _ended(self, start: frames.StartAttempt, port: RunPort, outcome: Outcome) -> None:
        self._capture.remove(start.run_id)
        attempt, _ = self._attempts.pop(start.run_id, (None, port))
        port.send_logs(last=True)
        frame = frame_of(start, outcome)
        stays = self._can_serve_another(start, attempt, outcome)
        if isinstance(frame, frames.Suspend):
            frame = msgspec.structs.replace(frame, stays=stays)
        if frame is not None:
            self._channel.send(frame)
        if start.isolation == "shared":
            self._channel.send(frames.Released(start.run_id))
        elif stays:
            self._go_on(start)
        else:
            self._channel.when_written(lambda: os._exit(0))

    def _can_serve_another(self, start: frames.StartAttempt, attempt: Attempt | None, outcome: Outcome) -> bool:
        """Whether nothing of this run is left in this process that runs, that must not be unwound, or in the way."""
        if isinstance(outcome, Suspended) and attempt is not None:
            return self._burials.why_not(start, attempt) is None and self._burials.alone
        return start.warm and isinstance(outcome, Completed | Failed) and self._burials.alone

    def _go_on(self, ended: frames.StartAttempt) -> None:
        """To the next run, if one is there. The worker has to know first: if this process dies, of which run."""
        took = time.monotonic() - self._began_at
        self._next = self._take()
        if self._next is None:
            self._channel.send(frames.Released(ended.run_id, took=took))
        else:
            self._channel.send(frames.Released(ended.run_id, self._next.run_id, took))
            self._channel.when_written(self._start_next_soon)

    def _take(self) -> frames.StartAttempt | None:
        """A run whose lease is over may be another worker's already."""
        while (taken := self._tray.take()) is not None:
            start, in_time = taken
            if in_time:
                return start
            self._channel.send(frames.NotBegun(start.run_id, start.epoch))
        return None

    def _start_next_soon(self) -> None:
        self._loop.call_soon_outside(self._start_next)

    def _start_next(self) -> None:
        start, self._next = self._next, None
        if start is not None:
            self._start(start)


def _tell(attempt: Attempt, port: RunPort, frame: frames.ToExecutor) -> None:
    """Hand a frame to the attempt that it is about."""
    match frame:
        case frames.Rejected():
            port.rejected(frame)
        case frames.ChildrenEnded():
            attempt.children_ended(frame.spawn_key, frame.outcomes, frame.first, more=frame.more)
        case frames.TokensClosed():
            attempt.tokens_closed(frame.outcomes)
        case frames.TokenLink():
            attempt.link_found(frame.token_id, frame.url)
        case frames.PermitsAnswered():
            attempt.permits_answered(frame.answers)
        case frames.CancelRun():
            attempt.cancel(frame.grace)
        case frames.Discard():
            attempt.discard("its worker said so")
        case frames.StartAttempt() | frames.Persisted():
            raise AssertionError("these are no news for an attempt")


def run(birth: Birth) -> int:
    """Serve the worker on the channel. Returns only if something of ours broke."""
    capture = Capture(birth)
    capture.install()
    gc.enable()
    with asyncio.Runner(loop_factory=DurableLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, DurableLoop)
        channel = socket.socket(fileno=birth.channel)
        channel.setblocking(False)
        runner.run(Executor(loop, capture, Tray(birth.tray)).serve(channel))
    return 70


def replace_process(birth: Birth, modules: Sequence[str]) -> NoReturn:
    """Become a new Python that imports the modules by itself; limits, session and group stay."""
    for fd in birth.kept:
        os.set_inheritable(fd, True)
    given = json.dumps(dataclasses.asdict(birth))
    os.execv(sys.executable, [sys.executable, "-P", "-m", "stepwell.executor.main", given, *modules])


def main(arguments: Sequence[str]) -> int:
    """The entry of a process that was not forked."""
    given, *modules = arguments
    birth = Birth(**json.loads(given))
    for fd in birth.kept:
        os.set_inheritable(fd, False)
    found = discover.load(modules)
    if isinstance(found, LoadFailed):
        sys.stderr.write(found.traceback or found.message)
        return _CANNOT_LOAD
    return run(birth)


if __name__ == "__main__":
    code = 70
    try:
        code = main(sys.argv[1:])
    except BaseException:  # noqa: BLE001 - the edge of a process: told on its stderr, which the worker reads to the end
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
