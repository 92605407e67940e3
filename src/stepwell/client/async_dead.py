"""`client.dead` for async code: failed runs that await review."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack

from stepwell.client import dead
from stepwell.client.dead import Choice
from stepwell.client.handles import RunHandle
from stepwell.protocol.dead import Dead, DeadLetter, GroupView, Redriven
from stepwell.protocol.wire import UNSET

if TYPE_CHECKING:
    from stepwell.client.asynchronous import Stepwell


class DeadLetters:
    """`client.dead`: failed runs that nobody has dealt with yet, and their groups."""

    def __init__(self, client: Stepwell) -> None:
        self._client = client

    async def list(
        self, *, limit: int = 50, after: str | None = None, task: str | None = None, group: str | None = None
    ) -> Dead:
        """One page of them, newest first; of one task, or of one group by its id."""
        return await self._client.ask(dead.list_dead(limit, after, task, group))

    async def groups(self, *, task: str | None = None) -> Sequence[GroupView]:
        """Those that failed alike as one, with counts, first and last seen; the last seen first."""
        return await self._client.ask(dead.list_groups(task))

    async def group(self, group_id: str) -> GroupView:
        """One group. Raises NotFound when no dead letter is in it."""
        return await self._client.ask(dead.group(group_id))

    async def retrieve(self, run_id: str) -> DeadLetter:
        """One dead letter in full, with its group. Raises Conflict for a run that is none."""
        return await self._client.ask(dead.retrieve(run_id))

    async def redrive(self, run_id: str, *, payload: Any = UNSET, from_start: bool = False) -> RunHandle[Any]:
        """Runs one again as a new run, from where it failed, and takes it off the list.

        With `from_start` everything runs again, and so it does with another payload.

        Raises:
            Conflict: it is no dead letter. PayloadInvalid: the payload does not fit; it stays on the list.
        """
        made = await self._client.ask(dead.redrive(run_id, payload, from_start=from_start))
        return RunHandle(made.id, self._client)

    async def redrive_many(
        self,
        *,
        rate: str | None = None,
        patch: Mapping[str, Any] | None = None,
        from_start: bool = False,
        **choice: Unpack[Choice],
    ) -> Redriven:
        """Runs many again, the oldest first: these runs, a group, a task, or `everything`.

        rate: how many begin at most, "10/s" or "100/m"; the new runs are stored at once, each with its delay. patch:
        what shall be otherwise in each payload, `{"currency": "EUR", "old": None}`: fields that replace or, being
        None, remove those of the payload, however deep (RFC 7396); everything runs again then. The answer has the new
        run of each old one, and why others stayed on the list.
        """
        return await self._client.ask(dead.redrive_many(choice, rate, patch, from_start=from_start))

    async def discard(self, run_id: str, reason: str, *, by: str | None = None) -> None:
        """Takes one off the list without running it again; reason and by are kept with the run."""
        await self._client.ask(dead.discard(run_id, reason, by))

    async def discard_many(self, reason: str, *, by: str | None = None, **choice: Unpack[Choice]) -> int:
        """The same of many, chosen as for `redrive_many`; how many."""
        return (await self._client.ask(dead.discard_many(choice, reason, by))).count
