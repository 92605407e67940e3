"""Requests that a run, or one attempt of it, end before its own end: a cancel, `max_duration`, `attempt_timeout`.

A request is an entry of the journal: CancelledError reaches the task at the same place each time, and what its clean-up
awaits is journaled. However the clean-up ends, the attempt ends as it was asked to, after a bounded time. The attempt
that follows one whose time was over does not find the request, nor the clean-up, in what it replays.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from stepwell.errors import AttemptTimeout, StepwellError
from stepwell.executor.journal import branch_of
from stepwell.executor.outcomes import Canceled, Failed, Outcome, failed, failure_of
from stepwell.executor.record import Record
from stepwell.executor.retrying import asked_for
from stepwell.model.checkpoint import CANCEL, OVERDUE, REQUESTS
from stepwell.model.retry import decide_retry

if TYPE_CHECKING:
    from stepwell.executor.attempt import Attempt


class Stopping:
    """delivered: the task has been told. canceled outweighs timed_out, and that outweighs overdue."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self.delivered = False
        self.canceled = False
        self.timed_out = False
        self.overdue = False
        self._given_up: Failed | None = None

    def begin(self) -> None:
        """What the attempt was given: a cancel that came before it, and its time."""
        attempt, given = self._attempt, self._attempt.given
        if given.cancel_grace is not None:
            self.cancel(given.cancel_grace)
        if given.duration_left is not None:
            attempt.alarm(max(0.0, given.duration_left), self._time_out)
        if given.attempt_left is not None:
            attempt.alarm(max(0.0, given.attempt_left), self._end_attempt)

    # ---- requests

    def cancel(self, grace: float) -> None:
        attempt = self._attempt
        if self.canceled or attempt.over:
            return
        self.canceled = True
        attempt.may_suspend = False
        attempt.alarm(grace, lambda: self._out_of_time(Canceled()))
        if not attempt.begun and not attempt.journal.prefix:  # nothing was done that could be cleaned up
            attempt.end(Canceled())
        else:
            self._ask()

    def _time_out(self) -> None:
        if not self.canceled:  # else it has its grace
            self.timed_out = True
            self._attempt.alarm(self._attempt.options.drain_seconds, lambda: self._out_of_time(self._failed_by_time()))
            self._ask()
            self._attempt.kick()

    def _end_attempt(self) -> None:
        if not (self.canceled or self.timed_out or self._attempt.asked_to_end):
            self.overdue = True
            self._attempt.alarm(self._attempt.options.drain_seconds, lambda: self._out_of_time(self.overdue_outcome()))
            self._ask()
            self._attempt.kick()

    def _out_of_time(self, outcome: Outcome) -> None:
        """The clean-up has taken too long. What is being undone is not broken off."""
        attempt = self._attempt
        if attempt.not_undone is None:
            left = [f"{undo.step}: its time to clean up was over" for undo in reversed(attempt.undos)]
            keeps = isinstance(outcome, Canceled) or (isinstance(outcome, Failed) and self.is_last(outcome))
            attempt.end(replace(outcome, not_undone=left) if left and keeps else outcome)  # pyright: ignore[reportCallIssue]

    # ---- their way to the task

    def _ask(self) -> None:
        """Its place is behind all that is journaled, and before anything new is begun."""
        attempt = self._attempt
        if attempt.journal.canceled or attempt.unjournaled:
            return
        if not attempt.journal.at_end or not attempt.begun:
            attempt.journal.held = True
        else:
            self.post()

    def post(self) -> None:
        """Journal the request, once."""
        attempt = self._attempt
        if attempt.journal.canceled:
            return
        attempt.journal.canceled = True
        only_the_attempt = self.overdue and not (self.canceled or self.timed_out)
        record = Record(OVERDUE if only_the_attempt else CANCEL, "order", "value")
        record.set_value("timed_out" if self.timed_out else None)
        record.deliver = self.deliver
        attempt.mailbox.post(record)

    def deliver(self, record: Record) -> None:
        """The request's turn, live or on replay. Nothing of the run is canceled before."""
        attempt = self._attempt
        attempt.journal.held = False
        self.timed_out = self.timed_out or record.value == "timed_out"
        self.overdue = self.overdue or record.key == OVERDUE
        self.delivered = True
        attempt.may_suspend = False
        attempt.cancel_task(
            "the run was canceled"
            if record.key == CANCEL and not self.timed_out
            else "max_duration is over"
            if self.timed_out
            else "attempt_timeout is over"
        )

    # ---- how it ends

    def comes_next(self, hook: str = "") -> bool:
        """Whether a cancel that was asked for has yet to reach the task, whose code has ended. As what it is asked to,
        and no other, it can end, so it must be told: by its undos and its hook. hook: what would come otherwise. Not
        where the journal has that, or what leads to it (undos of a failure), before the request."""
        attempt = self._attempt
        if not self.canceled or self.delivered or attempt.unjournaled:
            return False
        rest = [each for each in attempt.journal.prefix[attempt.journal.cursor :] if each.kind != "timer"]
        if hook and any(each.key.startswith(f"|{hook}#") for each in rest):
            return False
        own = next((each for each in rest if each.key in REQUESTS or not branch_of(each.key)), None)
        return own is None or own.key in REQUESTS

    @property
    def goes_on(self) -> bool:
        """Only this attempt is over, and another follows: nothing is undone."""
        return self.delivered and not (self.canceled or self.timed_out) and not self.is_last(self.overdue_outcome())

    def is_last(self, outcome: Failed) -> bool:
        given = self._attempt.given
        again = decide_retry(given.retry, code=outcome.failure.code, attempt=self._attempt.number, crashes=0)
        return outcome.no_retry or again.after is None

    def outcome(self, error: BaseException | None) -> Outcome:
        """It was to end so, and does, whatever its clean-up came to."""
        not_undone = self._attempt.not_undone
        if self.canceled or not (self.timed_out or self.overdue):
            own = None if error is None or isinstance(error, asyncio.CancelledError) else failure_of(error, "error")
            return Canceled(own, not_undone)
        return replace(self._failed_by_time() if self.timed_out else self.overdue_outcome(), not_undone=not_undone)

    def _failed_by_time(self) -> Failed:
        error = StepwellError(
            "the run executed longer than its max_duration",
            code="timed-out",
            hint="raise max_duration on the task, or find in its timeline what takes so long",
        )
        return Failed(failure_of(error, "timed_out"), no_retry=True, error=error)

    def overdue_outcome(self) -> Failed:
        """The attempt has failed by its time; the task's policy is asked, once, as of any other failure."""
        if self._given_up is None:
            attempt = self._attempt
            error = AttemptTimeout(
                f"attempt {attempt.number} executed longer than its attempt_timeout",
                hint="raise attempt_timeout on the task, or give the step that took so long a timeout of its own",
            )
            when = getattr(getattr(attempt.task, "retry", None), "when", None)
            self._given_up = failed(error, asked_for(when, error, attempt.number, partial(attempt.warn_once, "retry")))
        return self._given_up
