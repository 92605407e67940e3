"""What the end of an executor process means for the run that it had: a failure that says what happened."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import Literal

from stepwell.model.failure import Failure

Cause = Literal[
    "memory", "processes", "timed_out", "stuck", "lease", "canceled", "drain", "retired", "protocol", "orphaned"
]
"""Why the worker killed an executor: over a limit, over its time, no longer ours, told to, no longer wanted."""

_SAYS_WHERE = frozenset({signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL})


@dataclass(frozen=True)
class Ending:
    """status: as of waitpid, None if nobody could tell. used, limit: bytes. last_words: the end of its stderr."""

    status: int | None
    cause: Cause | None = None
    used: int = 0
    limit: int = 0
    memory_kills: int = 0
    max_processes: int = 0
    last_words: str = ""


def failure_of(ending: Ending) -> Failure:
    """The failure of a run whose executor ended so, before the run did."""
    if ending.cause == "memory" or (ending.memory_kills and _killed_by(ending.status) == signal.SIGKILL):
        return _out_of_memory(ending)
    if ending.cause == "processes":
        return Failure(
            "crashed",
            f"the run had more than {ending.max_processes} processes and was killed",
            hint="start fewer at once, or raise the worker's max_processes",
        )
    if ending.cause == "protocol":
        return Failure("crashed", "the executor said something on its channel that is no message of ours")
    if ending.cause == "stuck":
        return Failure(
            "crashed",
            "a step of another run in the same process did not end with its time, and the process was ended",
            hint='isolation="process" keeps runs apart',
        )
    if ending.status is None:
        return Failure("crashed", "the executor was killed, together with the fork server that had started it")
    killed_by = _killed_by(ending.status)
    if killed_by is None:
        return Failure(
            "crashed",
            f"the executor ended by itself with exit code {os.waitstatus_to_exitcode(ending.status)}",
            stack=ending.last_words or None,
            hint="something called os._exit or ended the process; raise an exception instead",
        )
    return Failure(
        "crashed",
        f"the executor was killed by signal {int(killed_by)} ({killed_by.name})",
        stack=(ending.last_words or None) if killed_by in _SAYS_WHERE else None,
        hint="the stack is where the process was when it crashed" if killed_by in _SAYS_WHERE else None,
    )


def timed_out(seconds: float) -> Failure:
    return Failure(
        "timed_out",
        f"the run had executed for its whole max_duration and was stopped (the last part was {seconds:g} s)",
        hint="raise max_duration on the task, or look in its logs for what it was doing",
    )


def attempt_timed_out(attempt: int, seconds: float) -> Failure:
    return Failure(
        "attempt_timed_out",
        f"attempt {attempt} executed for its whole attempt_timeout, did not end when it was told to, and was stopped "
        f"(the last part was {seconds:g} s)",
        name="stepwell.errors.AttemptTimeout",
        hint="raise attempt_timeout on the task, or look in its logs for what it was doing",
    )


def _out_of_memory(ending: Ending) -> Failure:
    used = f" {_megabytes(ending.used)}," if ending.used > ending.limit else ""
    return Failure(
        "out_of_memory",
        f"the executor used{used} more memory than its limit of {_megabytes(ending.limit)} and was killed",
        hint="raise memory= on the task, or work on less at once",
    )


def _killed_by(status: int | None) -> signal.Signals | None:
    if status is None or not os.WIFSIGNALED(status):
        return None
    try:
        return signal.Signals(os.WTERMSIG(status))
    except ValueError:  # a real-time signal has no name
        return signal.SIGKILL


def _megabytes(count: int) -> str:
    return f"{count / 1024 / 1024:.0f} MB"
