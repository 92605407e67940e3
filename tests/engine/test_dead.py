"""Dead letters: failed alike is one group; redriven one or many, at a rate; discarded with a reason."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from stepwell.engine import claim, dead, finish, observe, promote
from stepwell.errors import ApiError, Conflict, NotFound, PayloadInvalid
from stepwell.model.child import TriggerOptions
from stepwell.model.dead import DeadFilter
from stepwell.model.failure import Failure
from stepwell.model.trigger import Triggered, TriggerRequest
from stepwell.protocol.frames import Finish
from tests.engine.world import ALL_TASKS, FAILURE, LEASE, World, entry

KINDS = (
    lambda n: Failure("error", f"order {n} was declined", "app.Declined", f'File "/a/b.py", line {n}, in pay\n'),
    lambda n: Failure("error", f"no answer after {n / 7:.3f} s", "TimeoutError"),
    lambda n: Failure("aborted", f"tenant {n:032x} is gone", "AbortRun"),
)


async def failed(world: World, number: int = 1, task_id: str = "once", kind: int | None = None) -> list[str]:
    """So many runs that failed, of three kinds in turn."""
    requests = [
        TriggerRequest(task_id, b'{"n": %d}' % n, options=TriggerOptions(max_attempts=1, tags=(f"t{n % 2}",)))
        for n in range(number)
    ]
    made = [each.run_id for each in await world.ask(*requests) if isinstance(each, Triggered)]
    place = {run_id: n for n, run_id in enumerate(made)}
    while attempts := await claim.claim(world.db, world.environment_id, world.worker, ALL_TASKS, 200, LEASE):
        frames = [
            Finish(each.run_id, each.epoch, failure=KINDS[place[each.run_id] % 3 if kind is None else kind](n))
            for n, each in enumerate(attempts)
        ]
        assert set(await finish.finish(world.db, world.worker, frames)) == {None}
    return made


async def listed(world: World) -> list[str]:
    page = await dead.list_dead(world.db, world.environment_id, limit=1000)
    return [run.id for run in page.runs]


async def test_a_thousand_failed_runs_of_three_kinds_are_three_groups_and_redriven_they_leave_the_list(
    world: World,
) -> None:
    made = await failed(world, 1000)
    groups, total = await dead.list_groups(world.db, world.environment_id)
    assert (total, sorted(group.count for group in groups)) == (3, [333, 333, 334])
    assert {(group.failure.name, group.task_ids) for group in groups if group.failure} == {
        ("app.Declined", ("once",)),
        ("TimeoutError", ("once",)),
        ("AbortRun", ("once",)),
    }
    assert all(group.first_seen < group.last_seen for group in groups)
    [one] = [group for group in groups if group.failure and group.failure.name == "TimeoutError"]
    alike = await dead.list_dead(world.db, world.environment_id, groups=[one.id], limit=1000)
    assert {run.id for run in alike.runs} == {run_id for n, run_id in enumerate(made) if n % 3 == 1}
    assert (await dead.get_group(world.db, world.environment_id, one.id)) == one

    done = await dead.redrive_many(world.db, world.environment_id)
    assert (list(done.runs), done.refused, done.rest) == (made, {}, None)
    assert await listed(world) == []
    assert await dead.list_groups(world.db, world.environment_id) == ([], 0)
    while attempts := await world.claim(200):
        frames = [Finish(each.run_id, each.epoch, output=each.payload) for each in attempts]
        assert set(await finish.finish(world.db, world.worker, frames)) == {None}
    assert {await world.status(new) for new in list(done.runs.values())[::100]} == {"completed"}


async def test_a_run_knows_its_past_and_what_became_of_it(world: World) -> None:
    [first] = await failed(world)
    second = (await dead.redrive(world.db, world.environment_id, first)).run_id
    await world.finish((await world.claim())[0], failure=FAILURE)
    third = (await dead.redrive(world.db, world.environment_id, second)).run_id
    details = [await observe.get_run(world.db, world.environment_id, each) for each in (first, second, third)]
    assert [[run.id for run in each.origins] for each in details] == [[], [first], [second, first]]
    assert [[run.id for run in each.offspring] for each in details] == [[second], [third], []]
    assert [each.run.trigger_function for each in details] == ["trigger", "redrive", "redrive"]


async def test_another_payload_runs_from_the_start_and_one_that_does_not_fit_leaves_the_run_on_the_list(
    world: World,
) -> None:
    run_id = await world.trigger("checked", b'{"topic": "a"}', max_attempts=1)
    [attempt] = await world.claim()
    await world.write(attempt, entry(0))
    await world.finish(attempt, failure=FAILURE)
    with pytest.raises(PayloadInvalid):
        await dead.redrive(world.db, world.environment_id, run_id, payload=b'{"topic": 7}')
    assert await listed(world) == [run_id]
    made = await dead.redrive(world.db, world.environment_id, run_id, payload=b'{"topic": "b"}')
    [again] = await world.claim()
    assert (again.run_id, again.payload, len(again.journal)) == (made.run_id, b'{"topic": "b"}', 0)
    await world.finish(again, output=b"1")
    assert (await world.status(made.run_id), await listed(world)) == ("completed", [])


async def test_without_another_payload_it_goes_on_where_it_failed(world: World) -> None:
    attempt = await world.started("once")
    await world.write(attempt, entry(0), entry(1))
    await world.finish(attempt, failure=FAILURE)
    assert (await dead.redrive_many(world.db, world.environment_id)).refused == {}
    [again] = await world.claim()
    assert len(again.journal) == 2
    await world.finish(again, failure=FAILURE)
    assert (await dead.redrive_many(world.db, world.environment_id, from_start=True)).refused == {}
    [afresh] = await world.claim()
    assert len(afresh.journal) == 0


async def test_a_patch_changes_the_payload_of_each_and_everything_of_it_runs_again_at_the_rate(world: World) -> None:
    made = await failed(world, 240)
    patch = {"n": None, "currency": "EUR", "of": {"big": 2**60}}
    done = await dead.redrive_many(world.db, world.environment_id, patch=patch, rate=10.0)
    assert (list(done.runs), done.refused, await listed(world)) == (made, {}, [])
    rows = await world.sql(
        "SELECT payload, delayed_until FROM run WHERE id = ANY($1) ORDER BY number", [*done.runs.values()]
    )
    assert {bytes(row["payload"]) for row in rows} == {b'{"currency":"EUR","of":{"big":1152921504606846976}}'}
    gaps = {(two["delayed_until"] - one["delayed_until"]).total_seconds() for one, two in pairwise(rows)}
    assert gaps == {0.1}
    old = await world.sql("SELECT payload FROM run WHERE id = $1", made[7])
    assert bytes(old[0]["payload"]) == b'{"n": 7}'


async def test_what_a_patch_does_not_fit_stays_on_the_list_with_the_reason(world: World) -> None:
    texts = (b'{"topic": "a"}', b'{"topic": "b", "depth": 2}')
    fine = [each.run_id for each in await world.ask(*[TriggerRequest("checked", text) for text in texts])]
    fine += [each.run_id for each in await world.ask(TriggerRequest("plain", b"[1]"), TriggerRequest("plain", b""))]
    for attempt in await world.claim(9):
        failure = Failure("aborted", "no", "AbortRun")
        [answer] = await finish.finish(world.db, world.worker, [Finish(attempt.run_id, attempt.epoch, failure=failure)])
        assert answer is None
    everything = DeadFilter()
    done = await dead.redrive_many(world.db, world.environment_id, everything, patch={"depth": "large"})
    assert list(done.runs) == [fine[3]]
    assert [type(done.refused[run_id]) for run_id in fine[:3]] == [PayloadInvalid] * 3
    assert "no JSON object" in done.refused[fine[2]].message
    assert set(await listed(world)) == set(fine[:3])
    again = await dead.redrive_many(world.db, world.environment_id, everything, patch={"depth": 7})
    assert list(again.runs) == fine[:2]


async def test_a_rate_spreads_the_new_runs_by_their_delays(world: World) -> None:
    made = await failed(world, 30)
    part = await dead.redrive_many(world.db, world.environment_id, rate=10.0, limit=20)
    assert (len(part.runs), part.rest is None) == (20, False)
    rest = await dead.redrive_many(world.db, world.environment_id, rate=10.0, rest=part.rest)
    assert list(part.runs | rest.runs) == made
    assert rest.rest is None
    rows = await world.sql("SELECT run_id, extract(epoch FROM due_at)::float8 AS due FROM delayed ORDER BY due_at")
    waiting = list((part.runs | rest.runs).values())[-len(rows) :]  # the first few may be claimable at once
    assert [row["run_id"] for row in rows] == waiting
    assert len(rows) >= 28
    gaps = [later["due"] - row["due"] for row, later in pairwise(rows)]
    assert gaps == pytest.approx([0.1] * len(gaps), abs=1e-3)
    await world.delays_end()
    assert await promote.promote_due(world.db) == len(rows)


async def test_what_dies_again_while_many_are_redriven_waits_for_the_next_time(world: World) -> None:
    first = await failed(world, 3)
    part = await dead.redrive_many(world.db, world.environment_id, limit=2)
    for attempt in await world.claim(2):
        await world.finish(attempt, failure=FAILURE, no_retry=True)
    rest = await dead.redrive_many(world.db, world.environment_id, rest=part.rest)
    assert list(rest.runs) == first[2:]
    assert set(await listed(world)) == set(part.runs.values())


async def test_two_that_redrive_all_at_once_make_one_run_of_each(world: World) -> None:
    made = await failed(world, 60)
    both = await asyncio.gather(*(dead.redrive_many(world.db, world.environment_id) for _ in range(2)))
    assert sorted([*both[0].runs, *both[1].runs]) == sorted(made)
    [row] = await world.sql("SELECT count(*) FROM run WHERE forked_from IS NOT NULL")
    assert row["count"] == 60


async def test_a_filter_chooses_by_group_task_and_id(world: World) -> None:
    once, plain = await failed(world, 2, kind=0), await failed(world, 2, "plain", kind=1)
    groups, _ = await dead.list_groups(world.db, world.environment_id, ["plain"])
    assert [group.count for group in groups] == [2]
    by_group = DeadFilter(groups=(groups[0].id,), run_ids=(once[0], plain[0]))
    assert list((await dead.redrive_many(world.db, world.environment_id, by_group)).runs) == [plain[0]]
    by_task = DeadFilter(task_ids=("once",))
    assert list((await dead.redrive_many(world.db, world.environment_id, by_task)).runs) == once
    assert await listed(world) == [plain[1]]


async def test_one_whose_payload_no_longer_fits_stays_and_the_others_run(world: World) -> None:
    [kept] = await failed(world, 1, "once")
    [redriven] = await failed(world, 1, "plain")
    await world.sql("UPDATE run SET payload = 'no json' WHERE id = $1", kept)
    await world.sql("UPDATE task SET payload_schema = '{}', schema_digest = 'x', updated_at = now() WHERE id = 'once'")
    done = await dead.redrive_many(world.db, world.environment_id)
    assert list(done.runs) == [redriven]
    assert {old: error.code for old, error in done.refused.items()} == {kept: "payload-invalid"}
    assert await listed(world) == [kept]


async def test_what_could_not_be_undone_is_listed_with_the_reason_in_a_group_of_its_own(world: World) -> None:
    told = ["book: ValueError: seat 7 cannot be given back"]
    only_failed = await world.started("once")
    await world.finish(only_failed, failure=FAILURE)
    both = await world.started("once")
    await world.finish(both, failure=FAILURE, not_undone=told)
    all_undone = await world.started("once")
    await world.finish(all_undone, failure=FAILURE, not_undone=[])
    groups, _ = await dead.list_groups(world.db, world.environment_id)
    assert {(group.count, group.not_undone) for group in groups} == {(2, ()), (1, tuple(told))}


async def test_discarded_with_a_reason_they_leave_the_list(world: World) -> None:
    made = await failed(world, 9)
    await dead.discard(world.db, world.environment_id, made[0], " looked at ", by="ada")
    with pytest.raises(Conflict, match="no dead letter"):
        await dead.discard(world.db, world.environment_id, made[0], "again")
    with pytest.raises(ApiError, match="reason"):
        await dead.discard(world.db, world.environment_id, made[1], "  ")
    with pytest.raises(NotFound):
        await dead.discard(world.db, world.environment_id, "run_nothing", "why")
    events = await observe.events(world.db, world.environment_id, made[0])
    assert (events[-1].kind, events[-1].data) == ("discarded", {"reason": "looked at", "by": "ada"})
    group = (await world.run(made[1])).error_group
    assert group is not None
    alike = DeadFilter(groups=(group,))
    assert await dead.discard_many(world.db, world.environment_id, alike, "a known bug") == 3
    assert await dead.discard_many(world.db, world.environment_id, DeadFilter(), "all of them") == 5
    assert await listed(world) == []
    with pytest.raises(NotFound, match="no dead letter is in the group"):
        await dead.get_group(world.db, world.environment_id, group)
    with pytest.raises(ApiError, match="rate"):
        await dead.redrive_many(world.db, world.environment_id, rate=0.0)


async def test_another_environment_sees_and_changes_nothing_of_it(world: World) -> None:
    made = await failed(world, 3)
    other = await World.create(world.db, "other", "worker-of-another")
    assert (await listed(other), await dead.list_groups(world.db, other.environment_id)) == ([], ([], 0))
    assert (await dead.redrive_many(world.db, other.environment_id, DeadFilter(run_ids=tuple(made)))).runs == {}
    assert await dead.discard_many(world.db, other.environment_id, DeadFilter(), "not mine") == 0
    assert await listed(world) == made[::-1]


async def test_runs_that_complete_are_in_no_group(world: World) -> None:
    attempt = await world.started()
    await world.finish(attempt, output=b"1")
    assert (await world.run(attempt.run_id)).error_group is None
