"""Bodies about what is sent to one run: signals, and updates, which it answers."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from stepwell.protocol.wire import UNSET, Json, RawJson, Wire

UpdateStatus = Literal["pending", "accepted", "refused", "unanswered"]


class SendMessage(Wire, frozen=True, kw_only=True):
    """data: any JSON, 1 MB at most."""

    name: str
    data: RawJson = UNSET


class MessageSent(Wire, frozen=True, kw_only=True):
    """It is kept, and the run's code receives it in its turn."""

    id: str


class UpdateView(Wire, frozen=True, kw_only=True):
    """status: pending, accepted, refused; unanswered: the run ended without an answer.

    answer: what was accepted. reason, details: why it was refused.
    """

    id: str
    name: str
    status: UpdateStatus
    sent_at: datetime
    answered_at: datetime | None = None
    answer: Json = UNSET
    reason: str | None = None
    details: Json = UNSET


class UpdateQuery(msgspec.Struct, frozen=True, kw_only=True):
    """`wait`: hold the answer up to so many seconds (0 to 60) until the update is answered."""

    wait: float = 0.0


class StreamInput(Wire, frozen=True, kw_only=True):
    """What the npm client sends to a run's input stream: a signal of the stream's name."""

    data: RawJson = UNSET


class StreamTaken(Wire, frozen=True, kw_only=True):
    ok: bool
