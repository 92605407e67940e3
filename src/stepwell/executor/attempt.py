"""One attempt of a run: from its journal and its payload to its outcome."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from typing import Any

from stepwell.codec.values import dumps
from stepwell.errors import CheckpointError, ConfigError, LeaseLost
from stepwell.executor import divergence, graveyard, hazards, primitives_guard
from stepwell.executor.branch import Branch
from stepwell.executor.children import Children
from stepwell.executor.compensation import Undo, undo_of
from stepwell.executor.domain import branch_of_task, domain
from stepwell.executor.ending import body, drain
from stepwell.executor.exceptions import Origins
from stepwell.executor.futures import Delivery, DurableTask
from stepwell.executor.journal import RETRY, Journal
from stepwell.executor.links import Links
from stepwell.executor.loop import DurableLoop, runs_as_it_is
from stepwell.executor.options import AttemptOptions
from stepwell.executor.outcomes import Completed, Discarded, Failed, Outcome, Suspended, failed
from stepwell.executor.permits import Permits
from stepwell.executor.port import AttemptPort
from stepwell.executor.pump import Pump, Waiting
from stepwell.executor.record import MAX_VALUE, Record
from stepwell.executor.steps import run_step
from stepwell.executor.stopping import Stopping
from stepwell.executor.tokens import AnswerDelivery, Tokens
from stepwell.executor.transparent import transparent
from stepwell.executor.voice import Voice
from stepwell.executor.work import Awaited, callee_of, close_unstarted
from stepwell.model.child import ChildOutcome
from stepwell.model.permit import PermitAnswer
from stepwell.model.token import TokenOutcome
from stepwell.model.wait import Wait
from stepwell.protocol.frames import LogRecord, StartAttempt
from stepwell.sdk import runtime
from stepwell.sdk.runtime import StepCall


class Attempt(Pump):
    """`task` is anything with `.fn` and `.id` (and, if it has them, `.retry.when` and the hooks). Several attempts may
    live in one loop. `start(ended)` runs it until `ended` is told its outcome; no public method but `run` waits.

    Raises CheckpointError when the journal is damaged, ConfigError in a process whose hash seed is not fixed (unless
    the options allow it).
    """

    def __init__(
        self,
        loop: DurableLoop,
        task: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        start: StartAttempt,
        port: AttemptPort,
        options: AttemptOptions | None = None,
    ) -> None:
        self.loop = loop
        self.task = task
        self.args, self.kwargs = args, kwargs
        self.given = start
        self.seed = start.seed or start.run_id  # a fork goes on with the random numbers of its journal
        self.port = port
        self.options = options or AttemptOptions()
        self.token = object()  # tells whose an asyncio primitive is, without keeping the attempt alive
        self.origins = Origins()
        self.children = Children(self)
        self.tokens = Tokens(self)
        self.permits = Permits(self)
        self.links = Links(self)
        self.branches: set[DurableTask] = set()
        self.entered: list[tuple[Any, str]] = []  # foreign context managers that are open, and where
        self.failing: Failed | None = None
        self.undos: list[Undo] = []  # of the steps that have completed, in that order
        self.not_undone: list[str] | None = None  # a list as soon as undoing has begun
        self.may_suspend = self.options.may_suspend
        self.threads = False
        self._outcome: Outcome | None = None
        self._ended: Callable[[Outcome], None] | None = None
        self._main: DurableTask | None = None
        self._draining = False
        self.stopping = Stopping(self)
        self._alarms: list[asyncio.TimerHandle] = []
        self._warned: set[str] = set()
        self._unseen: list[DurableTask] = []
        if self.options.fixed_hash:
            check_hash_seed()
        super().__init__(start.run_id, start.attempt, start.started_at, Journal(start.journal, start.attempt))
        self.voice = Voice(self)

    # ---- from outside

    async def run(self) -> Outcome:
        """The same for who awaits it."""
        ended: asyncio.Future[Outcome] = asyncio.Future(loop=self.loop)
        self.start(ended.set_result)
        return await ended

    def start(self, ended: Callable[[Outcome], None]) -> None:
        """Runs the attempt until it ends or may be suspended; then `ended` is called, from the loop, perhaps before
        this returns. A suspended or discarded one runs nothing more."""
        self._ended = ended
        primitives_guard.install()
        self.stopping.begin()
        if self.options.strict:
            for warning in hazards.of(self.task.fn):
                self.warn_once(warning, warning)
        if self._outcome is None:  # not canceled or discarded before its first line
            self._begin_task()
        else:
            self.loop.call_soon_outside(self.tell_end)

    def tell_end(self) -> None:
        """Once, and not while anything of the run is being executed."""
        ended, self._ended = self._ended, None
        if ended is not None and self._outcome is not None:
            ended(self._outcome)

    def cancel(self, grace: float = 5.0) -> None:
        """The run is to be canceled: CancelledError in the task, at the await where it stands. The request is an entry
        of the journal, and so is what the clean-up awaits. Ends after `grace` seconds in any case."""
        self.stopping.cancel(grace)

    def discard(self, reason: str = "") -> None:
        """Let go of the run as a dead process would: no user code runs, nothing is written."""
        self.end(Discarded(reason))

    def children_ended(
        self, spawn_key: str, outcomes: Sequence[ChildOutcome], first: int = 0, *, more: bool = False
    ) -> None:
        """All children triggered under this key have ended; outcomes in the order in which they were triggered: a page
        of them, from number `first` on. more: another one follows."""
        if not self.dead:
            self.children.ended(spawn_key, outcomes, first, more=more)

    def tokens_closed(self, outcomes: Sequence[TokenOutcome]) -> None:
        """These tokens are closed, in one way or another."""
        if not self.dead:
            self.tokens.closed(outcomes)

    def link_found(self, token_id: str, url: str | None) -> None:
        """The link to a token's page; None: there is no such token."""
        if not self.dead:
            self.links.found(token_id, url)

    def permits_answered(self, answers: Sequence[PermitAnswer]) -> None:
        """What came of permits that were asked for."""
        if not self.dead:
            for answer in answers:
                self.permits.answered(answer)

    # ---- beginning

    def _begin_task(self) -> None:
        context = self.context()
        context.run(domain.set, self)
        context.run(branch_of_task.set, Branch("", self.seed))
        context.run(runtime.enter, self.voice)
        self.pumping = True  # the first step of the task is ours to schedule
        try:
            main = context.run(DurableTask, body(self), self, name=f"run {self.run_id}", context=context)
        finally:
            self.pumping = False
        self._main = main
        self.branches.add(main)  # until `finish`, which needs no callback and thereby no turn of the loop to know
        if self.journal.cut_short:
            self.announce_attempt()
        self.turn()

    def start_branch(
        self, coro: Coroutine[Any, Any, Any], name: str, task_name: str | None, context: Any
    ) -> DurableTask:
        """An asyncio task of the run's own lines: a branch of its own, in a context of its own."""
        branch = branch_of_task.get().child(name)
        context = context.copy() if context is not None else copy_context()
        context.run(branch_of_task.set, branch)
        context.run(domain.set, self)
        root = coro if runs_as_it_is(coro) else _root(self, coro)
        task = DurableTask(root, self, name=task_name or branch.path, context=context)
        self._adopt(task, coro)
        return task

    def _adopt(self, task: DurableTask, coro: Any) -> None:
        self.branches.add(task)

        def ended(task: DurableTask) -> None:
            self.branches.discard(task)
            if getattr(task, "_log_traceback", False):  # failed, and nobody has looked at it yet
                self._unseen.append(task)
            close_unstarted(coro)  # canceled before it began

        task.add_done_callback(ended, context=self.context())  # type: ignore[arg-type]

    # ---- children

    def wait_for_children(self, key: str, spawn_key: str, site: str, *, replayed: bool) -> Delivery:
        delivery = Delivery(self)
        self.pending[key] = Waiting(delivery, site)
        self.children.wait(key, spawn_key, site, self.deliver, nested=False, replayed=replayed)
        delivery.on_request = partial(self._give_up_children, spawn_key)
        return delivery

    def _give_up_children(self, spawn_key: str) -> None:
        record = self.children.forget(spawn_key)
        if record is not None:
            self.mailbox.post(record)

    def wait_for_nested_children(
        self, key: str, spawn_key: str, deliver: Callable[[Record], None], *, replayed: bool
    ) -> None:
        self.children.wait(key, spawn_key, "", deliver, nested=True, replayed=replayed)

    # ---- tokens

    def wait_for_token(self, key: str, token: str, site: str, *, message: bool = False) -> Delivery:
        delivery = AnswerDelivery(self, lambda: self.tokens.abandon(key))
        self.pending[key] = Waiting(delivery, site)
        self.tokens.wait(key, token, site, self.deliver, nested=False, message=message)
        return delivery

    @property
    def awaits_others(self) -> bool:
        """Somebody else will say when it goes on: children, or who completes a token."""
        return self.children.waiting or self.tokens.waiting

    # ---- suspending

    def suspend_if_worthwhile(self, due: float | None) -> bool:
        """Nothing is under way but timers, children and tokens. True when that is the end of this life of the run."""
        if not self.may_suspend or self.unjournaled:
            return False
        now = self.port.now()
        if due is not None and due - now <= self.options.suspend_after:
            return False
        linger = max(self.children.linger(), self.tokens.linger(), self.permits.linger())
        if linger > 0:
            self.alarm(linger, self.kick)
            return False
        for _, site in self.entered:
            self.warn_once(
                f"open {site}", f"{site}: the run waits inside this `async with`; it is entered anew on resume"
            )
        if self.permits.taking_again:  # nothing of the run goes on before it has them
            self.end(Suspended(self.permits.waits()))
            return True
        timers = [Wait(timer.key, "timer", due_at=timer.due) for timer in self.timers.unfired()]
        self.end(Suspended([*timers, *self.children.waits(), *self.tokens.waits(), *self.permits.waits()]))
        return True

    # ---- ending

    @property
    def ended(self) -> bool:
        """The task itself has returned or raised."""
        return self._main is not None and self._main.done() and not self._draining

    def finish(self) -> None:
        """The task has ended: see what is left, cancel the branches that still run, then say what came of it."""
        assert self._main is not None
        self.branches.discard(self._main)
        outcome = self._outcome_of(self._main)
        if outcome is None:
            return
        self._draining = True
        self.stop_journaling()
        drain(self, outcome)

    def _outcome_of(self, main: DurableTask) -> Outcome | None:
        error = asyncio.CancelledError("the task canceled itself") if main.cancelled() else main.exception()
        unreached = self._first_unreached()
        if unreached is not None and self.failing is None:
            how = "returned" if error is None else f"raised {error!r}"
            self.fail(divergence.left_over(self.run_id, unreached, how))
            return None
        if self.asked_to_end or self.given.cancel_grace is not None:
            return self.stopping.outcome(error)
        if error is not None:
            return replace(self.failing or failed(error), not_undone=self.not_undone)
        return _completed(main.result())

    def _first_unreached(self) -> Any:
        """The first entry left in the journal that no branch waits for."""
        for entry in self.journal.prefix[self.journal.cursor :]:
            if entry.key.startswith("!") or entry.key in self.pending or entry.key in self.timers:
                continue
            if not self.timers.was_canceled(entry.key):
                return entry
        return None

    def leave_replay(self) -> bool:
        """The task has failed, perhaps while other branches still had outcomes in the journal (stored in one write
        with the failure). Nothing of them is delivered or begun any more. False: the journal says something else."""
        if self._first_unreached() is not None:
            return False
        if self.replaying:
            self.journal.leave()
            self.forget_deferred()
        return True

    def superseding(self, error: BaseException) -> Record | None:
        """The marker that lets the next attempt go on before the step that this one failed by. None: it failed by
        the task's own doing, and the next attempt replays to the same place."""
        main = self._main
        seqs = self.origins.stems_of(error, main.cancel_cause if main is not None else None)
        if not seqs:
            return None
        record = Record(f"{RETRY}#{self.number}", "order", "value")
        record.set_value(seqs)
        return record

    def completed(self, call: StepCall, value: Any) -> None:
        """A `@step` of the run's own lines has its value."""
        undo = undo_of(call, value)
        if undo is not None:
            self.undos.append(undo)

    def fail(self, error: BaseException, cause: BaseException | None = None) -> None:
        """End at once, by something that the task's own `except` and `finally` must not see."""
        if cause is not None:
            error.__cause__ = cause
        self.end(Discarded(str(error)) if isinstance(error, LeaseLost) else failed(error))

    def end(self, outcome: Outcome) -> None:
        """This life of the run is over. What is left of its coroutines is kept, never unwound."""
        if self._outcome is not None:
            return
        self._tell_unseen()
        self.dead = True
        self.timers.disarm()
        for alarm in self._alarms:
            alarm.cancel()
        self.ready.clear()
        if self.leaves or any(not task.done() for task in self.branches):
            self._bury()
        self._outcome = outcome
        if not self.turning:  # else the pump tells it when it is done
            self.loop.call_soon_outside(self.tell_end)

    def _bury(self) -> None:
        for task in self.branches:
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
        graveyard.bury(self)

    def expire(self, seconds: float, outcome: Outcome) -> None:
        """End so after this time, whatever is still going on."""
        self.alarm(seconds, lambda: self.end(outcome))

    def alarm(self, delay: float, ring: Callable[[], object]) -> None:
        """Have `ring` called in so many seconds, unless the attempt has ended by then."""
        self._alarms.append(self.loop.call_at_outside(self.loop.time_outside() + delay, ring))

    # ---- requests to end

    @property
    def asked_to_end(self) -> bool:
        """The task has been told to."""
        return self.stopping.delivered

    @property
    def over(self) -> bool:
        return self._outcome is not None

    @property
    def begun(self) -> bool:
        """The task's first line is, or was, to be executed."""
        return self._main is not None

    def cancel_task(self, why: str) -> None:
        if self._main is not None and not self._main.done():
            self._main.cancel(why)

    def stop_journaling(self) -> None:
        self.unjournaled = True
        self.journal.leave()

    # ---- what cannot be

    def woken_from_outside(self, callback: Any) -> None:
        """A handle of this run came while nothing of it was being executed."""
        if self._outcome is None:
            self.fail(divergence.woken_from_outside(self.run_id, getattr(callback, "__self__", None)))

    def warn_once(self, place: str, message: str) -> None:
        """Tell the user, in the run's log, once in this life."""
        if place not in self._warned:
            self._warned.add(place)
            self.port.log(LogRecord(self.port.now(), "WARNING", message, logger="stepwell"))

    def _tell_unseen(self) -> None:
        """Errors of branches that nobody awaited, as asyncio tells them when it collects the garbage."""
        for task in self._unseen:
            if getattr(task, "_log_traceback", False):
                message = "an error in a branch that nobody awaited"
                self.report_unhandled({"message": f"{message} ({task.get_name()})", "exception": task.exception()})

    def report_unhandled(self, context: dict[str, Any]) -> bool:
        """An exception of a branch that nobody awaited: into the run's log."""
        error = context.get("exception")
        if self.dead:
            return True
        message = f"{context.get('message')}: {error!r}"
        self.port.log(LogRecord(self.port.now(), "ERROR", message, logger="asyncio"))
        return True


@transparent
async def _root(attempt: Attempt, coro: Any) -> Any:
    """A task around something that is not the user's own code: the whole of it is one step of its own branch."""
    code = getattr(coro, "cr_code", None)
    site = f"{os.path.basename(code.co_filename)}:{code.co_firstlineno}" if code is not None else ""  # noqa: PTH119
    key = branch_of_task.get().key(callee_of(coro).rpartition("<locals>.")[2])
    return await run_step(attempt, Awaited(coro), key, site)


def _completed(value: Any) -> Outcome:
    try:
        output = dumps(value)
    except CheckpointError as error:
        return failed(CheckpointError(f"the task's return value: {error.message}", hint=error.hint))
    if len(output) > MAX_VALUE:
        return failed(
            CheckpointError(
                f"the task's return value is {len(output) / 2**20:.1f} MB; {MAX_VALUE // 2**20} MB are allowed",
                code="payload-too-large",
                hint="store it elsewhere inside a step and return where it is",
            )
        )
    return Completed(output)


def check_hash_seed() -> None:
    """Raises ConfigError in a process where sets of strings come out in an order of its own."""
    if sys.flags.hash_randomization and not os.environ.get("PYTHONHASHSEED", "random").isdigit():
        raise ConfigError(
            "this process has a random hash seed: sets of strings would come out in another order on replay",
            code="random-hash-seed",
            hint="start it with PYTHONHASHSEED=0, as `stepwell worker` and `stepwell dev` do",
        )
