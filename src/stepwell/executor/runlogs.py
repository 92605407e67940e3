"""The lines that one run has said and that are not sent yet. Bounded: a flood loses lines, never the process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from stepwell.protocol.frames import LogRecord

BURST = 2000
"""Lines that a run may say at once."""
RATE = 500.0
"""Lines a second that it may say for ever."""
LONGEST = 16 * 1024
"""Characters of one line; the rest is cut off."""


class RunLogs:
    """Added to from any thread. `now` is Postgres's clock; `on_first` is told that there is something to take."""

    def __init__(
        self,
        now: Callable[[], float],
        on_first: Callable[[], None],
        *,
        burst: int = BURST,
        rate: float = RATE,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.now = now
        self._on_first = on_first
        self._burst = burst
        self._rate = rate
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._records: list[LogRecord] = []
        self._allowance = float(burst)
        self._filled = monotonic()
        self._dropped = 0

    def add(self, record: LogRecord) -> None:
        """Keep a line, or count it as dropped."""
        with self._lock:
            if not self._take_allowance():
                self._dropped += 1
                return
            first = not self._records
            self._note_dropped()
            self._records.append(_cut(record))
        if first:
            self._on_first()

    def take(self, *, last: bool = False) -> list[LogRecord]:
        """Everything that is there. `last`: nothing follows, so that what was dropped has to be told now."""
        with self._lock:
            if last:
                self._note_dropped()
            records, self._records = self._records, []
            return records

    def _take_allowance(self) -> bool:
        now = self._monotonic()
        self._allowance = min(self._burst, self._allowance + (now - self._filled) * self._rate)
        self._filled = now
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True

    def _note_dropped(self) -> None:
        if self._dropped:
            message = f"{self._dropped} lines were dropped: more than {self._burst} at once or {self._rate:g} a second"
            self._records.append(LogRecord(self.now(), "WARNING", message, logger="stepwell"))
            self._dropped = 0


def _cut(record: LogRecord) -> LogRecord:
    if len(record.message) <= LONGEST:
        return record
    message = f"{record.message[:LONGEST]}… ({len(record.message) - LONGEST} more characters were cut off)"
    return LogRecord(record.at, record.level, message, record.stream, record.logger, record.step, record.attributes)
