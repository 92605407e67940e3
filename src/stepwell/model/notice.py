"""Notices: what goes out to people and programs when a token is made, and again before it times out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Occasion = Literal["created", "expiring"]
NoticeOutcome = Literal["delivered", "skipped", "failed"]


@dataclass(frozen=True, slots=True)
class Notice:
    """One notice to one target. The id is the same at each try: it is what a receiver knows a repetition by.

    tries: how often it was begun to be delivered. due_at: when the next try begins; None once there is an outcome.
    problem: why the last try failed, or why there will be none.
    """

    id: str
    environment_id: str
    token_id: str
    occasion: Occasion
    target: str
    tries: int = 0
    due_at: datetime | None = None
    outcome: NoticeOutcome | None = None
    problem: str | None = None
