"""Heartbeat: the worker is alive, and so are these leases. The answer says which are not its own any more, and which it
has without knowing."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import structs

from stepwell.engine.release import release
from stepwell.errors import NotFound
from stepwell.protocol.frames import HeartbeatReply, Release
from stepwell.storage import lease, run, run_reading, worker
from stepwell.storage.database import Database, Tx

_OWN_ENDS = frozenset({"suspend", "finish", "release"})
_ON_ITS_WAY = 2.0
"""Seconds in which a claimed run is not missed by anybody. Nothing depends on it but who is asked in vain: the worker
itself decides, in one place, whether a run that it has not got is begun or given back."""


async def heartbeat(
    db: Database,
    worker_id: str,
    leases: Sequence[tuple[str, int]],
    lease_seconds: float,
    *,
    environment_id: str | None = None,
    leaving: bool = False,
) -> HeartbeatReply:
    """Renew leases, given as (run id, epoch), for `lease_seconds` from now.

    environment_id: the one that the caller proved to belong to. Raises NotFound (worker-not-found) when the worker has
    not registered there. A run that the worker itself suspended, finished or gave back is not lost.
    leaving: its last words; whatever else is leased to it goes back to the queue.
    """

    async def body(tx: Tx) -> HeartbeatReply:
        if not await worker.seen(tx, worker_id, environment_id):
            raise NotFound(
                f"there is no worker {worker_id[:80]!r} here",
                code="worker-not-found",
                hint="register it first",
                status=404,
            )
        renewed = await lease.renew(tx, worker_id, leases, lease_seconds) if leases else set[str]()
        reply = await _reply(tx, leases, renewed)
        unheld = await lease.unheld(tx, worker_id, leases, 0.0 if leaving else _ON_ITS_WAY)
        return structs.replace(reply, unheld=unheld)

    reply = await db.transact("heartbeat", body)
    if leaving and reply.unheld:
        await release(db, worker_id, [Release(run_id, epoch) for run_id, epoch in reply.unheld])
        return structs.replace(reply, unheld=[])
    return reply


async def revoked(db: Database, worker_id: str, leases: Sequence[tuple[str, int]]) -> HeartbeatReply:
    """The same answer without renewing anything: for a gateway that heard of a change and wants to tell its workers."""
    async with db.read("revoked") as tx:
        return await _reply(tx, leases, await lease.live(tx, worker_id, leases))


async def _reply(tx: Tx, leases: Sequence[tuple[str, int]], live: set[str]) -> HeartbeatReply:
    gone = [(run_id, epoch) for run_id, epoch in leases if run_id not in live]
    standings = await run_reading.standings(tx, [run_id for run_id, _ in gone]) if gone else {}
    lost: list[str] = []
    for run_id, epoch in gone:
        _, current, left_by = standings.get(run_id, ("unknown", -1, None))
        if current != epoch or left_by not in _OWN_ENDS:
            lost.append(run_id)
    canceling = await run.canceling(tx, sorted(live)) if live else []
    return HeartbeatReply(now=await worker.now(tx), lost=lost, canceling=canceling)
