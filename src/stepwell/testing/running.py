"""The public functions: run a task, and check that it survives a crash at any point."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from stepwell.codec.exceptions import decode_exception
from stepwell.codec.text import from_text
from stepwell.errors import ConfigError, RunFailed
from stepwell.executor.loop import DurableLoop
from stepwell.executor.outcomes import Canceled, Completed, Failed, Outcome
from stepwell.model.checkpoint import Checkpoint
from stepwell.model.failure import Failure
from stepwell.model.retry import RetryPolicy
from stepwell.testing import crashes, prefixes
from stepwell.testing.effects import Effects
from stepwell.testing.world import RUN_ID, Run, World

T = TypeVar("T")


@dataclass(frozen=True)
class RunResult:
    """How a run under test ended. `journal` holds all its entries, `executed` the keys of the steps that were begun,
    in order, `attempts` how many attempts it took, `warnings` what the run's log says in warning."""

    outcome: Outcome
    journal: list[Checkpoint]
    executed: list[str]
    attempts: int
    warnings: list[str]

    @property
    def value(self) -> Any:
        """What the task returned.

        Raises:
            RunFailed: it did not return; the task's own exception is the cause.
        """
        if isinstance(self.outcome, Completed):
            return prefixes.value_of(self.outcome)
        status = "canceled" if isinstance(self.outcome, Canceled) else "failed"
        failure = self.failure
        error = RunFailed(
            failure.message if failure else f"the run ended as {status}", run_id=RUN_ID, status=status, failure=failure
        )
        raise error from self.error

    @property
    def failure(self) -> Failure | None:
        return self.outcome.failure if isinstance(self.outcome, Failed) else None

    @property
    def error(self) -> BaseException | None:
        """The exception by which it failed."""
        failure = self.failure
        if failure is None or failure.exception is None:
            return None
        return decode_exception(from_text(failure.exception))


async def run_task(task: Any, /, *args: Any, **kwargs: Any) -> RunResult:
    """Runs a task to its end in this process, retries and children included; timers do not wait, the clock moves.

    The arguments are the task's own. Exceptions of the task do not come out here: `result.value` raises RunFailed.
    """
    return await _beside(lambda: run_task_sync(task, *args, **kwargs))


def run_task_sync(task: Any, /, *args: Any, **kwargs: Any) -> RunResult:
    """`run_task` for tests that are not async."""

    async def run(world: World) -> RunResult:
        under_test = _run_of(task, args, kwargs)
        return _result(under_test, await world.finish(under_test))

    return _in_a_loop(run)


async def check_every_prefix(
    task: Any,
    /,
    *args: Any,
    effects: Effects | None = None,
    same_work: bool = True,
    retries: bool = True,
    suspend: bool = True,
    strict: bool = True,
    cuts: Sequence[int] | None = None,
    alike: Callable[[Any], Any] | None = None,
    cancel_after: int | None = None,
    **kwargs: Any,
) -> RunResult:
    """Runs a task, then kills and resumes it after every one of its checkpoints, in this process.

    Each resume must come to the same result, leave the journal before it as it was, not run again what was journaled,
    and do the rest. Then one run is killed after every entry it stores, for each step one more run has that step fail
    once and is retried (`retries`), and one is suspended at every wait (`suspend`).

    effects: what the steps wrote down, compared too. same_work=False: the work depends on real time or chance.
    alike: what of the task's value is the same whatever order its steps end in, e.g. `sorted`; a replay of the whole
    journal gives exactly the same. strict: what cannot be replayed faithfully is an error where it can be noticed.
    cuts: only these prefixes, by their number of entries. cancel_after: the run is canceled when so many checkpoints
    are stored (no step is made to fail then). Returns the first, uninterrupted result.

    Raises:
        AssertionError: it names the prefix, and what came out differently.
    """
    return await _beside(
        lambda: check_every_prefix_sync(
            task,
            *args,
            effects=effects,
            same_work=same_work,
            retries=retries,
            suspend=suspend,
            strict=strict,
            cuts=cuts,
            alike=alike,
            cancel_after=cancel_after,
            **kwargs,
        )
    )


def check_every_prefix_sync(
    task: Any,
    /,
    *args: Any,
    effects: Effects | None = None,
    same_work: bool = True,
    retries: bool = True,
    suspend: bool = True,
    strict: bool = True,
    cuts: Sequence[int] | None = None,
    alike: Callable[[Any], Any] | None = None,
    cancel_after: int | None = None,
    **kwargs: Any,
) -> RunResult:
    """`check_every_prefix` for tests that are not async."""

    async def check(world: World) -> RunResult:
        lives = await prefixes.uninterrupted(world, _run_of(task, args, kwargs, cancel_after), effects)
        entries = len(lives.run.journal)
        for cut in range(entries + 1) if cuts is None else cuts:
            await prefixes.resume_from(world, lives, cut, effects, same_work=same_work, alike=alike)
        if cuts is None and lives.run.attempt == 1:
            await crashes.crash_after_every_entry(world, lives, effects, alike)
            if retries and cancel_after is None:
                await crashes.fail_every_step(world, lives, effects, alike)
        return _result(lives.run, lives.outcome)

    async def check_suspended(world: World) -> RunResult:
        run = _run_of(task, args, kwargs, cancel_after)
        return _result(run, await world.finish(run))

    result = _in_a_loop(check, strict=strict)
    if suspend:
        suspended = _in_a_loop(check_suspended, strict=strict, suspend=True)
        then, now = (prefixes.alike_of(each.outcome, alike) for each in (result, suspended))
        assert then == now, f"suspended at every wait: came to {now}, not {then}"
    return result


def _run_of(task: Any, args: tuple[Any, ...], kwargs: dict[str, Any], cancel_after: int | None = None) -> Run:
    if not hasattr(task, "fn") or not hasattr(task, "id"):
        raise ConfigError(f"expected a task, got {task!r}", hint="put @task on the function")
    retry = getattr(task, "retry", None)
    policy = retry.policy() if retry is not None else RetryPolicy()
    return Run(RUN_ID, task, (args, kwargs), retry=policy, cancel_after=cancel_after)


def _result(run: Run, outcome: Outcome) -> RunResult:
    executed = [key for life in run.lives for key in life.executed]
    warnings = [record.message for life in run.lives for record in life.logs if record.level == "WARNING"]
    return RunResult(outcome, list(run.journal), executed, run.attempt, warnings)


def _in_a_loop(work: Callable[[World], Coroutine[Any, Any, T]], **options: bool) -> T:
    """A loop of the kind that executors have; in a thread of its own where a loop is running already."""

    loop = DurableLoop()
    try:
        return loop.run_until_complete(work(World(loop, **options)))
    finally:
        # Nothing is canceled before closing: what is left belongs to lives that "died", and dead code does not run.
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


async def _beside(work: Callable[[], T]) -> T:
    """Work that needs a loop of its own, awaited from the loop of the test."""
    future: Future[T] = Future()

    def perform() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - handed over to the awaiting test, whole
            future.set_exception(error)

    threading.Thread(target=contextvars.Context().run, args=(perform,), name="stepwell.testing", daemon=True).start()
    return await asyncio.wrap_future(future)
