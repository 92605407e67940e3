"""What keeps a tree of runs from growing without end, and one run from standing in it twice."""

from __future__ import annotations

from collections.abc import Sequence

from stepwell.engine.admit import Asked
from stepwell.errors import Conflict, LimitExceeded
from stepwell.model.trigger import KEY_SECONDS, payload_hash
from stepwell.storage import idempotency, run
from stepwell.storage.database import Tx
from stepwell.storage.idempotency import Key, Wanted

DEEPEST = 100
"""Runs one below the other of which none has ended. One that triggers the next and ends may go on so for ever."""


async def check_depth(tx: Tx, parent_id: str, depth: int) -> None:
    """Raises LimitExceeded (chain-too-deep) for a child at this depth that would make too long a chain of open runs."""
    if depth >= DEEPEST and await run.open_ancestors(tx, parent_id, DEEPEST) >= DEEPEST:
        raise LimitExceeded(
            f"{parent_id} may trigger no child: it and the {DEEPEST - 1} runs above it wait for one another",
            code="chain-too-deep",
            hint="does a task trigger itself and wait for that? let each run end when it has triggered the next one",
            status=422,
        )


async def take_keys(tx: Tx, environment_id: str, children: Sequence[Asked]) -> bool:
    """Take the idempotency keys of children. False: somebody else takes one just now, so look again.

    Raises Conflict (idempotency-conflict) for a key that another run has: the id of a child derives from its parent,
    so that run cannot be it.
    """
    wanted: dict[Key, Wanted] = {}
    for request, place in children:
        key, options = (request.task_id, request.options.idempotency_key), request.options
        if key[1] is None:
            continue
        if key in wanted:
            raise _taken((key[0], key[1]), "another child of the same call")
        seconds = options.idempotency_key_ttl or KEY_SECONDS
        wanted[key[0], key[1]] = Wanted(key[0], key[1], place.run_id, payload_hash(request), seconds)
    held = await idempotency.holders(tx, environment_id, list(wanted)) if wanted else {}
    for key, (run_id, _) in held.items():
        if run_id != wanted[key].run_id:
            raise _taken(key, run_id)
    open_ = [each for key, each in wanted.items() if key not in held]
    return not open_ or len(await idempotency.take(tx, environment_id, open_)) == len(open_)


def _taken(key: Key, holder: str) -> Conflict:
    return Conflict(
        f"idempotency key {key[1]!r} of task {key[0]!r} belongs to {holder}, so no child was made under it",
        code="idempotency-conflict",
        hint="a child needs no key to be triggered once; catch this error where another run may have done the work",
        status=409,
    )
