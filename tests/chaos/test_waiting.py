"""What waits costs nothing, and goes on in time: naps, long journals, many children. On a real stack."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from stepwell.client import Stepwell
from tests.chaos import ledger
from tests.chaos.history import Execution
from tests.chaos.waiting import HELD
from tests.stack import MakeStack, Stack, completed, until

TASKS = str(Path(__file__).with_name("waiting.py"))
HOUR = 3600.0
LATE = 2.0
PACE = 0.03
"""Seconds between one run's time and the next one's: what is measured is punctuality, not how many at once."""
MEGABYTE = 1 << 20

UNHURRIED = {"lease": 30, "heartbeat": 5}
"""Nothing here waits for a lease to end, and a busy machine must not end one."""
WAITING = "SELECT count(*) FROM run WHERE status = 'waiting'"
ENDED = "SELECT count(*) FROM run WHERE ended_as = 'completed'"
CLAIMS = """
SELECT extract(epoch FROM at)::float8 AS at FROM event WHERE run_id = $1 AND kind = 'claimed' ORDER BY seq
"""
# Gives time instead of waiting for it: what began now began an hour ago, and is due in $1 seconds and in $2 more each.
AN_HOUR_AGO = """
WITH due AS (
    UPDATE wait SET due_at = now() + make_interval(secs => $1::float8 + $2::float8 * place.number)
    FROM (SELECT run_id AS id, row_number() OVER (ORDER BY run_id) AS number FROM wait) AS place
    WHERE wait.run_id = place.id
    RETURNING wait.run_id, wait.due_at
)
UPDATE run SET started_at = due.due_at - make_interval(secs => $3::float8) FROM due WHERE run.id = due.run_id
RETURNING run.id, extract(epoch FROM due.due_at)::float8 AS due
"""


@pytest.fixture
def evidence(tmp_path: Path) -> Path:
    return tmp_path / "ledger.jsonl"


@pytest.fixture
def stack(make_stack: MakeStack, evidence: Path, request: pytest.FixtureRequest) -> Stack:
    marked = request.node.get_closest_marker("worker")
    settings = marked.kwargs if marked else {}
    return make_stack(TASKS, environ={ledger.VARIABLE: str(evidence)}, **settings)


async def naps(client: Stepwell, stack: Stack, count: int) -> None:
    """So many runs that sleep an hour, all suspended."""
    before = await stack.value(WAITING)
    await client.batch_trigger("nap", [{"seconds": HOUR}] * count)

    async def all_wait() -> bool:
        return await stack.value(WAITING) == before + count

    await until(all_wait, 120, every=0.2)


@pytest.mark.worker(slots=1, warm_seconds=0)
async def test_a_run_that_sleeps_an_hour_holds_no_executor_and_no_slot(stack: Stack) -> None:
    async with stack.client() as client:
        await client.batch_trigger("nap-alone", [{"seconds": HOUR}] * 3)  # their queue has room for one at a time

        async def all_wait() -> bool:
            return await stack.value(WAITING) == 3

        await until(all_wait)
        assert await completed(client, (await client.trigger("hello", {"name": "you"})).id) == "hello you"
        assert await stack.value("SELECT count(*) FROM lease") == 0
        await until(lambda: stack.worker.executors() == [])


@pytest.mark.parametrize("count", [100, pytest.param(2000, marks=pytest.mark.chaos)])
@pytest.mark.timeout(300)
async def test_sleeping_runs_leave_the_workers_memory_where_it_was_and_wake_in_time(
    stack: Stack, evidence: Path, count: int
) -> None:
    async with stack.client() as client:
        await naps(client, stack, 40)  # everything is loaded, the pool is warm
        before = stack.worker.memory()
        await naps(client, stack, count)
        growth = stack.worker.memory() - before
        assert growth < 16 * MEGABYTE, f"{growth / MEGABYTE:.1f} MB more, of {before / MEGABYTE:.1f}"

        due = {row["id"]: row["due"] for row in await stack.rows(AN_HOUR_AGO, 1.0, PACE, HOUR)}

        async def all_ended() -> bool:
            return await stack.value(ENDED) == count + 40

        await until(all_ended, 200, every=0.2)
        late = {each.run: each.wall - due[each.run] for each in ledger.read(evidence)}
        assert late.keys() == due.keys()
        assert min(late.values()) >= 0
        assert max(late.values()) <= LATE
        assert await stack.rows("SELECT * FROM run_without_wakeup") == []


@pytest.mark.worker(server=UNHURRIED)
@pytest.mark.parametrize("count", [10_000])
@pytest.mark.timeout(300)
async def test_a_run_with_ten_thousand_checkpoints_resumes_within_a_second(
    stack: Stack, evidence: Path, count: int
) -> None:
    async with stack.client() as client:
        run = (await client.trigger("long-journal", {"count": count})).id
        for lives in range(1, HELD + 1):
            os.kill((await _nth_life(client, run, evidence, lives)).pid, signal.SIGKILL)
        assert await completed(client, run) == sum(range(count))
        assert await stack.value("SELECT count(*) FROM checkpoint WHERE run_id = $1", run) == count + 1
    claims = [row["at"] for row in await stack.rows(CLAIMS, run)]
    took = [again.wall - at for again, at in zip(ledger.read(evidence), claims, strict=True)][1:]
    print(f"resumed after {count} checkpoints in", ", ".join(f"{seconds:.3f} s" for seconds in took))
    assert min(took) < 1.0  # of several, since other tests share this machine


async def _nth_life(client: Stepwell, run: str, evidence: Path, number: int) -> Execution:
    """The execution of the last step in that life of the run."""

    async def seen() -> Execution | None:
        executions = ledger.read(evidence)
        detail = await client.runs.retrieve(run)
        assert detail.finished_at is None, detail
        return executions[number - 1] if len(executions) >= number else None

    return await until(seen, 100, every=0.05)


@pytest.mark.worker(server=UNHURRIED)
@pytest.mark.parametrize("count", [500])
@pytest.mark.timeout(180)
async def test_a_parent_of_five_hundred_children_is_suspended_and_has_their_results_in_order(
    stack: Stack, count: int
) -> None:
    async with stack.client() as client:
        run = (await client.trigger("many", {"count": count})).id
        assert await completed(client, run, 150) == [2 * number for number in range(count)]
    kinds = [row["kind"] for row in await stack.rows("SELECT kind FROM event WHERE run_id = $1 ORDER BY seq", run)]
    assert kinds == ["triggered", "claimed", "suspended", "woken", "claimed", "completed"]
    worked_meanwhile = await stack.value(
        """
        SELECT count(*) FROM event AS child JOIN run ON run.id = child.run_id,
             (SELECT min(at) FILTER (WHERE kind = 'suspended') AS since, min(at) FILTER (WHERE kind = 'woken') AS until
              FROM event WHERE run_id = $1) AS away
        WHERE run.parent_id = $1 AND child.kind = 'claimed' AND child.at BETWEEN since AND until
        """,
        run,
    )
    assert worked_meanwhile > count / 2
