"""The workers' side: claims, fenced writes, lost replies, reconnects, cancels, children."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from stepwell.model.child import ChildSpec
from stepwell.model.failure import Failure
from stepwell.model.task import QueueDeclaration, TaskDeclaration
from stepwell.model.wait import Wait
from stepwell.protocol.frames import (
    AwaitChildren,
    CancelRun,
    ChildrenEnded,
    Done,
    Finish,
    LeaseLostNotice,
    LogRecord,
    Refused,
    Release,
    Request,
    Room,
    SetMetadata,
    Spawn,
    StartAttempt,
    Suspend,
    WriteJournal,
    WriteLogs,
)
from tests.server.scripted import ScriptedWorker, entry, journal
from tests.server.tenants import Tenant


async def test_a_worker_gets_as_many_runs_as_it_has_room_for_and_no_more(tenant: Tenant) -> None:
    async with tenant.worker("greet") as worker:
        ids = {await tenant.trigger("greet", n) for n in range(5)}
        await worker.send(Room(2))
        first = [await worker.expect(StartAttempt) for _ in range(2)]
        queued = (await tenant.http.get("/api/v1/queues")).json()["data"][0]
        assert (queued["running"], queued["queued"]) == (2, 3)
        for attempt in first:
            assert isinstance(await worker.complete(attempt), Done)
        rest = await worker.serve(3)
        assert {attempt.run_id for attempt in (*first, *rest)} == ids


async def test_two_workers_share_and_never_get_the_same_run(tenant: Tenant) -> None:
    async with tenant.worker("greet") as one, tenant.worker("greet") as two:
        ids = [await tenant.trigger("greet", n) for n in range(40)]
        done = await asyncio.gather(one.serve(20), two.serve(20))
        taken = [attempt.run_id for part in done for attempt in part]
    assert sorted(taken) == sorted(ids)


async def test_a_worker_is_given_its_own_tasks_only(tenant: Tenant) -> None:
    async with tenant.worker("greet") as one, tenant.worker("other") as two:
        run_id = await tenant.trigger("other")
        await one.send(Room(1))
        assert (await two.start()).run_id == run_id
        assert one.received == []


async def test_a_queues_limit_holds_over_workers(tenant: Tenant) -> None:
    def worker() -> ScriptedWorker:
        task = TaskDeclaration(id="narrow", queue="one-lane")
        return ScriptedWorker(tenant.url, tenant.key, task, queues=(QueueDeclaration("one-lane", concurrency=1),))

    async with worker() as one, worker() as two:
        for n in range(4):
            await tenant.trigger("narrow", n)
        await one.send(Room(4))
        await two.send(Room(4))
        for _ in range(4):
            attempt, holder = await _whoever_starts(one, two)
            queue = (await tenant.http.get("/api/v1/queues")).json()["data"][0]
            assert queue["running"] == 1
            assert isinstance(await holder.complete(attempt), Done)


async def _whoever_starts(*workers: ScriptedWorker) -> tuple[StartAttempt, ScriptedWorker]:
    waiting = {asyncio.create_task(worker.expect(StartAttempt)): worker for worker in workers}
    done, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    assert len(done) == 1
    task = done.pop()
    return task.result(), waiting[task]


async def test_checkpoints_are_there_after_the_run_was_given_back(tenant: Tenant) -> None:
    async with tenant.worker("greet") as worker:
        run_id = await tenant.trigger("greet")
        attempt = await worker.start()
        assert attempt.journal == []
        assert isinstance(await worker.request(journal(attempt, entry(0), entry(1, "|work#1"))), Done)
        assert isinstance(await worker.request(Release(run_id, attempt.epoch)), Done)
        again = await worker.start()
        assert again.epoch > attempt.epoch
        assert again.attempt == attempt.attempt
        assert [(e.seq, e.key) for e in again.journal] == [(0, "|work#0"), (1, "|work#1")]
        views = (await tenant.http.get(f"/api/v1/runs/{run_id}/journal?limit=1")).json()
        assert [(view["seq"], view["value"], view["name"]) for view in views["data"]] == [(0, 1, "work")]
        assert views["next"] == 0
        rest = (await tenant.http.get(f"/api/v1/runs/{run_id}/journal?after=0")).json()
        assert [view["seq"] for view in rest["data"]] == [1]


async def test_a_request_whose_reply_was_lost_is_asked_again_and_done_once(tenant: Tenant) -> None:
    worker = tenant.worker("greet")
    await worker.connect()
    run_id = await tenant.trigger("greet")
    attempt = await worker.start()
    write = journal(attempt, entry(0))
    assert isinstance(await worker.request(write), Done)
    await worker.begin(Finish(run_id, attempt.epoch, output=b'"x"', output_type="application/json"), 77)
    await worker.disconnect()  # perhaps before the answer, perhaps before the request arrived

    await worker.connect(held=[(run_id, attempt.epoch)])
    await worker.begin(write, 78)
    await worker.begin(Finish(run_id, attempt.epoch, output=b'"x"', output_type="application/json"), 77)
    assert isinstance(await worker.answer(77), Done)
    run = await tenant.run(run_id)
    assert (run["status"], run["output"], run["attemptCount"]) == ("COMPLETED", "x", 1)
    entries = (await tenant.http.get(f"/api/v1/runs/{run_id}/journal")).json()["data"]
    assert [each["seq"] for each in entries] == [0]
    await worker.disconnect()


async def test_a_stale_writer_is_refused_and_told_to_stop(tenant: Tenant) -> None:
    async with tenant.worker("greet") as old:
        run_id = await tenant.trigger("greet")
        stale = await old.start()
        assert isinstance(await old.request(Release(run_id, stale.epoch)), Done)
        async with tenant.worker("greet") as new:
            fresh = await new.start()
            for frame in (
                journal(stale, entry(0)),
                Finish(run_id, stale.epoch, output=b"1"),
                SetMetadata(run_id, stale.epoch, b'{"stale": true}'),
                WriteJournal(run_id, fresh.epoch, [entry(0)]),  # the right epoch, from the wrong worker
            ):
                answer = await old.request(frame)
                assert isinstance(answer, Refused), frame
                assert answer.code == "lease-lost"
                assert answer.retryable is False
            assert isinstance(await new.complete(fresh), Done)
        run = await tenant.run(run_id)
    assert run["output"] == "done"
    assert "metadata" not in run


async def test_a_worker_that_reconnects_keeps_what_it_holds_and_gives_back_what_it_never_got(tenant: Tenant) -> None:
    worker = tenant.worker("greet")
    await worker.connect()
    kept_id, dropped_id = await tenant.trigger("greet", 1), await tenant.trigger("greet", 2)
    await worker.send(Room(2))
    attempts = {a.run_id: a for a in [await worker.expect(StartAttempt) for _ in range(2)]}
    await worker.disconnect()

    await worker.connect(held=[(kept_id, attempts[kept_id].epoch), ("run_unheard", 3)])
    lost = await worker.expect(LeaseLostNotice)
    assert (lost.run_id, lost.epoch) == ("run_unheard", 3)
    assert isinstance(await worker.complete(attempts[kept_id]), Done)
    again = await worker.start()
    assert again.run_id == dropped_id
    assert again.attempt == 1, "no attempt was burnt"
    await worker.disconnect()


async def test_a_newer_connection_of_a_worker_replaces_the_older(tenant: Tenant) -> None:
    worker, twin = tenant.worker("greet"), tenant.worker("greet")
    twin.worker_id = worker.worker_id
    await worker.connect()
    await twin.connect()
    assert await worker.closed() == 4409
    run_id = await tenant.trigger("greet")
    assert (await twin.start()).run_id == run_id
    await worker.disconnect()
    await twin.disconnect()


async def test_a_worker_is_told_at_once_that_its_run_is_canceled_and_how_long_it_may_clean_up(tenant: Tenant) -> None:
    async with tenant.worker("greet") as worker:
        run_id = await tenant.trigger("greet")
        attempt = await worker.start()
        began = time.monotonic()
        asked = await tenant.http.post(f"/api/v2/runs/{run_id}/cancel", json={"reason": "enough", "grace": 7})
        assert asked.json() == {"id": run_id, "state": "executing", "canceled": True}
        notice = await worker.expect(CancelRun)
        assert (notice.run_id, notice.epoch, notice.grace) == (run_id, attempt.epoch, 7.0)
        assert time.monotonic() - began < 2
        shown = await tenant.run(run_id)
        assert (shown["status"], shown["state"], shown["isCancelled"]) == ("CANCELED", "executing", True)
        assert isinstance(await worker.request(journal(attempt, entry(0))), Done)
        assert isinstance(await worker.request(Finish(run_id, attempt.epoch, canceled=True)), Done)
        assert isinstance(await worker.request(journal(attempt, entry(1))), Refused)
        again = (await tenant.http.post(f"/api/v2/runs/{run_id}/cancel", json={})).json()
        assert again == {"id": run_id, "state": "canceled", "canceled": False}
    assert (await tenant.run(run_id))["status"] == "CANCELED"


async def test_a_run_that_is_canceled_without_a_grace_is_taken_from_its_worker_at_once(tenant: Tenant) -> None:
    async with tenant.worker("greet") as worker:
        run_id = await tenant.trigger("greet")
        attempt = await worker.start()
        ended = (await tenant.http.post(f"/api/v2/runs/{run_id}/cancel", json={"grace": 0})).json()
        assert ended == {"id": run_id, "state": "canceled", "canceled": True}
        assert (await worker.expect(LeaseLostNotice)).run_id == run_id
        refused = await worker.request(journal(attempt, entry(0)))
        assert isinstance(refused, Refused)
        assert refused.code == "lease-lost"
        assert isinstance(await worker.request(Finish(run_id, attempt.epoch, canceled=True)), Done)
        wrong = await tenant.http.post(f"/api/v2/runs/{run_id}/cancel", json={"grace": -1})
        assert (wrong.status_code, wrong.json()["code"]) == (400, "invalid-request")


async def test_an_attempt_that_fails_is_retried_and_then_fails_as_a_dead_letter(tenant: Tenant) -> None:
    from stepwell.model.retry import RetryPolicy

    policy = RetryPolicy(max_attempts=2, min_timeout=0.01, max_timeout=0.01)
    worker = ScriptedWorker(tenant.url, tenant.key, TaskDeclaration(id="flaky", retry=policy))
    async with worker:
        run_id = await tenant.trigger("flaky")
        for number in (1, 2):
            attempt = await worker.start()
            assert attempt.attempt == number
            failure = Failure("error", f"boom {number}", name="ValueError", stack="Traceback: ...")
            assert isinstance(await worker.request(Finish(run_id, attempt.epoch, failure=failure)), Done)
        run = await tenant.run(run_id)
        attempts = (await tenant.http.get(f"/api/v1/runs/{run_id}/attempts")).json()["data"]
        dead = (await tenant.http.get("/api/v1/dead")).json()["data"]
        result = (await tenant.http.get(f"/api/v1/runs/{run_id}/result")).json()
        redriven = (await tenant.http.post(f"/api/v1/dead/{run_id}/redrive", json={})).json()
        assert (await worker.start()).run_id == redriven["id"]
        assert (await tenant.http.get("/api/v1/dead")).json()["data"] == []
        twice = await tenant.http.post(f"/api/v1/dead/{run_id}/redrive", json={})
    assert (run["status"], run["error"]["message"], run["failure"]["code"]) == ("FAILED", "boom 2", "error")
    assert [(each["number"], each["state"], each["failure"]["message"]) for each in attempts] == [
        (1, "failed", "boom 1"),
        (2, "failed", "boom 2"),
    ]
    assert [each["id"] for each in dead] == [run_id]
    assert result["ok"] is False
    assert result["error"] == {
        "type": "BUILT_IN_ERROR",
        "name": "ValueError",
        "message": "boom 2",
        "stackTrace": "Traceback: ...",
    }
    assert (twice.status_code, twice.json()["code"]) == (409, "not-dead")


async def test_a_suspended_run_holds_nothing_and_comes_back_when_its_timer_is_over(tenant: Tenant) -> None:
    async with tenant.worker("greet") as worker:
        run_id = await tenant.trigger("greet")
        attempt = await worker.start()
        await worker.request(journal(attempt, entry(0)))
        due = attempt.now + 0.3
        answer = await worker.request(Suspend(run_id, attempt.epoch, [Wait("|timer#0", "timer", due_at=due)]))
        assert isinstance(answer, Done)
        again = await worker.start()
        assert (again.run_id, [each.key for each in again.journal]) == (run_id, [entry(0).key, "|timer#0"])
        assert again.now >= due, "never early"


async def test_a_waiting_parent_hears_of_its_children_in_their_order(tenant: Tenant) -> None:
    async with tenant.worker("parent", "child") as worker:
        run_id = await tenant.trigger("parent")
        parent = await worker.start()
        spawned = entry(0, "|map#0")
        spawn = Spawn(0, [ChildSpec("child", json.dumps(n).encode()) for n in range(3)])
        write = Request(900, WriteJournal(run_id, parent.epoch, [spawned], [spawn]))
        await worker.send(write, AwaitChildren(run_id, parent.epoch, ["|map#0"]))  # in one breath
        assert isinstance(await worker.answer(900), Done)
        await worker.serve(3, lambda attempt: b"[" + attempt.payload + b"]")
        ended = await worker.expect(ChildrenEnded)
        assert (ended.run_id, ended.spawn_key) == (run_id, "|map#0")
        assert [outcome.output for outcome in ended.outcomes] == [b"[0]", b"[1]", b"[2]"]
        run = await tenant.run(run_id)
        assert len(run["relatedRuns"]["children"]) == 3


async def test_a_waiting_parent_hears_of_much_in_pages(tenant: Tenant) -> None:
    async with tenant.worker("parent", "child") as worker:
        run_id = await tenant.trigger("parent")
        parent = await worker.start()
        spawn = Spawn(0, [ChildSpec("child", json.dumps(n).encode()) for n in range(5)])
        write = Request(900, WriteJournal(run_id, parent.epoch, [entry(0, "|map#0")], [spawn]))
        await worker.send(write, AwaitChildren(run_id, parent.epoch, ["|map#0"]))
        assert isinstance(await worker.answer(900), Done)
        await worker.serve(5, lambda attempt: json.dumps(attempt.payload.decode() * 700_000).encode())
        pages = [await worker.expect(ChildrenEnded) for _ in range(3)]
    assert [(page.first, len(page.outcomes), page.more) for page in pages] == [
        (0, 2, True),
        (2, 2, True),
        (4, 1, False),
    ]
    outputs = [json.loads(outcome.output or b"") for page in pages for outcome in page.outcomes]
    assert [(output[0], len(output)) for output in outputs] == [(str(n), 700_000) for n in range(5)]


async def test_logs_metadata_and_timeline_are_shown(tenant: Tenant) -> None:
    async with tenant.worker("greet") as worker:
        run_id = await tenant.trigger("greet")
        attempt = await worker.start()
        records = [LogRecord(time.time(), "info", f"line {n}", attributes={"n": str(n)}) for n in range(3)]
        await worker.begin(WriteLogs(run_id, attempt.epoch, 1, records))
        await worker.begin(SetMetadata(run_id, attempt.epoch, b'{"progress": 3}'))
        assert isinstance(await worker.complete(attempt), Done)  # and what came before it is stored
        logs = (await tenant.http.get(f"/api/v1/runs/{run_id}/logs")).json()["data"]
        events = (await tenant.http.get(f"/api/v1/runs/{run_id}/events")).json()["data"]
        run = await tenant.run(run_id)
    assert [(line["message"], line["attributes"]) for line in logs] == [(f"line {n}", {"n": str(n)}) for n in range(3)]
    assert run["metadata"] == {"progress": 3}
    assert [each["type"] for each in events] == ["triggered", "claimed", "completed"]


async def test_a_lease_lives_as_long_as_its_heartbeat_and_is_rescued_after(tenant: Tenant) -> None:
    dying, heir = tenant.worker("greet"), tenant.worker("greet")
    await dying.connect()
    run_id = await tenant.trigger("greet")
    attempt = await dying.start()
    beat = {"worker_id": dying.worker_id, "leases": [[run_id, attempt.epoch]]}
    reply = (await tenant.http.post("/api/v1/worker/heartbeat", json=beat)).json()
    assert (reply["lost"], reply["canceling"]) == ([], [])
    await dying.disconnect()  # and no heartbeat any more
    await heir.connect()
    again = await heir.start()
    assert again.run_id == run_id
    assert again.epoch > attempt.epoch
    reply = (await tenant.http.post("/api/v1/worker/heartbeat", json=beat)).json()
    assert reply["lost"] == [run_id]
    assert isinstance(await heir.complete(again), Done)
    events = (await tenant.http.get(f"/api/v1/runs/{run_id}/events")).json()["data"]
    assert "rescued" in [each["type"] for each in events]
    await heir.disconnect()


@pytest.mark.parametrize("message", [b"\xc1", b"\x91\x92\xa4room", b"\x90" * 3, b""])
async def test_a_message_that_cannot_be_read_ends_that_connection_and_no_other(tenant: Tenant, message: bytes) -> None:
    async with tenant.worker("greet") as good:
        bad = tenant.worker("greet")
        await bad.connect()
        await bad.send_bytes(message)
        assert await bad.closed() == 4400
        await bad.disconnect()
        run_id = await tenant.trigger("greet")
        assert (await good.start()).run_id == run_id


async def test_a_worker_that_speaks_another_version_is_turned_away_with_the_reason(tenant: Tenant) -> None:
    from stepwell.protocol import frames

    worker = tenant.worker("greet")
    original, frames.PROTOCOL_VERSION = frames.PROTOCOL_VERSION, 999
    try:
        with pytest.raises(AssertionError, match="protocol-version"):
            await worker.connect()
    finally:
        frames.PROTOCOL_VERSION = original
    await worker.disconnect()


async def test_a_worker_that_does_not_read_delays_no_other(tenant: Tenant) -> None:
    slow, quick = tenant.worker("heavy"), tenant.worker("greet")
    await slow.connect()
    await quick.connect()
    for _ in range(6):
        await tenant.trigger("heavy", "x" * 4_000_000)
    await slow.send(Room(6))  # and then reads nothing of 24 MB
    began = time.monotonic()
    for _ in range(3):
        await tenant.trigger("greet")
    await quick.serve(3)
    assert time.monotonic() - began < 5
    assert len({(await slow.expect(StartAttempt)).run_id for _ in range(6)}) == 6
    await slow.disconnect()
    await quick.disconnect()
