"""Who calls, and whether they may: API keys of an environment, or public tokens with scopes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from stepwell.engine import environments
from stepwell.errors import StepwellError, Unauthorized
from stepwell.model.environment import Environment
from stepwell.protocol.operations import Operation
from stepwell.server import public_tokens
from stepwell.storage.database import Database

# A revoked key is refused everywhere within this many seconds.
REMEMBERED = 3.0
_MOST = 10_000

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Caller:
    """scopes: None for an API key, which may do everything in its environment; a public token's otherwise."""

    environment: Environment
    scopes: tuple[str, ...] | None = None


class Authenticator:
    """Turns a request's credential into a Caller. Remembers answers for a few seconds."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._noting: set[asyncio.Task[None]] = set()
        self._keys = _Memory[Environment](self._authenticate)
        self._environments = _Memory[Environment](lambda key: environments.get_environment(db, key))

    async def caller(self, authorization: str | None) -> Caller:
        """Raises Unauthorized, in the same words for every key that is not known, revoked or expired."""
        scheme, _, credential = (authorization or "").partition(" ")
        credential = credential.strip()
        if not credential or scheme.lower() != "bearer":
            raise Unauthorized(
                "no API key was given",
                hint="send the header `Authorization: Bearer tr_…`",
                code="key-missing",
                status=401,
            )
        if credential.startswith("tr_"):
            environment = await self._keys.get(credential)
            if environment is not None:
                return Caller(environment)
            raise _unknown()
        return await self._from_token(credential)

    async def _authenticate(self, key: str) -> Environment | None:
        environment = await environments.authenticate(self._db, key)
        if environment is not None:
            task = asyncio.create_task(self._note_use(key))
            self._noting.add(task)
            task.add_done_callback(self._noting.discard)
        return environment

    async def _note_use(self, key: str) -> None:
        """For people who wonder whether a key can be revoked. No call waits for it, or fails with it."""
        with contextlib.suppress(StepwellError):
            await environments.note_use(self._db, key)

    async def environment(self, environment_id: str) -> Environment | None:
        """For callers who prove themselves by a signature of their own."""
        return await self._environments.get(environment_id)

    async def _from_token(self, token: str) -> Caller:
        environment_id = public_tokens.claimed_environment(token)
        environment = await self._environments.get(environment_id) if environment_id else None
        if environment is None:
            raise _unknown()
        return Caller(environment, public_tokens.verify(token, environment))


def authorize(caller: Caller, operation: Operation, parameters: dict[str, str]) -> None:
    """Raises Unauthorized (403) unless this caller may do this."""
    if caller.scopes is None:
        return
    needed = operation.scope.format(**parameters) if operation.scope else None
    if needed is None or not public_tokens.grants(caller.scopes, needed):
        raise Unauthorized(
            f"this token may not do {operation.name}",
            hint=f"it needs the scope {needed}" if needed else "it needs an API key; public tokens are refused here",
            code="scope-missing",
            status=403,
        )


def _unknown() -> Unauthorized:
    return Unauthorized(
        "the API key is not known here, was revoked, or has expired",
        hint="check STEPWELL_API_KEY; `stepwell keys create` makes a new one",
        code="key-invalid",
        status=401,
    )


class _Memory(Generic[Value]):
    """What `load` answered within the last few seconds, nothing found included; bounded."""

    def __init__(self, load: Callable[[str], Awaitable[Value | None]]) -> None:
        self._load = load
        self._known: OrderedDict[str, tuple[float, Value | None]] = OrderedDict()

    async def get(self, key: str) -> Value | None:
        found = self._known.get(key)
        if found is not None and time.monotonic() - found[0] < REMEMBERED:
            return found[1]
        asked = time.monotonic()  # before the answer: what is revoked meanwhile must not be remembered for longer
        value = await self._load(key)
        self._known[key] = (asked, value)
        self._known.move_to_end(key)
        if len(self._known) > _MOST:
            self._known.popitem(last=False)
        return value
