"""The command line as a person uses it: processes in a project's folder, and what they say."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import psutil

T = TypeVar("T")
WITHIN = 30.0


def environment(**variables: str) -> dict[str, str]:
    """Ours, without what would lead a command to another server."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("STEPWELL_")}
    return inherited | {"NO_COLOR": "1", "COLUMNS": "100"} | variables


def stepwell(
    project: Path, *arguments: str, within: float = WITHIN, **variables: str
) -> subprocess.CompletedProcess[str]:
    """A command, to its end."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "stepwell.cli", *arguments],
        cwd=project,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=within,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def answer(project: Path, *arguments: str) -> Any:
    """What a reading command says with `--json`."""
    done = stepwell(project, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class Terminal:
    """A command that goes on. `lines` is all it has said."""

    def __init__(self, project: Path, *arguments: str, **variables: str) -> None:
        self.project = project
        self.lines: list[str] = []
        self._said = threading.Condition()
        self._over = False
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "stepwell.cli", *arguments],
            cwd=project,
            env=environment(**variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._said:
                self.lines.append(line.rstrip("\n"))
                self._said.notify_all()
        with self._said:
            self._over = True
            self._said.notify_all()

    def says(self, pattern: str, *, after: int = 0, within: float = WITHIN) -> int:
        """Waits for a line that matches, among those from number `after` on; the number of the line after it."""

        def found() -> int | None:
            return next((n + 1 for n, line in enumerate(self.lines) if n >= after and re.search(pattern, line)), None)

        with self._said:
            self._said.wait_for(lambda: found() or self._over, within)
            assert found(), f"it never said {pattern!r}:\n" + "\n".join(self.lines)
        number = found()
        assert number is not None
        return number

    def interrupt(self, number: signal.Signals = signal.SIGINT) -> int:
        """Ctrl-C, or another signal; the exit code."""
        self.process.send_signal(number)
        return self.ended()

    def ended(self, within: float = WITHIN) -> int:
        code = self.process.wait(within)
        self._reader.join(within)
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.join(WITHIN)
        assert self.process.stdout is not None
        self.process.stdout.close()


class Dev(Terminal):
    """`stepwell dev` on any free port."""

    def __init__(self, project: Path, *arguments: str, **variables: str) -> None:
        super().__init__(project, "dev", "--port", "0", *arguments, **variables)

    def ready(self, after: int = 0) -> int:
        return self.says(r"worker +ready, tasks:", after=after)

    @property
    def pids(self) -> dict[str, int]:
        return self.file()["pids"]

    def file(self) -> Any:
        return json.loads((self.project / ".stepwell" / "dev.json").read_text())

    def family(self) -> list[psutil.Process]:
        """Every process that it has started, and itself."""
        me = psutil.Process(self.process.pid)
        return [me, *me.children(recursive=True)]


def gone(processes: list[psutil.Process], within: float = WITHIN) -> list[psutil.Process]:
    """Those that are still there after so long."""
    return psutil.wait_procs(processes, timeout=within)[1]


def eventually(look: Callable[[], T], within: float = WITHIN) -> T:
    """What `look` sees, as soon as it is something."""
    deadline = time.monotonic() + within
    pause = threading.Event()
    while not (seen := look()):
        assert time.monotonic() < deadline, f"nothing to see after {within:g} s"
        pause.wait(0.05)
    return seen
