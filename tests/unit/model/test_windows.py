"""A window: each tick is put off by a stable amount, never beyond the next one, and each still comes once."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepwell.model.schedule import Schedule, ScheduleDeclaration, SchedulePolicy
from stepwell.model.ticking import decide, due_at, first_tick
from stepwell.model.timetable import timetable

BEGIN = datetime(2026, 10, 24, tzinfo=UTC).timestamp()  # the day before a clock goes back
DAY = 86400.0


def scheduled(cron: str, policy: SchedulePolicy, name: str = "sched_1") -> Schedule:
    table = timetable(cron, timezone="Europe/Paris")
    now = datetime.now(UTC)
    declared = ScheduleDeclaration("k", table, policy)
    made = Schedule(name, "env", "t", "api", declared, True, None, None, None, None, None, now, now)
    return replace(made, next_tick=first_tick(made, BEGIN))


@pytest.mark.parametrize("policy", [SchedulePolicy(jitter_share=0.3), SchedulePolicy(jitter=1800.0, jitter_share=1.0)])
def test_a_tick_is_put_off_within_its_window_and_never_beyond_the_next(policy: SchedulePolicy) -> None:
    for cron in ("*/5 * * * *", "0 * * * *", "30 2 * * *"):
        made = scheduled(cron, policy)
        ticks = made.declaration.timetable.upcoming(BEGIN, 60)
        offsets = [due_at(made, tick) - tick for tick in ticks[:-1]]
        for tick, following, offset in zip(ticks, ticks[1:], offsets, strict=False):
            gap = following - tick
            assert 0 <= offset <= (min(policy.jitter, gap) if policy.jitter else policy.jitter_share * gap)
        assert len(set(offsets)) > 10
        assert offsets == [due_at(made, tick) - tick for tick in ticks[:-1]]


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from([SchedulePolicy(jitter_share=1.0), SchedulePolicy("catch_up", jitter_share=0.5)]),
    st.lists(st.floats(1.0, 1200.0), min_size=30, max_size=60),
)
def test_however_often_somebody_looks_each_tick_is_decided_once(policy: SchedulePolicy, gaps: list[float]) -> None:
    made = scheduled("*/7 * * * *", policy)
    now, seen = BEGIN, list[float]()
    for gap in gaps:
        now += gap
        before = None
        while made.next_tick != before:  # what is made up for comes in sequence: one, when the one before has ended
            before = made.next_tick
            decided = decide(made, now, busy=False)
            fired = [(tick, tick) for tick in decided.fire]
            missed = [(each.at, each.until or each.at) for each in decided.passed]
            for first, last in sorted(fired + missed):
                seen += made.declaration.timetable.last(first, last, 1000)
            made = replace(made, next_tick=decided.next_tick, last_tick=decided.last_tick)
    due = [tick for tick in made.declaration.timetable.last(BEGIN + 1, now, 10_000) if due_at(made, tick) <= now]
    assert seen == due
