"""What has completed, on its way to being stored: completed -> stored -> delivered, never in another order.

While one write is under way the next batch gathers, so the slower the store, the larger its batches.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from stepwell.errors import CheckpointError, LeaseLost, StepwellError
from stepwell.executor.journal import MAX_ENTRIES
from stepwell.executor.record import Record
from stepwell.model.checkpoint import Checkpoint
from stepwell.protocol.frames import Spawn

if TYPE_CHECKING:
    from stepwell.executor.attempt import Attempt


class Mailbox:
    """The records of one attempt that are not delivered yet."""

    def __init__(self, attempt: Attempt, on_fatal: Callable[[BaseException], None]) -> None:
        self._attempt = attempt
        self._on_fatal = on_fatal
        self._completed: deque[Record] = deque()
        self._one_by_one = False
        self.stored: deque[Record] = deque()
        self.writing = False

    def __bool__(self) -> bool:
        """Whether anything is still on its way."""
        return self.writing or bool(self._completed) or bool(self.stored)

    def post(self, record: Record) -> None:
        self._completed.append(record)
        self._attempt.kick()

    def flush(self) -> None:
        """Begin to store all that has completed, unless a write is under way."""
        if self.writing or not self._completed:
            return
        if self._attempt.unjournaled:
            self.stored.extend(self._completed)
            self._completed.clear()
            self._attempt.kick()
            return
        batch = [self._completed.popleft()] if self._one_by_one else list(self._completed)
        if not self._one_by_one:
            self._completed.clear()
        if self._attempt.journal.next_seq + len(batch) > MAX_ENTRIES:
            self._on_fatal(_full(self._attempt.run_id))
            return
        self.writing = True
        try:
            entries, spawns = self._entries(batch)
            self._attempt.port.persist(entries, spawns, partial(self._answered, batch))
        except Exception as error:  # noqa: BLE001 - the way to the store broke: as much an answer as a refusal
            self._answered(batch, error)

    def _answered(self, batch: list[Record], error: Exception | None) -> None:
        """What was to be stored is, or is not. Not within a run's own lines."""
        if error is None:
            self._attempt.journal.next_seq += len(batch)
            self._one_by_one = self._one_by_one and bool(self._completed)
            self.stored.extend(batch)
        elif isinstance(error, LeaseLost):
            self._lost(batch, error)
        elif isinstance(error, StepwellError):
            self._refused(batch, error)
        else:
            self._on_fatal(error)
        self.writing = False
        self._attempt.turn()

    def _entries(self, batch: list[Record]) -> tuple[list[Checkpoint], list[Spawn]]:
        attempt = self._attempt
        at = max(attempt.clock, attempt.port.now())
        seq = attempt.journal.next_seq
        entries: list[Checkpoint] = []
        spawns: list[Spawn] = []
        for record in batch:
            record.seq, record.at = seq, at
            body = attempt.journal.texts.pack(record.key, seq, record.text)
            entries.append(
                Checkpoint(
                    seq,
                    record.key,
                    record.kind,
                    record.outcome,
                    at,
                    record.started or at,
                    body,
                    record.site,
                    attempt.number,
                    record.nested,
                    record.fingerprint,
                )
            )
            if record.children is not None:
                spawns.append(Spawn(seq, record.children))
            seq += 1
        return entries, spawns

    def _lost(self, batch: list[Record], error: LeaseLost) -> None:
        if self._attempt.unjournaled:  # canceled meanwhile: the cleanup goes on, the server takes nothing more of it
            self.stored.extend(batch)
        else:
            self._on_fatal(error)

    def _refused(self, batch: list[Record], error: StepwellError) -> None:
        """Nothing of the batch was stored. One of it was refused for what it is: find out which."""
        self._attempt.journal.texts.forget()
        if len(batch) > 1:
            self._one_by_one = True
        elif batch[0].outcome == "error":
            self._on_fatal(error)
        else:
            batch[0].children = None
            batch[0].set_error(error)
        self._completed.extendleft(reversed(batch))


def _full(run_id: str) -> CheckpointError:
    return CheckpointError(
        f"run {run_id} has {MAX_ENTRIES} entries in its journal, which is the most that one run may have",
        code="journal-full",
        hint="continue as new: trigger this task again with what is left to do as its payload, and return",
    )
