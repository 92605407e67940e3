"""Events over HTTP: sent one or many, kept once, listed, looked at."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from stepwell.client import Stepwell
from stepwell.errors import ConfigError, Conflict, NotFound
from tests.server.tenants import Tenant

PATH = "/api/v1/events"
KEY = "x-trigger-request-idempotency-key"


async def send(tenant: Tenant, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
    return await tenant.http.post(PATH, json=body, headers=headers)


async def test_an_event_is_sent_known_again_shown_and_listed(tenant: Tenant) -> None:
    sent = await send(tenant, name="order.paid", data={"order": 7}, id="paid-7")
    assert sent.json()["data"] == [
        {"id": "paid-7", "name": "order.paid", "duplicate": False, "received": 0, "canceled": 0, "runs": []}
    ]
    again = await send(tenant, name="order.paid", data={"order": 7}, id="paid-7")
    assert again.json()["data"][0]["duplicate"] is True
    shown = (await tenant.http.get(f"{PATH}/paid-7")).json()
    assert (shown["name"], shown["data"], shown["received"]) == ("order.paid", {"order": 7}, 0)
    assert [each["id"] for each in (await tenant.http.get(PATH)).json()["data"]] == ["paid-7"]
    assert (await tenant.http.get(PATH, params={"filter[name]": "other"})).json()["data"] == []


async def test_many_are_sent_at_once_and_led_through_by_cursors(tenant: Tenant) -> None:
    sent = await send(tenant, events=[{"name": "n", "id": str(n)} for n in range(5)])
    assert [each["id"] for each in sent.json()["data"]] == list("01234")
    seen, after = [], None
    while True:
        query = {"page[size]": "2", **({"page[after]": after} if after else {})}
        page = (await tenant.http.get(PATH, params=query)).json()
        seen += [each["id"] for each in page["data"]]
        after = page["pagination"].get("next")
        if after is None:
            break
    assert seen == list("43210")


async def test_a_request_sent_again_with_its_key_sends_nothing_new(tenant: Tenant) -> None:
    first, again = [await send(tenant, {KEY: "one call"}, events=[{"name": "a"}, {"name": "a"}]) for _ in range(2)]
    assert first.json() == again.json()
    assert len({each["id"] for each in first.json()["data"]}) == 2
    assert len((await tenant.http.get(PATH)).json()["data"]) == 2


async def test_events_of_another_environment_do_not_exist(
    make_tenant: Callable[[], Awaitable[Tenant]],
) -> None:
    tenant, other = await make_tenant(), await make_tenant()
    await send(tenant, name="mine", id="e")
    assert (await other.http.get(f"{PATH}/e")).json()["code"] == "event-not-found"
    assert (await send(other, name="theirs", id="e")).json()["data"][0]["duplicate"] is False


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 422, "invalid-request"),
        ({"name": "a", "events": []}, 422, "invalid-request"),
        ({"events": []}, 422, "invalid-request"),
        ({"name": ""}, 422, "invalid-request"),
        ({"name": "a\nb"}, 422, "invalid-request"),
        ({"name": "x" * 201}, 422, "invalid-request"),
        ({"name": 7}, 400, "invalid-request"),
        ({"name": "a", "id": ""}, 422, "invalid-request"),
        ({"name": "a", "data": "x" * 1_100_000}, 413, "payload-too-large"),
    ],
)
async def test_nonsense_is_no_event(tenant: Tenant, body: dict[str, Any], status: int, code: str) -> None:
    refused = await send(tenant, **body)
    assert (refused.status_code, refused.json()["code"]) == (status, code), refused.text
    assert (await tenant.http.get(PATH)).json()["data"] == []


async def test_another_event_under_a_known_id_is_a_conflict(tenant: Tenant) -> None:
    await send(tenant, name="a", data=1, id="e")
    refused = await send(tenant, name="a", data=2, id="e")
    assert (refused.status_code, refused.json()["code"]) == (409, "event-conflict")


async def test_the_client_sends_lists_and_shows(tenant: Tenant) -> None:
    async with Stepwell(tenant.url, tenant.key) as client:
        sent = await client.send_event("a.b", {"n": 1}, id="one")
        assert (sent.id, sent.duplicate) == ("one", False)
        many = await client.send_events([{"name": "a.b", "id": "one", "data": {"n": 1}}, {"name": "c"}])
        assert [each.duplicate for each in many] == [True, False]
        assert (await client.get_event("one")).data == {"n": 1}
        assert [each.name for each in (await client.list_events()).data] == ["c", "a.b"]
        with pytest.raises(Conflict):
            await client.send_event("other", id="one")
        with pytest.raises(NotFound):
            await client.get_event("none")
        with pytest.raises(ConfigError, match="nam"):
            await client.send_events([{"nam": "x"}])
