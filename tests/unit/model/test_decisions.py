"""The pure decisions of the model, and its small inventions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis.strategies import binary, booleans, floats, integers, sampled_from, text
from msgspec.structs import replace

from stepwell.model.batch import Batch
from stepwell.model.checkpoint import Checkpoint
from stepwell.model.child import child_id
from stepwell.model.lifecycle import ACTIVE, TABLE, TERMINAL, sources
from stepwell.model.retry import FINAL_CODES, MAX_CRASHES, RetryPolicy, decide_recovery, decide_retry
from stepwell.primitives.ids import is_id, new_id


@given(crashes=integers(1, 100), random=floats(0, 0.999))
def test_a_recovery_is_quick_until_the_crashes_run_out(crashes: int, random: float) -> None:
    decision = decide_recovery(crashes, random)
    assert (decision.after is None) == (crashes >= MAX_CRASHES)
    assert decision.after is None or 0 < decision.after <= 5
    assert str(crashes) in decision.reason


@given(
    attempt=integers(1, 20),
    most=integers(1, 20),
    code=sampled_from(["error", "out_of_memory", *FINAL_CODES]),
    random=floats(0, 0.999),
    jitter=booleans(),
)
def test_attempts_are_bounded_and_delays_stay_within_the_policy(
    attempt: int, most: int, code: str, random: float, jitter: bool
) -> None:
    policy = RetryPolicy(max_attempts=most, min_timeout=1, max_timeout=30, jitter=jitter)
    decision = decide_retry(policy, code=code, attempt=attempt, crashes=0, random=random)
    assert (decision.after is None) == (code in FINAL_CODES or attempt >= most)
    assert decision.after is None or 0.5 <= decision.after <= 30


def test_nothing_leaves_a_terminal_status_and_everything_active_can_end() -> None:
    assert {before for before, _ in TABLE} == ACTIVE
    assert set(sources("cancel")) == ACTIVE
    assert set(TABLE.values()) >= TERMINAL


ENTRY = Checkpoint(3, "/|a#0", "step", "value", 1.5, 1.25, b"body", "a.py:1", 1, False, b"12345678")


@pytest.mark.parametrize(
    "change",
    [
        {"seq": 4},
        {"key": "/|a#1"},
        {"kind": "named"},
        {"outcome": "error"},
        {"at": 1.5000000000000002},
        {"started": 1.2500000000000002},
        {"body": b"bodY"},
        {"site": "a.py:2"},
        {"nested": True},
        {"fingerprint": b"12345679"},
        {"fingerprint": b"12345678b", "body": b"ody"},
    ],
)
def test_a_checksum_shows_each_change(change: dict[str, object]) -> None:
    assert replace(ENTRY, **change).checksum() != ENTRY.checksum()


def test_a_checksum_does_not_depend_on_who_stored_it() -> None:
    assert replace(ENTRY, attempt=7).checksum() == ENTRY.checksum()


@given(body=binary(max_size=100), key=text(min_size=1, max_size=20))
def test_a_checksum_is_eight_bytes_of_anything(body: bytes, key: str) -> None:
    assert len(replace(ENTRY, body=body, key=key).checksum()) == 8


def test_children_have_ids_of_their_own_which_are_always_the_same() -> None:
    parent = new_id("run")
    ids = {child_id(parent, key, index) for key in ("/|a#0", "/|a#1") for index in range(50)}
    assert len(ids) == 100
    assert all(is_id(each, "run") for each in ids)
    assert child_id(parent, "/|a#0", 3) in ids


@pytest.mark.parametrize(
    ("sealed", "accepted", "refused", "ended", "status"),
    [
        (False, 0, 0, 0, "pending"),
        (False, 2, 0, 2, "pending"),
        (True, 3, 0, 2, "processing"),
        (True, 3, 0, 3, "completed"),
        (True, 2, 1, 1, "processing"),
        (True, 2, 1, 2, "partial_failed"),
        (True, 0, 3, 0, "aborted"),
    ],
)
def test_a_batch_s_status_follows_from_its_counts(
    sealed: bool, accepted: int, refused: int, ended: int, status: str
) -> None:
    from datetime import UTC, datetime

    now = datetime.now(UTC)
    batch = Batch("b", "e", 3, now, now, now if sealed else None, accepted=accepted, refused=refused, ended=ended)
    assert batch.status == status
