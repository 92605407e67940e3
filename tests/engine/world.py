"""A small world to try the verbs in: one environment, one worker, a few tasks. Time passes by being given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from stepwell.codec import body
from stepwell.codec.values import dumps
from stepwell.engine import claim, environments, finish, observe, register, suspend, trigger
from stepwell.engine.checkpoint import write_journal
from stepwell.errors import StepwellError
from stepwell.model.checkpoint import Checkpoint
from stepwell.model.child import ChildSpec, TriggerOptions
from stepwell.model.failure import Failure
from stepwell.model.retry import RetryPolicy
from stepwell.model.run import Run
from stepwell.model.task import Manifest, QueueDeclaration, TaskDeclaration
from stepwell.model.trigger import Triggered, TriggerRequest
from stepwell.model.wait import Wait
from stepwell.protocol.frames import PROTOCOL_VERSION, Finish, Hello, Spawn, StartAttempt, Suspend, WriteJournal
from stepwell.storage.database import Database, Tx

LEASE = 30.0
SCHEMA = {
    "type": "object",
    "properties": {"topic": {"type": "string"}, "depth": {"type": "integer"}},
    "required": ["topic"],
    "additionalProperties": False,
}
# What no foreign key watches over, since the statement that writes it proves it: rows of runs that there are not.
DANGLING = """
SELECT 'run' AS of, id FROM run
WHERE NOT EXISTS (SELECT FROM task WHERE environment_id = run.environment_id AND id = run.task_id)
    OR NOT EXISTS (SELECT FROM queue WHERE environment_id = run.environment_id AND name = run.queue)
    OR worker_id IS NOT NULL AND NOT EXISTS (SELECT FROM worker WHERE id = worker_id)
    OR batch_id IS NOT NULL AND NOT EXISTS (SELECT FROM batch WHERE id = batch_id)
UNION ALL
SELECT of, id FROM (
    SELECT 'ready' AS of, run_id AS id FROM ready UNION ALL SELECT 'delayed', run_id FROM delayed
    UNION ALL SELECT 'lease', run_id FROM lease UNION ALL SELECT 'wait', run_id FROM wait
    UNION ALL SELECT 'checkpoint', run_id FROM checkpoint UNION ALL SELECT 'attempt', run_id FROM attempt
    UNION ALL SELECT 'adoption', run_id FROM adoption UNION ALL SELECT 'adopted', parent_id FROM adoption
    UNION ALL SELECT 'event', run_id FROM event UNION ALL SELECT 'run_log', run_id FROM run_log
    UNION ALL SELECT 'idempotency', run_id FROM idempotency UNION ALL SELECT 'request_key', run_id FROM request_key
    UNION ALL SELECT 'cancel_on', run_id FROM cancel_on
    UNION ALL SELECT 'batch_item', run_id FROM batch_item WHERE run_id IS NOT NULL
    UNION ALL SELECT 'parent', parent_id FROM run WHERE parent_id IS NOT NULL
    UNION ALL SELECT 'source', forked_from FROM run WHERE forked_from IS NOT NULL
) AS named WHERE NOT EXISTS (SELECT FROM run WHERE run.id = named.id)
"""
PATIENT = RetryPolicy(max_attempts=3, min_timeout=60, max_timeout=60, jitter=False)
MANIFEST = Manifest(
    tasks=(
        TaskDeclaration("plain", retry=PATIENT),
        TaskDeclaration("child", retry=PATIENT),
        TaskDeclaration("patient", retry=PATIENT, cancel_grace=90.0),
        TaskDeclaration("once", retry=RetryPolicy(max_attempts=1)),
        TaskDeclaration("checked", payload_schema=SCHEMA, source="tasks.py:3"),
        TaskDeclaration("shared", queue="narrow"),
    ),
    queues=(QueueDeclaration("narrow", concurrency=2), QueueDeclaration("wide")),
)
ALL_TASKS = tuple(task.id for task in MANIFEST.tasks)
FAILURE = Failure("error", "no", "ValueError", "Traceback …")


def hello(worker_id: str, manifest: Manifest = MANIFEST, held: Sequence[tuple[str, int]] = ()) -> Hello:
    return Hello(worker_id, f"name of {worker_id}", 4711, PROTOCOL_VERSION, "0.1", manifest, list(held))


def entry(seq: int, key: str | None = None, value: Any = None, **fields: Any) -> Checkpoint:
    packed = body.pack(body.document(value_text=dumps(value)))
    defaults = {"kind": "step", "outcome": "value", "at": 1.5 + seq, "started": 1.0 + seq, "body": packed}
    return Checkpoint(seq=seq, key=key or f"/|step#{seq}", **{**defaults, **fields})


def spawn(seq: int, key: str, count: int, **options: Any) -> tuple[Checkpoint, Spawn]:
    children = [ChildSpec("child", b"{}", options=TriggerOptions(**options)) for _ in range(count)]
    return entry(seq, key, kind="spawn"), Spawn(seq, children)


@dataclass
class World:
    db: Database
    environment_id: str
    worker: str = "worker-1"
    others: list[str] = field(default_factory=list)

    @classmethod
    async def create(cls, db: Database, slug: str = "dev", worker: str = "worker-1") -> World:
        environment = await environments.ensure_environment(db, slug)
        world = cls(db, environment.id, worker)
        await world.join(worker)
        return world

    async def join(self, worker_id: str, manifest: Manifest = MANIFEST) -> str:
        await register.register_worker(self.db, self.environment_id, hello(worker_id, manifest))
        return worker_id

    # ── doing ────────────────────────────────────────────────────────────────

    async def trigger(self, task_id: str = "plain", payload: bytes = b"{}", **options: Any) -> str:
        [outcome] = await self.ask(TriggerRequest(task_id, payload, options=TriggerOptions(**options)))
        assert isinstance(outcome, Triggered), outcome
        return outcome.run_id

    async def ask(self, *requests: TriggerRequest) -> list[Triggered | StepwellError]:
        return await trigger.trigger(self.db, self.environment_id, requests)

    async def claim(
        self, limit: int = 1, worker: str | None = None, tasks: Sequence[str] = ALL_TASKS
    ) -> list[StartAttempt]:
        return await claim.claim(self.db, self.environment_id, worker or self.worker, tasks, limit, LEASE)

    async def started(self, task_id: str = "plain", **options: Any) -> StartAttempt:
        """A fresh run, claimed. Nothing else may be claimable."""
        run_id = await self.trigger(task_id, **options)
        [attempt] = await self.claim()
        assert attempt.run_id == run_id
        return attempt

    async def write(
        self, attempt: StartAttempt, *entries: Checkpoint, spawns: Sequence[Spawn] = ()
    ) -> StepwellError | None:
        frame = WriteJournal(attempt.run_id, attempt.epoch, list(entries), list(spawns))
        return (await write_journal(self.db, self.worker, [frame]))[0]

    async def suspend(self, attempt: StartAttempt, *waits: Wait) -> StepwellError | None:
        return (await suspend.suspend(self.db, self.worker, [Suspend(attempt.run_id, attempt.epoch, list(waits))]))[0]

    async def finish(self, attempt: StartAttempt, **fields: Any) -> StepwellError | None:
        return (await finish.finish(self.db, self.worker, [Finish(attempt.run_id, attempt.epoch, **fields)]))[0]

    # ── time ─────────────────────────────────────────────────────────────────

    async def sql(self, statement: str, *args: Any) -> list[Any]:
        async def act(tx: Tx) -> list[Any]:
            return await tx.fetch(statement, *args)

        return await self.db.transact("test", act)

    async def lease_runs_out(self, run_id: str) -> None:
        await self.sql("UPDATE lease SET expires_at = clock_timestamp() - interval '1 s' WHERE run_id = $1", run_id)

    async def timers_fire(self) -> None:
        await self.sql("UPDATE wait SET due_at = clock_timestamp() - interval '1 s' WHERE due_at IS NOT NULL")

    async def delays_end(self) -> None:
        await self.sql("UPDATE delayed SET due_at = clock_timestamp() - interval '1 s'")

    async def ttl_ends(self, run_id: str) -> None:
        await self.sql("UPDATE run SET expires_at = clock_timestamp() - interval '1 s' WHERE id = $1", run_id)
        await self.sql("UPDATE ready SET expires_at = clock_timestamp() - interval '1 s' WHERE run_id = $1", run_id)

    # ── seeing ───────────────────────────────────────────────────────────────

    async def run(self, run_id: str) -> Run:
        return (await observe.get_run(self.db, self.environment_id, run_id)).run

    async def status(self, run_id: str) -> str:
        return (await self.run(run_id)).status

    async def kinds(self, run_id: str) -> list[str]:
        return [event.kind for event in await observe.events(self.db, self.environment_id, run_id)]

    async def journal(self, run_id: str) -> list[Checkpoint]:
        return await observe.journal(self.db, self.environment_id, run_id)

    async def children(self, run_id: str) -> list[str]:
        return [run.id for run in await observe.children(self.db, self.environment_id, run_id)]

    async def check(self) -> None:
        """What must hold at any rest: no stuck run, dense journals, slots held by leases only, one end at most."""
        assert await observe.stuck(self.db) == []
        broken = await self.sql("SELECT run_id FROM checkpoint GROUP BY run_id HAVING max(seq) + 1 <> count(*)")
        assert broken == []
        torn = await self.sql(
            """SELECT id FROM run WHERE (status = 'executing') <> EXISTS (SELECT FROM lease WHERE run_id = id)
               OR attempt_open <> EXISTS (SELECT FROM attempt WHERE run_id = id AND outcome = 'open')"""
        )
        assert torn == []
        assert await self.sql(DANGLING) == []
        settled = await self.sql(
            """SELECT run_id FROM cancel_on JOIN run ON run.id = run_id
               WHERE ended_as IS NOT NULL OR cancel_requested_at IS NOT NULL"""
        )
        assert settled == []
        ends = await self.sql(
            """SELECT run_id FROM event WHERE kind IN ('completed', 'failed', 'canceled', 'expired')
               GROUP BY run_id HAVING count(*) > 1"""
        )
        assert ends == []


def plain(value: bytes | None) -> Any:
    return None if value is None else msgspec.json.decode(value)
