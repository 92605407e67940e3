"""A run that is asked for, and the answer."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from stepwell.model.admission import Why
from stepwell.model.child import TriggerOptions
from stepwell.model.run import TriggerFunction

# Longest text of an id-like word: idempotency keys, tags, concurrency keys, queue names.
MAX_WORD = 512
MAX_TAGS = 50
KEY_SECONDS = 30 * 86400.0
"""How long an idempotency key holds, unless the trigger says otherwise."""


@dataclass(frozen=True, slots=True)
class TriggerRequest:
    """One run to make.

    payload: bytes as they came; payload_type: their media type. request_key: constant over the HTTP retries of one
    call, so that a retry of an answered call gets the same run (kept 24 hours, per environment and task).
    parent_id: the run on whose behalf the call was made, when it was made from inside one.
    batch: (batch id, index in it).
    """

    task_id: str
    payload: bytes = b""
    payload_type: str = "application/json"
    options: TriggerOptions = field(default_factory=TriggerOptions)
    request_key: str | None = None
    parent_id: str | None = None
    batch: tuple[str, int] | None = None
    trigger_function: TriggerFunction = "trigger"
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Triggered:
    """cached: an earlier trigger made this run; nothing new was made. why: by which rule of admission, None if it was
    the idempotency key.
    """

    run_id: str
    cached: bool = False
    why: Why | None = None


def payload_hash(request: TriggerRequest) -> bytes:
    """Two requests with one idempotency key mean the same if this is the same."""
    return hashlib.sha256(request.payload_type.encode() + b"\n" + request.payload).digest()
