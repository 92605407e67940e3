"""Processes of a measurement: started in groups of their own, killed with it, and their memory."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeAlias

from bench.harness import surroundings

Process: TypeAlias = "subprocess.Popen[bytes]"
_started: list[tuple[str, Process]] = []
_prctl = ctypes.CDLL(None).prctl


def spawn(arguments: Iterable[object], log: str, *, directory: Path | None = None, **environment: str) -> Process:
    """Starts a process whose output goes to a log of this measurement, and which dies with it."""
    with (surroundings.folder() / f"{log}.log").open("ab") as output:
        process = subprocess.Popen(
            [str(word) for word in arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=os.environ | environment,
            cwd=directory or surroundings.folder(),
            start_new_session=True,
            preexec_fn=lambda: _prctl(1, int(signal.SIGKILL)),  # noqa: PLW1509 - it takes no lock
        )
    _started.append((log, process))
    return process


def run_role(name: str, module: str, role: str, *arguments: str, **environment: str) -> Process:
    """This program again, in a peer's interpreter, as one of its own processes."""
    return spawn([sys.executable, "-m", "bench.harness", name, module, role, *arguments], role, **environment)


def kill(process: Process) -> None:
    """SIGKILL for its whole group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def stop(process: Process, grace: float = 15) -> None:
    """SIGTERM, and SIGKILL for what is left after `grace` seconds."""
    with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
        process.terminate()
        process.wait(grace)
    kill(process)


@atexit.register
def kill_all() -> None:
    for _, process in reversed(_started):
        kill(process)


def until(condition: Callable[[], bool], limit: float, found: Callable[[], str] = str, every: float = 0.02) -> None:
    """Returns when the condition holds. Raises TimeoutError, with what was found instead."""
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not reached within {limit:g} s; {found()}")
        time.sleep(every)


def until_port(port: int, limit: float = 40) -> None:
    def listens() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return False

    until(listens, limit, lambda: f"nothing listens on port {port}")


def memory(pid: int) -> float:
    """MiB of a process and its descendants: its share of shared pages counts once (PSS)."""
    return round(sum(_pss(each) for each in _tree(pid)) / 1024, 1)


def largest(pids: Iterable[int]) -> float:
    """MiB: the most that one of these or of their descendants, as far as they live, ever had in memory."""
    return round(max((_peak(each) for pid in pids for each in _tree(pid)), default=0) / 1024, 1)


def cpu_seconds() -> dict[str, float]:
    """Processor time so far: of this client, of what it started, by name, and of the services."""
    used = {"client": time.process_time()}
    for name, process in _started:
        used[name] = used.get(name, 0.0) + _cpu(process.pid)
    for name, pid in surroundings.service_pids().items():
        used[name] = _cpu(pid)
    return used


def _cpu(pid: int) -> float:
    return sum(_ticks(each) for each in _tree(pid)) / os.sysconf("SC_CLK_TCK")


def _ticks(pid: int) -> int:
    """Its own, and those of its children that have ended."""
    with contextlib.suppress(OSError):
        return sum(int(field) for field in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15])
    return 0


def _tree(pid: int) -> list[int]:
    found = [pid]
    for each in found:
        for task in Path(f"/proc/{each}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += [int(child) for child in task.read_text().split()]
    return found


def _pss(pid: int) -> int:
    return _kilobytes(Path(f"/proc/{pid}/smaps_rollup"), "Pss:")


def _peak(pid: int) -> int:
    return _kilobytes(Path(f"/proc/{pid}/status"), "VmHWM:")


def _kilobytes(file: Path, name: str) -> int:
    with contextlib.suppress(OSError):
        for line in file.read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1])
    return 0
