"""Dead letters: failed runs that nobody has dealt with, those that failed alike as one group."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from stepwell.errors import StepwellError
from stepwell.model.failure import Failure


@dataclass(frozen=True, slots=True)
class ErrorGroup:
    """Dead letters that failed alike. first_seen, last_seen: ends of runs that are on the list; newest: one of them.

    failure, not_undone: of the newest. failure is None when it was canceled, and could not undo what it had done.
    """

    id: str
    count: int
    first_seen: datetime
    last_seen: datetime
    task_ids: tuple[str, ...]
    newest: str
    failure: Failure | None = None
    not_undone: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DeadFilter:
    """Which dead letters. Each field that is set narrows; several values of one field widen. Nothing set: all."""

    run_ids: tuple[str, ...] = ()
    task_ids: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pace:
    """Where a redrive of many stands: it goes on after run number `after`, and ends with number `upto`.

    next_at: when the next run begins, in seconds since the epoch. Runs that die again meanwhile are beyond `upto`.
    """

    after: int
    upto: int
    next_at: float


@dataclass(frozen=True, slots=True)
class Redriven:
    """What a redrive of many did: the new run of each old one, and why others stayed on the list. rest: None is all."""

    runs: dict[str, str]
    refused: dict[str, StepwellError]
    rest: Pace | None = None
