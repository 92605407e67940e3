"""Checkpoint: append to the journals of many runs in one transaction, together with the children that they spawn.

Committed here means completed: the executor delivers a result to the task only afterwards. The fence is a KEY SHARE
lock on the lease: cancel, rescue and the rest delete that row, so they wait for this commit, or this finds nothing.
A run's journal is dense; an entry that is sent again is recognised by its checksum.

Nearly all writes are entries and nothing else, right behind the journal's end. They go in one statement, which is a
transaction by itself and takes the same lock. It stores nothing of a run for which that is not so; `_write_carefully`
looks at those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from msgspec import structs

from stepwell.codec.payload import LARGEST
from stepwell.engine import messages
from stepwell.engine.admission import store_children
from stepwell.engine.admit import Asked, Place, admit
from stepwell.engine.fence import lease_lost
from stepwell.engine.lineage import check_depth, take_keys
from stepwell.engine.permits import Change, apply
from stepwell.engine.tokens import check_spec
from stepwell.errors import CheckpointError, ConnectionFailed, LimitExceeded, StepwellError
from stepwell.model.checkpoint import Checkpoint
from stepwell.model.child import child_id
from stepwell.model.run import NewRun
from stepwell.model.token import TokenSpec, token_id
from stepwell.model.trigger import TriggerRequest
from stepwell.protocol.frames import Spawn, WriteJournal
from stepwell.storage import checkpoint, lease, run
from stepwell.storage.checkpoint import Place as Row
from stepwell.storage.columns import storable
from stepwell.storage.database import Database, Tx
from stepwell.storage.lease import Fenced

LONGEST = 50_000  # entries of one run's journal: replay takes seconds from there on
_ROUNDS = 4


class _Raced(Exception):
    """Somebody stored one of these entries meanwhile: look again."""


@dataclass(slots=True)
class _Plan:
    """What one transaction will write. children: by environment. sums: checksums of what is planned, by place.

    tokens: (id, environment, run, key, spec).
    """

    entries: list[tuple[str, int, Checkpoint, bytes]] = field(default_factory=list[tuple[str, int, Checkpoint, bytes]])
    children: dict[str, list[NewRun]] = field(default_factory=dict[str, list[NewRun]])
    tokens: list[tuple[str, str, str, str, TokenSpec]] = field(
        default_factory=list[tuple[str, str, str, str, TokenSpec]]
    )
    permits: list[Change] = field(default_factory=list[Change])
    replies: list[messages.Answered] = field(default_factory=list[messages.Answered])
    given_up: list[messages.GivenUp] = field(default_factory=list[messages.GivenUp])
    sums: dict[Row, bytes] = field(default_factory=dict[Row, bytes])


async def write_journal(db: Database, worker_id: str, writes: Sequence[WriteJournal]) -> list[StepwellError | None]:
    """One answer for each write, all its entries stored or none. A refused one stops no other run's.

    Refusals: LeaseLost; CheckpointError (checkpoint-invalid, journal-gap, journal-conflict); LimitExceeded
    (journal-full); and whatever a trigger refuses of its children.
    """
    plain = _plain(writes)
    stored = await checkpoint.append(db, "write_journal_alone", worker_id, plain) if plain else set[str]()
    unusual = [write for write in writes if write.run_id not in stored]
    answers = iter(await _write_carefully(db, worker_id, unusual) if unusual else ())
    return [None if write.run_id in stored else next(answers) for write in writes]


def _plain(writes: Sequence[WriteJournal]) -> list[tuple[str, int, list[Checkpoint]]]:
    """What one statement can store: all writes of a run, if they are entries that follow one another and no more."""
    entries: dict[str, tuple[int, list[Checkpoint]]] = {}
    unusual: set[str] = set()
    for write in writes:
        epoch, known = entries.setdefault(write.run_id, (write.epoch, []))
        if write.spawns or not write.entries or write.epoch != epoch:
            unusual.add(write.run_id)
        for given in write.entries:
            follows = given.seq == known[-1].seq + 1 if known else given.seq >= 0
            if not follows or not _fits(given):
                unusual.add(write.run_id)
            known.append(given)
    return [(run_id, epoch, each) for run_id, (epoch, each) in entries.items() if run_id not in unusual]


def _fits(entry: Checkpoint) -> bool:
    try:
        return _checked(entry) is entry
    except StepwellError:
        return False


async def _write_carefully(db: Database, worker_id: str, writes: Sequence[WriteJournal]) -> list[StepwellError | None]:
    """Whatever it is: with children, sent again, refused for what it is, or without a lease."""

    async def body(tx: Tx) -> list[StepwellError | None]:
        return await _write(tx, worker_id, writes)

    for _ in range(_ROUNDS):
        try:
            return await db.transact("write_journal", body)
        except _Raced:
            continue
    raise ConnectionFailed("the same journal is being written twice at once", hint="try again")


async def _write(tx: Tx, worker_id: str, writes: Sequence[WriteJournal]) -> list[StepwellError | None]:
    fenced = await lease.fence(tx, worker_id, sorted({write.run_id for write in writes}))
    stored = await _stored(tx, writes, fenced)
    spawning = [write for write in writes if write.run_id in fenced and any(each.children for each in write.spawns)]
    lineage = await _lineage(tx, spawning, fenced)
    plan = _Plan()
    answers: list[StepwellError | None] = []
    ends = {run_id: each.last for run_id, each in fenced.items()}
    for write in writes:
        try:
            answers.append(await _one(tx, write, fenced, stored, lineage, plan, ends))
        except StepwellError as error:
            answers.append(error)
    free = await checkpoint.insert(tx, plan.entries) if plan.entries else set[Row]()
    if len(free) < len(plan.entries):
        raise _Raced
    if plan.permits:
        await apply(tx, plan.permits)
    for environment_id, children in plan.children.items():
        await store_children(tx, environment_id, children)
    await messages.subscribe(tx, plan.tokens, plan.given_up)
    if plan.replies:
        await messages.reply(tx, plan.replies)
    return answers


async def _one(
    tx: Tx,
    write: WriteJournal,
    fenced: Mapping[str, Fenced],
    stored: Mapping[Row, bytes],
    lineage: Mapping[str, tuple[str, int]],
    plan: _Plan,
    ends: dict[str, int],
) -> StepwellError | None:
    """Plan one write, all of it or nothing."""
    holder = fenced.get(write.run_id)
    if holder is None or holder.epoch != write.epoch:
        return lease_lost(write.run_id, write.epoch)
    last = ends[write.run_id]
    entries: list[tuple[str, int, Checkpoint, bytes]] = []
    for given in write.entries:
        entry = _checked(given)
        place, checksum = (write.run_id, entry.seq), entry.checksum()
        if entry.seq <= last:
            _must_be_same(place, checksum, stored.get(place) or plan.sums.get(place))
            continue
        if entry.seq != last + 1:
            return CheckpointError(
                f"entry {entry.seq} of {write.run_id} was sent where entry {last + 1} must come",
                code="journal-gap",
                hint="an entry before it was refused or lost: discard the attempt, it will be resumed",
            )
        last = entry.seq
        entries.append((write.run_id, write.epoch, entry, checksum))
    fresh = {entry.seq: entry.key for _, _, entry, _ in entries}
    children: list[NewRun] = []
    asked: list[Asked] = []
    permits: list[Change] = []
    tokens = _tokens(holder, write, fresh)
    replies, given_up = _about_messages(holder, write, fresh)
    for spawn in write.spawns:
        if spawn.seq in fresh and spawn.permit is not None:
            permits.append((holder.environment_id, write.run_id, spawn.permit))
        if spawn.seq in fresh and spawn.children:
            mine = _asked(holder, lineage[write.run_id], fresh[spawn.seq], spawn)
            children += await _children(tx, holder, mine)
            asked += mine
    if asked:
        await check_depth(tx, write.run_id, lineage[write.run_id][1] + 1)
        if not await take_keys(tx, holder.environment_id, asked):
            raise _Raced
    plan.tokens += tokens
    plan.children.setdefault(holder.environment_id, []).extend(children)
    plan.permits += permits
    plan.replies += replies
    plan.given_up += given_up
    plan.entries += entries
    plan.sums.update({(run_id, entry.seq): checksum for run_id, _, entry, checksum in entries})
    ends[write.run_id] = last
    return None


def _tokens(
    holder: Fenced, write: WriteJournal, fresh: Mapping[int, str]
) -> list[tuple[str, str, str, str, TokenSpec]]:
    """The tokens that the fresh entries, keys by seq, make. Raises what `check_spec` raises."""
    tokens: list[tuple[str, str, str, str, TokenSpec]] = []
    for spawn in write.spawns:
        if spawn.seq in fresh and spawn.token is not None:
            check_spec(spawn.token)
            key = fresh[spawn.seq]
            tokens.append((token_id(write.run_id, key), holder.environment_id, write.run_id, key, spawn.token))
    return tokens


def _about_messages(
    holder: Fenced, write: WriteJournal, fresh: Mapping[int, str]
) -> tuple[list[messages.Answered], list[messages.GivenUp]]:
    """Answers to updates, and waits that are given up. Raises what `check_reply` raises."""
    replies: list[messages.Answered] = []
    given_up: list[messages.GivenUp] = []
    for spawn in write.spawns:
        if spawn.seq in fresh and spawn.reply is not None:
            messages.check_reply(spawn.reply)
            replies.append((holder.environment_id, write.run_id, spawn.reply))
        if spawn.seq in fresh and spawn.given_up is not None:
            given_up.append((holder.environment_id, write.run_id, spawn.given_up))
    return replies, given_up


def _checked(entry: Checkpoint) -> Checkpoint:
    """Raises CheckpointError and LimitExceeded for what cannot be stored."""
    if entry.seq >= LONGEST:
        raise LimitExceeded(
            f"the journal has reached its limit of {LONGEST:,} entries",
            code="journal-full",
            hint="trigger another run with what is left to do, and end this one",
        )
    if entry.seq < 0 or entry.attempt < 0 or "\x00" in entry.key or not entry.key:
        raise CheckpointError(f"entry {entry.seq} has the key {entry.key!r}", hint="give the checkpoint another name")
    if len(entry.body) > LARGEST:
        raise CheckpointError(
            f"the value of {entry.name!r} has {len(entry.body):,} bytes, more than the limit of {LARGEST:,}",
            hint="put the data into a file or an object store, and return its name",
        )
    return structs.replace(entry, site=storable(entry.site)) if "\x00" in entry.site else entry


def _must_be_same(place: Row, checksum: bytes, there: bytes | None) -> None:
    if there is not None and there != checksum:
        raise CheckpointError(
            f"entry {place[1]} of {place[0]} is stored already, with another content",
            code="journal-conflict",
            hint="two executors worked on one run under one lease: this is a fault of Stepwell",
        )


async def _stored(tx: Tx, writes: Sequence[WriteJournal], fenced: Mapping[str, Fenced]) -> dict[Row, bytes]:
    """Checksums of what stands where a write wants to go."""
    places = {
        (write.run_id, entry.seq)
        for write in writes
        if write.run_id in fenced
        for entry in write.entries
        if 0 <= entry.seq <= fenced[write.run_id].last
    }
    found = await checkpoint.stored(tx, sorted(places)) if places else {}
    return {place: checksum for place, (_, checksum) in found.items()}


async def _lineage(
    tx: Tx, spawning: Sequence[WriteJournal], fenced: Mapping[str, Fenced]
) -> dict[str, tuple[str, int]]:
    found: dict[str, tuple[str, int]] = {}
    for environment_id in {fenced[write.run_id].environment_id for write in spawning}:
        found |= await run.lineage(tx, environment_id, [write.run_id for write in spawning])
    return found


def _asked(parent: Fenced, lineage: tuple[str, int], key: str, spawn: Spawn) -> list[Asked]:
    """The children of one spawn, each with its place."""
    root_id, depth = lineage
    asked: list[Asked] = []
    for index, child in enumerate(spawn.children):
        request = TriggerRequest(child.task_id, child.payload, child.payload_type, child.options)
        place = Place(child_id(parent.run_id, key, index), parent.run_id, root_id, depth + 1, key, index)
        asked.append((request, place))
    return asked


async def _children(tx: Tx, parent: Fenced, asked: Sequence[Asked]) -> list[NewRun]:
    """Ready to be stored. Raises the refusal of the first that is refused."""
    children: list[NewRun] = []
    for admitted in await admit(tx, parent.environment_id, asked):
        if isinstance(admitted, StepwellError):
            raise admitted
        children.append(admitted)
    return children
