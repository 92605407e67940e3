"""Runs that were triggered together and are looked at together."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from stepwell.model.failure import Failure
from stepwell.model.lifecycle import Status

BatchStatus = Literal["pending", "processing", "completed", "partial_failed", "aborted"]


@dataclass(frozen=True, slots=True)
class BatchItem:
    """One of a batch's runs, or why there is none: then `run_id` is None and `error_code` and `error` say it."""

    index: int
    task_id: str
    run_id: str | None = None
    status: Status | None = None
    error: str | None = None
    error_code: str | None = None
    output: bytes | None = None
    output_type: str | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """expected: how many items it is to have; sealed_at: when the last of them arrived.

    accepted: items that became runs; refused: items that did not; ended: accepted ones that have ended.
    """

    id: str
    environment_id: str
    expected: int
    created_at: datetime
    updated_at: datetime
    sealed_at: datetime | None = None
    completed_at: datetime | None = None
    idempotency_key: str | None = None
    parent_id: str | None = None
    accepted: int = 0
    refused: int = 0
    ended: int = 0

    @property
    def status(self) -> BatchStatus:
        """pending: not all items are here. processing: some run has not ended. The rest is over.

        partial_failed: some items could not become runs. aborted: none could.
        """
        if self.sealed_at is None:
            return "pending"
        if self.refused == self.expected:
            return "aborted"
        if self.ended < self.accepted:
            return "processing"
        return "partial_failed" if self.refused else "completed"


@dataclass(frozen=True, slots=True)
class BatchCreated:
    """cached: an earlier call with the same key made it; its items need not be sent again."""

    batch_id: str
    expected: int
    cached: bool = False


@dataclass(frozen=True, slots=True)
class BatchProgress:
    """What became of a stream of items. deduplicated: items whose index had come before. sealed: none is missing."""

    batch_id: str
    accepted: int
    deduplicated: int
    sealed: bool
    expected: int
    received: int
