"""Tokens over HTTP: made, listed, completed by key, by public token or by link, once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from stepwell.engine import notices
from stepwell.primitives.ids import new_id
from stepwell.storage import notice
from stepwell.storage.database import Database, Tx
from tests.server.tenants import Tenant

PATH = "/api/v1/waitpoints/tokens"
SCHEMA = {"type": "object", "properties": {"approved": {"type": "boolean"}}, "required": ["approved"]}


async def make(tenant: Tenant, **body: Any) -> dict[str, Any]:
    answer = await tenant.http.post(PATH, json=body)
    assert answer.status_code == 200, answer.text
    return {**answer.json(), "headers": answer.headers}


async def complete(tenant: Tenant, token_id: str, **body: Any) -> httpx.Response:
    return await tenant.http.post(f"{PATH}/{token_id}/complete", json=body)


async def test_a_token_is_made_shown_completed_and_shown_again(tenant: Tenant) -> None:
    made = await make(
        tenant, title="Deploy?", data={"to": "prod"}, answerSchema=SCHEMA, timeout="24h", tags=["ops", "prod"]
    )
    shown = (await tenant.http.get(f"{PATH}/{made['id']}")).json()
    assert (shown["status"], shown["state"], shown["title"], shown["data"]) == (
        "WAITING",
        "waiting",
        "Deploy?",
        {"to": "prod"},
    )
    assert (shown["answerSchema"], shown["tags"], shown["url"]) == (SCHEMA, ["ops", "prod"], made["url"])
    assert {"completedAt", "output", "answer"} & shown.keys() == set()
    assert (await complete(tenant, made["id"], data={"approved": True}, by="mara")).json() == {"success": True}
    shown = (await tenant.http.get(f"{PATH}/{made['id']}")).json()
    assert (shown["status"], shown["answer"], shown["output"]) == ("COMPLETED", {"approved": True}, '{"approved":true}')
    assert (shown["completedBy"], shown["outputType"]) == ("mara", "application/json")


async def test_a_second_answer_is_told_the_first_one_and_not_to_come_again(tenant: Tenant) -> None:
    made = await make(tenant)
    answers = await asyncio.gather(*(complete(tenant, made["id"], data=n, by=str(n)) for n in range(10)))
    [won] = [n for n, answer in enumerate(answers) if answer.status_code == 200]
    for answer in answers[:won] + answers[won + 1 :]:
        assert (answer.status_code, answer.json()["code"]) == (409, "token-closed")
        assert answer.headers["x-should-retry"] == "false"
        details = answer.json()["details"]
        assert (details["output"], details["completedBy"], details["status"]) == (won, str(won), "completed")


async def test_a_request_sent_again_with_its_key_is_answered_as_before(tenant: Tenant) -> None:
    made = await make(tenant)
    headers = {"x-trigger-request-idempotency-key": "one call"}
    for _ in range(2):
        answer = await tenant.http.post(f"{PATH}/{made['id']}/complete", json={"data": 1}, headers=headers)
        assert answer.status_code == 200, answer.text
    twice = [(await tenant.http.post(PATH, json={}, headers=headers)).json() for _ in range(2)]
    assert twice[0]["id"] == twice[1]["id"]


async def test_a_wrong_answer_names_its_field_and_leaves_the_token_open(tenant: Tenant) -> None:
    made = await make(tenant, answerSchema=SCHEMA)
    answer = await complete(tenant, made["id"], data={"approved": "perhaps"})
    assert (answer.status_code, answer.json()["code"]) == (422, "payload-invalid")
    assert answer.json()["details"]["problems"][0]["field"] == "approved"
    assert (await complete(tenant, made["id"], data={"approved": False})).status_code == 200


async def test_the_access_token_that_comes_with_a_token_completes_that_one_only(tenant: Tenant) -> None:
    mine, other = await make(tenant), await make(tenant)
    assert mine["headers"]["x-trigger-jwt"] == mine["publicAccessToken"]
    async with httpx.AsyncClient(
        base_url=tenant.url, headers={"authorization": f"Bearer {mine['publicAccessToken']}"}
    ) as person:
        for refused in (
            await person.post(f"{PATH}/{other['id']}/complete", json={"data": 1}),
            await person.post(f"{PATH}/{mine['id']}/cancel", json={}),
            await person.get(PATH),
        ):
            assert (refused.status_code, refused.json()["code"]) == (403, "scope-missing")
        assert (await person.post(f"{PATH}/{mine['id']}/complete", json={"data": 1})).status_code == 200


async def test_the_url_of_a_token_is_the_permission_to_complete_it_and_no_other(tenant: Tenant) -> None:
    mine, other = await make(tenant, answerSchema=SCHEMA), await make(tenant)
    async with httpx.AsyncClient() as anyone:
        forged = other["url"].rpartition("/")[0] + "/" + mine["url"].rpartition("/")[2]
        unknown = mine["url"].replace(mine["id"], "waitpoint_" + "0" * 26)
        for url in (forged, unknown, mine["url"][:-1], mine["url"] + "0"):
            refused = await anyone.post(url, json={"approved": True})
            assert (refused.status_code, refused.json()["code"]) == (401, "signature-invalid"), url
        assert (await anyone.post(mine["url"], json={"approved": 3})).status_code == 422

        async def chunks() -> Any:
            yield b'{"approved": true}'

        assert (await anyone.post(mine["url"], content=chunks())).status_code == 411
        assert (await anyone.post(mine["url"], json={"approved": True})).status_code == 200
        replayed = await anyone.post(mine["url"], json={"approved": False})
        assert (replayed.status_code, replayed.json()["details"]["output"]) == (409, {"approved": True})


async def test_another_environment_s_token_does_not_exist(
    tenant: Tenant, make_tenant: Callable[[], Awaitable[Tenant]]
) -> None:
    made = await make(tenant)
    stranger = await make_tenant()
    for refused in (
        await stranger.http.get(f"{PATH}/{made['id']}"),
        await complete(stranger, made["id"], data=1),
        await stranger.http.post(f"{PATH}/{made['id']}/cancel", json={}),
    ):
        assert (refused.status_code, refused.json()["code"]) == (404, "token-not-found")
    assert (await stranger.http.get(PATH)).json()["data"] == []


async def test_lists_are_filtered_and_led_through_by_cursors(tenant: Tenant) -> None:
    made = [await make(tenant, tags=[f"t{n % 2}"], idempotencyKey=f"k{n}") for n in range(5)]
    again = await make(tenant, idempotencyKey="k0")
    assert (again["id"], again["isCached"], again["url"]) == (made[0]["id"], True, made[0]["url"])
    await complete(tenant, made[1]["id"])
    await tenant.http.post(f"{PATH}/{made[2]['id']}/cancel", json={"by": "ada"})

    async def found(**query: str) -> list[int]:
        answer = await tenant.http.get(PATH, params={name.replace("__", "[") + "]": v for name, v in query.items()})
        assert answer.status_code == 200, answer.text
        ids = [token["id"] for token in made]
        return [ids.index(token["id"]) for token in answer.json()["data"]]

    assert await found() == [4, 3, 2, 1, 0]
    assert await found(filter__status="WAITING") == [4, 3, 0]
    assert await found(filter__status="completed,canceled") == [2, 1]
    assert await found(filter__tags="t1") == [3, 1]
    assert await found(filter__idempotencyKey="k3") == [3]
    assert await found(page__size="2", page__after=made[3]["id"]) == [2, 1]
    for query in ({"filter[status]": "SLEEPING"}, {"page[size]": "0"}, {"filter[createdAt][period]": "soon"}):
        refused = await tenant.http.get(PATH, params=query)
        assert (refused.status_code, refused.json()["code"]) == (400, "invalid-request")


async def test_a_notice_that_was_given_up_is_seen_with_its_token_and_finds_it(
    tenant: Tenant, server_database_url: str
) -> None:
    unheard, heard = await make(tenant), await make(tenant)
    async with await Database.connect(server_database_url, application_name="test") as db:

        async def announce(tx: Tx) -> None:
            rows = [(new_id("msg"), tenant.environment.id, each["id"], "created", "ops") for each in (unheard, heard)]
            await notice.insert(tx, rows, 0.0)  # type: ignore[arg-type]

        await db.transact("announce", announce)
        for parcel in await notices.claim(db, "ops", 2, 60):
            if parcel.token.id == unheard["id"]:
                await notices.give_up(db, parcel.notice, "it answered 500")
            else:
                await notices.delivered(db, parcel.notice)
    listed = (await tenant.http.get(PATH, params={"filter[notices]": "failed"})).json()["data"]
    assert [token["id"] for token in listed] == [unheard["id"]]
    [told] = (await tenant.http.get(f"{PATH}/{unheard['id']}")).json()["notices"]
    assert (told["outcome"], told["tries"], told["problem"]) == ("failed", 1, "it answered 500")
    reader = {"authorization": f"Bearer {unheard['publicAccessToken']}"}
    seen = await tenant.http.get(f"{PATH}/{unheard['id']}", headers=reader)
    assert "notices" not in seen.json()
    refused = await tenant.http.get(PATH, params={"filter[notices]": "lost"})
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid-request")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"timeout": "soon"}, 400, "invalid-request"),
        ({"answerSchema": {"type": "nonsense"}}, 422, "schema-invalid"),
        ({"title": "x" * 501}, 422, "invalid-request"),
        ({"idempotencyKey": ""}, 400, "invalid-request"),
        ({"tags": ["x"] * 1 + [""]}, 422, "invalid-request"),
    ],
)
async def test_nonsense_makes_no_token(tenant: Tenant, body: dict[str, Any], status: int, code: str) -> None:
    answer = await tenant.http.post(PATH, json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
