"""`client.runs` for async code: everything about runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Unpack

from stepwell.client import runs
from stepwell.client.handles import RunHandle
from stepwell.client.options import Duration
from stepwell.client.runs import Filter
from stepwell.client.watching import Seen, Watch
from stepwell.primitives.duration import seconds
from stepwell.protocol.runs import AttemptView, Canceled, CheckpointView, EventView, LogView, RunDetail, RunList
from stepwell.protocol.wire import UNSET

if TYPE_CHECKING:
    from stepwell.client.asynchronous import Stepwell


class Runs:
    """`client.runs`: everything about runs."""

    def __init__(self, client: Stepwell) -> None:
        self._client = client

    async def retrieve(self, run_id: str) -> RunDetail:
        """The run in full: status, times, payload, output, failure, related runs."""
        return await self._client.ask(runs.retrieve(run_id))

    async def list(self, *, limit: int = 20, **filters: Unpack[Filter]) -> RunList:
        """One page of runs, newest first. `status` takes our names, several with commas between; `period` is "24h";
        `after` and `before` are cursors from a page's `pagination`."""
        return await self._client.ask(runs.list_runs(limit, filters))

    async def result(self, run_id: str, timeout: Duration | None = None) -> Any:
        """The run's output, once it has ended. Raises RunFailed when it has none, TimeoutError after `timeout`."""
        return await self._client.ask(runs.result(run_id, None if timeout is None else seconds(timeout)))

    async def cancel(self, run_id: str, reason: str | None = None, *, grace: Duration | None = None) -> Canceled:
        """Cancels a run and its children; `canceled` is False when it had ended before, as `state`.

        A run that has begun gets CancelledError and has `grace` to clean up (default: as its task says, 5 s); `state`
        is "canceled" only when that is over. With `grace=0` it ends at once, and its code hears nothing of it.
        """
        return await self._client.ask(runs.cancel(run_id, reason, grace))

    async def replay(self, run_id: str) -> RunHandle[Any]:
        """A new run with the same payload, from the start."""
        return RunHandle((await self._client.ask(runs.replay(run_id))).id, self._client)

    async def fork(
        self,
        run_id: str,
        *,
        from_checkpoint: str | int | None = None,
        payload: Any = UNSET,
        changes: Mapping[str, Any] | None = None,
    ) -> RunHandle[Any]:
        """A new run that keeps this one's journal up to a checkpoint (its name, key or number) and goes on after it.

        Without a checkpoint it begins at the start, or after the last of `changes`: other values for kept checkpoints.
        """
        forked = await self._client.ask(runs.fork(run_id, from_checkpoint, payload, changes))
        return RunHandle(forked.id, self._client)

    async def reschedule(self, run_id: str, delay: Duration | datetime) -> RunDetail:
        """Another delay for a run that has not begun: from now, or a moment. The run as it is then.

        Raises:
            Conflict: it has begun, or ended.
        """
        return await self._client.ask(runs.reschedule(run_id, delay))

    async def bump(self, run_id: str) -> RunDetail:
        """Puts a queued run to the front of its queue; limits and rates hold for it as for all. The run as it is then.

        Raises:
            Conflict: it is not queued: it is delayed, executes, waits or has ended.
        """
        return await self._client.ask(runs.bump(run_id))

    async def journal(self, run_id: str, *, after: int = -1) -> Sequence[CheckpointView]:
        """The run's checkpoints in order, those beyond number `after`."""
        return await self._client.ask(runs.journal(run_id, after))

    async def attempts(self, run_id: str) -> Sequence[AttemptView]:
        """The run's attempts, in order."""
        return await self._client.ask(runs.attempts(run_id))

    async def events(self, run_id: str, *, after: int = -1) -> Sequence[EventView]:
        """What happened to the run, in order, beyond number `after`."""
        return await self._client.ask(runs.events(run_id, after))

    async def logs(self, run_id: str, *, after: int = -1) -> Sequence[LogView]:
        """What the run's code printed and logged, beyond number `after`."""
        return await self._client.ask(runs.logs(run_id, after))

    def watch(self, run_id: str) -> AsyncIterator[Seen]:
        """Follows a run: itself at each change, its events, checkpoints and logs as they come; ends with the run."""
        return self._client.follow(Watch(run_id))
