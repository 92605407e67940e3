"""Timelines of recorded runs: what a person is told, in which order."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import msgspec
import pytest

from stepwell.cli.pages import SHOWN, bar
from stepwell.cli.timeline import timeline
from tests.cli.records import entries, printed, recorded


def told(name: str) -> list[str]:
    return [entry.what for entry in entries(name)]


def test_a_run_that_slept_tells_its_steps_its_wait_and_its_resume_in_order() -> None:
    assert told("slept") == [
        "triggered",
        "attempt 1 on worker-1",
        *["fetch"] * 4,
        "summed",
        "sleep",
        "resumed on worker-1",
        "fetch",
        "fetch",
        "completed",
    ]


def test_a_sleep_lasts_from_the_suspension_to_the_wake_up_and_held_no_worker() -> None:
    (sleep,) = [entry for entry in entries("slept") if entry.what == "sleep"]
    assert sleep.until is not None
    assert 5.5 < sleep.until - sleep.at < 6.5
    assert sleep.note == "held no worker"


def test_a_token_is_told_with_its_answer_and_who_gave_it() -> None:
    record = recorded("slept")
    closed = {"token": "waitpoint_1", "status": "completed", "answer": {"approved": True}, "by": "mara"}
    journal = [
        msgspec.structs.replace(each, kind="answer", value=closed) if each.kind == "timer" else each
        for each in record.journal
    ]
    story = timeline(record.run, record.events, journal, record.workers)
    (waited,) = [entry for entry in story if entry.what == "waited for a token"]
    assert waited.note == 'completed by mara: {"approved":true}, held no worker'


def test_a_cancel_is_told_when_it_was_asked_for_and_when_the_clean_up_was_over() -> None:
    record = recorded("slept")
    last = record.events[-1]
    facts = (
        ("cancel_requested", {"reason": "enough", "grace": 30.0}),
        ("canceled", {"note": "the clean-up failed: ValueError: no"}),
        ("canceled", {"by": "run_of_its_parent"}),
    )
    events = [msgspec.structs.replace(last, type=kind, details=details) for kind, details in facts]
    story = timeline(record.run, events, [], record.workers)
    assert [(each.what, each.note) for each in story] == [
        ("asked to end", "enough; 30.0 s to clean up"),
        ("canceled", "the clean-up failed: ValueError: no"),
        ("canceled", "together with run_of_its_parent"),
    ]


def test_what_was_not_undone_is_printed_with_the_run() -> None:
    record = recorded("slept")
    left = ["buy: ValueError: nobody takes it back"]
    printed_run = printed(replace(record, run=msgspec.structs.replace(record.run, not_undone=left)))
    assert "not undone" in printed_run
    assert "nobody takes it back" in printed_run


def test_a_named_checkpoint_shows_its_data() -> None:
    (named,) = [entry for entry in entries("slept") if entry.what == "summed"]
    assert named.note == "total=12"


def test_parallel_branches_are_indented() -> None:
    assert [entry.depth for entry in entries("slept") if entry.what == "fetch"] == [0, 0, 0, 0, 1, 1]


def test_a_killed_executor_is_told_with_its_signal_and_the_resume_with_what_was_replayed() -> None:
    story = entries("killed_executor")
    (killed,) = [entry for entry in story if entry.mark == "☠"]
    after = story[story.index(killed) + 1]
    assert killed.what == "executor killed by SIGKILL"
    assert killed.tone == "bad"
    assert after.what == "resumed on worker-2"
    assert after.tone == "good"
    assert after.note == "1 checkpoint replayed"


def test_no_checkpoint_that_was_stored_before_the_kill_appears_after_it() -> None:
    story = entries("killed_executor")
    killed = next(number for number, entry in enumerate(story) if entry.mark == "☠")
    before = {entry.number for entry in story[:killed] if entry.number is not None}
    after = {entry.number for entry in story[killed:] if entry.number is not None}
    assert before == {0}
    assert after == {1, 2, 3}


def test_a_lost_worker_is_named_and_its_run_goes_on_elsewhere() -> None:
    story = entries("killed_worker")
    (lost,) = [entry for entry in story if entry.mark == "☠"]
    assert lost.what == "worker-1 was lost"
    assert story[story.index(lost) + 1].what == "resumed on worker-2"


def test_a_retry_is_told_with_its_reason_and_its_delay() -> None:
    (retry,) = [entry for entry in entries("failed") if entry.what == "attempt 1 failed"]
    assert retry.note.startswith("ValueError: no such luck; again in ")
    assert retry.tone == "warn"


def test_no_step_begins_before_the_claim_that_led_to_it() -> None:
    for name in ("slept", "failed", "killed_executor", "killed_worker", "parent"):
        story = entries(name)
        claimed = next(entry.at for entry in story if entry.what.startswith("attempt 1 on"))
        assert all(entry.at >= claimed for entry in story if entry.number is not None), name


def test_checkpoints_that_a_fork_took_over_come_first_and_took_no_time() -> None:
    record = recorded("killed_executor")
    later = msgspec.structs.replace(record.run, created_at=record.run.created_at + timedelta(hours=1))
    kept = [entry for entry in timeline(later, [], record.journal) if entry.number is not None]
    assert [(entry.at, entry.until, entry.note) for entry in kept] == [(0.0, None, "kept")] * 4


def test_a_waiting_run_tells_what_it_waits_for() -> None:
    record = recorded("slept")
    slept = next(c for c in record.journal if c.kind == "timer")
    waiting = msgspec.structs.replace(record.run, state="waiting", finished_at=None)
    events = [event for event in record.events if event.type in {"triggered", "claimed", "suspended"}][:3]
    story = timeline(waiting, events, [c for c in record.journal if c.seq < slept.seq])
    assert story[-1].what == "sleeps"
    assert "holds no worker, until 20" in story[-1].note


def test_the_page_of_a_failed_run_ends_with_its_error_and_its_stack() -> None:
    page = printed(recorded("failed"))
    assert "fails  failed  run_" in page
    assert "2 attempts" in page
    assert "✗ ValueError: no such luck" in page
    assert 'raise ValueError("no such luck")' in page


def test_the_page_of_a_parent_counts_its_children_and_names_the_failed_one() -> None:
    page = printed(recorded("parent"))
    assert "6 children (kid): 5 completed, 1 failed" in page
    assert "RuntimeError: three is bad" in page


@pytest.mark.parametrize("name", ["slept", "failed", "killed_executor", "killed_worker", "parent"])
def test_no_line_of_a_timeline_is_wider_than_the_terminal(name: str) -> None:
    assert max(map(len, printed(recorded(name), width=100).splitlines())) <= 100


def test_a_long_timeline_is_cut_in_the_middle_unless_all_is_asked_for() -> None:
    record = recorded("slept")
    many = [msgspec.structs.replace(record.journal[0], seq=seq, key=f"|fetch#{seq}") for seq in range(1000)]
    long = replace(record, journal=many)
    short, full = printed(long), printed(long, everything=True)
    assert short.count("✓ fetch") < SHOWN
    assert "more entries: --all shows them" in short
    assert full.count("✓ fetch") == 1000


@pytest.mark.parametrize(
    ("at", "until", "stroke"),
    [(0, 10, "━" * 20), (0, 5, "━" * 10), (5, 10, " " * 10 + "━" * 10), (9.99, None, " " * 19 + "·"), (0, 0, "━")],
)
def test_a_bar_shows_where_in_the_whole_something_was(at: float, until: float | None, stroke: str) -> None:
    assert bar(at, until, 10) == stroke.ljust(20)


def test_a_bar_of_a_run_without_duration_does_not_fail() -> None:
    assert bar(0, 0, 0).strip() == "━"


def test_a_run_of_a_batch_names_its_collector_and_that_its_runs() -> None:
    record = recorded("slept")
    details = {"collector": "run_all", "place": 1}
    events = [record.events[0], msgspec.structs.replace(record.events[1], type="collected", details=details)]
    page = printed(replace(record, events=events, run=msgspec.structs.replace(record.run, collector="run_all")))
    assert "collector  run_all" in page
    assert "waited for its batch" in page
    page = printed(replace(record, run=msgspec.structs.replace(record.run, members=["run_a", "run_b"])))
    assert "members    2 runs: run_a, run_b" in page
