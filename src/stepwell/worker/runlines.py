"""What a worker says of its runs: a line for each, until they are too many to read."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter

from stepwell.model.failure import Failure
from stepwell.protocol.frames import Finish, Release, StartAttempt, Suspend

MOST_LINES = 50
"""Lines of a second; what happens beyond them is counted, and said in one. Failures are always said."""
_log = logging.getLogger("stepwell.worker")


class RunLines:
    """On the event loop's thread."""

    def __init__(self) -> None:
        self._said = 0
        self._counted: Counter[str] = Counter()
        self._second: asyncio.TimerHandle | None = None

    def began(self, start: StartAttempt) -> None:
        self._say("resumed" if start.journal else "started", start)

    def ended(self, start: StartAttempt, frame: Suspend | Finish | Release) -> None:
        failure = frame.failure if isinstance(frame, Finish) else None
        if failure is None:
            self._say(_became(frame), start)
        else:
            _log.info("failed %s %s: %s", start.task_id, start.run_id, _why(failure))

    def _say(self, what: str, start: StartAttempt) -> None:
        if self._second is None:
            self._second = asyncio.get_running_loop().call_later(1.0, self._next_second)
        self._said += 1
        if self._said <= MOST_LINES:
            _log.info("%s %s %s", what, start.task_id, start.run_id)
        else:
            self._counted[what] += 1

    def _next_second(self) -> None:
        self._said, self._second = 0, None
        if self._counted:
            counted, self._counted = self._counted, Counter()
            _log.info("and in the same second: %s", ", ".join(f"{count} {what}" for what, count in counted.items()))


def _became(frame: Suspend | Finish | Release) -> str:
    """What became of a run here, in a word."""
    if isinstance(frame, Suspend):
        return "waiting"
    if isinstance(frame, Release):
        return "given back"
    return "canceled" if frame.canceled else "completed"


def _why(failure: Failure) -> str:
    return f"{failure.name or failure.code}: {failure.message.partition(chr(10))[0]}"
