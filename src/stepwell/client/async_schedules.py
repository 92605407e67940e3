"""`client.schedules` for async code: when tasks run by themselves."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Unpack

from stepwell.client import schedules
from stepwell.client.schedules import Times
from stepwell.protocol.scheduling import Previewed, ScheduleView, TickView

if TYPE_CHECKING:
    from stepwell.client.asynchronous import Stepwell


class Schedules:
    """`client.schedules`: when tasks run by themselves."""

    def __init__(self, client: Stepwell) -> None:
        self._client = client

    async def create(self, task_id: str, *, key: str | None = None, **times: Unpack[Times]) -> ScheduleView:
        """Makes a schedule of a task, or changes the one with the same `key`; without a key it is always a new one.

        Raises:
            ConfigError, ApiError: what was said of it cannot be. NotFound: no worker has registered the task.
            PayloadInvalid: the task would not take what its runs would get. Conflict: the key is declared in code.
        """
        return await self._client.ask(schedules.create(task_id, key, times))

    async def update(self, schedule_id: str, task_id: str, **times: Unpack[Times]) -> ScheduleView:
        """Makes a schedule another one, all but its key; what is not said is the default. Raises as `create`."""
        return await self._client.ask(schedules.update(schedule_id, task_id, times))

    async def retrieve(self, schedule_id: str) -> ScheduleView:
        """A schedule, with its next ten ticks."""
        return await self._client.ask(schedules.retrieve(schedule_id))

    async def delete(self, schedule_id: str) -> None:
        """Removes it; its runs stay. Raises Conflict for one that is declared in code."""
        await self._client.ask(schedules.delete(schedule_id))

    async def pause(self, schedule_id: str) -> ScheduleView:
        """Its ticks trigger nothing until it is resumed, and are not made up for."""
        return await self._client.ask(schedules.pause(schedule_id))

    async def resume(self, schedule_id: str) -> ScheduleView:
        """Goes on with its next tick from now."""
        return await self._client.ask(schedules.resume(schedule_id))

    async def ticks(self, schedule_id: str, *, limit: int = 50, before: datetime | None = None) -> list[TickView]:
        """What came of its ticks, newest first."""
        return await self._client.ask(schedules.ticks(schedule_id, limit, before))

    async def backfill(self, schedule_id: str, begin: datetime, end: datetime) -> list[TickView]:
        """Triggers a run for each past tick from `begin` to `end` that had none, up to 1,000; those ticks."""
        return await self._client.ask(schedules.backfill(schedule_id, begin, end))

    async def preview(
        self, *, cron: str | None = None, every: str | float | None = None, timezone: str | None = None, count: int = 10
    ) -> Previewed:
        """The next ticks that such a schedule would have. Makes nothing."""
        return await self._client.ask(schedules.preview(cron, every, timezone, count))

    async def list(self) -> list[ScheduleView]:
        """The environment's schedules, newest first."""
        return await self._client.ask(schedules.list_all())
