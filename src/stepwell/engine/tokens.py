"""Tokens: made, completed, canceled, timed out. The first of these closes a token, and no other does after it.

Closing one and waking the run that waits for it are one transaction. The run is locked first, as `suspend` locks it, so
either the one or the other sees that the waiting is over. Runs that wait for a token of another run (forks), or for one
that was made from outside, are woken as well; one that begins to wait in that same moment is found by the waker's look.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from stepwell.codec.payload import check_size
from stepwell.engine import payloads
from stepwell.engine.links import token_url
from stepwell.engine.subscriptions import check_subscription
from stepwell.engine.wake import wake_satisfied
from stepwell.errors import ApiError, Conflict, NotFound, PayloadInvalid
from stepwell.model.lifecycle import is_terminal
from stepwell.model.token import PREFIX, Token, TokenFilter, TokenOutcome, TokenPage, TokenSpec
from stepwell.primitives.ids import new_id
from stepwell.storage import environment, event, run, token
from stepwell.storage.columns import storable
from stepwell.storage.database import Database, Tx

LONGEST_KEY = 30 * 24 * 3600.0
LARGEST = 1024 * 1024
"""Bytes of a token's data and of an answer."""
MOST_TAGS = 10
MOST_ROWS = 100


async def create(
    db: Database,
    environment_id: str,
    spec: TokenSpec,
    *,
    idempotency_key: str | None = None,
    idempotency_seconds: float | None = None,
    request_key: str | None = None,
) -> tuple[Token, bool]:
    """Make a token that belongs to no run. True: it was there already, under this idempotency key.

    Raises what `check_spec` raises, and ApiError (invalid-request) for a key that is none.
    """
    check_spec(spec)
    if idempotency_key is not None and (not 0 < len(idempotency_key) <= 512 or not idempotency_key.isprintable()):
        raise ApiError("an idempotency key has 1 to 512 printable characters", code="invalid-request")
    seconds = LONGEST_KEY if idempotency_seconds is None else idempotency_seconds

    async def body(tx: Tx) -> tuple[Token, bool]:
        made = await token.make(
            tx,
            environment_id,
            new_id(PREFIX),
            spec,
            idempotency_key=idempotency_key,
            idempotency_seconds=seconds,
            request_key=request_key,
        )
        if made is not None:
            return made, False
        there = await token.by_key(tx, environment_id, idempotency_key, request_key)
        if there is None:  # it lost its key just now
            raise Conflict("the idempotency key is changing hands", hint="try again", status=409)
        return there, there.idempotency_key is not None and there.idempotency_key == idempotency_key

    return await db.transact("create_token", body)


def check_spec(spec: TokenSpec) -> None:
    """Raises ApiError (invalid-request, schema-invalid) and PayloadTooLarge for what can be no token."""
    for part, what in ((spec.data, "the token's data"), (spec.answer_schema, "the answer's schema")):
        if part is not None:
            check_size(part, what, LARGEST)
            _decoded(part, what)
    if spec.answer_schema is not None:
        payloads.check_schema(spec.answer_schema)
    if spec.title is not None and len(spec.title) > 500:
        raise _invalid(f"the title has {len(spec.title)} characters, more than 500", "put the rest into data")
    if spec.timeout is not None and not 0 <= spec.timeout <= 100 * 366 * 86_400:
        raise _invalid(f"timeout = {spec.timeout:g} s", "0 to 100 years")
    if spec.subscription is not None:
        check_subscription(spec.subscription)
    if len(spec.tags) > MOST_TAGS or any(not 0 < len(tag) <= 128 or "\x00" in tag for tag in spec.tags):
        raise _invalid(f"tags {list(spec.tags)!r:.200}", f"at most {MOST_TAGS} tags of 1 to 128 characters")


# ── closed ───────────────────────────────────────────────────────────────────


async def complete(
    db: Database,
    environment_id: str,
    token_id: str,
    answer: bytes | None,
    *,
    by: str | None = None,
    request_key: str | None = None,
) -> Token:
    """Complete a token with an answer (a JSON text; None: no answer) and wake who waits for it.

    request_key: the same request again, its reply having been lost, is answered as it was then. Raises NotFound
    (token-not-found), PayloadInvalid for an answer that does not fit (the token stays open), PayloadTooLarge, Conflict
    (token-closed, with the stored outcome in its details) when somebody was first.
    """
    if answer is not None:
        check_size(answer, "the answer", LARGEST)
    asked = await get(db, environment_id, token_id)
    if asked.status != "waiting" and request_key is None:
        raise token_closed(asked)  # for good: there is nothing to lock
    if asked.answer_schema is not None and asked.status == "waiting":
        tree = None if answer is None else _decoded(answer, "the answer")
        payloads.check_against(
            asked.answer_schema, tree, f"the answer does not fit token {token_id}", "see its answer schema"
        )

    async def body(tx: Tx) -> Token:
        return await _close(tx, asked, "completed", answer, by, request_key)

    return await db.transact("complete_token", body)


async def cancel(db: Database, environment_id: str, token_id: str, *, by: str | None = None) -> Token:
    """Close a token without an answer: whoever waits for it gets TokenCanceled.

    Raises NotFound (token-not-found), Conflict (token-closed).
    """
    asked = await get(db, environment_id, token_id)

    async def body(tx: Tx) -> Token:
        return await _close(tx, asked, "canceled", None, by, None)

    return await db.transact("cancel_token", body)


async def time_out_due(db: Database, limit: int = 200) -> int:
    """Close open tokens whose time is over, and those whose run has ended. How many."""

    async def body(tx: Tx) -> int:
        due = await token.overdue(tx, limit)
        waiters = {run_id for run_id in due.values() if run_id} | set(await token.waiters(tx, list(due)) if due else ())
        states = await run.lock(tx, sorted(waiters)) if waiters else {}
        closed = await token.close(tx, list(due), "timed_out") if due else {}
        await _tell(tx, closed, states, {"status": "timed_out"})
        orphans = await token.orphans(tx, limit)
        gone = await token.close(tx, orphans, "canceled", by="the end of its run") if orphans else {}
        return len(closed) + len(gone)

    return await db.transact("time_out_tokens", body)


async def next_timeout(db: Database) -> float | None:
    """Seconds until the next token times out; None when there is none."""
    async with db.read("next_timeout") as tx:
        return await token.next_due(tx)


async def _close(
    tx: Tx, asked: Token, status: str, answer: bytes | None, by: str | None, request_key: str | None
) -> Token:
    by = storable(by[:200]) if by else None
    runs = set(await token.waiters(tx, [asked.id]))
    if asked.run_id is not None:
        runs.add(asked.run_id)
    states = await run.lock(tx, sorted(runs)) if runs else {}
    owner = states.get(asked.run_id or "")
    if owner is not None and is_terminal(owner.status):
        await token.close(tx, [asked.id], "canceled", by="the end of its run")
    closed = await token.close(tx, [asked.id], status, output=answer, by=by, request_key=request_key)
    after = await token.get(tx, asked.environment_id, asked.id)
    if after is None:
        raise token_not_found(asked.id)
    if not closed:
        if request_key is not None and await token.closed_by_request(tx, asked.id) == request_key:
            return after
        raise token_closed(after)
    await _tell(tx, closed, states, {"status": status, "by": by})
    return after


async def _tell(tx: Tx, closed: Mapping[str, str | None], states: Mapping[str, Any], fact: dict[str, Any]) -> None:
    """Wake the suspended runs among those locked whose waiting is over, and hint to those that stayed. Also where
    nothing was closed: who was first found these runs locked, and passed over them."""
    if not closed and not states:
        return
    late = [run_id for run_id in await token.waiters(tx, list(closed)) if run_id not in states]
    states = {**states, **(await run.lock_free(tx, late) if late else {})}
    woken = await wake_satisfied(tx, [run_id for run_id, state in states.items() if state.status == "waiting"])
    told = {token_id: run_id for token_id, run_id in closed.items() if run_id in states}
    await event.append(
        tx, [(str(run_id), "answered", {"token": token_id, **fact}) for token_id, run_id in told.items()]
    )
    environments = {states[run_id].environment_id for run_id in woken}
    hot = [run_id for run_id, state in states.items() if state.status == "executing"]
    await event.notify(tx, ready=environments, tokens=hot, runs=list(woken))


# ── read ─────────────────────────────────────────────────────────────────────


async def get(db: Database, environment_id: str, token_id: str) -> Token:
    """Raises NotFound (token-not-found), also for a token of another environment."""
    async with db.read("token") as tx:
        found = await token.get(tx, environment_id, token_id)
    if found is None:
        raise token_not_found(token_id)
    return found


async def linked(db: Database, token_id: str) -> tuple[Token, str | None] | None:
    """A token of whatever environment, and the task that asks: for whoever shows a valid link to its page."""
    async with db.read("linked_token") as tx:
        return await token.linked(tx, token_id)


async def page_link(db: Database, public_url: str, environment_id: str, token_id: str) -> str | None:
    """The link to a token's page, for code of its environment; None: there is no such token."""
    async with db.read("token_link") as tx:
        found, of = await token.get(tx, environment_id, token_id), await environment.by_id(tx, environment_id)
    return token_url(public_url, of, found) if found is not None and of is not None else None


async def environment_of(db: Database, token_id: str) -> str | None:
    """The id of a token's environment, for callers who prove themselves by a link; None: there is no such token."""
    if "\x00" in token_id:
        return None
    async with db.read("token_environment") as tx:
        return await token.environment_of(tx, token_id)


async def list_tokens(
    db: Database,
    environment_id: str,
    where: TokenFilter | None = None,
    *,
    after: str | None = None,
    before: str | None = None,
    limit: int = 20,
) -> TokenPage:
    """A page, newest first; `after` and `before` are the last and the first token of the pages around it."""
    limit = max(1, min(limit, MOST_ROWS))
    async with db.read("list_tokens") as tx:
        found = await token.list_tokens(
            tx, environment_id, where or TokenFilter(), after=after, before=before, limit=limit + 1
        )
    more, page = len(found) > limit, found[:limit]
    if before is not None:
        page.reverse()
    if not page:
        return TokenPage(())
    older = more if before is None else True
    newer = after is not None if before is None else more
    return TokenPage(tuple(page), page[-1].id if older else None, page[0].id if newer else None)


async def closed_tokens(db: Database, asked: Sequence[tuple[str, str]]) -> dict[tuple[str, str], TokenOutcome]:
    """Of these (run id, token id) those that are closed, or that the run cannot see: with how it came to that."""
    async with db.read("closed_tokens") as tx:
        found = await token.outcomes(tx, asked)
    return {key: outcome for key, outcome in found.items() if outcome.status != "waiting"}


# ── refused ──────────────────────────────────────────────────────────────────


def token_not_found(token_id: str) -> NotFound:
    return NotFound(
        f"there is no token {token_id[:80]!r} in this environment",
        hint="check the id, and that the API key is of the token's environment",
        code="token-not-found",
        status=404,
    )


def token_closed(closed: Token) -> Conflict:
    """How it was closed goes with it: the loser of a race can tell the person what was decided."""
    outcome = {
        "status": closed.status,
        "completedBy": closed.completed_by,
        "completedAt": closed.closed_at.astimezone(UTC).isoformat() if closed.closed_at else None,
    }
    details = {name: value for name, value in outcome.items() if value is not None}
    if closed.output is not None:
        details["output"] = msgspec.json.decode(closed.output)
    how = closed.status.replace("_", " ")
    who = f" by {closed.completed_by}" if closed.completed_by else ""
    when = _seconds(closed.closed_at)
    return Conflict(
        f"token {closed.id} was {how}{who}{when}: nothing about it changes any more",
        hint="the stored outcome is in details",
        code="token-closed",
        status=409,
        details=details,
    )


def _seconds(moment: datetime | None) -> str:
    return f" at {moment.astimezone(UTC).isoformat(timespec='seconds')}" if moment else ""


def _decoded(text: bytes, what: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise PayloadInvalid(f"{what} is no JSON: {error}", problems=[{"field": "", "reason": str(error)}]) from None


def _invalid(what: str, hint: str) -> ApiError:
    return ApiError(f"no such token can be made: {what}", hint=hint, code="invalid-request", status=422)
