"""Fairness with real workers, in short: in turns, not in seconds. In full: `python -m tests.chaos.fairness URL`."""

from __future__ import annotations

import pytest

from tests.chaos.fairness import MANY, measure


@pytest.mark.timeout(180)
async def test_a_tenant_s_backlog_delays_another_by_its_turns_and_weights_are_kept(database_url: str) -> None:
    seen = await measure(database_url, 1500, rounds=1, started=400, workers=1)
    assert seen.crowd[0] <= 1.5 * MANY
    assert 2.7 <= seen.ratio <= 3.3
