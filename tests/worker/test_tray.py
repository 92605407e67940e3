"""What an executor process does with runs that were handed to it ahead. Its worker's part is played by the test."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from stepwell.executor.childhood import Birth
from stepwell.model.retry import RetryPolicy
from stepwell.primitives.ids import new_id
from stepwell.protocol import frames
from stepwell.protocol.frames import Finish, NotBegun, Released, StartAttempt
from stepwell.protocol.framing import Unframer, framed
from stepwell.worker.tray import Tray
from tests.worker.conftest import SAMPLES
from tests.worker.scripted import PATIENCE

F = TypeVar("F")


class Process:
    """An executor that was not forked, and the worker's ends of its channel and its tray."""

    def __init__(self) -> None:
        self.tray = Tray()
        self._channel, theirs = socket.socketpair()
        self._channel.settimeout(PATIENCE)
        out, err, console = os.pipe(), os.pipe(), os.dup(2)
        birth = Birth(os.getpid(), None, [], theirs.fileno(), self.tray.descriptor, *out, *err, console)
        command = [sys.executable, "-P", "-m", "stepwell.executor.main", json.dumps(dataclasses.asdict(birth))]
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        self._process = subprocess.Popen(
            [*command, str(SAMPLES)], stdout=out[1], pass_fds=birth.kept, env=environment, cwd=Path.cwd()
        )
        self._descriptors = (*out, *err, console)
        theirs.close()
        self._unframer = Unframer()
        self.heard: list[Any] = []

    def say(self, *said: frames.Frame) -> None:
        self._channel.sendall(framed(frames.pack(list(said))))

    def hear(self, kind: type[F], run_id: str) -> F:
        """The next frame of this kind about this run; `heard` is everything until then."""
        while not (found := [frame for frame in self.heard if isinstance(frame, kind) and frame.run_id == run_id]):  # type: ignore[attr-defined]
            self.listen()
        return found[0]

    def listen(self) -> None:
        received = self._channel.recv(65536)
        if not received:
            raise EOFError
        for message in self._unframer.feed(received):
            self.heard += frames.from_executor.decode(message)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._channel.close()
        self.tray.close()
        for descriptor in self._descriptors:
            os.close(descriptor)


@pytest.fixture
def process() -> Iterator[Process]:
    process = Process()
    yield process
    process.close()


def start(task_id: str = "act", **payload: Any) -> StartAttempt:
    encoded, now = json.dumps(payload).encode(), time.time()
    return StartAttempt(new_id("run"), task_id, 1, 1, encoded, "application/json", now, now, 30.0, RetryPolicy())


def soon() -> float:
    return time.monotonic() + 100


def test_the_next_run_is_named_with_the_end_of_the_one_before(process: Process) -> None:
    first, second = start(name="first"), start(name="second")
    process.tray.put(second, soon())
    process.say(first)
    assert process.hear(Released, first.run_id).begun == second.run_id
    assert process.hear(Finish, second.run_id).output == b'"second ended"'
    assert process.hear(Released, second.run_id).begun == ""


def test_a_run_that_lay_there_beyond_its_lease_is_named_and_not_begun(process: Process, tmp_path: Path) -> None:
    mark = tmp_path / "began"
    first, late, third = start(name="first"), start(pipe=str(mark), name="late"), start(name="third")
    process.tray.put(late, time.monotonic())
    process.tray.put(third, soon())
    process.say(first)
    assert process.hear(NotBegun, late.run_id)
    assert process.hear(Released, first.run_id).begun == third.run_id
    assert process.hear(Finish, third.run_id).output == b'"third ended"'
    assert not mark.exists()


def test_the_end_of_the_run_before_is_heard_though_the_next_one_dies_in_its_first_line(process: Process) -> None:
    first, second = start("long-answer", megabytes=8), start(part="leave")
    process.tray.put(second, soon())
    process.say(first)
    with pytest.raises(EOFError):
        process.hear(Finish, second.run_id)
    assert len(process.hear(Finish, first.run_id).output or b"") > 8_000_000
    assert process.hear(Released, first.run_id).begun == second.run_id


def test_a_cancellation_before_the_first_line_of_the_next_run_is_its(process: Process, tmp_path: Path) -> None:
    mark = tmp_path / "began"
    first, second = start("long-answer", megabytes=8), start(pipe=str(mark), name="second")
    process.tray.put(second, soon())
    process.say(first)
    process.listen()  # a part of the long answer: the second run is taken, and waits until all of that is heard
    assert process.tray.empty() == set()
    process.say(frames.CancelRun(second.run_id, second.epoch, 5.0))
    assert process.hear(Finish, second.run_id).canceled
    assert not mark.exists()
