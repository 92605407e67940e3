"""Register: a worker says hello, declares its tasks and queues, and settles what it holds."""

from __future__ import annotations

from dataclasses import replace

from stepwell.engine import schedules
from stepwell.engine.admit import check_word
from stepwell.engine.release import release_in
from stepwell.errors import ApiError, Conflict, NotFound
from stepwell.model.queue import QueueKind, QueueLimits
from stepwell.model.slowing import fault_of as slowing_fault
from stepwell.model.task import Manifest
from stepwell.model.worker import Registered
from stepwell.protocol.frames import Hello, Release
from stepwell.storage import environment, event, lease, message, queue, task, worker
from stepwell.storage.columns import storable
from stepwell.storage.database import Database, Tx


async def register_worker(db: Database, environment_id: str, hello: Hello) -> Registered:
    """Store the manifest (the newest one counts) and give back runs leased to this worker that it does not hold.

    Such runs were claimed for it, but the connection broke before they were sent. Raises Conflict (worker-id-taken)
    when the id belongs to a worker elsewhere, NotFound (queue-not-found) when a task names a queue that nobody
    declared, ApiError (invalid-request) for names and limits that cannot be.
    """
    queues = _queues(hello.manifest)
    check_word("worker_id", hello.worker_id)
    for name in queues:
        check_word("queue", name)

    async def body(tx: Tx) -> Registered:
        found = await environment.by_id(tx, environment_id)
        if found is None:
            raise NotFound(f"there is no environment {environment_id!r}", code="environment-not-found", status=404)
        await queue.upsert(tx, environment_id, [(name, *each) for name, each in sorted(queues.items())])
        await _check_queues(tx, environment_id, hello.manifest)
        bounded = await queue.bounded(tx, environment_id)
        tasks = [replace(each, bounded=each.queue_name in bounded) for each in hello.manifest.tasks]
        await task.upsert(tx, environment_id, tasks)
        await task.mark_bounded(tx, environment_id, sorted(queues))  # those of other workers
        await schedules.declare(tx, environment_id, schedules.declared_by(hello.manifest.tasks))
        await message.declare_triggers(tx, environment_id, sorted((each.id, each.on) for each in hello.manifest.tasks))
        task_ids = sorted(each.id for each in hello.manifest.tasks)
        name, version = storable(hello.name[:200]), storable(hello.version[:200])
        if not await worker.upsert(tx, hello.worker_id, environment_id, name, hello.pid, version, task_ids):
            raise Conflict(
                f"the worker id {hello.worker_id!r} is taken", code="worker-id-taken", hint="make a new one", status=409
            )
        leased = await lease.of_worker(tx, hello.worker_id)
        unheld = [Release(run_id, epoch) for run_id, epoch in leased if (run_id, epoch) not in set(hello.held)]
        _, freed = await release_in(tx, hello.worker_id, unheld) if unheld else (None, set[str]())
        if freed:
            await event.notify(tx, ready=freed)
        lost = [run_id for run_id, epoch in hello.held if (run_id, epoch) not in set(leased)]
        return Registered(
            worker_id=hello.worker_id,
            environment=found.slug,
            now=await worker.now(tx),
            released=tuple(frame.run_id for frame in unheld),
            lost=tuple(lost),
        )

    return await db.transact("register", body)


async def _check_queues(tx: Tx, environment_id: str, manifest: Manifest) -> None:
    named = {each.queue_name: each for each in manifest.tasks}
    missing = named.keys() - await queue.known(tx, environment_id, list(named))
    for name in sorted(missing):
        task_id, source = named[name].id, named[name].source
        raise NotFound(
            f"task {task_id!r} goes to the queue {name!r}, which nobody declared" + (f" ({source})" if source else ""),
            code="queue-not-found",
            hint=f"declare it in the same modules: queue({name!r}, ...)",
            status=404,
        )


def _queues(manifest: Manifest) -> dict[str, tuple[QueueKind, QueueLimits]]:
    """Each task's own queue, and the declared ones."""
    queues: dict[str, tuple[QueueKind, QueueLimits]] = {}
    for declared in manifest.queues:
        kind: QueueKind = "task" if declared.name.startswith("task/") else "custom"
        _check(f"queue {declared.name[:80]!r}", declared.limits.problem())
        found = (kind, declared.limits)
        if queues.setdefault(declared.name, found) != found:
            known = queues[declared.name][1]
            _check(f"queue {declared.name[:80]!r}", f"declared twice: as {known} and as {declared.limits}")
    for each in manifest.tasks:
        _check(f"task {each.id[:80]!r}", QueueLimits(each.concurrency).problem())
        _check(f"task {each.id[:80]!r}: slow_down", each.slow_down and slowing_fault(each.slow_down))
        queues.setdefault(f"task/{each.id}", ("task", QueueLimits()))
    return queues


def _check(owner: str, problem: str | None) -> None:
    if problem is not None:
        raise ApiError(f"{owner}: {problem}", code="invalid-request", hint="correct its declaration", status=422)
