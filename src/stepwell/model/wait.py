"""What a suspended run waits for. Any one of its waits, once satisfied, wakes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

WaitKind = Literal["timer", "children", "retry", "token", "permit"]


@dataclass(frozen=True, slots=True)
class Wait:
    """key: of the checkpoint that its end will become. due_at: seconds since the epoch (timer, retry).

    spawn_key: the checkpoint that triggered the children; the wait is over when all of them are terminal (children). Or
    the one that asked for a permit; the wait is over when it is granted or refused (permit).
    token_id: the token that has to be closed: completed, timed out or canceled (token).
    """

    key: str
    kind: WaitKind
    due_at: float | None = None
    spawn_key: str | None = None
    token_id: str | None = None
