"""One attempt's way to its worker: `executor.port.AttemptPort` over the channel."""

from __future__ import annotations

import contextvars
import time
from collections.abc import Sequence
from dataclasses import replace

from stepwell.codec.payload import Packet, to_plain
from stepwell.errors import LeaseLost
from stepwell.executor.channel import Channel
from stepwell.executor.loop import DurableLoop
from stepwell.executor.outcomes import Canceled, Completed, Discarded, Failed, Outcome, Suspended
from stepwell.executor.port import Answered
from stepwell.executor.runlogs import RunLogs
from stepwell.model.checkpoint import Checkpoint
from stepwell.model.failure import Failure
from stepwell.protocol.frames import (
    AskLink,
    AwaitChildren,
    AwaitPermits,
    AwaitTokens,
    Finish,
    LogRecord,
    Persisted,
    Rejected,
    SetMetadata,
    Spawn,
    StartAttempt,
    Suspend,
    Undoing,
    WriteJournal,
    WriteLogs,
)
from stepwell.protocol.refusals import ErrorBody, refusal

_NOWHERE = contextvars.Context()  # a line is said in a run; sending it belongs to none

LOG_DELAY = 0.1
"""Seconds that log lines wait for others to travel with."""


class RunPort:
    """Writes are matched with their answers by the seq of their last entry."""

    def __init__(self, start: StartAttempt, channel: Channel, loop: DurableLoop) -> None:
        self.logs = RunLogs(self.now, self._something_said)
        self._run_id = start.run_id
        self._epoch = start.epoch
        self._attempt = start.attempt
        self._channel = channel
        self._loop = loop
        self._offset = start.now - time.monotonic()
        self._unanswered: dict[int, Answered] = {}

    def now(self) -> float:
        """Postgres's clock when the attempt was sent, carried on by a clock that nobody sets."""
        return self._offset + time.monotonic()

    def persist(self, entries: Sequence[Checkpoint], spawns: Sequence[Spawn], answered: Answered) -> None:
        self._unanswered[entries[-1].seq] = answered
        self._channel.send(WriteJournal(self._run_id, self._epoch, list(entries), list(spawns)))

    def await_children(self, spawn_keys: Sequence[str]) -> None:
        self._channel.send(AwaitChildren(self._run_id, self._epoch, list(spawn_keys)))

    def await_tokens(self, token_ids: Sequence[str]) -> None:
        self._channel.send(AwaitTokens(self._run_id, self._epoch, list(token_ids)))

    def ask_link(self, token_id: str) -> None:
        self._channel.send(AskLink(self._run_id, self._epoch, token_id))

    def undoing(self) -> None:
        self._channel.send(Undoing(self._run_id, self._epoch))

    def await_permits(self, keys: Sequence[str]) -> None:
        self._channel.send(AwaitPermits(self._run_id, self._epoch, list(keys)))

    def log(self, record: LogRecord) -> None:
        self.logs.add(record)

    def set_metadata(self, document: bytes) -> None:
        self._channel.send(SetMetadata(self._run_id, self._epoch, document))

    def persisted(self, frame: Persisted) -> None:
        """Everything up to this entry is committed."""
        if len(self._unanswered) == 1 and (answered := self._unanswered.pop(frame.seq, None)) is not None:
            answered(None)
            return
        for seq in [seq for seq in self._unanswered if seq <= frame.seq]:
            self._unanswered.pop(seq)(None)

    def rejected(self, frame: Rejected) -> None:
        """The write that ended with this entry was refused."""
        answered = self._unanswered.pop(frame.seq, None)
        if answered is not None:
            lost = frame.code == LeaseLost.default_code
            said = ErrorBody(error=frame.message, code=frame.code, hint=frame.hint)
            answered(LeaseLost(frame.message) if lost else refusal(frame.status, said))

    def send_logs(self, *, last: bool = False) -> None:
        """What was said until now."""
        records = self.logs.take(last=last)
        if records:
            self._channel.send(WriteLogs(self._run_id, self._epoch, self._attempt, records))

    def _something_said(self) -> None:
        """From any thread, in any context."""
        self._loop.call_soon_threadsafe(self._send_soon, context=_NOWHERE)

    def _send_soon(self) -> None:
        self._loop.call_at_outside(self._loop.time_outside() + LOG_DELAY, self.send_logs)


def payload_of(start: StartAttempt) -> object:
    """The decoded payload. Raises PayloadInvalid."""
    return to_plain(Packet(start.payload, start.payload_type))


def _named_by_cause(outcome: Failed) -> Failure:
    """Memory that the kernel refuses is the same end as a process killed for its memory."""
    if isinstance(outcome.error, MemoryError):
        return replace(outcome.failure, code="out_of_memory", hint="raise memory= on the task, or work on less at once")
    return outcome.failure


def frame_of(start: StartAttempt, outcome: Outcome) -> Suspend | Finish | None:
    """What the worker is told of an outcome; nothing of one that is not ours any more."""
    match outcome:
        case Completed():
            return Finish(start.run_id, start.epoch, output=outcome.output, output_type=outcome.output_type)
        case Failed():
            return Finish(
                start.run_id,
                start.epoch,
                failure=_named_by_cause(outcome),
                retry_after=outcome.retry_after,
                no_retry=outcome.no_retry,
                not_undone=outcome.not_undone,
            )
        case Suspended():
            return Suspend(start.run_id, start.epoch, outcome.waits)
        case Canceled():
            return Finish(
                start.run_id, start.epoch, canceled=True, failure=outcome.failure, not_undone=outcome.not_undone
            )
        case Discarded():
            return None
