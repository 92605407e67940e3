"""Where runs, keys, queues and workers belong to: nothing of one environment is visible from another."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Environment:
    """slug: its name in keys and URLs ("dev", "prod").

    concurrency_limit: runs that may execute at once; None is no limit. burst_factor: all queues together may have so
    many times as many, though none alone more than the limit. paused: nothing is claimed.
    signing_secret: signs its public tokens; never leaves the server.
    """

    id: str
    slug: str
    created_at: datetime
    signing_secret: bytes
    concurrency_limit: int | None = None
    burst_factor: float = 1.0
    paused: bool = False

    def __repr__(self) -> str:  # a secret has no place in logs and tracebacks
        return f"Environment(id={self.id!r}, slug={self.slug!r})"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it may be shown: its text was shown once, when it was made. hint: its last four characters."""

    id: str
    environment_id: str
    name: str
    hint: str
    created_at: datetime
    last_used_at: datetime | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
