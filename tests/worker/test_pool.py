"""Which executors are kept warm. Time is given."""

from __future__ import annotations

from stepwell.worker.pool import BRIEF, WarmPool


def pool(**settings: float) -> WarmPool[str]:
    return WarmPool(**settings)  # type: ignore[arg-type]


def test_the_executor_used_last_is_taken_first() -> None:
    warm = pool()
    warm.put("old", "a", 1.0)
    warm.put("new", "a", 2.0)
    assert [warm.take("a", 3.0), warm.take("a", 3.0), warm.take("a", 3.0)] == ["new", "old", None]


def test_an_executor_serves_its_own_task_only() -> None:
    warm = pool()
    warm.put("one", "a", 1.0)
    assert warm.take("b", 2.0) is None


def test_an_idle_executor_is_kept_for_so_many_seconds() -> None:
    warm = pool(seconds=60)
    warm.put("one", "a", 0.0)
    assert warm.expire(59.9) == []
    assert warm.expire(60.0) == ["one"]
    assert len(warm) == 0


def test_of_one_task_the_oldest_one_goes_when_there_are_too_many() -> None:
    warm = pool(per_task=2)
    assert [warm.put(name, "a", at * BRIEF) for at, name in enumerate(("1", "2", "3"))] == [[], [], ["1"]]


def test_too_many_of_one_task_are_kept_while_it_goes_from_run_to_run() -> None:
    warm = pool(per_task=2)
    assert [warm.put(name, "a", 1.0 + place / 100) for place, name in enumerate(("1", "2", "3", "4"))] == [[]] * 4
    assert [warm.take("a", 1.5) for _ in range(4)] == ["4", "3", "2", "1"]
    assert [warm.put(name, "a", 2.0) for name in ("4", "3", "2", "1")] == [[]] * 4
    assert warm.expire(1.9 + BRIEF) == []
    assert warm.expire(2.0 + BRIEF) == ["4", "3"]


def test_of_all_the_least_recently_used_goes_first() -> None:
    warm = pool(total=2)
    warm.put("1", "a", 1.0)
    warm.put("2", "b", 2.0)
    assert warm.put("3", "c", 3.0) == ["1"]


def test_a_task_that_runs_often_keeps_its_executor_longer() -> None:
    warm = pool(total=2)
    for at in range(8):
        warm.take("busy", at / 10)
    warm.put("of the busy task", "busy", 1.0)
    warm.put("of a rare task", "rare", 5.0)
    assert warm.put("another", "other", 6.0) == ["of a rare task"]


def test_being_frequent_is_forgotten_in_time() -> None:
    warm = pool(total=2, seconds=10_000)
    for at in range(8):
        warm.take("busy", at / 10)
    warm.put("of the busy task", "busy", 1.0)
    warm.put("of a rare task", "rare", 605.0)
    assert warm.put("another", "other", 606.0) == ["of the busy task"]


def test_a_dead_executor_is_forgotten() -> None:
    warm = pool()
    warm.put("one", "a", 1.0)
    assert warm.remove("one")
    assert not warm.remove("one")
    assert warm.take("a", 2.0) is None
