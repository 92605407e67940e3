"""What user code says becomes log records of its run: stdout, stderr, logging, warnings, and what C code and child
processes write to file descriptors 1 and 2.

A line belongs to the run whose context it was said in; said in none (a thread of a library, a child process), to the
only run there is; if there are several, it goes to the worker's own stderr. While a run replays, its lines are silent:
they were said before. The descriptors are pipes that the worker can read too: it finds the last words of a process
that died.
"""

from __future__ import annotations

import ctypes
import faulthandler
import io
import logging
import os
import select
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TextIO, cast

from stepwell.executor.childhood import Birth
from stepwell.executor.domain import current_leaf
from stepwell.executor.runlogs import RunLogs
from stepwell.protocol.frames import LogRecord
from stepwell.sdk import runtime

_PARTIAL = 16 * 1024  # a line without an end is cut here
_CHUNK = 64 * 1024
_RESERVED = frozenset(logging.LogRecord("", 0, "", 0, "", (), None).__dict__) | {"message", "asctime", "taskName"}


@dataclass
class Speaker:
    """One run in this process, as far as its output is concerned."""

    logs: RunLogs
    replaying: Callable[[], bool] = lambda: False
    partial: dict[tuple[str, bool], str] = field(default_factory=dict[tuple[str, bool], str])  # unfinished lines

    def say(self, stream: str, text: str, *, piped: bool = False) -> None:
        """Keep the whole lines of this text, and the rest until it is finished."""
        if self.silent:
            return
        *lines, rest = (self.partial.pop((stream, piped), "") + text).split("\n")
        if len(rest) > _PARTIAL:
            lines, rest = [*lines, rest], ""
        for line in lines:
            self._line(stream, line)
        if rest:
            self.partial[stream, piped] = rest

    @property
    def silent(self) -> bool:
        """Said before? What says it in the run's own context knows best: steps may run while the run replays."""
        current = runtime.current()
        return self.replaying() if current is None else current.replaying

    def end(self) -> None:
        """Keep what was never finished."""
        for (stream, _), rest in self.partial.items():
            self._line(stream, rest)
        self.partial.clear()

    def _line(self, stream: str, line: str) -> None:
        level = "ERROR" if stream == "stderr" else "INFO"
        self.logs.add(LogRecord(self.logs.now(), level, line.rstrip("\r"), stream, step=_step()))


class Capture:
    """Installed once in an executor process, after the user's modules are imported and before a run begins."""

    def __init__(self, birth: Birth) -> None:
        self._speakers: dict[str, Speaker] = {}
        self._lock = threading.RLock()
        self._pipes = {birth.stdout_read: "stdout", birth.stderr_read: "stderr"}
        self._poll = select.poll()
        for fd in self._pipes:
            self._poll.register(fd, select.POLLIN)
        self._flush_c: Callable[[None], int] | None = getattr(ctypes.CDLL(None), "fflush", None)
        self._console = birth.console
        self._ours = True  # False in a process that user code forks: it has our pipes, but not our threads

    def install(self) -> None:
        """Take over this process's output."""
        faulthandler.enable(file=2)
        os.register_at_fork(after_in_child=self._forked)
        sys.stdout = cast("TextIO", Stream(self, "stdout", 1))
        sys.stderr = cast("TextIO", Stream(self, "stderr", 2))
        self._take_logging()
        threading.Thread(target=self._read_forever, name="stepwell-output", daemon=True).start()

    def add(self, run_id: str, logs: RunLogs) -> None:
        """A run begins in this process."""
        with self._lock:
            self._speakers[run_id] = Speaker(logs)

    def replays(self, run_id: str, replaying: Callable[[], bool]) -> None:
        """How to find out whether it repeats what it has said before."""
        with self._lock:
            self._speakers[run_id].replaying = replaying

    def remove(self, run_id: str) -> None:
        """A run ends: what C code still buffers, what is in the pipes and what has no line's end becomes its own."""
        if self._flush_c is not None:
            self._flush_c(None)
        self._read()
        with self._lock:
            speaker = self._speakers.pop(run_id, None)
        if speaker is not None:
            speaker.end()

    def say(self, stream: str, text: str) -> None:
        """Text said by Python code, in its own context."""
        speaker = self.speaker()
        if not self._ours:
            os.write(1 if stream == "stdout" else 2, text.encode(errors="replace"))
        elif speaker is None:
            self._to_console(text)
        else:
            with self._lock:
                speaker.say(stream, text)

    def speaker(self) -> Speaker | None:
        """The run that the calling code belongs to, or the only one."""
        current = runtime.current()
        with self._lock:
            if current is not None and current.run.id in self._speakers:
                return self._speakers[current.run.id]
            return next(iter(self._speakers.values())) if len(self._speakers) == 1 else None

    @property
    def in_fork(self) -> bool:
        """Is this a process that user code forked?"""
        return not self._ours

    def _forked(self) -> None:
        self._ours = False
        self._lock = threading.RLock()

    def _take_logging(self) -> None:
        root = logging.getLogger()
        for handler in list(root.handlers):
            if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
                root.removeHandler(cast("logging.Handler", handler))  # every record would be there twice
        root.addHandler(RunHandler(self))
        if root.level == logging.WARNING:  # nobody has chosen a level
            root.setLevel(logging.INFO)
        logging.captureWarnings(capture=True)

    def _read_forever(self) -> None:
        poll = select.poll()
        for fd in self._pipes:
            poll.register(fd, select.POLLIN)
        while True:
            poll.poll()
            self._read()

    def _read(self) -> None:
        """Everything that is in the pipes now. Never blocks: whoever finds something has the lock."""
        with self._lock:
            while ready := [fd for fd, event in self._poll.poll(0) if event & select.POLLIN]:
                for fd in ready:
                    self._from_pipe(self._pipes[fd], os.read(fd, _CHUNK))

    def _from_pipe(self, stream: str, received: bytes) -> None:
        text = received.decode(errors="replace")
        if len(self._speakers) == 1:
            next(iter(self._speakers.values())).say(stream, text, piped=True)
        else:
            self._to_console(text)

    def _to_console(self, text: str) -> None:
        with suppress(OSError):
            os.write(self._console, text.encode(errors="replace"))


class Stream(io.TextIOBase):
    """`sys.stdout` or `sys.stderr` of user code."""

    def __init__(self, capture: Capture, name: str, fd: int) -> None:
        self._capture = capture
        self._name = name
        self._fd = fd
        self.buffer = _Bytes(self)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    @property
    def name(self) -> str:
        return f"<{self._name}>"

    def write(self, text: str, /) -> int:
        self._capture.say(self._name, text)
        return len(text)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd


class _Bytes(io.RawIOBase):
    """What `sys.stdout.buffer` is: for code that writes bytes."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def write(self, received: Any, /) -> int:
        content = bytes(received)
        self._stream.write(content.decode(errors="replace"))
        return len(content)

    def writable(self) -> bool:
        return True


class RunHandler(logging.Handler):
    """Records of `logging` as log records of the run."""

    def __init__(self, capture: Capture) -> None:
        super().__init__()
        self._capture = capture

    def emit(self, record: logging.LogRecord) -> None:
        speaker = self._capture.speaker()
        if speaker is None or self._capture.in_fork:
            self._capture.say("stderr", f"{record.levelname} {record.name}: {self.format(record)}\n")
        elif not speaker.silent:
            attributes = {key: str(value) for key, value in record.__dict__.items() if key not in _RESERVED}
            speaker.logs.add(
                LogRecord(
                    speaker.logs.now(),
                    record.levelname,
                    self.format(record),
                    logger=record.name,
                    step=_step(),
                    attributes=attributes,
                )
            )


def _step() -> str:
    leaf = current_leaf.get()
    return leaf.key if leaf is not None else ""
