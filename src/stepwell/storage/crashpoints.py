"""Points in every write at which a test can kill this process, or make the database seem to fail.

Each write transaction passes three of them: `before` it begins, `after_exec` when all is written and nothing committed,
`after_commit` when it is durable and nobody was told. Set by environment variables, read once at import:

    STEPWELL_CRASH_AT=name:phase:n     act at the n-th passing of that point (n defaults to 1)
    STEPWELL_CRASH_MODE=kill           SIGKILL of this process (the default), or one of error | serialization | deadlock
    STEPWELL_CRASH_LOG=path            append each point passed as `name:phase:n`, which is what a recording run needs
"""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

from asyncpg.exceptions import ConnectionDoesNotExistError, DeadlockDetectedError, PostgresError, SerializationError

from stepwell.errors import ConfigError

Phase = Literal["before", "after_exec", "after_commit"]
_FAILURES: dict[str, type[PostgresError]] = {
    "error": ConnectionDoesNotExistError,
    "serialization": SerializationError,
    "deadlock": DeadlockDetectedError,
}


class _Plan:
    """What was asked for, and how often each point was passed."""

    def __init__(self, target: str | None, mode: str, log: str | None) -> None:
        self._target = _parse(target) if target else None
        self._log = Path(log) if log else None
        if mode != "kill" and mode not in _FAILURES:
            raise ConfigError(f"STEPWELL_CRASH_MODE is {mode!r}", hint=f"use kill, {', '.join(_FAILURES)}")
        self._mode = mode
        self._passed: Counter[str] = Counter()

    def reach(self, point: str) -> None:
        self._passed[point] += 1
        count = self._passed[point]
        if self._log is not None:
            with self._log.open("a") as log:
                log.write(f"{point}:{count}\n")
        if self._target == (point, count):
            self._act(point)

    def _act(self, point: str) -> None:
        if self._mode == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise _FAILURES[self._mode](f"made to fail at {point}")


def _parse(target: str) -> tuple[str, int]:
    match = re.fullmatch(rf"(\w+):({'|'.join(get_args(Phase))})(?::(\d+))?", target)
    if match is None:
        raise ConfigError(
            f"STEPWELL_CRASH_AT is {target!r}",
            hint=f"use name:phase:n, where phase is one of {', '.join(get_args(Phase))}",
        )
    return f"{match[1]}:{match[2]}", int(match[3] or 1)


def _plan(environ: Mapping[str, str]) -> _Plan | None:
    target, log = environ.get("STEPWELL_CRASH_AT"), environ.get("STEPWELL_CRASH_LOG")
    if not target and not log:
        return None
    return _Plan(target, environ.get("STEPWELL_CRASH_MODE", "kill"), log)


_active = _plan(os.environ)


def crashpoint(name: str, phase: Phase) -> None:
    """Pass a point. Does nothing at all unless the environment asks for it."""
    if _active is not None:
        _active.reach(f"{name}:{phase}")
