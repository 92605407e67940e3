"""The demo's judge: it must find a step that ran again though it had completed."""

from __future__ import annotations

from pathlib import Path

from stepwell.cli import ledger
from stepwell.cli.ledger import Line


def start(step: str, pid: int, run: str = "run_1") -> Line:
    return Line(0.0, "start", step, f"{run}:{step}", run, pid)


def end(step: str, pid: int, run: str = "run_1") -> Line:
    return Line(0.0, "end", step, f"{run}:{step}", run, pid)


def test_steps_that_ran_once_are_no_repeats() -> None:
    verdict = ledger.judge([start("fetch", 1), end("fetch", 1), start("store", 1), end("store", 1)], killed=[])
    assert (verdict.completed, verdict.repeats) == (2, [])


def test_a_step_that_was_in_flight_when_its_process_was_killed_may_run_again() -> None:
    verdict = ledger.judge([start("fetch", 1), start("fetch", 2), end("fetch", 2)], killed=[1])
    assert [repeat.excused for repeat in verdict.repeats] == [True]
    assert verdict.violations == []


def test_a_step_whose_result_was_not_stored_yet_may_run_again() -> None:
    """Its body had ended; the journal had not been told when the process died."""
    verdict = ledger.judge([start("fetch", 1), end("fetch", 1), start("fetch", 2), end("fetch", 2)], killed=[1])
    assert verdict.violations == []


def test_a_step_that_ran_again_after_a_later_one_had_begun_is_a_violation() -> None:
    lines = [start("fetch", 1), end("fetch", 1), start("store", 1), start("fetch", 2), end("fetch", 2)]
    (violation,) = ledger.judge(lines, killed=[1]).violations
    assert violation.step == "fetch"
    assert "had gone on to store" in violation.why


def test_a_later_step_of_another_run_in_the_same_process_proves_nothing() -> None:
    lines = [start("fetch", 1), start("fetch", 1, "run_2"), start("fetch", 2), end("fetch", 2)]
    assert ledger.judge(lines, killed=[1]).violations == []


def test_a_step_that_ran_twice_without_any_kill_is_a_violation() -> None:
    lines = [start("fetch", 1), end("fetch", 1), start("fetch", 2), end("fetch", 2)]
    (violation,) = ledger.judge(lines, killed=[7]).violations
    assert "process 1 was not killed" in violation.why


def test_what_is_in_flight_is_what_has_begun_and_not_ended() -> None:
    lines = [start("fetch", 1), end("fetch", 1), start("store", 1), start("fetch", 2, "run_2")]
    assert [(line.step, line.pid) for line in ledger.in_flight(lines)] == [("store", 1), ("fetch", 2)]


def test_a_line_that_is_half_written_is_left_for_later(tmp_path: Path) -> None:
    file = tmp_path / "ledger"
    whole = b'{"t":1.0,"what":"start","step":"fetch","key":"k","run":"r","pid":1}\n'
    file.write_bytes(whole + whole[:20])
    assert len(ledger.read(file)) == 1
    assert ledger.read(tmp_path / "none") == []
