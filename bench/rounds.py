"""Runs measurements, one process each, peers interleaved within a round."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import psutil

from bench.catalog import Entry, Workload
from bench.environments import HOME, ROOT, Missing, interpreter
from bench.machine import busy, load
from bench.services import Postgres, Redis

_SUBREAPER = 36
_IDLE, _IDLE_WAIT = 0.15, 5.0


@dataclass(frozen=True)
class Result:
    """One measurement: its figures, or the error. Before it: `load` average, and the share `busy` with others."""

    peer: str
    workload: str
    round: int
    figures: dict[str, Any] = field(default_factory=dict[str, Any])
    error: str = ""
    versions: dict[str, str] = field(default_factory=dict[str, str])
    setup: str = ""
    load: float = 0.0
    busy: float = 0.0
    seconds: float = 0.0


class Stand:
    """The services, and the means to run one measurement after the other on them."""

    def __init__(self) -> None:
        # What a peer leaves behind becomes our child, and is ended before the next measurement.
        ctypes.CDLL(None).prctl(_SUBREAPER, 1)
        self._lock = _locked(HOME / "lock")
        self.postgres = Postgres(HOME / "postgres")
        self.redis = Redis(HOME / "redis")

    def close(self) -> None:
        self._sweep()
        self.redis.stop()
        self.postgres.stop()
        self._lock.close()

    def measure(self, entry: Entry, workload: Workload, sizes: dict[str, Any], number: int) -> Result:
        """One measurement on fresh services."""
        try:
            python = interpreter(entry)
        except Missing as missing:
            return Result(entry.name, workload.key, number, error=f"not installed: {missing}")
        folder = HOME / "runs" / entry.name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        environment = self._services(entry) | {
            "BENCH_FOLDER": str(folder),
            "BENCH_VARIANT": entry.variant,
            "BENCH_NPM": str(HOME / "node" / "node_modules" / ".bin"),
            "BENCH_BINDIR": str(self.postgres.bindir),
            "PYTHONPATH": str(ROOT),
        }
        busy_before, load_before, began = _until_idle(), load(), time.monotonic()
        answer = self._run(python, entry, workload, sizes, folder, environment)
        self._sweep()
        return Result(
            entry.name,
            workload.key,
            number,
            load=load_before,
            busy=busy_before,
            seconds=round(time.monotonic() - began, 1),
            **answer,
        )

    def _services(self, entry: Entry) -> dict[str, str]:
        environment: dict[str, str] = {}
        if "postgres" in entry.needs:
            environment["BENCH_DATABASE_URL"] = self.postgres.fresh(f"bench_{entry.module}")
            environment["BENCH_POSTGRES_PID"] = str(self.postgres.pid)
        if "redis" in entry.needs:
            environment["BENCH_REDIS_URL"] = self.redis.fresh()
            environment["BENCH_REDIS_PID"] = str(self.redis.pid)
        else:
            self.redis.stop()
        return environment

    def _run(
        self,
        python: Path,
        entry: Entry,
        workload: Workload,
        sizes: dict[str, Any],
        folder: Path,
        environment: dict[str, str],
    ) -> dict[str, Any]:
        file = folder / "result.json"
        words = [python, "-m", "bench.harness", entry.name, entry.module, workload.function, file, json.dumps(sizes)]
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("STEPWELL_", "PG"))}
        with (folder / "harness.log").open("wb") as output:
            process = subprocess.Popen(
                [str(word) for word in words], stdout=output, stderr=output, env=clean | environment, cwd=folder
            )
            try:
                process.wait(workload.limit)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGTERM)
                return {"error": f"not done within {workload.limit:g} s"}
        if not file.exists():
            log = file.with_name("harness.log").relative_to(ROOT)
            return {"error": f"it ended with code {process.returncode}; see {log}"}
        return json.loads(file.read_text())

    def _sweep(self) -> None:
        """Ends what a measurement left, services excepted."""
        kept = {self.postgres.pid, self.redis.pid}
        for child in psutil.Process().children():
            if child.pid in kept:
                continue
            for process in [*child.children(recursive=True), child]:
                try:
                    process.kill()
                    process.wait(5)
                except psutil.Error:
                    continue


def rounds(
    stand: Stand, plan: Sequence[tuple[Workload, Sequence[Entry]]], count: int, *, quick: bool
) -> Iterator[Result]:
    """All measurements: round after round, workload after workload, peer after peer."""
    missing: set[str] = set()
    for number in range(1, count + 1):
        for workload, entries in plan:
            for entry in entries:
                if entry.module in missing:
                    continue
                result = stand.measure(entry, workload, sizes_of(workload, entry, quick=quick), number)
                if result.error.startswith("not installed"):
                    missing.add(entry.module)
                yield result


def sizes_of(workload: Workload, entry: Entry, *, quick: bool) -> dict[str, Any]:
    return workload.quick if quick else workload.sizes | entry.smaller.get(workload.key, {})


def save(file: Path, result: Result) -> None:
    """Appends a result to a file of JSON lines, so that an interrupted session can still be reported."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as lines:
        lines.write(json.dumps(asdict(result)) + "\n")


def saved(file: Path) -> list[Result]:
    return [Result(**json.loads(line)) for line in file.read_text().splitlines()]


def _locked(file: Path) -> IO[str]:
    """Two sessions at once would measure one another. The lock of one that died is free."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = file.open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SystemExit("another `make bench` runs in this checkout: wait for its end") from None
    return lock


def _until_idle() -> float:
    deadline = time.monotonic() + _IDLE_WAIT
    while (share := busy()) > _IDLE and time.monotonic() < deadline:
        pass
    return share
