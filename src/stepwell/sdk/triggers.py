"""What can be done with a task from elsewhere: trigger it, many of it, and wait for what comes of it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, ParamSpec, TypeVar, overload

from stepwell.client.handles import BatchHandle, RunHandle
from stepwell.client.options import scoped
from stepwell.errors import ConfigError, PayloadInvalid
from stepwell.model.child import ChildOutcome, ChildSpec, TriggerOptions
from stepwell.sdk.fanout import Completions, check_map, fan_out
from stepwell.sdk.runtime import Runtime, current
from stepwell.sdk.step import loop_is_running
from stepwell.sdk.words import word

if TYPE_CHECKING:
    from stepwell.client.blocking_handles import RunHandle as BlockingRunHandle
    from stepwell.errors import RunFailed
    from stepwell.sdk.task import Task

P = ParamSpec("P")
R = TypeVar("R")


class Triggers(Generic[P, R]):
    """The verbs of a task, and of a task with options.

    Arguments are those of the task's function. They are validated by its annotations before anything is sent. Inside a
    run each verb is a checkpoint: it happens once, however often the run resumes. Outside, requests go to the server
    that `STEPWELL_URL` and `STEPWELL_API_KEY` (or a running `stepwell dev`) name.
    """

    @property
    @abstractmethod
    def task(self) -> Task[P, R]:
        """The task itself."""

    @abstractmethod
    def trigger_options(self) -> TriggerOptions:
        """How its runs are triggered."""

    @word
    async def trigger(self, *args: P.args, **kwargs: P.kwargs) -> RunHandle[R]:
        """Triggers a run and returns its handle. Returned means stored: the run will not be lost.

        Raises:
            PayloadInvalid: the arguments do not fit. NotFound: no worker has registered the task, or the queue is not
            declared. Conflict: the idempotency key was used with another payload. ConnectionFailed: no answer.
        """
        spec, runtime = self.spec(args, kwargs), current()
        if runtime is not None:
            return RunHandle((await runtime.trigger(self.task.id, [spec]))[0])
        from stepwell.client.default import default_client

        return await default_client().send(spec)

    def trigger_sync(self, *args: P.args, **kwargs: P.kwargs) -> BlockingRunHandle[R]:
        """`trigger` for code that is not async, as is its handle; in a `def` task it is a checkpoint."""
        from stepwell.client.blocking_handles import RunHandle

        spec, runtime = self.spec(args, kwargs), blocking_runtime("trigger_sync", "await task.trigger(...)")
        if runtime is not None:
            return RunHandle(runtime.blocking(lambda: runtime.trigger(self.task.id, [spec]))[0])
        from stepwell.client.default import default_sync_client

        return default_sync_client().send(spec)

    async def trigger_in(self, conn: Any, /, *args: P.args, **kwargs: P.kwargs) -> RunHandle[R]:
        """Triggers a run as part of the caller's own Postgres transaction: it is there once that commits, and never was
        if it is rolled back.

        conn: a connection of asyncpg or psycopg, or a connection or session of SQLAlchemy, in a transaction on the
        database that holds Stepwell's tables. The environment is that of STEPWELL_API_KEY (or of a `stepwell dev`
        nearby); without a key, the only one there is.

        Raises as `trigger`, whereupon the transaction is void. ConfigError: there is no open transaction, or the
        database role may not trigger.
        """
        from stepwell.sdk.transactional import trigger_in

        return RunHandle(await trigger_in(conn, self.spec(args, kwargs)))

    def trigger_in_sync(self, conn: Any, /, *args: P.args, **kwargs: P.kwargs) -> BlockingRunHandle[R]:
        """`trigger_in` for a connection that blocks: of psycopg, SQLAlchemy or Django."""
        from stepwell.client.blocking_handles import RunHandle
        from stepwell.sdk.transactional import trigger_in_sync

        return RunHandle(trigger_in_sync(conn, self.spec(args, kwargs)))

    @word
    async def batch_trigger(self, payloads: Iterable[Any]) -> BatchHandle[R]:
        """Triggers a run for each payload: a mapping of parameters by name, or the one that is needed, as it is.

        Raises as `trigger`; when one payload does not fit, nothing is sent.
        """
        specs, runtime = self.specs(payloads), current()
        if runtime is not None:
            ids = await runtime.trigger(self.task.id, specs) if specs else []
            return BatchHandle(None, [RunHandle(run_id) for run_id in ids])
        from stepwell.client.default import default_client

        return await default_client().send_batch(specs)

    @word
    async def trigger_and_wait(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Triggers a child run and returns its output; the run that waits holds no worker meanwhile.

        Raises:
            RunFailed: it ended without an output; its recorded exception is the cause. PayloadInvalid: as `trigger`.
            ConfigError: outside a run.
        """
        spec, runtime = (
            self.spec(args, kwargs),
            current() or self.outside("trigger_and_wait", "await handle.result()"),
        )
        return _output((await runtime.trigger_and_wait(self.task.id, [spec]))[0])

    @overload
    async def map(
        self, payloads: Iterable[Any], *, limit: int | None = None, return_exceptions: Literal[False] = False
    ) -> list[R]: ...
    @overload
    async def map(
        self,
        payloads: Iterable[Any],
        *,
        limit: int | None = None,
        return_exceptions: bool = False,
        min_success: int | None = None,
    ) -> list[R | RunFailed]: ...
    @word
    async def map(
        self,
        payloads: Iterable[Any],
        *,
        limit: int | None = None,
        return_exceptions: bool = False,
        min_success: int | None = None,
    ) -> list[Any]:
        """Triggers a child run for each payload, waits for all of them, and returns their outputs in that order.

        A payload is a mapping of parameters by name, or the one that is needed, as it is. With `return_exceptions` a
        failed child's place holds its RunFailed; else the first of them is raised, when all children have ended.
        min_success: the same as `return_exceptions` if at least so many completed, else the first failure is raised.
        limit: how many children may be under way at a time (default: all of them).

        Raises as `trigger_and_wait`; when one payload does not fit, nothing is triggered.
        """
        specs, runtime = self.specs(payloads), current() or self.outside("map", "batch_trigger and batch.results()")
        check_map(specs, limit, min_success)
        outcomes = await fan_out(runtime, self.task.id, specs, limit)
        return outputs(outcomes, return_exceptions=return_exceptions, min_success=min_success)

    @overload
    def as_completed(
        self, payloads: Iterable[Any], *, limit: int = 100, return_exceptions: Literal[False] = False
    ) -> Completions[R]: ...
    @overload
    def as_completed(
        self, payloads: Iterable[Any], *, limit: int = 100, return_exceptions: Literal[True]
    ) -> Completions[R | RunFailed]: ...
    def as_completed(
        self, payloads: Iterable[Any], *, limit: int = 100, return_exceptions: bool = False
    ) -> Completions[Any]:
        """`async for place, output in child.as_completed(payloads)`: a child run for each payload, each output as soon
        as it is there, with the place of its payload. For many children: they are triggered, and their outputs loaded,
        as the loop goes on.

        limit: how many children may be under way at a time. A failed child raises its RunFailed from the loop; with
        `return_exceptions` it is the output. Children that are under way when the loop is left go on.

        Raises as `map`.
        """
        specs = self.specs(payloads)
        runtime = current() or self.outside("as_completed", "batch_trigger and batch.results()")
        check_map(specs, limit, None)
        return Completions(
            runtime, self.task.id, specs, limit, lambda each: outputs([each], return_exceptions=return_exceptions)[0]
        )

    # ---- for these verbs and their twins in `stepwell.sync` ----

    def spec(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ChildSpec:
        """One run to trigger. Raises PayloadInvalid."""
        payload, payload_type = self.task.encode_payload(args, kwargs)
        return ChildSpec(self.task.id, payload, payload_type, scoped(self.trigger_options()))

    def specs(self, payloads: Iterable[Any]) -> list[ChildSpec]:
        """A run to trigger for each payload. Raises PayloadInvalid that names the payload."""
        options, specs = scoped(self.trigger_options()), list[ChildSpec]()
        for index, item in enumerate(payloads):
            try:
                payload, payload_type = self.task.encode_item(item)
            except PayloadInvalid as error:
                raise _of_item(error, index) from None
            specs.append(ChildSpec(self.task.id, payload, payload_type, options))
        return specs

    def outside(self, verb: str, instead: str) -> NoReturn:
        """Raises ConfigError: this verb waits, which only a run can."""
        raise ConfigError(
            f"{verb} of task {self.task.id!r} was called outside a run, where nothing can be suspended",
            hint=f"inside a task it waits durably; here trigger it and use {instead}",
        )


def blocking_runtime(verb: str, instead: str) -> Runtime | None:
    """The run of this `def` task's thread, or None outside a run. Raises ConfigError where a run's loop would block."""
    runtime = current()
    if runtime is not None and loop_is_running():
        raise ConfigError(f"{verb} would block the event loop of run {runtime.run.id}", hint=f"write {instead} here")
    return runtime


def outputs(outcomes: Sequence[ChildOutcome], *, return_exceptions: bool, min_success: int | None = None) -> list[Any]:
    """What the children came to, in order."""
    from stepwell.client.outcomes import failure_of, output_of

    failures = [failure_of(outcome) for outcome in outcomes]
    if min_success is not None:
        return_exceptions = sum(failure is None for failure in failures) >= min_success
    if not return_exceptions:
        for failure in failures:
            if failure is not None:
                raise failure
    return [
        output_of(outcome) if failure is None else failure for outcome, failure in zip(outcomes, failures, strict=True)
    ]


def _output(outcome: ChildOutcome) -> Any:
    return outputs([outcome], return_exceptions=False)[0]


def _of_item(error: PayloadInvalid, index: int) -> PayloadInvalid:
    def at(field: str) -> str:
        return f"payloads[{index}].{field}" if field else f"payloads[{index}]"

    problems = [{**problem, "field": at(problem["field"])} for problem in error.problems]
    return PayloadInvalid(f"payloads[{index}]: {error.message}", problems=problems, hint=error.hint)
