"""Collecting: many runs of a batched task become one execution, and what comes of it is given out to them.

A member waits as `delayed`, held, until its batch is full or its time is over. Then a collector is made whose payload
is the list of theirs. When that has ended, by whatever verb, each member ends alike: with its element of the list that
the collector returned, or as it failed, was canceled or expired.

That is no part of the verb that ended the collector. What is to be done stands in `held`, so that whoever looks finds
it, after any crash; the change of a member's status from `delayed` is what makes it happen once. So the end of a run
costs nothing more where there are no batches, and there is one place for all ways to end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import msgspec

from stepwell.codec.payload import JSON, LARGEST, Packet, plain_bytes
from stepwell.engine import declarations
from stepwell.engine.admit import collector_of, store
from stepwell.engine.wake import wake_waiting
from stepwell.model.admission import BatchRule
from stepwell.model.error_group import error_group
from stepwell.model.event import EventKind
from stepwell.model.failure import Failure
from stepwell.model.run import RunState
from stepwell.primitives.ids import new_id
from stepwell.storage import admission, event, run
from stepwell.storage.admission import Collected, Key, Member
from stepwell.storage.database import Database, Tx

_SPARE = 100  # held rows of canceled runs that one look passes over


async def collect_due(db: Database, limit: int = 100) -> int:
    """Make a collector for each batch that is full, or whose time is over. How many batches were looked at."""
    async with db.read("due_batches") as tx:
        keys = await admission.due_batches(tx, limit)
    for environment_id, key in keys:
        await _collect(db, environment_id, key)
    return len(keys)


async def share_out_ended(db: Database, limit: int = 100) -> int:
    """Give what came of collectors that have ended to their members. How many collectors there were."""
    async with db.read("ended_collectors") as tx:
        ended = await admission.ended_collectors(tx, limit)
    for collector_id in ended:
        await _share_out(db, collector_id)
    return len(ended)


# ── many become one ──────────────────────────────────────────────────────────


async def _collect(db: Database, environment_id: str, key: Key) -> None:
    async def body(tx: Tx) -> None:
        found = await admission.lock_batch(tx, environment_id, key)
        if found is None or found.until > found.now or not found.size:
            return
        stored = (await declarations.load(tx, environment_id, [key[0]])).get(key[0])
        declared = stored.declaration.admission if stored is not None else None
        rule = declared.batch if declared is not None else None
        most = (rule.max_size if rule is not None else _SPARE) + _SPARE
        waiting = await admission.held_of(tx, environment_id, key, most)
        states = await (run.lock if rule is not None else run.lock_family)(tx, waiting)
        living = [run_id for run_id in waiting if states[run_id].status == "delayed"]
        await admission.let_go(tx, [run_id for run_id in waiting if run_id not in set(living)])
        more = len(waiting) == most
        if rule is None:
            chosen = living
            await _refuse(tx, key[0], chosen)
            await _tell(tx, states, chosen)
        elif more or len(living) >= rule.max_size or found.now >= found.since + rule.max_wait:
            chosen = await _gather(tx, environment_id, key, rule, living)
        else:  # it was full until some were canceled
            chosen = []
        since = None if chosen else found.since
        await _write_rest(tx, environment_id, key, rule, living[len(chosen) :], since, found.now, more=more)

    await db.transact("collect", body)


async def _gather(tx: Tx, environment_id: str, key: Key, rule: BatchRule, living: Sequence[str]) -> Sequence[str]:
    """Store the collector of the first of these, as many as fit into one; those."""
    members = await admission.payloads(tx, living[: rule.max_size])
    texts = _that_fit([_text_of(members[run_id]) for run_id in living[: rule.max_size]])
    chosen = living[: len(texts)]
    if not chosen:
        return chosen
    payload = b"{" + msgspec.json.encode(rule.parameter) + b":[" + b",".join(texts) + b"]}"
    task = declarations.remembered(environment_id, [key[0]])[key[0]].declaration
    collector = collector_of(task, new_id("run"), payload)
    await store(tx, environment_id, [collector])
    await admission.collect(tx, collector.id, chosen)
    await event.append(
        tx, [(each, "collected", {"collector": collector.id, "place": place}) for place, each in enumerate(chosen)]
    )
    return chosen


def _text_of(member: Member) -> bytes:
    """A payload as it stands in a list."""
    if member.payload_type == JSON:
        return member.payload or b"null"
    return plain_bytes(Packet(member.payload, member.payload_type))


def _that_fit(texts: Sequence[bytes]) -> list[bytes]:
    """The first of them that make a payload of the largest size together; one at least."""
    room, fitting = LARGEST, list[bytes]()
    for text in texts:
        room -= len(text) + 1
        if fitting and room < 0:
            break
        fitting.append(text)
    return fitting


async def _refuse(tx: Tx, task_id: str, members: Sequence[str]) -> None:
    """Their task takes no batches any more, since a worker declared it anew."""
    failure = Failure(
        "payload_invalid",
        f"task {task_id!r} was declared without a batch while this run waited to be collected",
        hint="trigger it again, with the payload that the task takes now",
    )
    end = Collected("", "", "failed", failure=failure, error_group=error_group(failure))
    await _end(tx, end, members, [None] * len(members))
    await admission.let_go(tx, members)


async def _write_rest(
    tx: Tx,
    environment_id: str,
    key: Key,
    rule: BatchRule | None,
    rest: Sequence[str],
    since: float | None,
    now: float,
    *,
    more: bool,
) -> None:
    """The next batch begins with those that are left. since: None, when the first of them came."""
    if not rest and not more:
        await admission.write_batch(tx, environment_id, key, 0.0, 0.0, 0)
        return
    if since is None:
        since = (await admission.payloads(tx, rest[:1]))[rest[0]].created_at if rest else now
    at_once = rule is None or more or len(rest) >= rule.max_size
    until = now if at_once or rule is None else since + rule.max_wait
    size = rule.max_size if more and rule is not None else len(rest)
    await admission.write_batch(tx, environment_id, key, since, until, max(1, size))


# ── one becomes many ─────────────────────────────────────────────────────────


class _Wrong(Exception):
    """What a collector returned is not for its members; says what it is instead of a list of so many."""


async def _share_out(db: Database, collector_id: str) -> None:
    async def body(tx: Tx) -> None:
        members = await admission.members(tx, collector_id)
        states = await run.lock_family(tx, [*members, collector_id])
        ended = await admission.outcome(tx, collector_id)
        outputs: list[bytes | None] = [None] * len(members)
        if ended.status == "completed":
            try:
                outputs = [*_elements(ended.output, len(members))]
            except _Wrong as wrong:
                ended = _failed(ended, _no_list(str(wrong), len(members)))
        await _end(tx, ended, members, outputs)
        if ended.status == "failed" and not ended.not_undone:
            await run.review(tx, [collector_id])  # its members are the dead letters: they can be redriven
        await _tell(tx, states, [run_id for run_id in members if not states[run_id].is_terminal])

    await db.transact("share_out", body)


async def _end(tx: Tx, ended: Collected, members: Sequence[str], outputs: Sequence[bytes | None]) -> None:
    """End those that wait yet like their collector, and record it."""
    moved = await admission.share_out(tx, ended, list(zip(members, outputs, strict=True)))
    await event.append(tx, [_fact(run_id, ended) for run_id in members if run_id in moved])


async def _tell(tx: Tx, states: Mapping[str, RunState], ended: Sequence[str]) -> None:
    """Parents go on, and callers hear of it."""
    environments = await wake_waiting(tx, states, ended)
    parents = {states[run_id].parent_id for run_id in ended}
    await event.notify(tx, ready=environments, children=[each for each in parents if each], runs=ended)


def _elements(output: bytes | None, amount: int) -> list[bytes]:
    """The text of each element of a list, which the codec writes as a JSON list. Raises _Wrong."""
    try:
        raw = msgspec.json.decode(output or b"null", type=list[msgspec.Raw])
    except msgspec.ValidationError:
        raise _Wrong(_kind_of(output)) from None
    if len(raw) != amount:
        raise _Wrong(f"a list of {len(raw)}")
    return [bytes(each) for each in raw]


def _kind_of(output: bytes | None) -> str:
    tree = msgspec.json.decode(output or b"null")
    if tree is None:
        return "nothing"
    tag = tree.get("$t") if isinstance(tree, dict) else None  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    return f"one {tag if isinstance(tag, str) else type(tree).__name__}"  # pyright: ignore[reportUnknownArgumentType]


def _no_list(got: str, amount: int) -> Failure:
    return Failure(
        "error",
        f"the task returned {got} for a batch of {amount}",
        "WrongBatchResult",
        hint=f"return a list of {amount} here: one element for each payload, in their order",
    )


def _failed(ended: Collected, failure: Failure) -> Collected:
    return replace(ended, status="failed", output=None, failure=failure, error_group=error_group(failure))


def _fact(run_id: str, ended: Collected) -> event.Fact:
    kinds: dict[str, EventKind] = {"completed": "completed", "canceled": "canceled", "expired": "expired"}
    told = {"collector": ended.id or None}
    if ended.status in kinds:
        return run_id, kinds[ended.status], {**told, "reason": ended.cancel_reason}
    failure = ended.failure
    if failure is None:
        return run_id, "failed", told
    said = {"code": failure.code, "name": failure.name, "message": failure.message[:2000]}
    return run_id, "failed", {**told, **said}
