"""`client.queues` for code that is not async: queues and their limits at runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Unpack

from stepwell.client import queues
from stepwell.client.queues import LimitFields
from stepwell.protocol.queueing import EnvironmentView, LimitName, QueueView, TaskLimit

if TYPE_CHECKING:
    from stepwell.client.blocking import Stepwell


class Queues:
    """`client.queues`: what runs and waits in them, their limits at runtime; `client.queues()` lists them."""

    def __init__(self, client: Stepwell) -> None:
        self._client = client

    def __call__(self) -> Sequence[QueueView]:
        """The same as `list`."""
        return self._client.ask(queues.list_queues())

    def list(self) -> Sequence[QueueView]:
        """All of them by name, with what runs and waits in them."""
        return self._client.ask(queues.list_queues())

    def retrieve(self, name: str) -> QueueView:
        """One of them; a task's own queue is `task/<id>`. Raises NotFound, as all of these do."""
        return self._client.ask(queues.retrieve(name))

    def pause(self, name: str) -> QueueView:
        """Nothing of it is handed to workers until it is resumed; what executes goes on."""
        return self._client.ask(queues.pause(name, paused=True))

    def resume(self, name: str) -> QueueView:
        """Go on with a paused queue."""
        return self._client.ask(queues.pause(name, paused=False))

    def override(self, name: str, *, by: str | None = None, **limits: Unpack[LimitFields]) -> QueueView:
        """Set limits in place of those in code, until they are reset; no deploy undoes it. by: who does.

        A concurrency of 0 lets nothing start, a max_length of 0 refuses every trigger. Rates are texts: "100/1m",
        "10/1s burst 20", "5/1h sliding".
        """
        return self._client.ask(queues.override(name, limits, by))

    def reset(self, name: str, *only: LimitName) -> QueueView:
        """What code declares counts again; with names of limits, for these."""
        return self._client.ask(queues.reset(name, only))

    def pause_task(self, task_id: str) -> None:
        """No run of a task is handed to workers, whatever queue it is in."""
        self._client.ask(queues.pause_task(task_id, paused=True))

    def resume_task(self, task_id: str) -> None:
        """Go on with a paused task."""
        self._client.ask(queues.pause_task(task_id, paused=False))

    def pause_environment(self) -> None:
        """No run of the environment is handed to workers."""
        self._client.ask(queues.pause_environment(paused=True))

    def resume_environment(self) -> None:
        """Go on with all there is."""
        self._client.ask(queues.pause_environment(paused=False))

    def limit_task(self, task_id: str, concurrency: int | None) -> TaskLimit:
        """Lets so many runs of a task execute at once, whatever queues they are in, in place of what it declares, until
        it is None again. Raises NotFound."""
        return self._client.ask(queues.limit_task(task_id, concurrency))

    def environment(self) -> EnvironmentView:
        """The environment's own limit and burst factor, and whether it is paused."""
        return self._client.ask(queues.environment())

    def limit_environment(self, concurrency: int | None, *, burst_factor: float | None = None) -> EnvironmentView:
        """Lets so many runs of the environment execute at once; None: any number. burst_factor: all queues together may
        have so many times as many, though none alone more than the limit; None leaves it as it is."""
        return self._client.ask(queues.limit_environment(concurrency, burst_factor))
