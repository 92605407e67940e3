"""Whether an executor of one run at a time may go on to another one after it has suspended a run.

Nothing of a suspended run may be unwound, and nothing of it may be in the way of the next one. Where unwinding would
have run no line of the user's, and the run leaves nothing in the process but its coroutines, these are kept, as in a
shared process, and the process goes on. In doubt it ends: that costs a fork, and nothing else.
(docs/adr/0008-a-plain-suspension-keeps-its-process.md)
"""

from __future__ import annotations

from stepwell.executor import graveyard
from stepwell.executor.attempt import Attempt
from stepwell.executor.belongings import why_not_plain
from stepwell.executor.loop import DurableLoop
from stepwell.executor.surroundings import Surroundings, resident
from stepwell.protocol.frames import StartAttempt

MOST = 50
"""Suspended runs that one process keeps: by then a fork costs each of them next to nothing."""
GROWTH = 32 * 1024 * 1024
"""Bytes by which a process may grow from its first suspended run to its last, or an eighth of its memory limit."""


class Burials:
    """Of one process. Asked with each run that begins and each that is suspended."""

    def __init__(self, loop: DurableLoop) -> None:
        self._loop = loop
        self._before: Surroundings | None = None
        self._looked = False
        self._resident = 0
        self.count = 0

    def begins(self, start: StartAttempt) -> None:
        """Before anything of the run is executed. Only the first run finds the process as it was."""
        if not self._looked and start.warm and start.isolation == "process":
            self._looked = True
            self._before = Surroundings.now(self._loop)

    def why_not(self, start: StartAttempt, attempt: Attempt) -> str | None:
        """Why this process has to end now that the run is suspended. None: it may go on, and keeps the run."""
        if start.isolation != "process" or not start.warm or self._before is None:
            return "it serves one run only"
        if self.count >= MOST:
            return f"it keeps {MOST} runs already"
        why = why_not_plain(attempt) or self._before.why_other(Surroundings.now(self._loop)) or self._grown(start)
        if why is None:
            self.count += 1
            graveyard.forget_tasks(attempt.branches)
        return why

    @property
    def alone(self) -> bool:
        """Nothing is kept here but those."""
        return graveyard.size() == self.count

    def _grown(self, start: StartAttempt) -> str | None:
        now = resident()
        self._resident = self._resident or now
        return "its memory has grown" if now - self._resident > min(GROWTH, start.memory // 8) else None
