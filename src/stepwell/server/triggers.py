"""Triggers that arrive together are committed together, one transaction for all of an environment.

One that comes alone is offered to the workers that are connected here: it may begin in the transaction that stores it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from stepwell.engine import trigger
from stepwell.errors import StepwellError
from stepwell.model.trigger import Triggered, TriggerRequest
from stepwell.server.committer import Committer
from stepwell.storage.database import Database

Offer = Callable[[str, TriggerRequest], Awaitable[Triggered | StepwellError | None]]


class Triggers:
    """A committer for each environment that has triggered something here. Ended by `close`.

    `offer` has one run triggered for a worker, given its environment; None: no worker here can take it now.
    """

    def __init__(self, db: Database, offer: Offer) -> None:
        self._db = db
        self._offer = offer
        self._committers: dict[str, Committer[TriggerRequest, Triggered]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def trigger(self, environment_id: str, request: TriggerRequest) -> Triggered:
        """The run, once it is committed. Raises what the engine refuses it with; ConnectionFailed without Postgres."""
        committer = self._committers.get(environment_id)
        if committer is None:
            committer = self._begin(environment_id)
        future: asyncio.Future[Triggered | StepwellError] = asyncio.get_running_loop().create_future()
        committer.submit(request, partial(_settle, future))
        outcome = await future
        if isinstance(outcome, StepwellError):
            raise outcome
        return outcome

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, environment_id: str) -> Committer[TriggerRequest, Triggered]:
        commit = partial(self._commit, environment_id)
        committer: Committer[TriggerRequest, Triggered] = Committer("triggers", commit, hold=False)
        self._committers[environment_id] = committer
        self._tasks.append(asyncio.create_task(committer.run(), name=f"stepwell-triggers {environment_id}"))
        return committer

    async def _commit(
        self, environment_id: str, requests: Sequence[TriggerRequest]
    ) -> Sequence[Triggered | StepwellError]:
        if len(requests) == 1 and (outcome := await self._offer(environment_id, requests[0])) is not None:
            return [outcome]
        return await trigger.trigger(self._db, environment_id, requests)


def _settle(future: asyncio.Future[Triggered | StepwellError], outcome: Triggered | StepwellError) -> None:
    if not future.done():  # else the caller has gone
        future.set_result(outcome)
