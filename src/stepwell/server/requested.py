"""What one worker asks to be written: into the committer of its kind, and the answer back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from stepwell.engine import checkpoint, finish, logs, metadata, release, suspend
from stepwell.errors import StepwellError
from stepwell.model.run import RunOutcome
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
# Seconds. The executor that finished a run has another one already: under load its end can wait for some more.
FINISH_GAP = 0.01
# After one of these the worker holds the run no more.
ENDINGS = (Suspend, Finish, Release)


class Requests:
    """One worker's requests. Runs and kinds are independent, but a run's ending waits for what came before it.

    `committed` is called after each commit, before the worker is answered, and `completed` before that for each run
    that simply completed. All of a batch happens in callbacks of its committer: no request has a task or a future of
    its own.
    """

    def __init__(
        self,
        db: Database,
        connection: Connection,
        committed: Callable[[Connection, Written], None],
        completed: Callable[[RunOutcome], None],
    ) -> None:
        self._connection = connection
        self._committed = committed
        self._unanswered: dict[str, set[int]] = {}
        self._afterwards: dict[str, list[_Afterwards]] = {}
        worker_id = connection.worker_id
        self._committers: dict[type[Any], Committer[Any, None]] = {
            WriteJournal: Committer("journal", partial(checkpoint.write_journal, db, worker_id)),
            Suspend: Committer("suspend", partial(suspend.suspend, db, worker_id)),
            Finish: Committer("finish", partial(finish.finish, db, worker_id, completed=completed), gap=FINISH_GAP),
            Release: Committer("release", partial(release.release, db, worker_id)),
            WriteLogs: Committer("logs", partial(logs.write_logs, db, worker_id)),
            SetMetadata: Committer("metadata", partial(metadata.set_metadata, db, worker_id)),
        }

    async def run(self) -> None:
        """Commit for ever. What is not committed when this is canceled, the worker will ask for again."""
        async with asyncio.TaskGroup() as group:
            for committer in self._committers.values():
                group.create_task(committer.run())

    def take(self, request: Request) -> None:
        """Have it committed, and answered after that."""
        if isinstance(request.frame, ENDINGS):
            self.afterwards(request.frame.run_id, partial(self._submit, request))
        else:
            self._submit(request)

    def afterwards(self, run_id: str, act: Callable[[], None]) -> None:
        """Act once everything that was asked of this run so far has been answered."""
        earlier = self._unanswered.get(run_id)
        if earlier is None:
            act()
        else:
            self._afterwards.setdefault(run_id, []).append(_Afterwards(set(earlier), act))

    def _submit(self, request: Request) -> None:
        frame = request.frame
        self._unanswered.setdefault(frame.run_id, set()).add(request.id)
        self._committers[type(frame)].submit(frame, partial(self._answer, request))

    def _answer(self, request: Request, error: StepwellError | None) -> None:
        run_id = request.frame.run_id
        if error is None:
            self._committed(self._connection, request.frame)
            self._connection.push(Done(request.id))
        else:
            if error.code == "lease-lost":
                self._connection.held.pop(run_id, None)
            self._connection.push(
                Refused(request.id, error.code, error.message, hint=error.hint, status=status_of(error))
            )
        self._settle(run_id, request.id)

    def _settle(self, run_id: str, request_id: int) -> None:
        """The request is answered: what waited for it alone may go on."""
        unanswered = self._unanswered.get(run_id, set())
        unanswered.discard(request_id)
        if not unanswered:
            self._unanswered.pop(run_id, None)
        waiting = self._afterwards.pop(run_id, None)
        if waiting is None:  # as after nearly all entries
            return
        ready = [each for each in waiting if not each.without(request_id)]
        still = [each for each in waiting if each.earlier]
        if still:
            self._afterwards[run_id] = still
        for each in ready:
            each.act()


@dataclass(frozen=True, slots=True)
class _Afterwards:
    """Something to do once these requests are answered."""

    earlier: set[int]
    act: Callable[[], None]

    def without(self, request_id: int) -> set[int]:
        """What it waits for still, after this one."""
        self.earlier.discard(request_id)
        return self.earlier
