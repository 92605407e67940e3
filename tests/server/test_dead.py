"""Dead letters over HTTP and through the Python client: groups, redrive of one and many, discard, lineage."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from stepwell import Stepwell
from stepwell.client import asynchronous, blocking
from stepwell.errors import ApiError, Conflict, NotFound
from stepwell.model.failure import Failure
from stepwell.protocol.frames import Finish
from tests.server.scripted import ScriptedWorker
from tests.server.tenants import Tenant


@pytest.fixture
async def client(tenant: Tenant) -> AsyncIterator[Stepwell]:
    async with Stepwell(tenant.url, tenant.key) as client:
        yield client


async def fail(worker: ScriptedWorker, client: Stepwell, message: str, n: int = 0) -> str:
    handle = await client.trigger("greet", {"n": n}, max_attempts=1)
    attempt = await worker.start()
    await worker.request(Finish(attempt.run_id, attempt.epoch, failure=Failure("error", message, "ValueError")))
    return handle.id


async def test_failed_alike_is_one_group_and_a_changed_payload_completes(tenant: Tenant, client: Stepwell) -> None:
    async with tenant.worker("greet") as worker:
        first = await fail(worker, client, "order 1 declined", 1)
        second = await fail(worker, client, "order 2 declined", 2)
        other = await fail(worker, client, "no stock")
        groups = await client.dead.groups()
        assert [(each.count, each.pattern) for each in groups] == [(1, "no stock"), (2, "order # declined")]
        declined = groups[1]
        assert [run.id for run in (await client.dead.list(group=declined.id)).data] == [second, first]
        letter = await client.dead.retrieve(first)
        assert (letter.run.payload, letter.group) == ({"n": 1}, await client.dead.group(declined.id))

        again = await client.dead.redrive(first, payload={"n": 7})
        attempt = await worker.start()
        assert attempt.payload == b'{"n":7}'
        await worker.complete(attempt, b'"done"')
        assert await again.result(timeout=20) == "done"
        assert [run.id for run in (await client.dead.list()).data] == [other, second]

        shown = await client.runs.retrieve(again.id)
        assert [(each.id, each.state, each.made_by) for each in shown.origins or ()] == [(first, "failed", "trigger")]
        past = await client.runs.retrieve(first)
        assert [(each.id, each.state, each.made_by) for each in past.offspring or ()] == [
            (again.id, "completed", "redrive")
        ]
        assert past.reviewed_at is not None
        with pytest.raises(Conflict, match="dealt with"):
            await client.dead.retrieve(first)


async def test_many_are_redriven_at_a_rate_and_the_rest_is_discarded(tenant: Tenant, client: Stepwell) -> None:
    async with tenant.worker("greet") as worker:
        failed = [await fail(worker, client, f"order {n} declined") for n in range(4)]
        [group] = await client.dead.groups()
        done = await client.dead.redrive_many(runs=[*failed[:3], "run_nothing"], group=group.id, rate="60/h")
        assert list(done.runs) == failed[:3]
        assert [(each.id, each.code) for each in done.refused] == [("run_nothing", "not-dead")]
        made = [await client.runs.retrieve(new) for new in done.runs.values()]
        moments = [run.delayed_until for run in made[1:] if run.delayed_until]
        assert [run.state for run in made[1:]] == ["delayed", "delayed"]
        assert (moments[1] - moments[0]).total_seconds() == pytest.approx(60, abs=0.01)
        await client.dead.discard(failed[3], "a known bug", by="ada")
        assert (await client.dead.list()).data == []
        told = (await client.runs.events(failed[3]))[-1]
        assert (told.type, told.details) == ("discarded", {"reason": "a known bug", "by": "ada"})
        assert await client.dead.discard_many("nothing is left", everything=True) == 0


async def test_many_are_redriven_with_changed_payloads(tenant: Tenant, client: Stepwell) -> None:
    async with tenant.worker("greet") as worker:
        failed = [await fail(worker, client, f"order {n} declined") for n in range(2)]
        done = await client.dead.redrive_many(task="greet", patch={"currency": "EUR", "n": None})
        assert list(done.runs) == failed
        for new in done.runs.values():
            attempt = await worker.start()
            assert (attempt.run_id, json.loads(attempt.payload)) == (new, {"currency": "EUR"})
            await worker.complete(attempt, b"1")
        assert (await client.dead.list()).data == []


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("redrive", {}, "got none of them"),
        ("redrive", {"all": True, "patch": [1]}, "patch"),
        ("redrive", {"all": True, "rate": "10"}, 'e.g. "10/s"'),
        ("redrive", {"all": True, "rate": "0/s"}, 'e.g. "10/s"'),
        ("redrive", {"all": True, "rest": "yes"}, "earlier answer"),
        ("discard", {"all": True}, "reason"),
        ("discard", {"all": True, "reason": " "}, "1 to 1,000 characters"),
        ("discard", {"reason": "why"}, "got none of them"),
    ],
)
async def test_what_cannot_be_is_refused(tenant: Tenant, path: str, body: dict, said: str) -> None:
    answer = await tenant.http.post(f"/api/v1/dead/{path}", json=body)
    assert answer.status_code in {400, 422}
    assert said in answer.text.replace('\\"', '"')


async def test_refusals_have_their_codes(client: Stepwell) -> None:
    with pytest.raises(NotFound, match="no dead letter is in the group"):
        await client.dead.group("err_00000000000000000000")
    with pytest.raises(NotFound, match="no run"):
        await client.dead.retrieve("run_nothing")
    with pytest.raises(ApiError, match="rate"):
        await client.dead.redrive_many(everything=True, rate="fast")


def test_the_blocking_client_has_the_same_verbs() -> None:
    verbs = {name for name in vars(asynchronous.DeadLetters) if not name.startswith("_")}
    assert verbs == {name for name in vars(blocking.DeadLetters) if not name.startswith("_")}
