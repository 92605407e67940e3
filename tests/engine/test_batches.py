"""Batches, logs, metadata, tags, lists, environments and keys."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from stepwell.engine import annotate, batches, cancel, environments, logs, metadata, observe
from stepwell.engine.alike import Alike
from stepwell.errors import ApiError, ConfigError, Conflict, LeaseLost, LimitExceeded, NotFound, PayloadInvalid
from stepwell.model.admission import Admission, UniqueRule
from stepwell.model.child import TriggerOptions
from stepwell.model.run import RunFilter
from stepwell.model.trigger import TriggerRequest
from stepwell.protocol.frames import LogRecord, SetMetadata, WriteLogs
from tests.engine.world import World


def items(*indexes: int, task: str = "plain") -> list[batches.Item]:
    return [(index, task, TriggerRequest(task, b"{}")) for index in indexes]


async def test_items_that_come_again_make_no_second_run(world: World) -> None:
    batch = await batches.create(world.db, world.environment_id, 4)
    first = await batches.add_items(world.db, world.environment_id, batch.batch_id, items(0, 1, 1))
    assert (first.accepted, first.deduplicated, first.sealed, first.received) == (2, 1, False, 2)
    await asyncio.gather(
        *(batches.add_items(world.db, world.environment_id, batch.batch_id, items(*range(4))) for _ in range(5))
    )
    found = await batches.get(world.db, world.environment_id, batch.batch_id)
    assert (found.accepted, found.status) == (4, "processing")
    assert len(await world.claim(10)) == 4


async def test_a_refused_item_is_recorded_and_stops_no_other(world: World) -> None:
    batch = await batches.create(world.db, world.environment_id, 3)
    given = [*items(0), *items(1, task="nobody"), (2, "plain", PayloadInvalid("no JSON"))]
    progress = await batches.add_items(world.db, world.environment_id, batch.batch_id, given)
    assert progress.sealed
    found = await batches.items(world.db, world.environment_id, batch.batch_id)
    assert [each.error_code for each in found] == [None, "task-not-found", "payload-invalid"]
    [attempt] = await world.claim(10)
    await world.finish(attempt, output=b"1")
    done = await batches.get(world.db, world.environment_id, batch.batch_id)
    assert (done.status, done.completed_at is not None) == ("partial_failed", True)


async def test_items_that_led_to_a_run_of_before_are_listed_with_it_and_taken_once(world: World) -> None:
    earlier = await world.trigger(idempotency_key="k")
    keyed, fresh = TriggerOptions(idempotency_key="k"), TriggerOptions(idempotency_key="new")
    given: list[batches.Item] = [
        (0, "plain", TriggerRequest("plain", b"{}", options=fresh)),
        (1, "plain", TriggerRequest("plain", b"{}", options=fresh)),
        (2, "plain", TriggerRequest("plain", b"{}", options=keyed)),
        *items(3),
    ]
    batch = await batches.create(world.db, world.environment_id, 4)
    for taken in (0, 4):
        progress = await batches.add_items(world.db, world.environment_id, batch.batch_id, given)
        assert (progress.deduplicated, progress.received, progress.sealed) == (taken, 4, True)
    found, listed = await batches.listed(world.db, world.environment_id, batch.batch_id)
    run_ids = [each.run_id for each in listed]
    assert [each.index for each in listed] == [0, 1, 2, 3]
    assert (run_ids[0], run_ids[2], len(set(run_ids))) == (run_ids[1], earlier, 3)
    for attempt in await world.claim(10):
        await world.finish(attempt, output=attempt.run_id.encode())
    [first, second] = await batches.items(world.db, world.environment_id, batch.batch_id, after=1, limit=2)
    assert [(each.index, each.output) for each in (first, second)] == [(2, earlier.encode()), (3, run_ids[3].encode())]
    found = await batches.get(world.db, world.environment_id, batch.batch_id)
    assert (found.accepted, found.ended, found.completed_at is not None) == (4, 4, True)
    await world.check()


def alike(*payloads: bytes, first: int = 0, task: str = "plain", **options: Any) -> Alike:
    request = TriggerRequest(task, payloads[0], options=TriggerOptions(**options), trigger_function="batchTrigger")
    return Alike(request, range(first, first + len(payloads)), payloads)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"priority": 3, "tags": ("a", "b"), "metadata": b"{}", "ttl": 60.0, "max_attempts": 2},
        {"delay": 60.0, "max_duration": 5.0, "test": True},
        {"concurrency_key": "k", "queue": "wide"},
    ],
)
async def test_items_that_are_alike_become_what_they_would_become_one_by_one(
    world: World, options: dict[str, Any]
) -> None:
    given = alike(b'{"n": 1}', b"", b'{"n": 3}', **options)
    kinds: list[list[Any]] = []
    for items in (given, given.one_by_one("")):
        batch = await batches.create(world.db, world.environment_id, 3)
        progress = await batches.add_items(world.db, world.environment_id, batch.batch_id, items)
        assert (progress.accepted, progress.deduplicated, progress.sealed) == (3, 0, True)
        found, listed = await batches.listed(world.db, world.environment_id, batch.batch_id)
        assert (found.accepted, found.refused, [each.index for each in listed]) == (3, 0, [0, 1, 2])
        details = [await observe.get_run(world.db, world.environment_id, each.run_id or "") for each in listed]
        numbers = [await world.sql("SELECT number FROM run WHERE id = $1", each.run.id) for each in details]
        assert numbers == sorted(numbers)
        own = {"id": "", "root_id": "", "batch_id": "", "created_at": None, "updated_at": None}
        own |= {"delayed_until": details[0].run.delayed_until is None, "expires_at": details[0].run.expires_at is None}
        kinds.append([(replace(each.run, **own), each.payload, await world.kinds(each.run.id)) for each in details])
        waiting = await world.sql("SELECT count(*) FROM delayed")
        assert bool(waiting[0][0]) == ("delay" in options)
    assert kinds[0] == kinds[1]
    await world.check()


async def test_one_refused_among_items_that_are_alike_stops_no_other(world: World) -> None:
    batch = await batches.create(world.db, world.environment_id, 3)
    given = alike(b"{}", b"no JSON", b"{}")
    assert (await batches.add_items(world.db, world.environment_id, batch.batch_id, given)).sealed
    _, listed = await batches.listed(world.db, world.environment_id, batch.batch_id)
    assert [each.error_code for each in listed] == [None, "payload-invalid", None]
    assert len(await world.claim(10)) == 2
    await world.check()


async def test_items_that_are_alike_and_come_again_make_no_second_run(world: World) -> None:
    batch = await batches.create(world.db, world.environment_id, 5)
    add = partial(batches.add_items, world.db, world.environment_id, batch.batch_id)
    assert (await add(alike(b"{}", b"{}", b"{}"))).accepted == 3
    progress = await add(alike(b"{}", b"{}", b"{}", first=2))
    assert (progress.accepted, progress.deduplicated, progress.sealed) == (2, 1, True)
    await asyncio.gather(*(add(alike(b"{}", b"{}", first=start)) for start in range(4)))
    assert (await batches.get(world.db, world.environment_id, batch.batch_id)).accepted == 5
    assert len(await world.claim(10)) == 5
    with pytest.raises(ApiError, match="index 5 in a batch of 5"):
        await add(alike(b"{}", b"{}", first=4))
    await world.check()


async def test_rules_of_admission_hold_among_items_that_are_alike(world: World) -> None:
    batch = await batches.create(world.db, world.environment_id, 3)
    given = alike(b"{}", b"{}", b"{}", admission=Admission(unique=UniqueRule(60.0, "k")))
    await batches.add_items(world.db, world.environment_id, batch.batch_id, given)
    _, listed = await batches.listed(world.db, world.environment_id, batch.batch_id)
    assert len({each.run_id for each in listed}) == 1
    assert len(await world.claim(10)) == 1
    await world.check()


async def test_items_that_are_alike_of_a_task_that_nobody_has_are_all_refused(world: World) -> None:
    batch = await batches.create(world.db, world.environment_id, 2)
    await batches.add_items(world.db, world.environment_id, batch.batch_id, alike(b"{}", b"{}", task="nobody"))
    assert (await batches.get(world.db, world.environment_id, batch.batch_id)).status == "aborted"


async def test_a_batch_whose_items_were_all_refused_is_aborted(world: World) -> None:
    batch = await batches.create(world.db, world.environment_id, 1)
    assert (await batches.get(world.db, world.environment_id, batch.batch_id)).status == "pending"
    await batches.add_items(world.db, world.environment_id, batch.batch_id, items(0, task="nobody"))
    assert (await batches.get(world.db, world.environment_id, batch.batch_id)).status == "aborted"


async def test_racing_announcements_with_one_key_make_one_batch(world: World) -> None:
    for key in ("idempotency_key", "request_key"):
        made = await asyncio.gather(
            *(batches.create(world.db, world.environment_id, 3, **{key: "k"}) for _ in range(20))
        )
        assert len({each.batch_id for each in made}) == 1
        assert [each.cached for each in made].count(True) == (19 if key == "idempotency_key" else 0)
        with pytest.raises(Conflict):
            await batches.create(world.db, world.environment_id, 4, **{key: "k"})


async def test_a_batch_of_another_environment_is_not_found(world: World) -> None:
    elsewhere = await World.create(world.db, "prod", "worker-2")
    batch = await batches.create(world.db, world.environment_id, 1)
    with pytest.raises(NotFound):
        await batches.get(world.db, elsewhere.environment_id, batch.batch_id)
    with pytest.raises(NotFound):
        await batches.add_items(world.db, elsewhere.environment_id, batch.batch_id, items(0))


async def test_an_index_outside_the_batch_is_refused(world: World) -> None:
    batch = await batches.create(world.db, world.environment_id, 2)
    with pytest.raises(ApiError, match="index 2 in a batch of 2"):
        await batches.add_items(world.db, world.environment_id, batch.batch_id, items(0, 2))


# ── what runs say ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_lines_are_stored_once_however_often_they_are_sent(world: World) -> None:
    attempt = await world.started()
    records = [
        LogRecord(1.0, "info", "same"),
        LogRecord(1.0, "info", "same"),
        LogRecord(2.0, "error", "nul\x00", "stderr"),
    ]
    frame = WriteLogs(attempt.run_id, attempt.epoch, 1, records)
    for _ in range(3):
        assert await logs.write_logs(world.db, world.worker, [frame]) == [None]
    lines = await observe.logs(world.db, world.environment_id, attempt.run_id)
    assert [line.message for line in lines] == ["same", "same", "nul\N{REPLACEMENT CHARACTER}"]
    assert await observe.logs(world.db, world.environment_id, attempt.run_id, after=lines[1].seq) == lines[2:]


async def test_lines_may_come_after_the_finish_but_not_after_a_cancel(world: World) -> None:
    finished, canceled = await world.started(), await world.started()
    await world.finish(finished, output=b"1")
    await cancel.cancel(world.db, world.environment_id, canceled.run_id, grace=0)
    frames = [WriteLogs(each.run_id, each.epoch, 1, [LogRecord(1.0, "info", "x")]) for each in (finished, canceled)]
    answers = await logs.write_logs(world.db, world.worker, frames)
    assert [type(answer) for answer in answers] == [type(None), LeaseLost]


async def test_metadata_is_replaced_by_the_owner_only_and_must_be_an_object(world: World) -> None:
    attempt = await world.started()
    documents = [b'{"a":1}', b"[1]", b"{", b'{"x":"' + b"x" * 300_000 + b'"}']
    frames = [SetMetadata(attempt.run_id, attempt.epoch, document) for document in documents]
    answers = await metadata.set_metadata(world.db, world.worker, [*frames, SetMetadata(attempt.run_id, 9, b"{}")])
    assert [type(answer) for answer in answers] == [type(None), ApiError, ApiError, LimitExceeded, LeaseLost]
    assert (await world.run(attempt.run_id)).metadata == b'{"a":1}'


async def test_concurrent_changes_of_metadata_are_all_kept(world: World) -> None:
    run_id = await world.trigger()

    async def count(number: int) -> None:
        await annotate.change_metadata(
            world.db, world.environment_id, run_id, lambda old: {**old, "n": old.get("n", 0) + 1, str(number): True}
        )

    await asyncio.gather(*(count(number) for number in range(20)))
    document = await annotate.change_metadata(world.db, world.environment_id, run_id, dict)
    assert (document["n"], len(document)) == (20, 21)


async def test_tags_are_added_once(world: World) -> None:
    run_id = await world.trigger(tags=("a",))
    assert await annotate.add_tags(world.db, world.environment_id, run_id, ["b", "a", "b"]) == ("a", "b")
    with pytest.raises(LimitExceeded):
        await annotate.add_tags(world.db, world.environment_id, run_id, [str(number) for number in range(50)])


# ── lists ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def listed(world: World, where: RunFilter = RunFilter(), **page: object) -> list[str]:  # noqa: B008 - frozen
    return [run.id for run in (await observe.list_runs(world.db, world.environment_id, where, **page)).runs]


async def test_a_list_is_paged_in_both_directions(world: World) -> None:
    ids = [await world.trigger() for _ in range(7)][::-1]
    first = await observe.list_runs(world.db, world.environment_id, limit=3)
    second = await observe.list_runs(world.db, world.environment_id, after=first.next, limit=3)
    last = await observe.list_runs(world.db, world.environment_id, after=second.next, limit=3)
    assert [[run.id for run in page.runs] for page in (first, second, last)] == [ids[:3], ids[3:6], ids[6:]]
    assert (first.previous, last.next) == (None, None)
    back = await observe.list_runs(world.db, world.environment_id, before=second.previous, limit=3)
    assert ([run.id for run in back.runs], back.previous) == (ids[:3], None)


async def test_a_list_is_narrowed_by_each_filter(world: World) -> None:
    done = await world.started(tags=("x", "y"))
    await world.finish(done, output=b"1")
    waiting = await world.trigger("once", queue="wide", test=True, delay=60.0)
    assert await listed(world, RunFilter(statuses=("completed",))) == [done.run_id]
    assert await listed(world, RunFilter(statuses=("delayed", "queued"))) == [waiting]
    assert await listed(world, RunFilter(statuses=("delayed", "completed"))) == [waiting, done.run_id]
    assert await listed(world, RunFilter(task_ids=("once",))) == [waiting]
    assert await listed(world, RunFilter(queues=("wide",))) == [waiting]
    assert await listed(world, RunFilter(tags=("y", "nothing"))) == [done.run_id]
    assert await listed(world, RunFilter(test=True)) == [waiting]
    assert await listed(world, RunFilter(ids=(done.run_id, "run_x"))) == [done.run_id]
    moment = (await world.run(waiting)).created_at
    assert await listed(world, RunFilter(created_from=moment)) == [waiting]
    assert await listed(world, RunFilter(created_to=moment)) == [done.run_id]


async def test_nothing_of_another_environment_is_listed(world: World) -> None:
    elsewhere = await World.create(world.db, "prod", "worker-2")
    await world.trigger()
    assert await listed(elsewhere) == []
    assert [
        queue.queued for queue in await observe.queues(elsewhere.db, elsewhere.environment_id) if queue.queued
    ] == []
    assert [each.id for each in await observe.workers(elsewhere.db, elsewhere.environment_id)] == ["worker-2"]


async def test_queues_show_what_is_in_them(world: World) -> None:
    await world.ask(*(TriggerRequest("shared", b"{}") for _ in range(5)))
    await world.claim(10)
    queues = {queue.name: queue for queue in await observe.queues(world.db, world.environment_id)}
    narrow = queues["narrow"]
    assert (narrow.kind, narrow.concurrency, narrow.queued, narrow.executing) == ("custom", 2, 3, 2)
    assert queues["task/plain"].kind == "task"


# ── who ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_environment_is_made_once(world: World) -> None:
    made = await asyncio.gather(*(environments.ensure_environment(world.db, "staging") for _ in range(10)))
    assert len({each.id for each in made}) == 1
    assert "secret" not in repr(made[0])


@pytest.mark.parametrize("slug", ["", "UPPER", "with space", "-x", "x" * 33, "ü", "a_b"])
async def test_a_name_that_cannot_be_one_is_refused(world: World, slug: str) -> None:
    with pytest.raises(ConfigError):
        await environments.ensure_environment(world.db, slug)


async def test_a_key_opens_its_environment_until_it_is_revoked(world: World) -> None:
    environment = await environments.ensure_environment(world.db, "dev")
    text, key = await environments.create_key(world.db, environment, name="laptop")
    assert text.startswith("tr_dev_sk_")
    assert len(text) == len("tr_dev_sk_") + 24
    assert await environments.authenticate(world.db, text) == environment
    assert await environments.authenticate(world.db, text[:-1] + "!") is None
    await environments.note_use(world.db, text)
    assert (await environments.list_keys(world.db, environment.id))[0].last_used_at is not None
    await environments.revoke_key(world.db, environment.id, key.id)
    assert await environments.authenticate(world.db, text) is None
    with pytest.raises(NotFound):
        await environments.revoke_key(world.db, environment.id, key.id)


async def test_an_expired_key_opens_nothing(world: World) -> None:
    environment = await environments.ensure_environment(world.db, "dev")
    text, _ = await environments.create_key(world.db, environment)
    await world.sql("UPDATE api_key SET expires_at = now() - interval '1 s'")
    assert await environments.authenticate(world.db, text) is None


async def test_a_key_s_text_is_nowhere_in_the_database(world: World) -> None:
    environment = await environments.ensure_environment(world.db, "dev")
    text, _ = await environments.create_key(world.db, environment)
    [row] = await world.sql("SELECT api_key::text AS shown FROM api_key")
    assert text not in row["shown"]
