"""What was asked of the server and is not answered yet: asked again, in order, after each reconnect."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

from stepwell.errors import StepwellError
from stepwell.protocol.frames import (
    Done,
    Finish,
    Refused,
    Release,
    Request,
    SetMetadata,
    Suspend,
    WriteJournal,
    WriteLogs,
)
from stepwell.protocol.refusals import ErrorBody, refusal

Asked = WriteJournal | Suspend | Finish | WriteLogs | SetMetadata | Release
Answered = Callable[[StepwellError | None], None]

MOST_LOGS = 1000
"""Unanswered frames of log lines that one run may have: while the server is away, what is said beyond them is lost."""


class _Pending(NamedTuple):
    request: Request
    answered: Answered


class Outbox:
    """`send` puts a request on the connection, if there is one; it returns whether it did."""

    def __init__(self, send: Callable[[Request], object]) -> None:
        self._send = send
        self._numbers = itertools.count(1)
        self._pending: dict[int, _Pending] = {}
        self._logs: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._pending)

    def ask(self, frame: Asked, answered: Answered | None = None) -> None:
        """Ask until it is answered: `answered(None)` after the commit, `answered(error)` if it was refused."""
        if isinstance(frame, WriteLogs):
            count = self._logs.get(frame.run_id, 0)
            if count >= MOST_LOGS:
                return
            self._logs[frame.run_id] = count + 1
        request = Request(next(self._numbers), frame)
        self._pending[request.id] = _Pending(request, answered or _ignore)
        self._send(request)

    def answer(self, answer: Done | Refused) -> None:
        """The server's answer. One that can be tried again is asked again at the next reconnect, or by `resend`."""
        if isinstance(answer, Refused) and answer.retryable:
            return
        pending = self._pending.pop(answer.id, None)
        if pending is None:
            return  # of a run that is no longer ours
        self._uncount(pending.request)
        pending.answered(_error(answer) if isinstance(answer, Refused) else None)

    def resend(self, request_id: int | None = None) -> None:
        """Ask again: everything, in order, or this one."""
        for number, pending in list(self._pending.items()):
            if request_id in (None, number):
                self._send(pending.request)

    def forget(self, run_id: str, epoch: int) -> list[Asked]:
        """Drop what is unanswered of a run that is no longer ours, and say what that was."""
        dropped: list[Asked] = []
        for number, pending in list(self._pending.items()):
            frame = pending.request.frame
            if frame.run_id == run_id and frame.epoch == epoch:
                self._uncount(self._pending.pop(number).request)
                dropped.append(frame)
        return dropped

    def _uncount(self, request: Request) -> None:
        frame = request.frame
        if isinstance(frame, WriteLogs):
            self._logs[frame.run_id] -= 1
            if not self._logs[frame.run_id]:
                del self._logs[frame.run_id]


def _error(refused: Refused) -> StepwellError:
    return refusal(refused.status, ErrorBody(error=refused.message, code=refused.code, hint=refused.hint))


def _ignore(_: StepwellError | None) -> None:
    pass
