"""What runs say that step quickly, many at once, leaves as few messages; nobody else waits."""

from __future__ import annotations

from stepwell.worker.companions import HOLD, QUICK, Companions


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def stepping(*run_ids: str, takes: float = QUICK / 2) -> tuple[Companions, Clock]:
    """Runs that have written an entry, `takes` seconds after an answer, and were answered just now."""
    clock = Clock()
    companions = Companions(clock)
    for run_id in run_ids:
        companions.wrote(run_id)
        companions.answered(run_id)
    clock.now += takes
    for run_id in run_ids:
        companions.wrote(run_id)
    companions.sent()
    for run_id in run_ids:
        companions.answered(run_id)
    return companions, clock


def test_a_run_that_is_alone_waits_for_nobody() -> None:
    companions, _ = stepping("a")
    companions.wrote("a")
    assert not companions.are_coming()


def test_entries_gather_until_three_of_four_have_come() -> None:
    companions, _ = stepping("a", "b", "c", "d", "e")
    waits: list[bool] = []
    for run_id in ("a", "b", "c", "d"):
        companions.wrote(run_id)
        waits.append(companions.are_coming())
    assert waits == [True, True, True, False]  # of five: one that is late does not hold up four


def come_before_they_go(count: int) -> int:
    companions, _ = stepping(*map(str, range(count)))
    for number in range(count):
        companions.wrote(str(number))
        if not companions.are_coming():
            return number + 1
    raise AssertionError("all have come, and wait")


def test_of_many_half_go_while_the_others_execute_and_of_fewer_ten() -> None:
    assert {count: come_before_they_go(count) for count in (4, 12, 16, 20, 24, 40)} == {
        4: 3,
        12: 9,
        16: 10,
        20: 10,
        24: 12,
        40: 20,
    }


def test_those_whose_entries_are_being_stored_are_waited_for_but_not_for_long() -> None:
    companions, clock = stepping(*map(str, range(16)))
    for number in range(10):
        companions.wrote(str(number))
    companions.sent()
    for number in range(10, 16):
        companions.wrote(str(number))
    assert companions.are_coming()  # six, and the ten that are on their way
    for number in range(4):
        companions.answered(str(number))
        companions.wrote(str(number))
    assert not companions.are_coming()  # ten again
    companions.sent()
    companions.answered("4")
    companions.wrote("4")
    assert companions.are_coming()
    clock.now += HOLD * 1.01
    assert not companions.are_coming()


def test_what_was_sent_counts_no_more_and_the_rest_gathers_anew() -> None:
    companions, _ = stepping("a", "b", "c", "d")
    companions.wrote("a")
    companions.sent()
    companions.wrote("b")
    assert companions.are_coming()
    companions.wrote("c")
    companions.wrote("d")
    assert not companions.are_coming()


def test_runs_whose_steps_take_long_are_not_waited_for() -> None:
    companions, _ = stepping("a", "b", "c", takes=QUICK * 2)
    companions.wrote("a")
    assert not companions.are_coming()


def test_a_quick_run_that_does_not_come_is_waited_for_no_longer() -> None:
    companions, clock = stepping("a", "b", "c", "d")
    companions.wrote("a")
    assert companions.are_coming()
    clock.now += QUICK * 1.01
    assert not companions.are_coming()


def test_a_run_that_has_ended_is_not_waited_for() -> None:
    companions, _ = stepping("a", "b", "c")
    companions.wrote("a")
    assert companions.are_coming()
    companions.left("b")
    companions.left("c")
    assert not companions.are_coming()


def test_a_run_is_as_quick_as_its_latest_step() -> None:
    companions, clock = stepping("a", "b", "c")
    clock.now += QUICK * 2
    for run_id in ("a", "b", "c"):
        companions.wrote(run_id)
    companions.sent()
    for run_id in ("a", "b", "c"):
        companions.answered(run_id)
    companions.wrote("a")
    assert not companions.are_coming()
