"""The world around attempts under test: a store in memory, a clock that is moved, children that run at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from stepwell.codec.values import loads
from stepwell.errors import LeaseLost, PayloadInvalid
from stepwell.executor import determinism
from stepwell.executor.attempt import Attempt
from stepwell.executor.loop import DurableLoop
from stepwell.executor.options import AttemptOptions
from stepwell.executor.outcomes import Canceled, Completed, Discarded, Failed, Outcome, Suspended, failed
from stepwell.executor.port import Answered
from stepwell.model.checkpoint import Checkpoint
from stepwell.model.child import ChildOutcome, ChildSpec
from stepwell.model.permit import PermitAnswer
from stepwell.model.retry import RetryPolicy, decide_retry
from stepwell.primitives.ids import derived_id
from stepwell.protocol.frames import LogRecord, Spawn, StartAttempt
from stepwell.sdk import registry
from stepwell.testing.permits import Change, Permits
from stepwell.testing.tokens import STARTED_AT, Tokens

GRACE = 5.0  # seconds that a canceled run may clean up
RUN_ID = "run_01hf2gtrr00000000000000000"


class Clock:
    """Goes on with real time while steps work, and is moved ahead when only timers are left: nobody waits."""

    def __init__(self, start: float = STARTED_AT) -> None:
        self._offset = start - time.monotonic()

    def now(self) -> float:
        return time.monotonic() + self._offset

    def set_to(self, moment: float) -> None:
        self._offset += moment - self.now()

    def move_to(self, moment: float) -> None:
        self._offset += max(0.0, moment - self.now())


@dataclass
class Life:
    """One process of a run: from its start or its resume until it ended, was suspended or died."""

    outcome: Outcome
    executed: list[str]  # keys of the steps that it began
    logs: list[LogRecord] = field(default_factory=list[LogRecord])


@dataclass
class Run:
    """One run under test, over all its lives."""

    id: str
    task: Any
    payload: tuple[tuple[Any, ...], dict[str, Any]]
    journal: list[Checkpoint] = field(default_factory=list[Checkpoint])
    attempt: int = 1
    lives: list[Life] = field(default_factory=list[Life])
    metadata: bytes | None = None
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    outcome: Outcome | None = None
    permits: list[Change] = field(default_factory=list[Change])
    cancel_after: int | None = None

    @property
    def is_canceled(self) -> bool:
        """Whether it has been asked to end: as soon as `cancel_after` entries are stored."""
        return self.cancel_after is not None and len(self.journal) >= self.cancel_after


class TestPort:
    """An `AttemptPort` whose store is a list. `die_after` entries the process is as good as dead."""

    __test__ = False

    def __init__(self, world: World, run: Run, die_after: int | None) -> None:
        self._world = world
        self._run = run
        self._die_after = die_after
        self.attempt: Attempt | None = None
        self.logs: list[LogRecord] = []

    def now(self) -> float:
        return self._world.clock.now()

    def persist(self, entries: Sequence[Checkpoint], spawns: Sequence[Spawn], answered: Answered) -> None:
        made = {spawn.seq: spawn for spawn in spawns}
        for entry in entries:
            if self._die_after is not None and len(self._run.journal) >= self._die_after:
                raise LeaseLost("the process died here, as the test asked")
            if entry.seq != len(self._run.journal):
                raise AssertionError(f"entry {entry.seq} was stored where {len(self._run.journal)} was due")
            self._run.journal.append(entry)
            if entry.seq in made:
                self._make(entry.key, made[entry.seq])
            if self._run.cancel_after == len(self._run.journal) and self.attempt is not None:
                self._world.loop.call_soon_outside(self.attempt.cancel, GRACE)
        answered(None)

    def _make(self, key: str, spawn: Spawn) -> None:
        if spawn.token is not None:
            self._world.tokens.make(self._run.id, key, spawn.token)
        elif spawn.permit is not None:
            now = self._world.clock.now()
            self._world.permits.change(self._run.id, now, spawn.permit)
            self._run.permits.append((spawn.seq, now, spawn.permit))
        elif spawn.given_up is not None:
            self._world.tokens.give_up(spawn.given_up)
        elif spawn.children:
            self._world.spawn(self._run, key, spawn.children)

    def await_children(self, spawn_keys: Sequence[str]) -> None:
        for key in spawn_keys:
            self._world.tell_when_ended(self._run, key, self._tell)

    def await_permits(self, keys: Sequence[str]) -> None:
        self._world.permits.tell(self._run.id, keys, self._tell_permit)

    def _tell_permit(self, answer: PermitAnswer) -> None:
        if self.attempt is not None:
            self._world.loop.call_soon_outside(self.attempt.permits_answered, [answer])

    def _tell(self, spawn_key: str, outcomes: list[ChildOutcome]) -> None:
        if self.attempt is not None:
            self.attempt.children_ended(spawn_key, outcomes)

    def await_tokens(self, token_ids: Sequence[str]) -> None:
        assert self.attempt is not None
        self._world.later(self._world.tokens.tell(self.attempt, token_ids))

    def ask_link(self, token_id: str) -> None:
        if self.attempt is not None:
            url = f"https://stepwell.invalid/tokens/{token_id}"
            self._world.loop.call_soon_outside(self.attempt.link_found, token_id, url)

    def undoing(self) -> None:
        pass  # nothing here would end it meanwhile

    def log(self, record: LogRecord) -> None:
        self.logs.append(record)

    def set_metadata(self, document: bytes) -> None:
        self._run.metadata = document


class World:
    """Runs, their children, and one clock. Lives in one event loop."""

    def __init__(self, loop: DurableLoop, *, strict: bool = False, suspend: bool = False) -> None:
        determinism.install()
        self.loop = loop
        self.clock = Clock()
        self._strict = strict
        self._suspend = suspend
        self.tokens = Tokens(self.clock)
        self.permits = Permits()
        self._children: dict[tuple[str, str], list[Run]] = {}
        self._background: set[Any] = set()

    # ---- lives

    async def live(self, run: Run, *, die_after: int | None = None) -> Outcome:
        """One life of the run, with the journal that it has. `die_after`: it dies when that many entries are stored."""
        port = TestPort(self, run, die_after)
        args, kwargs = run.payload
        attempt = Attempt(self.loop, Runnable(run.task), args, kwargs, self._start(run), port, self._options())
        port.attempt = attempt
        outcome = await attempt.run()
        if isinstance(outcome, Discarded) and die_after is not None:
            self._stand_at(run.journal)
        run.lives.append(Life(outcome, list(attempt.executed), port.logs))
        return outcome

    async def finish(self, run: Run) -> Outcome:
        """Lives, resumes and retries until the run has ended, as the server would have it."""
        while True:
            outcome = await self.live(run)
            if isinstance(outcome, Suspended):
                if not run.is_canceled:
                    await self._until_woken(run, outcome)
            elif isinstance(outcome, Failed) and self._retried(run, outcome):
                self.next_attempt(run)
            else:
                self.permits.drop(run.id)
                run.outcome = outcome
                return outcome

    def next_attempt(self, run: Run) -> None:
        """What the one that failed held is free."""
        self.permits.drop(run.id)
        run.permits.append((len(run.journal), self.clock.now(), None))
        run.attempt += 1

    def _retried(self, run: Run, outcome: Failed) -> bool:
        if outcome.no_retry:
            return False
        decision = decide_retry(
            run.retry, code=outcome.failure.code, attempt=run.attempt, crashes=0, asked_after=outcome.retry_after
        )
        if decision.after is not None:
            self.clock.move_to(self.clock.now() + decision.after)
        return decision.after is not None

    async def _until_woken(self, run: Run, suspended: Suspended) -> None:
        for wait in suspended.waits:
            if wait.kind == "permit":
                if self.permits.is_answered(run.id, wait.spawn_key or ""):
                    return
            elif wait.spawn_key is not None:
                await self._end_children(run, wait.spawn_key)
                return
        self.tokens.wait(suspended.waits)

    def _options(self) -> AttemptOptions:
        # All lives share this process and its hash seed, so a random one cannot make them differ.
        return AttemptOptions(
            suspend_after=0.0 if self._suspend else 5.0,
            may_suspend=self._suspend,
            linger=0.0,
            linger_resumed=0.0 if not self._suspend else 2.0,
            strict=self._strict,
            fixed_hash=False,
            fast_forward=None if self._suspend else self.clock.move_to,
        )

    def _start(self, run: Run) -> StartAttempt:
        return StartAttempt(
            run_id=run.id,
            task_id=run.task.id,
            epoch=len(run.lives) + 1,
            attempt=run.attempt,
            payload=b"",
            payload_type="",
            started_at=STARTED_AT,
            now=self.clock.now(),
            lease_seconds=30.0,
            retry=run.retry,
            journal=list(run.journal),
            metadata=run.metadata,
            created_at=STARTED_AT,
            cancel_grace=GRACE if run.is_canceled else None,
        )

    # ---- children

    def spawn(self, parent: Run, key: str, specs: Sequence[ChildSpec]) -> None:
        if (parent.id, key) not in self._children:  # triggered once, however often it is asked
            self._children[parent.id, key] = [_child(parent, key, place, spec) for place, spec in enumerate(specs)]

    def tell_when_ended(self, parent: Run, key: str, tell: Callable[[str, list[ChildOutcome]], None]) -> None:
        async def run_them() -> None:
            tell(key, await self._end_children(parent, key))

        self.later(run_them())

    async def _end_children(self, parent: Run, key: str) -> list[ChildOutcome]:
        children = self._children.get((parent.id, key), [])
        return [await self._end_child(child) for child in children]

    async def _end_child(self, child: Run) -> ChildOutcome:
        outcome = child.outcome or await self._finish_child(child)
        if isinstance(outcome, Completed):
            return ChildOutcome(child.id, "completed", _own(child, outcome.output), outcome.output_type)
        failure = outcome.failure if isinstance(outcome, Failed) else None
        return ChildOutcome(child.id, "canceled" if isinstance(outcome, Canceled) else "failed", failure=failure)

    async def _finish_child(self, child: Run) -> Outcome:
        if isinstance(child.task, ChildSpec):
            spec, child.task = child.task, registry.task_of(child.task.task_id)
            child.retry = child.task.retry.policy()
            try:
                child.payload = child.task.call_alone(loads(spec.payload))
            except PayloadInvalid as error:
                child.outcome = failed(error)
                return child.outcome
        return await self.finish(child)

    def later(self, work: Coroutine[Any, Any, None]) -> None:
        task = self.loop.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _stand_at(self, journal: Sequence[Checkpoint]) -> None:
        """It died and came back in no time, whatever the clock was moved to while it was dying."""
        self.clock.set_to(journal[-1].at if journal else STARTED_AT)

    def copy(self, run: Run, entries: int) -> Run:
        """The same run as it was when it had so many entries, in this world."""
        journal = run.journal[:entries]
        self.tokens.forget_but(run.id, {entry.key: entry.outcome for entry in journal})
        self._stand_at(journal)
        attempt = max((entry.attempt for entry in journal), default=1)
        permits = [change for change in run.permits if change[0] < entries]
        self.permits = Permits.after(run.id, permits)
        return replace(run, journal=list(journal), lives=[], outcome=None, attempt=attempt, permits=permits)


class Runnable:
    """A task as an attempt wants it. A function that was decorated before `stepwell.testing` was imported is made
    durable now; one that cannot be is refused now."""

    def __init__(self, task: Any) -> None:
        from stepwell.executor.rewrite import rewrite

        self._task = task
        self.id = task.id
        self.fn = rewrite(task.fn, "task")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)


def _child(parent: Run, key: str, place: int, spec: ChildSpec) -> Run:
    return Run(derived_id("run", parent.id, f"{key}:{place}"), spec, ((), {}))


def _own(child: Run, output: bytes) -> bytes:
    """What a child returned; of a batched task, which runs for it alone here, what that returned for it."""
    if isinstance(child.task, ChildSpec) or not child.task.is_batched:
        return output
    elements = msgspec.json.decode(output, type=list[msgspec.Raw])
    assert len(elements) == 1, f"task {child.task.id!r} returned a list of {len(elements)} for a batch of 1"
    return bytes(elements[0])


def is_over(outcome: Outcome) -> bool:
    return not isinstance(outcome, Suspended | Discarded)
