"""Messages: events for every run that waits for them, signals for one run, updates that one run has to answer.

What waits for a message is a token with a `Subscription`: the message completes it. See `engine.messages`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

MessageKind = Literal["event", "signal", "update"]


@dataclass(frozen=True, slots=True)
class Subscription:
    """Which message a token is completed by: the first of this kind and name that fits.

    match: only events. A JSON object of dotted paths into the data, each with the value that has to be there; a field
    that is missing does not fit. since: only events: how many seconds before the wait one may have been sent; None:
    since the run was created.
    """

    kind: MessageKind
    name: str
    match: bytes | None = None
    since: float | None = None


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event as it is sent. data: a JSON text. id: the sender's own, by which the same event again is known."""

    name: str
    data: bytes = b"null"
    id: str | None = None


@dataclass(frozen=True, slots=True)
class EventTrigger:
    """`@task(on=event(name, match=...))`: each event that fits starts a run of the task."""

    name: str
    match: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Started:
    """What a task made of an event: a run of it, or why there is none."""

    task_id: str
    run_id: str | None = None
    code: str | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it is kept. run_id: to whom; None for events. started: runs of tasks that an event triggered.

    received: how many runs' waits it has completed. canceled: how many runs it has canceled. status, answer and
    answered_at are an update's: pending, accepted or refused, and the JSON text with which.
    """

    id: str
    environment_id: str
    kind: MessageKind
    name: str
    data: bytes
    sent_at: datetime
    run_id: str | None = None
    started: tuple[Started, ...] = ()
    received: int = 0
    status: str | None = None
    answer: bytes | None = None
    answered_at: datetime | None = None
    canceled: int = 0


@dataclass(frozen=True, slots=True)
class Sent:
    """duplicate: it had been sent before, under this id."""

    message: Message
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """A run's answer to an update, by its id. value: a JSON text: what it accepted, or why it refused."""

    update_id: str
    accepted: bool
    value: bytes = b"null"
