"""Bodies about dead letters: failed runs that nobody has dealt with, and their groups."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from stepwell.protocol.fleet import PageNumbers, PageQuery
from stepwell.protocol.runs import Run, RunDetail
from stepwell.protocol.triggering import FailureView
from stepwell.protocol.wire import UNSET, Page, RawJson, Wire


class DeadQuery(msgspec.Struct, frozen=True, kw_only=True):
    limit: int = 50
    after: str | None = None
    task: str | None = None
    group: str | None = None


class Dead(Wire, frozen=True, kw_only=True):
    """Failed runs that nobody has dealt with yet, newest first."""

    data: list[Run]
    pagination: Page


class GroupQuery(PageQuery, frozen=True, kw_only=True, rename="camel"):
    task: str | None = None


class GroupView(Wire, frozen=True, kw_only=True):
    """Dead letters that failed alike. `pattern` is their message with # for what differs; `place` where it was raised.

    firstSeen, lastSeen: ends of the runs that are on the list. failure, notUndone: of `newest`.
    """

    id: str
    count: int
    first_seen: datetime
    last_seen: datetime
    tasks: list[str]
    newest: str
    code: str
    name: str | None = None
    pattern: str = ""
    place: str | None = None
    failure: FailureView | None = None
    not_undone: list[str] | None = None


class Groups(Wire, frozen=True, kw_only=True):
    data: list[GroupView]
    pagination: PageNumbers


class DeadLetter(Wire, frozen=True, kw_only=True):
    """A run on the list, in full, and the group that it is in."""

    run: RunDetail
    group: GroupView


class Redrive(Wire, frozen=True, kw_only=True):
    """fromStart: run everything again, not only what had not completed. payload: another one; everything runs again."""

    from_start: bool = False
    payload: RawJson = UNSET


class Chosen(Wire, frozen=True, kw_only=True):
    """Which dead letters: these runs, those of a group, those of a task, or `all`; what is given narrows."""

    runs: list[str] | None = None
    group: str | None = None
    task: str | None = None
    all: bool = False


class RedriveMany(Chosen, frozen=True, kw_only=True):
    """rate: how many of the new runs begin at most, "10/s", "100/m" or "1000/h"; absent: all at once.

    patch: what shall be otherwise in each payload, as a JSON Merge Patch (RFC 7396): fields that replace those of the
    payload, null removes one. Everything runs again then.

    At most `limit` are redriven by one call; `rest` of its answer is the `rest` of the next one.
    """

    from_start: bool = False
    rate: str | None = None
    patch: dict[str, Any] | None = None
    limit: int = 1000
    rest: str | None = None


class Refusal(Wire, frozen=True, kw_only=True):
    """Why a run stayed on the list."""

    id: str
    code: str
    message: str


class Redriven(Wire, frozen=True, kw_only=True):
    """runs: the new run of each old one. rest: absent when there is nothing left to redrive."""

    runs: dict[str, str]
    refused: list[Refusal]
    rest: str | None = None


class Discard(Wire, frozen=True, kw_only=True):
    """by: who says so."""

    reason: str
    by: str | None = None


class DiscardMany(Chosen, frozen=True, kw_only=True):
    reason: str
    by: str | None = None


class Discarded(Wire, frozen=True, kw_only=True):
    count: int
