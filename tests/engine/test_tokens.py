"""Tokens: completed once, by whoever is first; what waits for one is woken once, in the same transaction."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import pytest

from stepwell.engine import cancel, replay, tokens, wake
from stepwell.errors import ApiError, Conflict, NotFound, PayloadInvalid, StepwellError
from stepwell.model.token import Token, TokenFilter, TokenSpec, token_id
from stepwell.model.wait import Wait
from stepwell.protocol.frames import Spawn, StartAttempt
from tests.engine.world import World, entry, plain

KEY = "/|token#0"
DECISION = b'{"type":"object","properties":{"approved":{"type":"boolean"}},"required":["approved"]}'
YES = b'{"approved":true}'


async def asking(world: World, **fields: Any) -> tuple[StartAttempt, str]:
    """A run that has made a token."""
    attempt = await world.started()
    refused = await world.write(attempt, entry(0, KEY, kind="token"), spawns=[Spawn(0, [], TokenSpec(**fields))])
    assert refused is None
    return attempt, token_id(attempt.run_id, KEY)


def waiting_for(token: str) -> Wait:
    return Wait("/|token.answer#0", "token", token_id=token)


async def complete(world: World, token: str, answer: bytes | None = YES, **more: Any) -> Token:
    return await tokens.complete(world.db, world.environment_id, token, answer, **more)


async def get(world: World, token: str) -> Token:
    return await tokens.get(world.db, world.environment_id, token)


async def times_run_out(world: World) -> None:
    await world.sql("UPDATE token SET timeout_at = clock_timestamp() - interval '1 s' WHERE timeout_at IS NOT NULL")


async def outcome_for(world: World, attempt: StartAttempt, token: str) -> Any:
    asked = (attempt.run_id, token)
    return (await tokens.closed_tokens(world.db, [asked])).get(asked)


async def test_a_run_s_token_is_made_together_with_its_checkpoint_and_only_once(world: World) -> None:
    attempt, token = await asking(world, title="Deploy?", data=b'{"to":"prod"}', answer_schema=DECISION, tags=("ops",))
    again = await world.write(attempt, entry(0, KEY, kind="token"), spawns=[Spawn(0, [], TokenSpec(title="other"))])
    assert again is None
    found = await get(world, token)
    assert (found.status, found.title, found.data, found.tags) == ("waiting", "Deploy?", b'{"to":"prod"}', ("ops",))
    assert (found.run_id, found.key, found.timeout_at) == (attempt.run_id, KEY, None)


async def test_a_refused_entry_makes_no_token(world: World) -> None:
    attempt = await world.started()
    refused = await world.write(attempt, entry(1, KEY, kind="token"), spawns=[Spawn(1, [], TokenSpec())])
    assert refused is not None
    with pytest.raises(NotFound):
        await get(world, token_id(attempt.run_id, KEY))


async def test_completing_wakes_the_run_in_the_same_transaction(world: World) -> None:
    attempt, token = await asking(world)
    await world.suspend(attempt, waiting_for(token))
    assert await world.status(attempt.run_id) == "waiting"
    done = await complete(world, token, by="mara")
    assert (done.status, plain(done.output), done.completed_by) == ("completed", {"approved": True}, "mara")
    assert await world.status(attempt.run_id) == "queued"
    assert (await world.kinds(attempt.run_id))[-3:] == ["suspended", "woken", "answered"]
    outcome = await outcome_for(world, attempt, token)
    assert (outcome.status, outcome.output, outcome.completed_by) == ("completed", YES, "mara")


async def test_completing_before_the_run_waits_is_kept(world: World) -> None:
    attempt, token = await asking(world)
    assert await outcome_for(world, attempt, token) is None
    await complete(world, token)
    await world.suspend(attempt, waiting_for(token))
    assert await world.status(attempt.run_id) == "queued"
    assert (await outcome_for(world, attempt, token)).status == "completed"


async def test_completing_twice_is_a_conflict_that_carries_the_stored_outcome(world: World) -> None:
    _, token = await asking(world)
    await complete(world, token, by="first")
    with pytest.raises(Conflict, match="was completed by first") as refused:
        await complete(world, token, b'{"approved":false}', by="second")
    assert refused.value.code == "token-closed"
    assert refused.value.details["status"] == "completed"
    assert refused.value.details["output"] == {"approved": True}
    assert refused.value.details["completedBy"] == "first"


async def test_the_same_request_sent_again_after_a_lost_reply_is_no_conflict(world: World) -> None:
    _, token = await asking(world)
    first = await complete(world, token, request_key="r1")
    assert await complete(world, token, request_key="r1") == first
    with pytest.raises(Conflict):
        await complete(world, token, request_key="r2")


async def test_an_answer_that_does_not_fit_names_its_field_and_leaves_the_token_open(world: World) -> None:
    attempt, token = await asking(world, answer_schema=DECISION)
    await world.suspend(attempt, waiting_for(token))
    for answer, field in ((b'{"approved":"yes"}', "approved"), (b"{}", "approved"), (None, ""), (b"{", "")):
        with pytest.raises(PayloadInvalid) as refused:
            await complete(world, token, answer)
        assert refused.value.problems[0]["field"] == field
    assert (await get(world, token)).status == "waiting"
    assert await world.status(attempt.run_id) == "waiting"
    await complete(world, token)


async def test_a_token_of_another_environment_does_not_exist(world: World) -> None:
    _, token = await asking(world)
    other = await World.create(world.db, "other", "worker-9")
    for verb in (tokens.get, tokens.cancel):
        with pytest.raises(NotFound) as refused:
            await verb(world.db, other.environment_id, token)
        assert refused.value.code == "token-not-found"
    with pytest.raises(NotFound):
        await complete(other, token)
    assert (await tokens.list_tokens(world.db, other.environment_id)).tokens == ()
    stranger = await other.started()
    assert (await outcome_for(world, stranger, token)).status == "unknown"


async def test_a_token_times_out_by_postgres_clock_and_wakes_its_run(world: World) -> None:
    attempt, token = await asking(world, timeout=14 * 86_400.0)
    await world.suspend(attempt, waiting_for(token))
    assert await tokens.time_out_due(world.db) == 0
    left = await tokens.next_timeout(world.db)
    assert left is not None
    assert 14 * 86_400 - 60 < left <= 14 * 86_400
    await times_run_out(world)
    assert [await tokens.time_out_due(world.db) for _ in range(2)] == [1, 0]
    assert await world.status(attempt.run_id) == "queued"
    assert (await outcome_for(world, attempt, token)).status == "timed_out"
    with pytest.raises(Conflict, match="was timed out"):
        await complete(world, token)


async def test_a_canceled_token_wakes_its_run_and_takes_no_answer(world: World) -> None:
    attempt, token = await asking(world)
    await world.suspend(attempt, waiting_for(token))
    await tokens.cancel(world.db, world.environment_id, token, by="mara")
    assert await world.status(attempt.run_id) == "queued"
    assert (await outcome_for(world, attempt, token)).status == "canceled"
    with pytest.raises(Conflict, match="was canceled by mara"):
        await complete(world, token)


async def test_a_token_of_a_run_that_ended_takes_no_answer_and_is_closed(world: World) -> None:
    attempt, token = await asking(world)
    await cancel.cancel(world.db, world.environment_id, attempt.run_id, grace=0)
    with pytest.raises(Conflict, match="was canceled by the end of its run"):
        await complete(world, token)
    assert await tokens.time_out_due(world.db) == 1
    assert (await get(world, token)).status == "canceled"


async def test_a_fork_that_waits_for_its_source_s_token_is_woken_too(world: World) -> None:
    attempt, token = await asking(world)
    await world.suspend(attempt, waiting_for(token))
    forked = await replay.fork(world.db, world.environment_id, attempt.run_id, from_checkpoint=0)
    [again] = await world.claim()
    assert again.run_id == forked.run_id
    await world.suspend(again, waiting_for(token))
    await complete(world, token)
    assert [await world.status(run_id) for run_id in (attempt.run_id, forked.run_id)] == ["queued", "queued"]


async def test_a_run_that_waits_for_a_token_from_outside_is_woken_and_the_sweep_finds_what_was_missed(
    world: World,
) -> None:
    made, _ = await tokens.create(world.db, world.environment_id, TokenSpec(title="from outside"))
    attempt = await world.started()
    await world.suspend(attempt, waiting_for(made.id))
    await world.sql("UPDATE token SET status = 'canceled', closed_at = now()")  # by nobody who woke anybody
    assert await world.status(attempt.run_id) == "waiting"
    assert await wake.wake_due(world.db) == 1
    assert await world.status(attempt.run_id) == "queued"


async def test_an_idempotency_key_finds_the_token_that_it_made_until_it_ends(world: World) -> None:
    async def make(key: str | None, **more: Any) -> tuple[Token, bool]:
        return await tokens.create(world.db, world.environment_id, TokenSpec(), idempotency_key=key, **more)

    first, cached = await make("k")
    assert not cached
    assert await make("k") == (first, True)
    assert (await make("other"))[0].id != first.id
    made = await asyncio.gather(*(make("raced") for _ in range(20)))
    assert len({token.id for token, _ in made}) == 1
    assert sorted(cached for _, cached in made) == [False] + [True] * 19
    await world.sql("UPDATE token SET idempotency_expires_at = clock_timestamp() WHERE idempotency_key = 'k'")
    assert (await make("k"))[0].id != first.id
    again, cached = await make(None, request_key="same request")
    assert await make(None, request_key="same request") == (again, cached)
    with pytest.raises(ApiError, match="printable"):
        await make("a\x00b")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (TokenSpec(data=b"{"), "no JSON"),
        (TokenSpec(answer_schema=b'{"type":"nonsense"}'), "no JSON Schema"),
        (TokenSpec(timeout=-1.0), "timeout"),
        (TokenSpec(tags=("",)), "tags"),
        (TokenSpec(title="x" * 501), "title"),
    ],
)
async def test_nonsense_makes_no_token_and_stops_no_other_run(world: World, spec: TokenSpec, said: str) -> None:
    with pytest.raises(StepwellError, match=said):
        await tokens.create(world.db, world.environment_id, spec)
    attempt = await world.started()
    refused = await world.write(attempt, entry(0, KEY, kind="token"), spawns=[Spawn(0, [], spec)])
    assert refused is not None
    assert said in refused.message
    assert await world.journal(attempt.run_id) == []


async def test_lists_are_newest_first_in_pages_and_filtered(world: World) -> None:
    made = [
        (await tokens.create(world.db, world.environment_id, TokenSpec(tags=(f"t{n % 2}",), title=str(n))))[0]
        for n in range(7)
    ]
    await complete(world, made[3].id, None)

    async def page(where: TokenFilter | None = None, **cursor: Any) -> tuple[list[str], str | None, str | None]:
        found = await tokens.list_tokens(world.db, world.environment_id, where, limit=3, **cursor)
        return [token.title or "" for token in found.tokens], found.next, found.previous

    names, following, before = await page()
    assert (names, before) == (["6", "5", "4"], None)
    names, following, before = await page(after=following)
    assert names == ["3", "2", "1"]
    assert (await page(before=before))[0] == ["6", "5", "4"]
    assert (await page(after=following)) == (["0"], None, made[0].id)
    assert (await page(TokenFilter(statuses=("completed",))))[0] == ["3"]
    assert (await page(TokenFilter(tags=("t1",))))[0] == ["5", "3", "1"]


@pytest.mark.parametrize("rounds", [120, pytest.param(500, marks=pytest.mark.chaos)])
async def test_of_racing_completers_timeout_and_suspend_one_wins_and_the_run_is_woken_once(
    world: World, rounds: int
) -> None:
    """20 completers, the timeout and the run's suspend, all at once, in every order that chance gives."""
    ends: Counter[str] = Counter()
    for _ in range(rounds):
        attempt, token = await asking(world, timeout=3600.0)
        await times_run_out(world)
        answers = [complete(world, token, b'{"n":%d}' % n, by=f"person {n}") for n in range(20)]
        verbs: list[Any] = [*answers, tokens.time_out_due(world.db), world.suspend(attempt, waiting_for(token))]
        random.shuffle(verbs)
        ended = await asyncio.gather(*verbs, return_exceptions=True)
        won = [each for each in ended if isinstance(each, Token)]
        lost = [each for each in ended if isinstance(each, BaseException)]
        closed = await get(world, token)
        assert len(won) == (closed.status == "completed")
        assert len(won) + len(lost) == 20
        assert not won or (won[0].output, won[0].completed_by) == (closed.output, closed.completed_by)
        for each in lost:  # all are told the one outcome that is stored
            assert isinstance(each, Conflict), each
            assert (each.code, each.status) == ("token-closed", 409)
            told = (each.details["status"], each.details.get("completedBy"), each.details.get("output"))
            assert told == (closed.status, closed.completed_by, plain(closed.output))
        kinds = await world.kinds(attempt.run_id)
        assert (kinds.count("woken"), kinds.count("answered")) == (1, 1)
        [again] = await world.claim()
        assert again.run_id == attempt.run_id
        await world.finish(again)
        ends[closed.status] += 1
    assert ends.keys() == {"completed", "timed_out"}
