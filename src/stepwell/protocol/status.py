"""Our status names and those that the official npm client knows: the one place where the two meet.

Storage, the engine, our own client and the CLI speak ours (`model.lifecycle`). In the API's run objects the field
`status` carries the npm client's name and `state` carries ours.
"""

from __future__ import annotations

from typing import Literal, get_args

from stepwell.model.failure import FailureCode
from stepwell.model.lifecycle import Status

PublicStatus = Literal[
    "PENDING_VERSION",
    "QUEUED",
    "DEQUEUED",
    "EXECUTING",
    "WAITING",
    "COMPLETED",
    "CANCELED",
    "FAILED",
    "CRASHED",
    "SYSTEM_FAILURE",
    "DELAYED",
    "EXPIRED",
    "TIMED_OUT",
]

PublicBatchStatus = Literal["PENDING", "PROCESSING", "COMPLETED", "PARTIAL_FAILED", "ABORTED"]

_PUBLIC: dict[Status, PublicStatus] = {
    "delayed": "DELAYED",
    "queued": "QUEUED",
    "executing": "EXECUTING",
    "waiting": "WAITING",
    "completed": "COMPLETED",
    "failed": "FAILED",
    "canceled": "CANCELED",
    "expired": "EXPIRED",
}

# The npm client tells these failures apart by status; we do it by failure code.
_PUBLIC_FAILURE: dict[str, PublicStatus] = {
    "timed_out": "TIMED_OUT",
    "attempt_timed_out": "TIMED_OUT",
    "step_timed_out": "TIMED_OUT",
    "heartbeat_timed_out": "TIMED_OUT",
    "crashed": "CRASHED",
    "out_of_memory": "CRASHED",
    "lease_lost": "CRASHED",
    "max_attempts": "CRASHED",
    "system": "SYSTEM_FAILURE",
}


def public_status(status: Status, failure_code: str | None = None) -> PublicStatus:
    """The npm client's name for a run of ours."""
    if status == "failed" and failure_code is not None:
        return _PUBLIC_FAILURE.get(failure_code, "FAILED")
    return _PUBLIC[status]


def public_batch_status(
    trigger_version: str | None, *, sealed: bool, ended: bool, refused: int, accepted: int
) -> PublicBatchStatus:
    """The npm client's name for a batch's state; before 4.3 it knew PENDING and COMPLETED only."""
    status: PublicBatchStatus
    if not ended:
        status = "PROCESSING" if sealed else "PENDING"
    elif refused:
        status = "PARTIAL_FAILED" if accepted else "ABORTED"
    else:
        status = "COMPLETED"
    if trigger_version is not None and _older_than_4_3(trigger_version):
        return "COMPLETED" if ended else "PENDING"
    return status


def _older_than_4_3(version: str) -> bool:
    parts = version.split(".")[:2]
    return all(part.isdigit() for part in parts) and tuple(map(int, parts)) < (4, 3)


def statuses_matching(names: list[str]) -> list[tuple[Status, list[str] | None]]:
    """What to look for in storage, for a filter of names of either vocabulary: (status, failure codes or None for all).

    Raises ValueError with the offending name.
    """
    found: list[tuple[Status, list[str] | None]] = []
    for name in names:
        codes = [code for code in get_args(FailureCode) if _PUBLIC_FAILURE.get(code, "FAILED") == name]
        ours: list[Status] = [status for status, public in _PUBLIC.items() if name in (status, public)]
        if name not in _PUBLIC and name not in get_args(PublicStatus):
            raise ValueError(name)
        if codes:
            found.append(("failed", codes))
        else:
            found.extend((status, None) for status in ours)
    return found
