"""Rates with real workers, in short. The long form, which also asks for 95 % use: `python -m tests.chaos.rates URL`."""

from __future__ import annotations

import pytest

from tests.chaos.rates import measure


@pytest.mark.timeout(180)
async def test_no_window_holds_more_starts_than_a_rate_allows(database_url: str) -> None:
    flows = await measure(database_url, 6.0)
    assert [wrong for flow in flows for wrong in flow.wrong()] == []
    assert sum(len(flow.starts) for flow in flows) > 60
