"""What has completed, on its way to being stored: completed -> stored -> delivered, never in another order.

While one write is under way the next batch gathers, so the slower the store, the larger its batches.

A task with `durability="relaxed"` is told what its steps came to before that is stored. The order stays: what runs
ahead has its place in the journal already, and is written in that order, one batch at a time. Nothing that others can
see runs ahead: entries that trigger or make something are withheld until they are stored, after all before them; so are
the run's suspension and its end. A write that is refused ends the attempt: its task has gone on with what is not there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from stepwell.codec.body import undoable
from stepwell.errors import CheckpointError, LeaseLost, StepwellError
from stepwell.executor.journal import MAX_ENTRIES
from stepwell.executor.record import Record
from stepwell.model.checkpoint import Checkpoint
from stepwell.protocol.frames import Spawn

if TYPE_CHECKING:
    from stepwell.executor.attempt import Attempt

MOST_AHEAD = 100
"""Entries that may wait to be written while the run goes on without them; as many may be on their way."""
MOST_BYTES_AHEAD = 1024 * 1024
_PRIVATE = frozenset({"step", "timer", "children", "order"})
"""Kinds of entries that change nothing outside of the run. `named` is not one: it is what its author wants kept."""


class Mailbox:
    """The records of one attempt that are not delivered yet."""

    def __init__(self, attempt: Attempt, on_fatal: Callable[[BaseException], None]) -> None:
        self._attempt = attempt
        self._on_fatal = on_fatal
        self._completed: deque[Record] = deque()
        self._late: deque[Record] = deque()  # came behind what is to be the last entry
        self._sealed = False
        self._one_by_one = False
        self.stored: deque[Record] = deque()
        self.writing = False
        self._relaxed = getattr(attempt.task, "durability", "strict") == "relaxed"
        self._ahead = 0  # so many at the head of `_completed` run ahead: they are delivered, or among `stored`
        self._bytes_ahead = 0
        self._on_their_way = 0  # entries in the write under way
        self._withheld = False  # these are not delivered yet

    def __bool__(self) -> bool:
        """Whether anything is still on its way."""
        return self.writing or bool(self._completed) or bool(self.stored)

    @property
    def behind(self) -> bool:
        """The run has been told of something that is not stored yet."""
        return not self._attempt.unjournaled and (self._ahead > 0 or (self.writing and not self._withheld))

    def ready(self) -> bool:
        """Whether `stored` has something to deliver."""
        if self._relaxed and not self.stored:
            self._run_ahead()
        return bool(self.stored)

    def _run_ahead(self) -> None:
        attempt = self._attempt
        if attempt.unjournaled or self._withheld or self._one_by_one:
            return
        while self._ahead < min(len(self._completed), MOST_AHEAD) and self._bytes_ahead < MOST_BYTES_AHEAD:
            record = self._completed[self._ahead]
            seq = attempt.journal.next_seq + self._on_their_way + self._ahead
            if record.kind not in _PRIVATE or record.children is not None or seq >= MAX_ENTRIES:
                return
            record.seq, record.at = seq, max(attempt.clock, attempt.port.now())
            self._ahead += 1
            self._bytes_ahead += len(record.text)
            self.stored.append(record)

    def post(self, record: Record) -> None:
        late = self._sealed and not record.key.startswith("!")
        (self._late if late else self._completed).append(record)
        self._attempt.kick()

    def seal(self) -> None:
        """What comes from now on is not stored: the attempt has noted what it failed by, and the next one reads what
        stands behind that as its own."""
        self._sealed = True

    def flush(self) -> None:
        """Begin to store all that has completed, unless a write is under way."""
        if self._attempt.unjournaled:
            self._completed += self._late
            self._late.clear()
        if self.writing or not self._completed:
            return
        if self._attempt.unjournaled:
            self.stored.extend(list(self._completed)[self._ahead :])
            self._completed.clear()
            self._ahead = 0
            self._attempt.kick()
            return
        batch = self._next_batch()
        if self._attempt.journal.next_seq + len(batch) > MAX_ENTRIES:
            self._on_fatal(_full(self._attempt.run_id))
            return
        self.writing = True
        if self._completed and not self._withheld:
            self._attempt.kick()  # there is room to run ahead again
        try:
            entries, spawns = self._entries(batch)
            self._attempt.port.persist(entries, spawns, partial(self._answered, batch))
        except Exception as error:  # noqa: BLE001 - the way to the store broke: as much an answer as a refusal
            self._answered(batch, error)

    def _next_batch(self) -> list[Record]:
        """What runs ahead alone: a refusal of the rest can be told to the task."""
        count = self._ahead or (1 if self._one_by_one else len(self._completed))
        self._withheld = not self._ahead
        self._ahead = self._bytes_ahead = 0
        self._on_their_way = count
        return [self._completed.popleft() for _ in range(count)]

    def _answered(self, batch: list[Record], error: Exception | None) -> None:
        """What was to be stored is, or is not. Not within a run's own lines."""
        ahead, self._withheld, self._on_their_way = not self._withheld, False, 0
        if error is None:
            self._attempt.journal.next_seq += len(batch)
            self._one_by_one = self._one_by_one and bool(self._completed)
            if not ahead:
                self.stored.extend(batch)
        elif ahead:
            if not self._attempt.unjournaled:
                self._on_fatal(error)
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
            if self._withheld:
                record.seq, record.at = seq, at
            body = attempt.journal.texts.pack(record.key, seq, record.text)
            if record.undoable:
                body = undoable(body)
            entries.append(
                Checkpoint(
                    seq,
                    record.key,
                    record.kind,
                    record.outcome,
                    record.at,
                    record.started or record.at,
                    body,
                    record.site,
                    attempt.number,
                    record.nested,
                    record.fingerprint,
                )
            )
            if record.children is not None:
                spawns.append(Spawn(seq, record.children))
            elif record.token is not None:
                spawns.append(Spawn(seq, [], record.token))
            elif record.permit is not None:
                spawns.append(Spawn(seq, [], permit=record.permit))
            elif record.reply is not None or record.given_up is not None:
                spawns.append(Spawn(seq, [], reply=record.reply, given_up=record.given_up))
            seq += 1
        return entries, spawns

    def _lost(self, batch: list[Record], error: LeaseLost) -> None:
        if self._attempt.unjournaled:  # the task has ended: what is left of its branches goes on without the journal
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
            batch[0].children = batch[0].token = batch[0].permit = batch[0].reply = None
            batch[0].set_error(error)
        self._completed.extendleft(reversed(batch))


def _full(run_id: str) -> CheckpointError:
    return CheckpointError(
        f"run {run_id} has {MAX_ENTRIES} entries in its journal, which is the most that one run may have",
        code="journal-full",
        hint="continue as new: trigger this task again with what is left to do as its payload, and return",
    )
