"""Who may do what: every operation of the table against every kind of caller."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp
import httpx
import msgspec
import pytest
from joserfc import jwt
from joserfc.jwk import OctKey

from stepwell.engine import environments
from stepwell.primitives.ids import new_id
from stepwell.protocol import operations
from stepwell.protocol.frames import Heartbeat
from stepwell.protocol.operations import NDJSON, OPERATIONS, SSE, Operation
from stepwell.server.public_tokens import AUDIENCE, ISSUER, mint
from stepwell.storage.database import Database
from tests.server.tenants import Tenant

GUARDED = [o for o in OPERATIONS if o.access == "key" and not o.websocket]
OPEN = [o for o in OPERATIONS if o.access == "anyone"]
NAMES = [o.name for o in GUARDED]
BODIES = {
    operations.UPDATE_SCHEDULE: {"task": "greet", "every": "1h"},
    operations.BACKFILL: {"from": "2026-01-01T00:00:00Z", "to": "2026-01-01T01:00:00Z"},
    operations.CREATE_BATCH: {"runCount": 1},
    operations.TRIGGER_BATCH: {"items": [{"task": "greet"}]},
    operations.RESCHEDULE_RUN: {"delay": "1h"},
    operations.ADD_TAGS: {"tags": ["x"]},
    operations.CREATE_PUBLIC_TOKEN: {"scopes": ["read:runs"]},
    operations.PUT_METADATA: {"metadata": {"a": 1}},
    operations.SEND_SIGNAL: {"name": "said"},
    operations.SEND_UPDATE: {"name": "asked"},
    operations.SEND_INPUT: {"data": 1},
    operations.SEND_EVENTS: {"name": "order.paid", "data": {}},
    operations.RESET_KEY: {"taskIdentifier": "greet"},
    operations.PAUSE_QUEUE: {"action": "pause"},
    operations.PAUSE_TASK: {"action": "pause"},
    operations.PAUSE_ENVIRONMENT: {"action": "resume"},
    operations.LIMIT_ENVIRONMENT: {"concurrencyLimit": None},
    operations.LIMIT_TASK: {"concurrencyLimit": None},
    operations.OVERRIDE_CONCURRENCY: {"concurrencyLimit": 1},
    operations.OVERRIDE_QUEUE: {"concurrency": 1},
    operations.DISCARD: {"reason": "known"},
}


@dataclass(frozen=True)
class Things:
    """Real ones of an environment, for paths to name."""

    run_id: str
    batch_id: str
    schedule_id: str
    token_id: str
    event_id: str
    update_id: str

    def parameters(self, operation: Operation) -> dict[str, str]:
        every = {"run_id": self.run_id, "batch_id": self.batch_id, "schedule_id": self.schedule_id}
        every |= {"task_id": "greet", "token_id": self.token_id, "signature": "0" * 64}
        every |= {"kind": "semaphore", "name": "gpu", "queue": "task/greet", "group": "0" * 16, "key": "once"}
        every |= {"event_id": self.event_id, "update_id": self.update_id, "stream_id": "said"}
        return {name: every[name] for name in operation.parameters}


@pytest.fixture
async def things(tenant: Tenant) -> Things:
    async with tenant.worker("greet"):
        run_id = await tenant.trigger("greet", 1, delay="1h")
        batch = await tenant.http.post("/api/v3/batches", json={"runCount": 1})
        schedule = await tenant.http.post("/api/v1/schedules", json={"task": "greet", "every": "1d"})
        token = await tenant.http.post("/api/v1/waitpoints/tokens", json={"title": "?"})
        update = await tenant.http.post(f"/api/v1/runs/{run_id}/updates?wait=0", json={"name": "asked"})
        event = await tenant.http.post("/api/v1/events", json={"name": "order.paid", "data": {}})
        made = [answer.json()["id"] for answer in (batch, schedule, token)]
        return Things(run_id, *made, event.json()["data"][0]["id"], update.json()["id"])


async def call(http: httpx.AsyncClient, operation: Operation, things: Things, key: str | None) -> httpx.Response:
    """A valid call of the operation but for who makes it."""
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    content: bytes | None = None
    if operation.request is not None:
        headers["content-type"] = operation.request_type
        body = Heartbeat("w", []) if operation.request is Heartbeat else BODIES.get(operation, {})
        content = b"" if operation.request_type == NDJSON else msgspec.json.encode(body)
    request = http.build_request(
        operation.method, operation.url(**things.parameters(operation)), content=content, headers=headers
    )
    if key is None:
        request.headers.pop("authorization", None)
    answer = await http.send(request, stream=True)
    if operation.response_type != SSE or answer.status_code != 200:
        await answer.aread()
    await answer.aclose()
    return answer


@pytest.mark.parametrize("operation", GUARDED, ids=NAMES)
async def test_without_a_valid_key_nothing_is_answered(
    tenant: Tenant, server_database_url: str, things: Things, operation: Operation
) -> None:
    async with await Database.connect(server_database_url) as db:
        revoked, shown = await environments.create_key(db, tenant.environment, name="revoked")
        await environments.revoke_key(db, tenant.environment.id, shown.id)
    good = tenant.key
    wrong = good[:-1] + ("a" if good[-1] != "a" else "b")
    for key in (None, "nonsense", wrong, "tr_x_sk_" + "a" * 24, revoked, good + "x", "a.b.c", "x" * 9000):
        answer = await call(tenant.http, operation, things, key)
        assert answer.status_code == 401, (key, answer.text)
        assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("operation", GUARDED, ids=NAMES)
async def test_another_environments_key_finds_nothing_of_ours(
    tenant: Tenant, make_tenant: Callable[[], Awaitable[Tenant]], things: Things, operation: Operation
) -> None:
    stranger = await make_tenant()
    answer = await call(stranger.http, operation, things, stranger.key)
    if operation.parameters:
        unknown = Things(*map(new_id, ("run", "batch", "sched", "waitpoint", "event", "update")))
        expected = await call(stranger.http, operation, unknown, stranger.key)
        assert answer.status_code == expected.status_code == 404, answer.text
        assert answer.json()["code"] == expected.json()["code"]
    else:
        assert things.run_id not in answer.text
        assert things.batch_id not in answer.text
    before = await tenant.run(things.run_id)
    assert (before["status"], before["tags"]) == ("DELAYED", [])


@pytest.mark.parametrize("operation", GUARDED, ids=NAMES)
async def test_a_public_token_does_what_its_scope_names_and_nothing_else(
    tenant: Tenant, things: Things, operation: Operation
) -> None:
    def token(*scopes: str) -> str:
        return mint(tenant.environment, list(scopes), time.time() + 60)

    for scopes in ((), ("",), ("read:runs:run_other",), ("read:batch:other", "trigger:tasks:other"), ("admin", "*")):
        answer = await call(tenant.http, operation, things, token(*scopes))
        assert answer.status_code == 403, (scopes, answer.text)
        assert answer.json()["code"] == "scope-missing"
    if operation.scope is not None:
        needed = operation.scope.format(**things.parameters(operation))
        answer = await call(tenant.http, operation, things, token(needed))
        assert answer.status_code not in {401, 403}, answer.text
    else:
        everything = token("read:all", "write:all", "read:runs", "write:runs", "trigger:tasks")
        assert (await call(tenant.http, operation, things, everything)).status_code == 403


@pytest.mark.parametrize("operation", GUARDED, ids=NAMES)
async def test_a_valid_key_may_do_everything_in_its_environment(
    tenant: Tenant, things: Things, operation: Operation
) -> None:
    answer = await call(tenant.http, operation, things, tenant.key)
    assert answer.status_code < 500
    assert answer.status_code not in {401, 403, 405}


@pytest.mark.parametrize("operation", OPEN, ids=[o.name for o in OPEN])
async def test_what_is_open_names_nothing_of_any_environment(tenant: Tenant, operation: Operation) -> None:
    answer = await call(tenant.http, operation, Things("", "", "", new_id("waitpoint"), "", ""), None)
    assert answer.status_code == (200 if operation is not operations.CALLBACK_TOKEN else 401)
    assert tenant.environment.id not in answer.text
    assert tenant.environment.slug not in answer.text


def forged(tenant: Tenant, secret: bytes | None = None, alg: str = "HS256", **claims: object) -> str:
    every = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": tenant.environment.id,
        "pub": True,
        "exp": int(time.time()) + 60,
        "scopes": ["read:runs"],
        **claims,
    }
    every = {name: value for name, value in every.items() if value is not None}
    key = OctKey.import_key(secret or tenant.environment.signing_secret)
    return jwt.encode({"alg": alg}, every, key, algorithms=[alg])


async def test_a_token_that_is_forged_expired_or_elsewheres_is_refused(
    tenant: Tenant, make_tenant: Callable[[], Awaitable[Tenant]]
) -> None:
    other = await make_tenant()
    unsigned = ".".join(forged(tenant).split(".")[:2]) + "."
    tokens = {
        "another secret": forged(tenant, b"x" * 32),
        "the other environment's secret": forged(tenant, other.environment.signing_secret),
        "another algorithm": forged(tenant, alg="HS512"),
        "no signature": unsigned,
        "expired": forged(tenant, exp=int(time.time()) - 1),
        "no end": forged(tenant, exp=None),
        "another audience": forged(tenant, aud="https://elsewhere"),
        "another issuer": forged(tenant, iss="someone"),
        "an unknown environment": forged(tenant, sub=new_id("env")),
        "no environment": forged(tenant, sub=None),
        "endless": forged(tenant, junk="x" * 5000),
    }
    for what, token in tokens.items():
        answer = await tenant.http.get("/api/v1/runs", headers={"authorization": f"Bearer {token}"})
        assert answer.status_code == 401, what
    good = await tenant.http.get("/api/v1/runs", headers={"authorization": f"Bearer {forged(tenant)}"})
    assert good.status_code == 200
    not_public = forged(tenant, pub=None)
    answer = await tenant.http.get("/api/v1/runs", headers={"authorization": f"Bearer {not_public}"})
    assert answer.status_code == 403


async def test_tokens_are_made_with_known_scopes_and_a_limited_life_only(tenant: Tenant) -> None:
    async def make(**body: object) -> httpx.Response:
        return await tenant.http.post("/api/v1/auth/public-tokens", json=body)

    assert (await make(scopes=[])).json()["code"] == "scope-unknown"
    assert (await make(scopes=["read:everything"])).json()["code"] == "scope-unknown"
    assert (await make(scopes=["read:runs"], expirationTime="31d")).status_code == 400
    assert (await make(scopes=["read:runs"], expirationTime=1)).status_code == 400
    made = await make(scopes=["read:runs"], expirationTime="1h")
    assert made.status_code == 200
    claims = await tenant.http.post("/api/v1/auth/jwt/claims")
    assert claims.json() == {"sub": tenant.environment.id, "pub": True}


async def test_a_worker_needs_a_key_before_the_protocol_is_switched(tenant: Tenant) -> None:
    token = mint(tenant.environment, ["read:all", "write:all"], time.time() + 60)
    async with aiohttp.ClientSession() as session:
        for key, status in (("wrong", 401), (token, 403)):
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await session.ws_connect(f"{tenant.url}/api/v1/worker", headers={"authorization": f"Bearer {key}"})
            assert caught.value.status == status


async def test_a_revoked_key_ends_within_seconds(tenant: Tenant, server_database_url: str) -> None:
    async with await Database.connect(server_database_url) as db:
        key, shown = await environments.create_key(db, tenant.environment, name="short")
        headers = {"authorization": f"Bearer {key}"}
        assert (await tenant.http.get("/api/v1/tasks", headers=headers)).status_code == 200
        await environments.revoke_key(db, tenant.environment.id, shown.id)
        ends = time.monotonic() + 5
        while (await tenant.http.get("/api/v1/tasks", headers=headers)).status_code == 200:
            assert time.monotonic() < ends


async def test_browsers_may_ask_where_browsers_have_business(tenant: Tenant) -> None:
    preflight = await tenant.http.options(
        "/api/v3/runs/run_1", headers={"origin": "https://a.example", "access-control-request-headers": "authorization"}
    )
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-headers"] == "authorization"
    answer = await tenant.http.get("/api/v3/runs/run_1")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-origin" not in (await tenant.http.get("/api/v1/dead")).headers


async def test_unknown_paths_and_methods_are_refused_in_json(tenant: Tenant) -> None:
    nowhere = await tenant.http.get("/api/v9/nothing")
    assert (nowhere.status_code, nowhere.json()["code"]) == (404, "not-found")
    wrong = await tenant.http.delete("/api/v1/runs")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method-not-allowed")


async def test_an_id_with_a_slash_or_control_characters_is_an_id_and_no_path(tenant: Tenant) -> None:
    for path in ("/api/v3/runs/a%2Fb", "/api/v3/runs/%00", "/api/v3/runs/" + "x" * 600, "/api/v3/runs/%0a"):
        answer = await tenant.http.get(path)
        assert answer.status_code == 404, path
        assert answer.json()["code"] in {"run-not-found", "not-found"}
