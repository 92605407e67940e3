"""What one worker asks to be written: into the committer of its kind, and the answer back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from stepwell.engine import checkpoint, finish, logs, metadata, release, suspend
from stepwell.errors import StepwellError
from stepwell.protocol.frames import (
    Done,
    Finish,
    Refused,
    Release,
    Request,
    SetMetadata,
    Suspend,
    WriteJournal,
    WriteLogs,
)
from stepwell.protocol.refusals import status_of
from stepwell.server.committer import Committer
from stepwell.server.connection import Connection
from stepwell.storage.database import Database

Written = WriteJournal | Suspend | Finish | Release | WriteLogs | SetMetadata
# After one of these the worker holds the run no more.
ENDINGS = (Suspend, Finish, Release)


class Requests:
    """One worker's requests. Runs and kinds are independent, but a run's ending waits for what came before it.

    `committed` is called after each commit, before the worker is answered.
    """

    def __init__(self, db: Database, connection: Connection, committed: Callable[[Connection, Written], None]) -> None:
        self._connection = connection
        self._committed = committed
        self._unanswered: dict[str, set[asyncio.Future[StepwellError | None]]] = {}
        self._answering: set[asyncio.Task[None]] = set()
        worker_id = connection.worker_id
        self._committers: dict[type[Any], Committer[Any, None]] = {
            WriteJournal: Committer("journal", partial(checkpoint.write_journal, db, worker_id)),
            Suspend: Committer("suspend", partial(suspend.suspend, db, worker_id)),
            Finish: Committer("finish", partial(finish.finish, db, worker_id)),
            Release: Committer("release", partial(release.release, db, worker_id)),
            WriteLogs: Committer("logs", partial(logs.write_logs, db, worker_id)),
            SetMetadata: Committer("metadata", partial(metadata.set_metadata, db, worker_id)),
        }

    async def run(self) -> None:
        """Commit for ever. What is not committed when this is canceled, the worker will ask for again."""
        try:
            async with asyncio.TaskGroup() as group:
                for committer in self._committers.values():
                    group.create_task(committer.run())
        finally:
            for task in self._answering:
                task.cancel()

    def take(self, request: Request) -> None:
        """Have it committed, and answered after that."""
        if isinstance(request.frame, ENDINGS):
            self.afterwards(request.frame.run_id, partial(self._submit, request))
        else:
            self._submit(request)

    def afterwards(self, run_id: str, act: Callable[[], None]) -> None:
        """Act once everything that was asked of this run so far has been answered."""
        earlier = list(self._unanswered.get(run_id, ()))
        if not earlier:
            act()
            return
        task = asyncio.create_task(self._after(earlier, act))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _after(self, earlier: list[asyncio.Future[StepwellError | None]], act: Callable[[], None]) -> None:
        await asyncio.wait(earlier)
        act()

    def _submit(self, request: Request) -> None:
        future = self._committers[type(request.frame)].submit(request.frame)
        run_id = request.frame.run_id
        self._unanswered.setdefault(run_id, set()).add(future)
        future.add_done_callback(partial(self._answer, request))

    def _answer(self, request: Request, future: asyncio.Future[StepwellError | None]) -> None:
        run_id = request.frame.run_id
        unanswered = self._unanswered[run_id]
        unanswered.discard(future)
        if not unanswered:
            del self._unanswered[run_id]
        if future.cancelled():
            return
        error = future.result()
        if error is not None:
            if error.code == "lease-lost":
                self._connection.held.pop(run_id, None)
            answer = Refused(request.id, error.code, error.message, hint=error.hint, status=status_of(error))
            self._connection.push(answer)
            return
        self._committed(self._connection, request.frame)
        self._connection.push(Done(request.id))
