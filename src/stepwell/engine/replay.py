"""Fork: a new run from an old one, from its start or from any of its checkpoints, with another payload or other values.

The journal up to and including the chosen entry is copied, so nothing before it runs again. Children that it speaks of
are not triggered again either: the fork adopts them, and waits for them like their own parent. The old run stays as it
is.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from msgspec import structs

from stepwell.codec import body as bodies
from stepwell.codec.values import dumps
from stepwell.engine.admission import settle
from stepwell.engine.admit import Place, admit, store
from stepwell.engine.cancel import run_not_found
from stepwell.errors import ApiError, CheckpointError, NotFound, StepwellError
from stepwell.model.checkpoint import CANCEL, Checkpoint
from stepwell.model.child import TriggerOptions
from stepwell.model.run import NewRun, RunDetail, TriggerFunction
from stepwell.model.trigger import Triggered, TriggerRequest
from stepwell.primitives.ids import new_id
from stepwell.storage import checkpoint, event, run, run_reading
from stepwell.storage.database import Database, Tx

Choice = str | int
_WITHOUT_VALUE = frozenset({"timer", "order", "spawn", "children"})


async def fork(
    db: Database,
    environment_id: str,
    run_id: str,
    *,
    from_checkpoint: Choice | None = None,
    payload: bytes | None = None,
    payload_type: str = "application/json",
    changes: Mapping[str, Any] | None = None,
) -> Triggered:
    """Make a run that goes on after `from_checkpoint`: an entry's number, its key, or the name of a `checkpoint(...)`.

    None begins at the start, or after the last changed entry. changes: other values (plain JSON) of kept entries, by
    the same names. Raises NotFound (run-not-found, checkpoint-not-found, task-not-found), PayloadInvalid,
    PayloadTooLarge, CheckpointError when the journal is damaged, ApiError (invalid-request) for a change to an entry
    that has no value.
    """

    async def body(tx: Tx) -> Triggered:
        source = await run_reading.get(tx, environment_id, run_id)
        if source is None:
            raise run_not_found(run_id)
        if payload is not None:
            source = replace(source, payload=payload, payload_type=payload_type)
        triggered = await fork_in(tx, source, from_checkpoint, changes or {})
        await event.notify(tx, ready=[environment_id])
        return triggered

    return await db.transact("fork", body)


async def fork_in(tx: Tx, source: RunDetail, start: Choice | None, changes: Mapping[str, Any]) -> Triggered:
    """The same within a transaction; whoever calls it notifies."""
    [made] = await fork_each(tx, source.run.environment_id, [Again(source, start, changes=changes)], "fork")
    if isinstance(made, StepwellError):
        raise made
    await event.append(tx, [(source.run.id, "forked", {"run": made.run_id, "seq": made.last})])
    return Triggered(made.run_id)


@dataclass(frozen=True, slots=True)
class Again:
    """A run to be made from another. start: the last entry that is kept, None: none or the last changed one.

    delay_until: seconds since the epoch. payload: another one, and its type.
    """

    source: RunDetail
    start: Choice | None = None
    delay_until: float | None = None
    changes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    payload: tuple[bytes, str] | None = None


@dataclass(frozen=True, slots=True)
class Forked(Triggered):
    """last: the number of the last entry that it was given."""

    last: int | None = None


async def fork_each(
    tx: Tx, environment_id: str, wanted: Sequence[Again], function: TriggerFunction
) -> list[Forked | StepwellError]:
    """Make a run from each, or say why not; whoever calls it records that, and notifies."""
    prefixes = [await _kept(tx, each) for each in wanted]
    fine = [number for number, prefix in enumerate(prefixes) if not isinstance(prefix, StepwellError)]
    asked = [(_request(wanted[number], function), Place(new_id("run"))) for number in fine]
    admitted = dict(zip(fine, await admit(tx, environment_id, asked), strict=True))
    made: dict[int, NewRun] = {}
    for number, new in admitted.items():
        prefix, old = prefixes[number], wanted[number].source.run
        if not isinstance(new, StepwellError) and not isinstance(prefix, StepwellError):
            last = prefix[-1].seq if prefix else None
            # What was let in once is not asked again by the rules of admission; but it has no execution of its own.
            rules = tuple(each for each in new.rules if each.kind == "batch")
            made[number] = replace(new, forked_from=old.id, forked_seq=last, tags=old.tags, rules=rules)
    settled = await settle(tx, environment_id, made, [None] * len(wanted))
    await store(tx, environment_id, list(made.values()))
    await settled.carry_out(tx, environment_id)
    answers: list[Forked | StepwellError] = []
    for number, (each, prefix) in enumerate(zip(wanted, prefixes, strict=True)):
        new = made.get(number)
        if isinstance(prefix, StepwellError):
            answers.append(prefix)
        elif new is None:
            refusal = admitted[number]
            assert isinstance(refusal, StepwellError)
            answers.append(refusal)
        else:
            if prefix:
                await run.inherit(tx, new.id, each.source.run.id)
                await _copy(tx, new, each.source.run.id, prefix, each.changes)
            answers.append(Forked(new.id, last=new.forked_seq))
    return answers


async def _kept(tx: Tx, each: Again) -> list[Checkpoint] | StepwellError:
    if each.source.run.trigger_function == "collect":
        return _of_a_batch(each.source.run.id)
    if each.start is None and not each.changes:
        return []
    try:
        return await _prefix(tx, each.source.run.id, each.start, each.changes)
    except StepwellError as error:
        return error


def _of_a_batch(run_id: str) -> StepwellError:
    return ApiError(
        f"{run_id} is the execution of a batch, whose runs have their results or failures by now",
        code="invalid-request",
        hint="rerun, fork or redrive those runs: `stepwell runs show` lists them, each joins the next batch",
        status=422,
    )


def _request(each: Again, function: TriggerFunction) -> TriggerRequest:
    old = each.source.run
    options = TriggerOptions(
        queue=old.queue,
        concurrency_key=old.concurrency_key,
        priority=old.priority,
        delay_until=each.delay_until,
        ttl=old.ttl,
        max_attempts=old.max_attempts,
        max_duration=old.max_duration,
        metadata=old.metadata,
        test=old.test,
    )
    payload, payload_type = each.payload or (each.source.payload, each.source.payload_type)
    return TriggerRequest(old.task_id, payload, payload_type, options, trigger_function=function)


# ── which entries ────────────────────────────────────────────────────────────


async def _prefix(tx: Tx, run_id: str, start: Choice | None, changes: Mapping[str, Any]) -> list[Checkpoint]:
    journal = (await checkpoint.journals(tx, [run_id]))[run_id]
    if isinstance(journal, CheckpointError):
        raise journal
    changed = [_find(journal, run_id, name) for name in changes]
    last = _find(journal, run_id, start) if start is not None else max(changed, key=lambda entry: entry.seq)
    for entry in changed:
        if entry.seq > last.seq:
            raise ApiError(
                f"entry {entry.seq} ({entry.key}) is to be changed, but the fork keeps entries up to {last.seq} only",
                code="invalid-request",
                hint="fork from that entry or a later one",
                status=422,
            )
    asked = next((entry.seq for entry in journal if entry.key == CANCEL), len(journal))
    return journal[: min(last.seq + 1, asked)]  # a fork of a run that was asked to end is not asked to


def _find(journal: Sequence[Checkpoint], run_id: str, wanted: Choice) -> Checkpoint:
    """By number, by key, by the name of a named checkpoint, by the name of a callee; of several the last one."""
    text = str(wanted)
    if text.isdecimal() and len(text) < 10:
        if int(text) < len(journal):
            return journal[int(text)]
    else:
        by_key = [entry for entry in journal if entry.key == text]
        by_name = [entry for entry in journal if entry.name == text]
        named = [entry for entry in by_name if entry.kind == "named"]
        for found in (by_key, named, by_name):
            if found:
                return found[-1]
    close = difflib.get_close_matches(text, {entry.name for entry in journal}, n=1)
    raise NotFound(
        f"{run_id} has no checkpoint {text[:80]!r}; its journal has {len(journal)} entries",
        code="checkpoint-not-found",
        hint=f"did you mean {close[0]!r}?" if close else "`stepwell runs show` lists them",
        status=404,
    )


# ── with what values ─────────────────────────────────────────────────────────


async def _copy(tx: Tx, new: NewRun, old_id: str, prefix: Sequence[Checkpoint], changes: Mapping[str, Any]) -> None:
    last = prefix[-1].seq
    if changes:
        values = {_find(prefix, old_id, name).seq: value for name, value in changes.items()}
        entries = _changed(prefix, values)
        await checkpoint.insert(tx, [(new.id, 0, entry, entry.checksum()) for entry in entries])
    else:
        await checkpoint.copy_prefix(tx, new.id, old_id, last)
    await checkpoint.adopt(tx, new.id, old_id, last)


def _changed(prefix: Sequence[Checkpoint], values: Mapping[int, Any]) -> list[Checkpoint]:
    """The entries with other values. One that is stored as a difference from a changed one is stored whole instead."""
    touched: set[int] = set()
    entries: list[Checkpoint] = []
    for entry in prefix:
        fork_entry = structs.replace(entry, attempt=0)
        earlier = bodies.earlier_seq(entry.body)
        if entry.seq in values:
            touched.add(entry.seq)
            fork_entry = _with_value(fork_entry, prefix, values[entry.seq])
        elif earlier in touched:
            touched.add(entry.seq)
            fork_entry = structs.replace(fork_entry, body=_packed(entry, _text(entry, prefix)))
        entries.append(fork_entry)
    return entries


def _with_value(entry: Checkpoint, prefix: Sequence[Checkpoint], value: Any) -> Checkpoint:
    if entry.kind in _WITHOUT_VALUE or entry.key.startswith("!"):
        raise ApiError(
            f"entry {entry.seq} ({entry.key}) is a {entry.kind}: it has no value to change",
            code="invalid-request",
            hint="change the value of a step or of a named checkpoint",
            status=422,
        )
    old = bodies.read(_text(entry, prefix))
    text = bodies.document(value_text=dumps(value), arguments=old.arguments, swallowed=old.swallowed)
    return structs.replace(entry, outcome="value", body=_packed(entry, text))


def _packed(entry: Checkpoint, text: bytes) -> bytes:
    packed = bodies.pack(text)
    return bodies.undoable(packed) if bodies.is_undoable(entry.body) else packed


def _text(entry: Checkpoint, prefix: Sequence[Checkpoint]) -> bytes:
    """An entry's whole document, from the old run's bodies."""
    chain = [entry.body]
    while (seq := bodies.earlier_seq(chain[-1])) is not None:
        chain.append(prefix[seq].body)
    text = b""
    for each in reversed(chain):
        base = text
        text = bodies.text_of(each, lambda _, base=base: base)
    return text
