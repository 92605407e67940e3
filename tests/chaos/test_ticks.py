"""Each tick exactly once over three servers that are killed in the midst of it."""

from __future__ import annotations

import pytest

from tests.chaos.ticks import run


@pytest.mark.timeout(90)
async def test_ticks_of_a_second_come_once_over_three_servers_that_are_killed_at_random(database_url: str) -> None:
    day = await run(database_url, ticks=350, seed=20_261_121, patience=80)
    assert day.wrong() == []
    assert day.kills >= 4
    everything, first, buffered = (day.outcomes(key) for key in ("allow", "skip", "buffer_one"))
    assert everything["triggered"] > 0.4 * day.passed
    assert (first["triggered"], first["skipped"] > 100) == (1, True)
    assert (buffered["triggered"], buffered["skipped"] > 100) == (1, True)
