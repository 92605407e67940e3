"""Triggers within the caller's own Postgres transaction: one call of the SQL function `stepwell_trigger`.

The caller's driver is known by what its connections can do, and never imported: user code brings it along.
"""

from __future__ import annotations

import hashlib
import json
import os
from datetime import UTC, datetime
from importlib import import_module
from typing import Any, cast

from stepwell.client.connection import find_connection
from stepwell.errors import ApiError, ConfigError, Conflict, NotFound, QueueFull
from stepwell.model.child import ChildSpec, TriggerOptions

_CALL = "SELECT stepwell_trigger({}, CAST({} AS json), CAST({} AS jsonb), {})"
_NUMBERED = _CALL.format("$1", "$2", "$3", "$4")
_PERCENT = _CALL.format("%s", "%s", "%s", "%s")
_NAMED = _CALL.format(":task", ":payload", ":options", ":environment")
_EXPECTED = "an open transaction of asyncpg, psycopg or SQLAlchemy on the database that holds Stepwell's tables"
_REFUSALS: dict[str, tuple[type[ApiError], int]] = {
    "SW404": (NotFound, 404),
    "SW409": (Conflict, 409),
    "SW429": (QueueFull, 429),
}
_IDLE = 0  # libpq's PQTRANS_IDLE


async def trigger_in(conn: Any, spec: ChildSpec) -> str:
    """Trigger through an async connection or session; the run's id."""
    arguments = _arguments(spec)
    with _Refusals():
        if _is_of(conn, "sqlalchemy"):
            return (await conn.execute(*_sqlalchemy(arguments))).scalar_one()
        if _is_of(conn, "asyncpg"):
            _check_open(conn.is_in_transaction())
            return await conn.fetchval(_NUMBERED, *arguments)
        if _is_of(conn, "psycopg"):
            _check_open(not conn.autocommit or conn.info.transaction_status != _IDLE)
            return _only(await (await conn.execute(_PERCENT, arguments)).fetchone())
    raise ConfigError(f"trigger_in got a {type(conn).__name__}", hint=f"give it {_EXPECTED}")


def trigger_in_sync(conn: Any, spec: ChildSpec) -> str:
    """The same through a connection or session that blocks; also any other whose cursors take %s, such as Django's."""
    arguments = _arguments(spec)
    with _Refusals():
        if _is_of(conn, "sqlalchemy"):
            return conn.execute(*_sqlalchemy(arguments)).scalar_one()
        if _is_of(conn, "psycopg"):
            _check_open(not conn.autocommit or conn.info.transaction_status != _IDLE)
        if hasattr(conn, "cursor"):
            with conn.cursor() as cursor:
                cursor.execute(_PERCENT, arguments)
                return _only(cursor.fetchone())
    raise ConfigError(f"trigger_in_sync got a {type(conn).__name__}", hint=f"give it {_EXPECTED}")


def _arguments(spec: ChildSpec) -> tuple[str, str, str, str | None]:
    if spec.options.admission is not None:
        raise ConfigError(
            f"trigger_in of task {spec.task_id!r} got rules of admission, which the server decides",
            hint="trigger it by the API, after the commit",
        )
    return spec.task_id, spec.payload.decode() or "{}", json.dumps(_options(spec.options)), _environment()


def _options(options: TriggerOptions) -> dict[str, Any]:
    """As the function takes them: without those that were not given."""
    delay: Any = options.delay
    if options.delay_until is not None:
        delay = datetime.fromtimestamp(options.delay_until, UTC).isoformat()
    given = {
        "queue": options.queue,
        "concurrency_key": options.concurrency_key,
        "priority": options.priority,
        "delay": delay,
        "ttl": options.ttl,
        "idempotency_key": options.idempotency_key,
        "idempotency_key_ttl": options.idempotency_key_ttl,
        "max_attempts": options.max_attempts,
        "max_duration": options.max_duration,
        "tags": list(options.tags) or None,
        "metadata": None if options.metadata is None else json.loads(options.metadata),
        "test": options.test or None,
    }
    return {name: value for name, value in given.items() if value is not None}


def _environment() -> str | None:
    """That of the API key with which `trigger` would go to the server; without a key, the only one there is."""
    key = os.environ.get("STEPWELL_API_KEY")
    if not key:
        try:
            key = find_connection().api_key
        except ConfigError:
            return None
    return hashlib.sha256(key.encode()).hexdigest()


def _is_of(conn: Any, package: str) -> bool:
    return any(kind.__module__.partition(".")[0] == package for kind in type(conn).__mro__)


def _check_open(is_open: bool) -> None:
    if not is_open:
        raise ConfigError(
            "trigger_in was called outside a transaction", hint="write: async with conn.transaction(): await ..."
        )


def _sqlalchemy(arguments: tuple[Any, ...]) -> tuple[Any, dict[str, Any]]:
    text = import_module("sqlalchemy").text  # whoever hands us a session of it has it
    return text(_NAMED), dict(zip(("task", "payload", "options", "environment"), arguments, strict=True))


def _only(row: Any) -> str:
    """The one column of a row, whatever kind of rows the connection makes."""
    return cast("dict[str, str]", row)["stepwell_trigger"] if isinstance(row, dict) else row[0]


class _Refusals:
    """Raises what Postgres refuses as the error that `trigger` would raise. The transaction is void by then."""

    def __enter__(self) -> None: ...

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        cause: Any = (
            getattr(error, "orig", None) or error
        )  # SQLAlchemy wraps its driver's, and that of an async one twice
        cause = cause if hasattr(cause, "diag") else getattr(cause, "__cause__", None) or cause
        state: str = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None) or ""
        if state == "42883":
            raise ConfigError(
                "this database has no function stepwell_trigger, or its schema is not in the connection's search_path",
                hint="connect to the database that holds Stepwell's tables, after `stepwell db migrate`",
            ) from error
        if state == "42501":
            raise ConfigError(
                f"this database role may not trigger: {cause}",
                hint="GRANT EXECUTE ON FUNCTION stepwell_trigger TO the role",
            ) from error
        if state.startswith(("SW", "22")):
            raise _refusal(state, cause) from error


def _refusal(state: str, cause: Any) -> ApiError:
    kind, status = _REFUSALS.get(state, (ApiError, 422))
    told = getattr(cause, "diag", None)
    if told is not None:
        message, code, hint = told.message_primary, told.message_detail, told.message_hint
    else:
        message, code, hint = cause.args[0], getattr(cause, "detail", None), getattr(cause, "hint", None)
    return kind(message, code=code or "invalid-request", hint=hint, status=status)
