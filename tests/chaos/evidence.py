"""Reads, when all is quiet, what the database and the API say happened."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from tests.chaos.history import Acked, Answer, Canceled, Entry, Execution, Fact, Fault, History, RunRow
from tests.chaos.workload import LIMIT, attempts_of, few, steps_of
from tests.stack import Stack

_TAKEN = """
SELECT run_id, count(*) AS count FROM checkpoint WHERE key LIKE '|take#%' AND outcome = 'value' GROUP BY run_id
"""
_RUNS = "SELECT id, task_id, queue, status, idempotency_key, attempt FROM run"
_FACTS = "SELECT run_id, extract(epoch FROM at)::float8 AS wall, kind, (data ->> 'epoch')::int AS epoch FROM event"


async def gather(
    stack: Stack,
    steps: int,
    acked: list[Acked],
    executions: list[Execution],
    faults: list[Fault],
    stuck: list[str],
    cancels: Sequence[Canceled] = (),
    answers: Sequence[Answer] = (),
) -> History:
    """The history of a run of the harness."""
    rows = await stack.rows(_RUNS)
    tokens = await _tokens(stack, [row["id"] for row in rows if row["status"] == "completed"])
    open_runs = await stack.rows("SELECT id FROM run_without_wakeup")
    return History(
        acked=acked,
        runs=[_run(row, tokens.get(row["id"]), steps) for row in rows],
        executions=executions,
        journal=[Entry(*row) for row in await stack.rows("SELECT run_id, seq, epoch FROM checkpoint")],
        facts=[Fact(*row) for row in await stack.rows(f"{_FACTS} ORDER BY run_id, seq")],
        faults=faults,
        stuck=[*stuck, *(f"{row['id']} has no wake-up reason at the end" for row in open_runs)],
        leases=[(row["run_id"], row["epoch"]) for row in await stack.rows("SELECT run_id, epoch FROM lease")],
        cancels=list(cancels),
        answers=list(answers),
        taken={row["run_id"]: row["count"] for row in await stack.rows(_TAKEN)},
        closed={row["id"]: row["completed_by"] for row in await stack.rows("SELECT id, completed_by FROM token")},
        limits={few.name: LIMIT},
    )


def _run(row: Any, tokens: tuple[str, ...] | None, steps: int) -> RunRow:
    task = row["task_id"]
    return RunRow(
        row["id"],
        task,
        row["queue"],
        row["status"],
        row["idempotency_key"],
        row["attempt"],
        tokens,
        steps_of(task, steps),
        attempts_of(task),
    )


async def _tokens(stack: Stack, run_ids: list[str]) -> dict[str, tuple[str, ...]]:
    """Outputs, as any client reads them."""
    limit = asyncio.Semaphore(16)
    async with stack.client() as client:

        async def of(run_id: str) -> tuple[str, tuple[str, ...]]:
            async with limit:
                return run_id, tuple(_texts((await client.runs.retrieve(run_id)).output))

        return dict(await asyncio.gather(*map(of, run_ids)))


def _texts(tree: Any) -> list[str]:
    if isinstance(tree, list):
        return [text for item in tree for text in _texts(item)]
    return [tree] if isinstance(tree, str) else []
