"""The pump of a run: its own lines until nothing more happens, then exactly one delivery, then its own lines again.

A delivery comes from the journal while replaying, and live from what has been stored. Both take the same path, hence
the same interleaving: lists, queues, locks and events that branches share replay exactly.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from stepwell.errors import CheckpointError, ReplayDiverged
from stepwell.executor import divergence
from stepwell.executor.futures import Delivery, Interruptible, first_ordinal
from stepwell.executor.journal import AGAIN, ATTEMPT, Journal
from stepwell.executor.mailbox import Mailbox
from stepwell.executor.outcomes import Failed, failure_of
from stepwell.executor.record import Record, described, fill
from stepwell.executor.steps import GO
from stepwell.executor.timers import Timers
from stepwell.model.checkpoint import REQUESTS, Checkpoint

if TYPE_CHECKING:
    from stepwell.executor.attempt import Attempt
    from stepwell.executor.futures import DurableTask
    from stepwell.executor.work import Work


class Waiting(NamedTuple):
    """An await that waits for its entry's turn, and where it is in the user's code."""

    delivery: Delivery
    site: str


class _LateRequest(NamedTuple):
    """A request to cancel whose place is the next await of its task. earlier: how many the task had before: the
    one that its clean-up is about stays counted, and would look like this one when this is taken back."""

    task: DurableTask
    earlier: int
    message: Any

    def make(self) -> None:
        if not self.task.done() and self.task.cancelling() > self.earlier:
            self.task.cancel_again(self.message)


class Pump:
    """Ordering, and nothing else: what happens at the end of an attempt is its subclass's business."""

    def __init__(self: Attempt, run_id: str, number: int, started_at: float, journal: Journal) -> None:  # type: ignore[misc]
        self.run_id = run_id
        self.number = number
        self.journal = journal
        self.ready: deque[asyncio.Handle] = deque()
        self.pending: dict[str, Waiting] = {}
        self.timers = Timers(self)
        self.mailbox = Mailbox(self, self.fail)
        self.leaves: set[Any] = set()  # steps that are being executed
        self.external = 0  # other work that will come back by itself: the thread of a `def` task
        self.executed: list[str] = []  # keys of the steps that this life began
        self.clock = started_at  # `loop.time()` and `ctx.now()`: the time of the last delivered entry
        self.last_delivered: int | None = None
        self.pumping = False
        self.dead = False
        self.unjournaled = False  # the task has ended or was canceled: what is left happens without the journal
        self._kicked = False
        self.turning = False  # pumping, or settling after it
        self._controls: deque[Callable[[], object]] = deque()
        self._deferred: list[Delivery] = []
        self._late_requests: deque[_LateRequest] = deque()
        self._live = False
        self._ordinal = first_ordinal(run_id)

    def next_ordinal(self) -> int:
        self._ordinal += 1
        return self._ordinal

    @property
    def replaying(self) -> bool:
        return self.journal.replaying

    # ---- what awaits ask

    def expect(self: Attempt, key: str, site: str) -> Delivery:  # type: ignore[misc]
        """While replaying: a turn for this key; when the journal does not have it, GO at its end."""
        delivery = Delivery(self, replayed=True)
        self.pending[key] = Waiting(delivery, site)
        if key not in self.journal.recorded:
            self._deferred.append(delivery)
        return delivery

    def expect_interruptibly(self: Attempt, key: str, site: str) -> Delivery:  # type: ignore[misc]
        """A turn that the code may cease to wait for: a request to cancel is obeyed at once. When the journal does not
        have the key, it is not delivered."""
        delivery = Interruptible(self, replayed=True)
        self.pending[key] = Waiting(delivery, site)
        return delivery

    def post(self: Attempt, record: Record) -> Delivery:  # type: ignore[misc]
        """Live: store it, then deliver it in its turn."""
        delivery = Delivery(self)
        self.pending[record.key] = Waiting(delivery, record.site)
        record.deliver = self.deliver
        self.mailbox.post(record)
        return delivery

    def check_recorded(self: Attempt, key: str, site: str, work: Work) -> None:  # type: ignore[misc]
        """The right key with other arguments: a warning, or in strict mode the end."""
        entry = self.journal.recorded.get(key)
        if entry is None or not entry.fingerprint:
            return
        arguments = work.arguments()
        if arguments is not None and arguments.fingerprint and arguments.fingerprint != entry.fingerprint:
            error = divergence.other_work(self.run_id, entry, site)
            if self.options.strict:
                self.fail(error)
            self.warn_once(key, str(error))

    def known(self, key: str, fingerprint: bytes) -> Record | None:
        """What this await came to in an attempt that failed elsewhere: delivered again, not done again."""
        entry = self.journal.known.get(key)
        if entry is None or (entry.fingerprint and fingerprint and entry.fingerprint != fingerprint):
            return None
        del self.journal.known[key]
        record = self._record_of(entry)
        record.text, record.started = self.journal.texts.text(entry), entry.started
        record.fingerprint = entry.fingerprint
        return record

    # ---- turning

    def kick(self: Attempt) -> None:  # type: ignore[misc]
        """Something may have become possible."""
        if not (self._kicked or self.pumping or self.dead):
            self._kicked = True
            self.loop.call_soon_outside(self._pump)

    def turn(self: Attempt) -> None:  # type: ignore[misc]
        """The same, at once where that can be: from the store's answer to the run's next line no loop turns."""
        if self.turning or asyncio.current_task(self.loop) is not None:  # a task cannot step another one
            self.kick()
        else:
            self._pump()

    def control(self: Attempt, action: Callable[[], object]) -> None:  # type: ignore[misc]
        """Have the pump do something to the run's own lines that is not in the journal (a request to cancel)."""
        self._controls.append(action)
        self.kick()

    def _pump(self: Attempt) -> None:  # type: ignore[misc]
        self._kicked = False
        if self.dead:
            return
        self.turning = True
        try:
            self.pumping = True
            try:
                self._turn()
            finally:
                self.pumping = False
            if not self.dead:
                self.settle()
        except CheckpointError as error:  # what is stored cannot be rebuilt by this code: no lines of the task may run
            self.fail(error)
        except Exception as error:  # noqa: BLE001 - the attempt's edge: by a fault of ours a run fails, it does not hang
            self.end(Failed(failure_of(error, "system"), error=error))
        finally:
            self.turning = False
        if self.dead:
            self.tell_end()

    def _turn(self: Attempt) -> None:  # type: ignore[misc]
        while True:
            while self._controls:
                self._controls.popleft()()
            self._drain()
            if self.dead or self.ended or not self._deliver_next():
                return

    def _drain(self) -> None:
        ready = self.ready
        while ready and not self.dead:
            handle = ready.popleft()
            if not handle.cancelled():
                handle._run()  # type: ignore[attr-defined]  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
                while self._late_requests:
                    self._late_requests.popleft().make()

    def cancel_at_next_await(self, task: DurableTask, requests: int, message: Any) -> None:
        """So many requests to cancel came while the outcome was there already: as in plain asyncio they hit the next
        await, unless whoever made them has taken them back by then. So does a timeout whose block ended in time."""
        self._late_requests.append(_LateRequest(task, task.cancelling() - requests, message))

    def _deliver_next(self: Attempt) -> bool:  # type: ignore[misc]
        if not self.permits.ready():
            return self._deliver_taken_again()
        if not self.journal.at_end:
            return self._deliver_recorded()
        if self.journal.held:
            self.stopping.post()
        elif not self._live:
            self._go_live()
            return True
        if self.mailbox.ready() and not self._too_early(self.mailbox.stored[0].key):
            record = self.mailbox.stored.popleft()
            if record.key.startswith(AGAIN):
                return True  # no line of the run waits for it, and no clock is told by it
            self._passed(record.seq, record.at)
            assert record.deliver is not None
            record.deliver(record)
            return True
        return False

    def _deliver_taken_again(self) -> bool:
        """Nothing is replayed, let alone begun, before the run has what its journal says that it holds."""
        if self.mailbox.stored:
            self.mailbox.stored.popleft()
            return True
        return False

    # ---- from the journal

    def _deliver_recorded(self: Attempt) -> bool:  # type: ignore[misc]
        """False when the next entry's await has not been reached: `settle` decides whether it still may be."""
        journal = self.journal
        entry = journal.prefix[journal.cursor]
        if entry.key.startswith(ATTEMPT):
            journal.cursor += 1
            self._rebase(entry.seq, entry.at)
        elif entry.key.startswith(AGAIN):
            journal.cursor += 1
        elif self._too_early(entry.key):
            return False
        elif entry.key in REQUESTS:
            journal.cursor += 1
            self._passed(entry.seq, entry.at)
            self.stopping.deliver(self._record_of(entry))
        elif entry.kind == "timer":
            if entry.key not in self.timers and not self.timers.was_canceled(entry.key):
                return False
            journal.cursor += 1
            self._passed(entry.seq, entry.at)
            self._fire(entry.key)
        else:
            if entry.key not in self.pending:
                return False
            journal.cursor += 1
            self._passed(entry.seq, entry.at)
            self.deliver(self._record_of(entry))
        return True

    def _too_early(self, key: str) -> bool:
        """Nothing happens while the thread of a `def` task computes, neither a request to cancel nor the end of a child
        that goes on beside it: whether the thread had asked for its next step by then would be different each time."""
        return self.external > 0 and not key.startswith((AGAIN, ATTEMPT))

    def _record_of(self, entry: Checkpoint) -> Record:
        record = Record(entry.key, entry.kind, entry.outcome, site=entry.site, seq=entry.seq, at=entry.at)
        body = self.journal.texts.read(entry)
        try:
            return fill(record, body)
        except CheckpointError as error:
            raise CheckpointError(f"entry {entry.seq}, {described(record)}: {error.message}", hint=error.hint) from None

    def deliver(self, record: Record) -> None:
        delivery = self.pending.pop(record.key).delivery
        if delivery.done():
            return  # canceled for real, in the cleanup after a cancellation
        if record.outcome == "canceled":
            delivery.really_cancel()
        else:
            delivery.set_result(record)

    def _fire(self, key: str) -> None:
        timer = self.timers.take(key)
        if timer is not None:
            self.ready.append(timer)

    def _passed(self, seq: int, at: float) -> None:
        self.last_delivered = seq
        self.clock = at

    def _go_live(self: Attempt) -> None:  # type: ignore[misc]
        """The journal is at its end: begin what was in flight when the process died."""
        self._live = True
        self.announce_attempt()
        self._begin(self._to_begin())

    def _to_begin(self: Attempt) -> list[Delivery]:  # type: ignore[misc]
        """Of a run that is to end, first those that are canceled, which become entries without being begun; the others,
        which these may cancel in turn, when nothing else goes on any more."""
        waiting = [delivery for delivery in self._deferred if not delivery.done()]
        chosen = [delivery for delivery in waiting if delivery.requests] if self.asked_to_end else waiting
        idle = not (self.leaves or self.external or self.mailbox)
        return chosen or (waiting if idle and self._live else [])

    def _begin(self, chosen: list[Delivery]) -> None:
        self._deferred = [delivery for delivery in self._deferred if delivery not in chosen]
        for delivery in chosen:
            delivery.set_result(GO)

    def forget_deferred(self) -> None:
        """What was in flight when the process died is not begun again."""
        self._live = True
        self._deferred.clear()

    def announce_attempt(self) -> None:
        """A later attempt (or a fork) goes on at another time than its journal ends: asyncio's timers shift with it.
        Once, and first of all where the journal has to tell what this attempt does from what the last one did."""
        key = f"{ATTEMPT}#{self.number}"
        forked = any(entry.attempt == 0 for entry in self.journal.prefix[-1:])
        later = self.number > 1 or forked or self.journal.cut_short
        if later and key not in self.journal.attempts and not self.unjournaled:
            self.journal.attempts.add(key)
            record = Record(key, "order", "value")
            record.deliver = lambda record: self._rebase(record.seq, record.at)
            self.mailbox.post(record)

    def _rebase(self, seq: int, at: float) -> None:
        self.timers.shift(at - self.clock)
        self._passed(seq, at)

    # ---- at rest

    def settle(self: Attempt) -> None:  # type: ignore[misc]
        """Nothing more happens by itself: write, wait, suspend, or say what is wrong."""
        if self.ended:
            if self.mailbox.behind:  # its end must not be known before what led to it
                self.mailbox.flush()
            else:
                self.finish()
        elif not self.journal.at_end and not self.permits.taking_again:
            if not self.leaves and not self.external:
                self.fail(self._diverged())
        else:
            self.mailbox.flush()
            if self.mailbox:
                return
            if self._deferred and (chosen := self._to_begin()):
                self.control(lambda: self._begin(chosen))
            else:
                self._rest()

    def _diverged(self: Attempt) -> ReplayDiverged:  # type: ignore[misc]
        entry = self.journal.prefix[self.journal.cursor]
        sites = {key: waiting.site for key, waiting in self.pending.items()}
        return divergence.never_reached(self.run_id, entry, sites, self.timers.keys())

    def _rest(self: Attempt) -> None:  # type: ignore[misc]
        busy = self.external > 0 or any(not leaf.held_still for leaf in self.leaves)
        due = None if self.permits.taking_again else self.timers.next_due()
        if not busy and due is None and not self.awaits_others and not self.permits.waiting:
            if not self.leaves and not self.unjournaled:
                self.fail(divergence.deadlock(self.run_id, self.branches))
            return
        if self.permits.ask():
            self.kick()  # a look at the rest when that is answered, or may be
            if self.options.fast_forward is not None:
                return
        if not busy and not self.awaits_others and due is not None and self.options.fast_forward is not None:
            self.options.fast_forward(due)
        if not busy and self.suspend_if_worthwhile(due):
            return
        self.children.ask()
        self.tokens.ask()
        if not self.permits.taking_again:
            self._arm_timers()

    def _arm_timers(self: Attempt) -> None:  # type: ignore[misc]
        if not self._ring_due():
            self.timers.arm(self.port.now(), self._ring)

    def _ring(self: Attempt) -> None:  # type: ignore[misc]
        if not self.dead and not self._ring_due():
            self.timers.arm(self.port.now(), self._ring)

    def _ring_due(self: Attempt) -> bool:  # type: ignore[misc]
        due = self.timers.due(self.port.now())
        for timer in due:
            record = Record(timer.key, "timer", "value", nested=timer.nested)
            record.deliver = lambda record: self._fire(record.key)
            self.mailbox.post(record)
        return bool(due)

    def context(self) -> contextvars.Context:
        """For the run's own lines: nothing of who started the attempt."""
        return contextvars.Context()
