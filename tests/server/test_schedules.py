"""Schedules over HTTP and through the Python client: the whole life of one, and clear refusals."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from stepwell import Stepwell
from stepwell.errors import ApiError, ConfigError, Conflict, NotFound
from tests.server.tenants import Tenant


async def test_a_schedule_is_made_changed_paused_resumed_and_removed(tenant: Tenant) -> None:
    async with tenant.worker("greet"), Stepwell(tenant.url, tenant.key) as client:
        made = await client.schedules.create("greet", key="k", cron="0 2 * * *", timezone="Europe/Paris", jitter="5m")
        assert (made.type, made.active, made.jitter, len(made.upcoming)) == ("IMPERATIVE", True, 300.0, 10)
        assert made.generator.description == "At 02:00 every day"
        changed = await client.schedules.create("greet", key="k", every="1h", overlap="skip", payload={"a": 1})
        assert (changed.id, changed.overlap, changed.generator.type) == (made.id, "skip", "INTERVAL")
        assert [each.id for each in await client.schedules.list()] == [made.id]
        paused = await client.schedules.pause(made.id)
        assert (paused.active, paused.paused_because, paused.upcoming) == (False, "paused by hand", [])
        assert (await client.schedules.resume(made.id)).next_run is not None
        updated = await client.schedules.update(made.id, "greet", cron="@daily")
        assert (updated.deduplication_key, updated.generator.expression) == ("k", "@daily")
        hourly = await client.schedules.update(made.id, "greet", every="1h")
        assert hourly.next_run is not None
        begin = hourly.next_run - timedelta(hours=3)
        filled = await client.schedules.backfill(made.id, begin, datetime.now(UTC))
        assert [tick.at for tick in filled] == [begin, begin + timedelta(hours=1), begin + timedelta(hours=2)]
        assert [tick.outcome for tick in await client.schedules.ticks(made.id)] == ["triggered"] * 3
        await client.schedules.delete(made.id)
        with pytest.raises(NotFound):
            await client.schedules.retrieve(made.id)


async def test_a_preview_makes_nothing(tenant: Tenant) -> None:
    async with Stepwell(tenant.url, tenant.key) as client:
        seen = await client.schedules.preview(cron="30 2 * * *", timezone="Europe/Paris", count=3)
        assert (seen.description, len(seen.upcoming)) == ("At 02:30 every day", 3)
        assert await client.schedules.list() == []


@pytest.mark.parametrize(
    ("times", "said"),
    [
        ({"cron": "0 25 * * *"}, "Bad hour"),
        ({"cron": "@daily", "timezone": "Europe/Pariss"}, "did you mean 'Europe/Paris'"),
        ({}, "neither cron nor every"),
        ({"every": "1h", "start": datetime(2030, 1, 1)}, "no time zone"),  # noqa: DTZ001
        ({"every": "1h", "missed": "catchup"}, "did you mean 'catch_up'"),
        ({"every": "1h", "pause_after": 0}, "1 or more"),
    ],
)
async def test_what_cannot_be_a_schedule_is_refused(tenant: Tenant, times: dict[str, Any], said: str) -> None:
    async with tenant.worker("greet"), Stepwell(tenant.url, tenant.key) as client:
        with pytest.raises((ApiError, ConfigError)) as refused:
            await client.schedules.create("greet", **times)
    assert said in f"{refused.value} {refused.value.hint}"


async def test_refusals_have_their_codes(tenant: Tenant) -> None:
    async with tenant.worker("greet"), Stepwell(tenant.url, tenant.key) as client:
        with pytest.raises(NotFound, match="no task"):
            await client.schedules.create("nobody", cron="@daily")
        made = await client.schedules.create("greet", every="1h")
        with pytest.raises(Conflict, match="yet to come"):
            await client.schedules.backfill(made.id, datetime.now(UTC), datetime.now(UTC) + timedelta(days=1))


async def test_the_blocking_client_has_the_same_verbs() -> None:
    from stepwell.client import asynchronous, blocking

    verbs = {name for name in vars(asynchronous.Schedules) if not name.startswith("_")}
    assert verbs == {name for name in vars(blocking.Schedules) if not name.startswith("_")}
