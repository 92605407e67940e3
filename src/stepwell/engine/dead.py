"""Dead letters: failed runs that nobody has dealt with. A list, not a place.

Each belongs to a group of runs that failed alike. They leave the list by a redrive, which makes a new run of each, or
by being discarded with a reason. Many are redriven in the order of their making, so many a second: each new run gets
its delay when it is stored, so that nobody has to stay and pace them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stepwell.codec.merge_patch import merged
from stepwell.codec.payload import JSON, Packet, plain_bytes, to_plain
from stepwell.codec.text import to_text
from stepwell.engine import undoing
from stepwell.engine.cancel import run_not_found
from stepwell.engine.replay import Again, fork_each
from stepwell.errors import ApiError, Conflict, NotFound, PayloadInvalid, StepwellError
from stepwell.model.dead import DeadFilter, ErrorGroup, Pace, Redriven
from stepwell.model.run import RunDetail, RunPage
from stepwell.model.trigger import Triggered
from stepwell.storage import checkpoint, dead, event, run, run_reading, worker
from stepwell.storage.columns import storable
from stepwell.storage.database import Database, Tx

MOST_ROWS = 1000
MOST_REDRIVEN = 1000
"""Runs that one call redrives; the rest are told of by `Redriven.rest`."""
LONGEST_REASON = 1000
_AT_ONCE = 100  # redriven in one transaction
_EVERYTHING = DeadFilter()

# What is wrong is in the journal itself: only from the start can these end otherwise.
_FROM_THE_START = frozenset({"checkpoint_invalid", "replay_diverged"})


# ── read ─────────────────────────────────────────────────────────────────────


async def list_dead(
    db: Database,
    environment_id: str,
    task_ids: Sequence[str] = (),
    *,
    groups: Sequence[str] = (),
    after: str | None = None,
    limit: int = 50,
) -> RunPage:
    """A page of dead letters, newest first; `after` is the last run of the page before."""
    limit = max(1, min(limit, MOST_ROWS))
    where = DeadFilter(task_ids=tuple(task_ids), groups=tuple(groups))
    async with db.read("list_dead") as tx:
        found = await dead.page(tx, environment_id, where, after, limit + 1)
    runs = found[:limit]
    return RunPage(tuple(runs), runs[-1].id if len(found) > limit else None)


async def list_groups(
    db: Database, environment_id: str, task_ids: Sequence[str] = (), *, limit: int = 50, skip: int = 0
) -> tuple[list[ErrorGroup], int]:
    """A page of the groups of dead letters, the last seen first, and how many there are in all."""
    async with db.read("list_dead_groups") as tx:
        where = DeadFilter(task_ids=tuple(task_ids))
        return await dead.groups(tx, environment_id, where, max(1, min(limit, MOST_ROWS)), max(0, skip))


async def get_group(db: Database, environment_id: str, group: str) -> ErrorGroup:
    """Raises NotFound (error-group-not-found) when no dead letter is in it."""
    async with db.read("dead_group") as tx:
        found, _ = await dead.groups(tx, environment_id, DeadFilter(groups=(group,)), 1, 0)
    if not found:
        raise NotFound(
            f"no dead letter is in the group {group[:80]!r}",
            code="error-group-not-found",
            hint="they may all have been redriven or discarded: stepwell dead list",
            status=404,
        )
    return found[0]


# ── run again ────────────────────────────────────────────────────────────────


async def redrive(
    db: Database,
    environment_id: str,
    run_id: str,
    *,
    from_start: bool = False,
    payload: bytes | None = None,
    payload_type: str = "application/json",
) -> Triggered:
    """Go on with a failed run as a new run, where the old one failed, and take the old one off the list.

    from_start: run everything again. payload: another one, with which everything runs again. Raises NotFound
    (run-not-found, task-not-found), Conflict (not-dead) for a run that is not on the list, PayloadInvalid,
    PayloadTooLarge, CheckpointError for a damaged journal; then it stays on the list.
    """

    async def body(tx: Tx) -> Triggered:
        await _lock_dead(tx, environment_id, run_id)
        [source] = await run_reading.details(tx, environment_id, [run_id])
        [start] = await _starts(tx, [source], from_start=from_start or payload is not None)
        other = None if payload is None else (payload, payload_type)
        [made] = await _redrive(tx, environment_id, [Again(source, start, payload=other)])
        if isinstance(made, StepwellError):
            raise made
        return made

    return await db.transact("redrive", body)


async def redrive_many(
    db: Database,
    environment_id: str,
    where: DeadFilter = _EVERYTHING,
    *,
    rate: float | None = None,
    from_start: bool = False,
    patch: Mapping[str, Any] | None = None,
    rest: Pace | None = None,
    limit: int = MOST_REDRIVEN,
) -> Redriven:
    """Redrive all that `where` chooses, the oldest first, at most `limit`; `rest` goes on where a call before ended.

    rate: runs a second; None: all at once. patch: what shall be otherwise in each payload (RFC 7396), with which
    everything runs again. Runs that cannot be redriven stay on the list. Those that are no dead
    letters are passed over. Raises ApiError (invalid-request) for a rate that cannot be.
    """
    if rate is not None and not 1e-4 <= rate <= 1e6:
        raise ApiError(f"rate: expected 0.0001 to 1,000,000 runs a second, got {rate:g}", code="invalid-request")
    limit = max(1, min(limit, MOST_REDRIVEN))
    how = _How(None if rate is None else 1.0 / rate, from_start or patch is not None, patch)
    done = Redriven({}, {}, rest or await _from_the_oldest(db, environment_id))
    while done.rest is not None and (left := limit - len(done.runs) - len(done.refused)) > 0:
        done = await _some(db, environment_id, where, done, how, min(left, _AT_ONCE))
    return done


async def _from_the_oldest(db: Database, environment_id: str) -> Pace:
    async with db.read("redrive_many") as tx:
        return Pace(0, await dead.newest(tx, environment_id), await worker.now(tx))


@dataclass(frozen=True, slots=True)
class _How:
    """gap: seconds between the beginnings of two runs; None: all at once."""

    gap: float | None
    from_start: bool
    patch: Mapping[str, Any] | None


async def _some(
    db: Database, environment_id: str, where: DeadFilter, done: Redriven, how: _How, limit: int
) -> Redriven:
    """As many more as one transaction takes."""
    pace = done.rest
    assert pace is not None

    async def body(tx: Tx) -> Redriven:
        seen = await dead.numbers(tx, environment_id, where, pace.after, pace.upto, limit + 1)
        chosen = seen[:limit]
        ids = [run_id for run_id, _ in chosen]
        await run.lock(tx, ids)
        here = await dead.still(tx, environment_id, ids)
        sources = [each for each in await run_reading.details(tx, environment_id, ids) if each.run.id in here]
        payloads, unfit = _patched(sources, how.patch)
        sources = [each for each in sources if each.run.id not in unfit]
        starts = await _starts(tx, sources, from_start=how.from_start)
        gap = how.gap or 0.0
        again = [
            Again(
                each,
                start,
                delay_until=None if how.gap is None else pace.next_at + gap * n,
                payload=payloads.get(each.run.id),
            )
            for n, (each, start) in enumerate(zip(sources, starts, strict=True))
        ]
        answers = dict(zip(_ids(sources), await _redrive(tx, environment_id, again), strict=True))
        more = Pace(chosen[-1][1], pace.upto, pace.next_at + gap * len(sources)) if len(seen) > limit else None
        return Redriven(
            done.runs | {old: each.run_id for old, each in answers.items() if isinstance(each, Triggered)},
            done.refused | unfit | {old: each for old, each in answers.items() if isinstance(each, StepwellError)},
            more,
        )

    return await db.transact("redrive", body)


def _patched(
    sources: Sequence[RunDetail], patch: Mapping[str, Any] | None
) -> tuple[dict[str, tuple[bytes, str]], dict[str, StepwellError]]:
    """The other payload of each run, and why there is none for some."""
    payloads: dict[str, tuple[bytes, str]] = {}
    unfit: dict[str, StepwellError] = {}
    for each in sources if patch is not None else ():
        try:
            packet = Packet(each.payload, each.payload_type)
            if packet.type != JSON:
                packet = Packet(plain_bytes(packet), JSON)
            tree = to_plain(packet)
            if tree is not None and not isinstance(tree, dict):
                raise PayloadInvalid(f"the payload of {each.run.id} is no JSON object, so no patch fits it")
            payloads[each.run.id] = (to_text(merged(tree, patch)), JSON)
        except StepwellError as error:
            unfit[each.run.id] = error
    return payloads, unfit


async def _starts(tx: Tx, sources: Sequence[RunDetail], *, from_start: bool) -> list[int | None]:
    """After which entry of its journal each goes on; None: from its start."""
    lengths = {} if from_start else await checkpoint.lengths(tx, _ids(sources))
    starts: list[int | None] = []
    for old in (source.run for source in sources):
        length = lengths.get(old.id, 0)
        again = length == 0 or (old.failure is not None and old.failure.code in _FROM_THE_START)
        if old.not_undone is not None and not again:
            again = await undoing.was_tried(tx, old.id)  # what is undone is to be done anew
        starts.append(None if again else length - 1)
    return starts


async def _redrive(tx: Tx, environment_id: str, again: Sequence[Again]) -> Sequence[Triggered | StepwellError]:
    """Locked runs that are on the list; those of which a new run was made leave it."""
    made = await fork_each(tx, environment_id, again, "redrive")
    done = [
        (each.source.run.id, new.run_id) for each, new in zip(again, made, strict=True) if isinstance(new, Triggered)
    ]
    await run.review(tx, [old for old, _ in done])
    await event.append(tx, [(old, "redriven", {"run": new}) for old, new in done])
    await event.notify(tx, ready=[environment_id] if done else [], runs=[old for old, _ in done])
    return made


# ── not run again ────────────────────────────────────────────────────────────


async def discard(db: Database, environment_id: str, run_id: str, reason: str, by: str | None = None) -> None:
    """Take a run off the list without running it again. by: who says so.

    Raises NotFound (run-not-found), Conflict (not-dead), ApiError (invalid-request) without a reason.
    """
    reason = _checked(reason)

    async def body(tx: Tx) -> None:
        await _lock_dead(tx, environment_id, run_id)
        await _discard(tx, [run_id], reason, by)

    await db.transact("discard", body)


async def discard_many(db: Database, environment_id: str, where: DeadFilter, reason: str, by: str | None = None) -> int:
    """The same of all that `where` chooses; how many. Raises ApiError (invalid-request) without a reason."""
    reason = _checked(reason)
    upto, count = (await _from_the_oldest(db, environment_id)).upto, 0

    async def body(tx: Tx) -> int:
        chosen = await dead.numbers(tx, environment_id, where, None, upto, MOST_ROWS)
        await run.lock(tx, [run_id for run_id, _ in chosen])
        return await _discard(tx, [run_id for run_id, _ in chosen], reason, by)

    while found := await db.transact("discard", body):
        count += found
    return count


async def _discard(tx: Tx, ids: Sequence[str], reason: str, by: str | None) -> int:
    done = await run.review(tx, ids) if ids else set[str]()
    who = None if by is None else storable(by[:LONGEST_REASON])
    await event.append(tx, [(run_id, "discarded", {"reason": reason, "by": who}) for run_id in sorted(done)])
    await event.notify(tx, runs=done)
    return len(done)


def _checked(reason: str) -> str:
    text = storable(reason.strip())
    if not 1 <= len(text) <= LONGEST_REASON:
        raise ApiError(
            f"reason: expected 1 to {LONGEST_REASON:,} characters, got {len(text):,}",
            code="invalid-request",
            hint="say why nobody has to look at these runs any more",
            status=422,
        )
    return text


async def _lock_dead(tx: Tx, environment_id: str, run_id: str) -> None:
    state = (await run.lock(tx, [run_id])).get(run_id)
    if state is None or state.environment_id != environment_id:
        raise run_not_found(run_id)
    if run_id not in await dead.still(tx, environment_id, [run_id]):
        raise Conflict(
            f"{run_id} is no dead letter: it is {state.status}"
            + (", and was dealt with" if state.status == "failed" else ""),
            code="not-dead",
            hint="fork the run instead, if it is to run again",
            status=409,
        )


def _ids(sources: Sequence[RunDetail]) -> list[str]:
    return [each.run.id for each in sources]
