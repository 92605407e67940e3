"""What a trigger gives back: the run, or the batch of runs, to ask about later."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast, overload

from stepwell.codec.values import register_type
from stepwell.errors import RunFailed

if TYPE_CHECKING:
    from stepwell.client.asynchronous import Stepwell
    from stepwell.client.options import Duration
    from stepwell.model.admission import Why
    from stepwell.model.lifecycle import Status
    from stepwell.protocol.runs import Canceled, LogView, RunDetail
    from stepwell.protocol.triggering import ItemError

R = TypeVar("R")


class RunHandle(Generic[R]):
    """A run by its id. `cached`: an earlier trigger made it, this one made nothing. `admission`: why not, as
    "duplicate", "debounced", "running" or "throttled"; None if it was the idempotency key.
    """

    __slots__ = ("_client", "admission", "cached", "id")

    def __init__(
        self,
        id: str,  # noqa: A002
        client: Stepwell | None = None,
        *,
        cached: bool = False,
        admission: Why | None = None,
    ) -> None:
        self.id = id
        self.admission = admission
        self.cached = cached
        self._client = client

    async def result(self, timeout: Duration | None = None) -> R:
        """The run's output, as soon as it has ended.

        Inside a task, `trigger_and_wait` is the better way: it holds no worker while it waits.

        Raises:
            RunFailed: it ended without an output. TimeoutError: it had not ended within `timeout`; it goes on.
            ConfigError (waits-for-itself): asked by the run's own code; or, without a `timeout`, by a run below it.
        """
        return await self._api().runs.result(self.id, timeout)

    async def status(self) -> Status:
        """delayed, queued, executing, waiting, completed, failed, canceled or expired."""
        return cast("Status", (await self.retrieve()).state)

    async def retrieve(self) -> RunDetail:
        """The run in full."""
        return await self._api().runs.retrieve(self.id)

    async def cancel(self, reason: str | None = None, *, grace: Duration | None = None) -> Canceled:
        """Cancels the run and its children; `canceled` is False when it had ended before, as `state`.

        A run that has begun gets CancelledError and has `grace` to clean up (default: as its task says, 5 s); `state`
        is "canceled" only when that is over. With `grace=0` it ends at once, and its code hears nothing of it.
        """
        return await self._api().runs.cancel(self.id, reason, grace=grace)

    async def signal(self, name: str, data: Any = None) -> str:
        """Sends a message to the run: its code receives it by `inbox(name)`, once and in order. Its id.

        Raises:
            Conflict: the run has ended. LimitExceeded: it has 1000 that it did not receive. PayloadTooLarge: 1 MB.
        """
        return await self._api().signal(self.id, name, data)

    async def update(self, name: str, data: Any = None, *, timeout: Duration | None = None) -> Any:
        """Asks something of the run, which receives it by `updates(name)`, and waits for what it accepts.

        Raises:
            UpdateRefused: the run refused it, or its data does not fit. UpdatePending: there was no answer within
            `timeout`; it may come still. Conflict: the run has ended, perhaps without an answer.
        """
        return await self._api().update(self.id, name, data, timeout=timeout)

    async def metadata(self) -> dict[str, Any]:
        """What the run's code has published by `ctx.metadata`, as it is now; no worker is asked."""
        found = (await self.retrieve()).metadata
        return cast("dict[str, Any]", found) if isinstance(found, dict) else {}

    async def logs(self) -> Sequence[LogView]:
        """What the run's code printed and logged."""
        return await self._api().runs.logs(self.id)

    def _api(self) -> Stepwell:
        if self._client is not None:
            return self._client
        from stepwell.client.default import default_client

        return default_client()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RunHandle) and cast("RunHandle[Any]", other).id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<run {self.id}>"


class BatchHandle(Generic[R]):
    """Runs that were triggered together, in the order of their payloads.

    id: of the batch; None for one made inside a run, whose runs are its children, and for one without payloads.
    errors: items that the server refused; their runs do not exist.
    """

    __slots__ = ("errors", "id", "runs")

    def __init__(self, id: str | None, runs: Sequence[RunHandle[R]], errors: Sequence[ItemError] = ()) -> None:  # noqa: A002
        self.id = id
        self.runs = list(runs)
        self.errors = list(errors)

    @overload
    async def results(
        self, timeout: Duration | None = None, *, return_exceptions: Literal[False] = False
    ) -> list[R]: ...
    @overload
    async def results(self, timeout: Duration | None = None, *, return_exceptions: bool) -> list[R | RunFailed]: ...
    async def results(self, timeout: Duration | None = None, *, return_exceptions: bool = False) -> list[Any]:
        """The outputs of its runs, in order, as soon as all have ended.

        Raises:
            RunFailed: one ended without an output; with `return_exceptions` it stands in that one's place instead.
            TimeoutError: they had not all ended within `timeout`.
        """
        from stepwell.client.deadline import Deadline

        deadline, found = Deadline(timeout), list[Any]()
        for run in self.runs:
            try:
                found.append(await run.result(deadline.left()))
            except RunFailed as failure:
                found.append(failure)
        return found if return_exceptions else raise_first(found)

    def __len__(self) -> int:
        return len(self.runs)

    def __iter__(self) -> Iterator[RunHandle[R]]:
        return iter(self.runs)

    def __repr__(self) -> str:
        return f"<batch {self.id or 'of children'}: {len(self.runs)} runs>"


def raise_first(found: list[Any]) -> list[Any]:
    """What was found, unless a RunFailed is in it: then that is raised."""
    for each in found:
        if isinstance(each, RunFailed):
            raise each
    return found


def _id_of(handle: RunHandle[Any]) -> str:
    return handle.id


def _parts_of(batch: BatchHandle[Any]) -> tuple[str | None, list[RunHandle[Any]]]:
    return batch.id, batch.runs


def _batch_of(stored: tuple[str | None, list[RunHandle[Any]]]) -> BatchHandle[Any]:
    return BatchHandle(*stored)


# A helper of a task may return handles: what a step returns is stored.
register_type(RunHandle, "stepwell.run", _id_of, RunHandle)
register_type(BatchHandle, "stepwell.batch", _parts_of, _batch_of)
