"""Each claimed run's way through this worker: `starts` gives it to an executor, here it goes on to its end."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial

import msgspec

from stepwell.errors import StepwellError
from stepwell.model.failure import Failure
from stepwell.protocol import frames
from stepwell.protocol.frames import Discard, Finish, LogRecord, Release, StartAttempt, Suspend, WriteJournal, WriteLogs
from stepwell.protocol.refusals import status_of
from stepwell.worker.assignments import Assignment
from stepwell.worker.companions import Companions
from stepwell.worker.endings import Cause, Ending, attempt_timed_out, failure_of, timed_out
from stepwell.worker.leases import Leases
from stepwell.worker.outbox import Outbox
from stepwell.worker.process import Executor
from stepwell.worker.runlines import RunLines
from stepwell.worker.settings import WorkerSettings
from stepwell.worker.starts import Executors, Starts

CANCEL_KILL_SECONDS = 0.5
"""How long after its grace an executor has to say that a canceled run has ended, before it is killed."""
DISCARD_SECONDS = 2.0
"""How long a shared executor has to let go of a run before it is killed with all that it holds."""
_TROUBLE_SECONDS = 1.0
_LAST_LINES = 200
_MOST_DISOWNED = 1000
_LOST = "lease-lost"
_log = logging.getLogger("stepwell.worker")


class Dispatcher:
    """All runs of this worker. Everything here happens on the event loop's thread."""

    def __init__(
        self,
        settings: WorkerSettings,
        outbox: Outbox,
        leases: Leases,
        send: Callable[[frames.Frame], bool],
        companions: Companions,
    ) -> None:
        self._settings = settings
        self._outbox = outbox
        self._leases = leases
        self._send = send
        self._companions = companions
        self._lines = RunLines()
        self._runs: dict[str, Assignment] = {}
        self._disowned: dict[str, int] = {}
        self._starts = Starts(settings, leases, self, self._lines, send)

    @property
    def staff(self) -> Executors:
        return self._starts.staff

    @staff.setter
    def staff(self, staff: Executors) -> None:
        """Once, before the first run comes: the two know one another."""
        self._starts.staff = staff

    # ── from the server ──────────────────────────────────────────────────────────────────────────────────────────────

    def welcomed(self) -> None:
        """A new connection: ask again for what is unanswered and waited for, and say how much room there is."""
        self._outbox.resend()
        for run in self._runs.values():
            if run.awaited:
                self._send(frames.AwaitChildren(run.run_id, run.epoch, sorted(run.awaited)))
            if run.tokens:
                self._send(frames.AwaitTokens(run.run_id, run.epoch, sorted(run.tokens)))
            if run.permits:
                self._send(frames.AwaitPermits(run.run_id, run.epoch, sorted(run.permits)))
        self._starts.connected()

    def disconnected(self) -> None:
        self._starts.disconnected()

    def receive(self, frame: frames.ToWorker) -> None:
        """Any frame but the welcome."""
        match frame:
            case StartAttempt():
                self._came(frame)
            case frames.Done() | frames.Refused():
                self._outbox.answer(frame)
                if isinstance(frame, frames.Refused) and frame.retryable:
                    asyncio.get_running_loop().call_later(_TROUBLE_SECONDS, self._outbox.resend, frame.id)
            case frames.ChildrenEnded() | frames.TokensClosed() | frames.PermitsAnswered() | frames.TokenLink():
                self._told(frame)
            case frames.CancelRun():
                self.cancel(frame.run_id, frame.epoch, frame.grace)
            case frames.LeaseLostNotice():
                self.lost(frame.run_id, frame.epoch)
            case frames.Welcome() | frames.Draining():
                pass

    def _told(
        self, frame: frames.ChildrenEnded | frames.TokensClosed | frames.PermitsAnswered | frames.TokenLink
    ) -> None:
        """What a run waits for has come."""
        run = self._runs.get(frame.run_id)
        if run is None or run.executor is None:
            return
        match frame:
            case frames.ChildrenEnded():
                if not frame.more:  # else all of it is told anew on the next connection, if this one breaks
                    run.awaited.discard(frame.spawn_key)
            case frames.TokensClosed():
                run.tokens.difference_update(outcome.token_id for outcome in frame.outcomes)
            case frames.PermitsAnswered():
                run.permits.difference_update(answer.key for answer in frame.answers)
            case frames.TokenLink():
                pass
        run.executor.send(frame)

    def lost(self, run_id: str, epoch: int) -> None:
        """The run is not ours any more: nothing of it is written, and whoever has it stops."""
        run = self._current(run_id, epoch)
        if run is not None:
            _log.warning("lease of %s (epoch %d) lost", run_id, epoch)
            self._void(run)

    def cancel(self, run_id: str, epoch: int, grace: float) -> None:
        """The run is to end as canceled: its code gets CancelledError and `grace` seconds to clean up."""
        run = self._current(run_id, epoch)
        if run is None or run.answered or run.stopping is not None:
            return
        self._starts.take_back(run.ahead or run.executor)
        if run.executor is None:  # it begins with that
            run.start = msgspec.structs.replace(run.start, cancel_grace=grace)
            return
        run.executor.send(frames.CancelRun(run_id, epoch, grace))
        self.stop_after(run, grace)

    def stop_after(self, run: Assignment, grace: float) -> None:
        run.stopping = "canceled"
        run.later(grace + CANCEL_KILL_SECONDS, self._over_grace)

    def _over_grace(self, run: Assignment) -> None:
        """Its executor, which should have ended it by itself, has not."""
        if run.executor is not None and not run.answered:
            self._stop_by_force(run, run.executor, "canceled", Finish(run.run_id, run.epoch, canceled=True))

    def give_back_unheld(self, run_id: str, epoch: int) -> None:
        """Leased to us, but not here. Should it still be on its way, then it comes too late."""
        known = self._runs.get(run_id)
        if known is None or known.epoch < epoch:
            _log.warning("run %s (epoch %d) never came: it is given back", run_id, epoch)
            self._disowned[run_id] = epoch
            while len(self._disowned) > _MOST_DISOWNED:
                del self._disowned[next(iter(self._disowned))]
            self._outbox.ask(Release(run_id, epoch))

    def _came(self, start: StartAttempt) -> None:
        self._starts.announced()
        if self._disowned.get(start.run_id, -1) >= start.epoch:
            return
        known = self._runs.get(start.run_id)
        if known is not None:
            if known.epoch >= start.epoch:
                return
            self._void(known)
        now = time.monotonic()
        run = self._runs[start.run_id] = Assignment(start, now)
        self._leases.add(start.run_id, start.epoch, start.lease_seconds, start.now, now)
        self._starts.came(run)

    def is_here(self, run: Assignment) -> bool:
        """Whether it may still be given to an executor."""
        return self._runs.get(run.run_id) is run and not run.answered

    # ── from executors ───────────────────────────────────────────────────────────────────────────────────────────────

    def said(self, executor: Executor, frame: frames.FromExecutor) -> None:
        """A frame from an executor: only about runs that it was given."""
        if isinstance(frame, frames.Released):
            self._released(executor, frame)
            return
        if isinstance(frame, frames.NotBegun):
            self._not_begun(executor, frame.run_id)
            return
        run = self._runs.get(frame.run_id)
        if run is None or run.executor is not executor or run.epoch != frame.epoch or run.answered:
            return
        match frame:
            case WriteJournal():
                self._companions.wrote(run.run_id)
                self._outbox.ask(frame, partial(self._journaled, run, frame.entries[-1].seq))
            case frames.Stuck():
                run.doom = frame.failure
                executor.kill("stuck")
            case frames.Undoing():
                run.stop_timers()
            case Suspend() | Finish():
                self._over(run, executor, frame)
            case frames.AwaitChildren() | frames.AwaitTokens() | frames.AwaitPermits() | frames.AskLink():
                self._wants_to_hear(run, frame)
            case WriteLogs() | frames.SetMetadata():
                self._outbox.ask(frame)

    def _wants_to_hear(
        self,
        run: Assignment,
        frame: frames.AwaitChildren | frames.AwaitTokens | frames.AwaitPermits | frames.AskLink,
    ) -> None:
        match frame:
            case frames.AwaitChildren():
                run.awaited.update(frame.spawn_keys)
            case frames.AwaitTokens():
                run.tokens.update(frame.token_ids)
            case frames.AwaitPermits():
                run.permits.update(frame.keys)
            case frames.AskLink():
                pass  # who gets no answer asks again by himself
        self._send(frame)

    def ended(self, executor: Executor, ending: Ending) -> None:
        """An executor process is gone. Runs that it had have crashed, unless we ended them."""
        self.staff.gone(executor)
        self._starts.gone(executor)
        for run_id in list(executor.runs):
            executor.runs.discard(run_id)
            self._starts.slot_left()
            run = self._runs.get(run_id)
            if run is not None and run.executor is executor:
                run.executor = None
                self._leases.guard(run_id, run.epoch, None)
                if run.answered:
                    continue
                if run.presumed:  # it did not come to that
                    self._release(run)
                else:
                    self._last_words(run, executor)
                    self._crashed(run, ending)
        self._starts.slots_free()

    def _released(self, executor: Executor, frame: frames.Released) -> None:
        if frame.run_id not in executor.runs:
            return
        self._leaves(executor, frame.run_id)
        self._starts.goes_on(executor, frame)
        following = self._runs.get(frame.begun)
        if following is not None:
            following.presumed = False
        self.staff.left(executor)
        self._starts.slots_free()

    def _not_begun(self, executor: Executor, run_id: str) -> None:
        """It has taken a run that was handed to it ahead, too late to begin it."""
        self._starts.take_back(executor)  # after which this one counts as begun
        if run_id in executor.runs:
            self._leaves(executor, run_id)

    def _leaves(self, executor: Executor, run_id: str) -> None:
        executor.runs.discard(run_id)
        self._starts.slot_left()
        run = self._runs.get(run_id)
        if run is not None and run.executor is executor:
            run.executor = None
            run.stop_timers()
            self._leases.guard(run_id, run.epoch, None)
            if not run.answered:  # discarded because this worker stops, or not begun
                self._release(run)

    def _journaled(self, run: Assignment, seq: int, error: StepwellError | None) -> None:
        if error is not None and error.code == _LOST:
            self.lost(run.run_id, run.epoch)
        elif run.executor is not None:
            answer = (
                frames.Persisted(run.run_id, seq)
                if error is None
                else frames.Rejected(run.run_id, seq, error.code, error.message, error.hint, status_of(error))
            )
            self._companions.answered(run.run_id)
            run.executor.send(answer)

    def _over(self, run: Assignment, executor: Executor, frame: Suspend | Finish) -> None:
        if isinstance(frame, Suspend) and not frame.stays:
            self.staff.suspended(executor)
            self._starts.take_back(executor)
        self.end(run, frame)

    def over_time(self, run: Assignment) -> None:
        """Its max_duration is over, and its executor, which should have ended it by itself, has not."""
        self._doom(run, "timed_out", timed_out(run.start.duration_left or 0))

    def over_attempt(self, run: Assignment) -> None:
        """The same of its attempt_timeout."""
        self._doom(run, "timed_out", attempt_timed_out(run.start.attempt, run.start.attempt_left or 0))

    def _doom(self, run: Assignment, cause: Cause, failure: Failure) -> None:
        executor = run.executor
        if executor is not None and not run.answered:
            run.doom = failure
            self._stop_by_force(run, executor, cause, self._finish(run, failure))

    def _stop_by_force(self, run: Assignment, executor: Executor, cause: Cause, ended: Finish) -> None:
        """Its end is told when nothing of it can happen any more: of a process, when that is dead (`_crashed`)."""
        if executor.isolation == "process":
            self._kill(run, executor, cause)
        else:
            self.end(run, ended)
            self._discard(executor, run.run_id)

    def _kill(self, run: Assignment, executor: Executor, cause: Cause) -> None:
        """Unless it has gone on to its next run: then this one has ended by itself, and that is on its way to us."""
        self._starts.take_back(executor)
        if executor.current == run.run_id:
            executor.kill(cause)

    def _crashed(self, run: Assignment, ending: Ending) -> None:
        if ending.cause == "lease" and not self._leases.trusted(run.run_id, run.epoch, time.monotonic()):
            self._void(run)
        elif ending.cause in ("drain", "lease"):  # of another run, which had come before or was to come after it
            self._release(run)
        elif ending.cause == "canceled":
            self.end(run, Finish(run.run_id, run.epoch, canceled=True))
        elif run.doom is not None:
            self.end(run, self._finish(run, run.doom))
        else:
            failure = failure_of(ending)
            _log.warning("run %s: %s", run.run_id, failure.message)
            self.end(run, Finish(run.run_id, run.epoch, failure=failure, crashed=True))

    def _last_words(self, run: Assignment, executor: Executor) -> None:
        """What the dead executor had not read any more of its own output, if it can only be of one run."""
        now = time.time()
        records = [
            LogRecord(now, "ERROR" if stream == "stderr" else "INFO", line, stream)
            for stream, text in executor.last_output.items()
            for line in text.splitlines()[-_LAST_LINES:]
        ]
        if records and executor.isolation == "process":
            self._outbox.ask(WriteLogs(run.run_id, run.epoch, run.start.attempt, records))

    # ── a run ends ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _finish(self, run: Assignment, failure: Failure) -> Finish:
        return Finish(run.run_id, run.epoch, failure=failure)

    def _release(self, run: Assignment) -> None:
        self.end(run, Release(run.run_id, run.epoch))

    def end(self, run: Assignment, frame: Suspend | Finish | Release) -> None:
        """Tell the server how it ended here; the run is ours until that is committed."""
        run.answered = True
        run.stop_timers()
        self._companions.left(run.run_id)
        self._starts.leave_line(run)
        self._outbox.ask(frame, partial(self._answered, run, frame))

    def _answered(self, run: Assignment, frame: Suspend | Finish | Release, error: StepwellError | None) -> None:
        if error is not None and error.code != _LOST:
            _log.error("the server refused the end of run %s: %s: %s", run.run_id, error.code, error.message)
            if not isinstance(frame, Release) and not (isinstance(frame, Finish) and frame.no_retry):
                failure = Failure("system", f"its end could not be stored: {error.message}", name=error.code)
                again = Finish(run.run_id, run.epoch, failure=failure, no_retry=True)
                self._outbox.ask(again, partial(self._answered, run, again))
                return
        if error is None:
            self._lines.ended(run.start, frame)
        self._drop(run)

    def _void(self, run: Assignment) -> None:
        """Nothing of it may be written any more, and whoever has it must stop."""
        self._outbox.forget(run.run_id, run.epoch)
        self._starts.take_back(run.ahead)
        executor, run.executor = run.executor, None
        self._drop(run)
        if executor is None:
            return
        if executor.isolation == "process":
            self._kill(run, executor, "lease")
        else:
            self._discard(executor, run.run_id)

    def _discard(self, executor: Executor, run_id: str) -> None:
        """Have a shared process let go of one run, or, if its loop is stuck, end it with all that it holds."""
        executor.suspended += 1  # what is left of it there is as much as of a suspended one
        executor.send(Discard(run_id))
        asyncio.get_running_loop().call_later(DISCARD_SECONDS, _kill_if_kept, executor, run_id)

    def _drop(self, run: Assignment) -> None:
        """Forget it."""
        run.stop_timers()
        self._companions.left(run.run_id)
        self._leases.remove(run.run_id, run.epoch)
        self._starts.leave_line(run)
        if self._runs.get(run.run_id) is run:
            del self._runs[run.run_id]
        self._starts.announce_room()

    # ── stopping ─────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def executing(self) -> int:
        """Runs that executors have now, or get as soon as one is started."""
        return self._starts.executing

    @property
    def held(self) -> int:
        """Runs whose end the server has not confirmed."""
        return len(self._runs)

    def take_no_more(self) -> None:
        """Claim nothing, and give back what has not begun."""
        self._starts.take_no_more()

    def look_after(self) -> None:
        """To be called often."""
        self._starts.look_after()

    def stop_all(self) -> None:
        """End every executing run as a dead process would, and give it back: no attempt is burnt."""
        for run in list(self._runs.values()):
            if run.executor is not None and not run.answered:
                if run.executor.isolation == "process":
                    run.executor.kill("drain")
                else:
                    self._discard(run.executor, run.run_id)

    # ── small things ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _current(self, run_id: str, epoch: int) -> Assignment | None:
        run = self._runs.get(run_id)
        return run if run is not None and run.epoch == epoch else None


def _kill_if_kept(executor: Executor, run_id: str) -> None:
    if run_id in executor.runs:
        executor.kill("retired")
