"""Until when a lease is trusted. Time is given."""

from __future__ import annotations

import pytest

from stepwell.worker.claimer import Claimer
from stepwell.worker.leases import MARGIN, Leases


def test_a_lease_is_trusted_from_when_it_was_given_not_from_when_it_came() -> None:
    leases = Leases()
    leases.clock_seen(postgres_now=1000.0, asked_at=10.0)
    leases.add("run", 1, seconds=30.0, postgres_now=1005.0, received=35.0)  # 20 s on its way
    assert leases.next_deadline() == pytest.approx(15.0 + 30.0 * (1 - MARGIN))


def test_a_database_clock_set_forward_makes_no_lease_longer() -> None:
    leases = Leases()
    leases.clock_seen(postgres_now=1000.0, asked_at=10.0)
    leases.add("run", 1, seconds=30.0, postgres_now=9000.0, received=12.0)
    assert leases.next_deadline() == pytest.approx(12.0 + 30.0 * (1 - MARGIN))


def test_a_renewal_counts_from_when_it_was_asked_for() -> None:
    leases = Leases()
    leases.add("run", 1, 30.0, 0.0, received=100.0)
    leases.renewed([("run", 1)], asked_at=110.0)
    assert leases.next_deadline() == pytest.approx(110.0 + 30.0 * (1 - MARGIN))


def test_an_answer_about_an_older_epoch_renews_nothing() -> None:
    leases = Leases()
    leases.add("run", 2, 30.0, 0.0, received=100.0)
    leases.renewed([("run", 1)], asked_at=200.0)
    assert leases.take_expired(150.0) == [("run", 2)]


def test_an_expired_lease_kills_what_works_on_it_once() -> None:
    leases = Leases()
    killed: list[str] = []
    leases.add("run", 1, 30.0, 0.0, received=100.0)
    leases.guard("run", 1, lambda: killed.append("run"))
    assert leases.take_expired(123.9) == []
    assert leases.take_expired(124.0) == [("run", 1)]
    assert leases.take_expired(200.0) == []
    assert killed == ["run"]


def test_an_executor_that_a_run_has_left_is_not_killed_for_its_lease() -> None:
    leases = Leases()
    killed: list[str] = []
    leases.add("run", 1, 30.0, 0.0, received=100.0)
    leases.guard("run", 1, lambda: killed.append("run"))
    leases.guard("run", 1, None)
    leases.take_expired(200.0)
    assert killed == []


def test_room_is_slots_and_prefetch_and_is_said_once() -> None:
    claimer = Claimer(slots=4, prefetch=2)
    assert claimer.room(0, 0.0) == 6
    assert claimer.room(0, 0.0) == 0
    claimer.came()
    assert claimer.room(1, 0.0) == 0
    assert claimer.room(0, 0.0) == 1


def test_after_a_reconnect_all_room_is_said_anew() -> None:
    claimer = Claimer(slots=4, prefetch=2)
    claimer.room(0, 0.0)
    claimer.reconnected()
    assert claimer.room(3, 0.0) == 3


def test_a_worker_that_had_to_give_back_holds_less_ready_until_slots_come_free() -> None:
    claimer = Claimer(slots=1, prefetch=2)
    for _ in range(claimer.room(0, 0.0)):
        claimer.came()
    claimer.waited_too_long()
    assert claimer.room(1, 0.0) == 0
    claimer.ended(0.0)
    assert claimer.room(0, 0.0) == 2


def test_a_closed_claimer_has_no_room() -> None:
    claimer = Claimer(slots=1, prefetch=2)
    claimer.close()
    assert claimer.room(0, 0.0) == 0


def busy(slots: int, prefetch: int, ends_per_second: int) -> Claimer:
    """After two seconds of runs that end so often, at time 2."""
    claimer = Claimer(slots, prefetch)
    for number in range(2 * ends_per_second):
        claimer.ended(number / ends_per_second)
    return claimer


def test_a_tenth_of_a_second_of_short_runs_is_held_ready() -> None:
    assert busy(8, 4, ends_per_second=10).prefetch(2.0) == 4
    assert busy(8, 4, ends_per_second=1000).prefetch(2.0) == pytest.approx(100, abs=5)
    assert busy(8, 4, ends_per_second=100_000).prefetch(2.0) == 256


def test_a_little_room_is_not_worth_a_frame_while_there_is_enough_to_do() -> None:
    claimer = busy(8, 4, ends_per_second=1000)
    announced = claimer.room(0, 2.0)
    for _ in range(announced):
        claimer.came()
    assert claimer.room(announced - 5, 2.0) == 0
    assert claimer.room(announced - 60, 2.0) == 60


def test_room_is_taken_back_when_runs_do_not_end_as_fast_any_more() -> None:
    claimer = busy(8, 4, ends_per_second=1000)
    announced = claimer.room(0, 2.0)
    assert claimer.unneeded(0, 2.0) == 0
    assert claimer.unneeded(0, 10.0) == announced - (8 + 4)
    assert claimer.unneeded(8 + 4, 10.0) == 8 + 4
    assert claimer.unneeded(20, 10.0) == 0, "no more than was announced"


def test_a_worker_that_shall_hold_nothing_ready_does_not_however_short_its_runs() -> None:
    assert busy(8, 0, ends_per_second=1000).prefetch(2.0) == 0
