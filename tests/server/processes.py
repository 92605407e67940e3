"""A real server process for tests, and what its log says."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from typing import Any

import msgspec

START_SECONDS = 90  # a machine that is busy with other things takes its time


class ServerProcess:
    """`python -m stepwell.server` on a loopback port. `wait_for(event)` reads its log."""

    def __init__(self, database_url: str, port: int = 0, **settings: object) -> None:
        self._database_url = database_url
        self._settings = settings
        self.url = ""
        self.port = port
        self.lines: list[dict[str, Any]] = []
        self._fresh: queue.Queue[dict[str, Any]] = queue.Queue()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> ServerProcess:
        self._fresh = queue.Queue()
        environ = {name: value for name, value in os.environ.items() if not name.startswith("STEPWELL_")}
        environ |= {"STEPWELL_DATABASE_URL": self._database_url, "STEPWELL_PORT": str(self.port)}
        environ |= {f"STEPWELL_{name.upper()}": str(value) for name, value in self._settings.items()}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "stepwell.server"], env=environ, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        self._reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        self._reader.start()
        try:
            self.url = self.wait_for("serving")["url"]
        except AssertionError:
            self.kill()
            raise
        self.port = int(self.url.rpartition(":")[2])
        return self

    def wait_for(self, event: str, seconds: float = START_SECONDS) -> dict[str, Any]:
        """The next log line with this event; fails with the whole log when the process ends first."""
        while True:
            try:
                line = self._fresh.get(timeout=seconds)
            except queue.Empty:
                raise AssertionError(f"no {event!r} within {seconds} s in {self.lines}") from None
            if line["event"] == event:
                return line
            if line["event"] == "(end)":
                raise AssertionError(f"the server ended before {event!r}: {self.lines}")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)
        self._reader.join(10)

    def terminate(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.terminate()
        code = self.process.wait(20)
        self._reader.join(10)
        return code

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        with process.stderr as log:
            for raw in log:
                try:
                    line = msgspec.json.decode(raw, type=dict[str, Any])
                except msgspec.MsgspecError:
                    line = {"event": raw.decode(errors="replace").rstrip()}
                self.lines.append(line)
                self._fresh.put(line)
        self._fresh.put({"event": "(end)"})
