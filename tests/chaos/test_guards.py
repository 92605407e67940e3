"""A semaphore with the real server, workers and Postgres, while all of them are killed: judged by a ledger outside."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from stepwell.client import Stepwell
from stepwell.errors import StepwellError
from tests.stack import MakeStack, Stack, completed, until

TASKS = "tests/chaos/guarding.py"
FAULTS = ("executor", "executor", "executor", "backends", "worker", "server")
BACKENDS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


@pytest.mark.parametrize(
    ("runs", "faults", "kinds"),
    [
        pytest.param(50, 8, FAULTS, id="short"),
        pytest.param(600, 120, (*FAULTS, "freeze"), id="long", marks=pytest.mark.chaos),
    ],
)
@pytest.mark.timeout(1800)
async def test_never_three_are_inside_a_semaphore_of_two_whatever_is_killed(
    make_stack: MakeStack,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    runs: int,
    faults: int,
    kinds: tuple[str, ...],
) -> None:
    ledger = tmp_path / "ledger"
    ledger.touch()
    monkeypatch.setenv("GUARD_LEDGER", str(ledger))
    stack = make_stack(TASKS)
    stack.add_worker(TASKS)
    seed = int(os.environ.get("SEED", random.randrange(1000)))
    print(f"SEED={seed}")
    chance = random.Random(seed)
    done: Counter[str] = Counter()
    async with stack.client() as client:
        made = [await client.trigger("guarded", {"name": f"run-{number}"}) for number in range(runs)]
        for number in range(faults):
            wanted = (number + 1) * 3 * runs // (faults + 1)
            await until(lambda wanted=wanted: len(lines_of(ledger)) >= wanted, 120)
            kind = FAULTS[number] if number < len(FAULTS) else chance.choice(kinds)
            await strike(kind, stack, chance)
            done[kind] += 1
        for number, run in enumerate(made):
            assert await patiently(client, run.id) == f"run-{number}"
        await until(lambda: at_rest(stack))
        [guard] = await client.guards.list("semaphore")
    assert done.keys() >= set(FAULTS)
    assert (guard.held, guard.waiting) == (0, 0)
    assert most_inside(lines_of(ledger), runs) == 2


async def strike(kind: str, stack: Stack, chance: random.Random) -> None:
    worker = chance.choice([each for each in stack.workers if each.alive])
    match kind:
        case "executor":
            pids = worker.executors()
            if pids:
                os.kill(chance.choice(pids), signal.SIGKILL)
        case "worker":
            worker.kill()
            await asyncio.to_thread(stack.add_worker, TASKS)
        case "server":
            stack.server.kill()
            await asyncio.to_thread(stack.server.start)
        case "backends":
            await stack.rows(BACKENDS)
        case "freeze":  # a zombie: its leases end, and it must not go on with its runs
            os.kill(worker.pid, signal.SIGSTOP)
            await asyncio.sleep(6)
            os.kill(worker.pid, signal.SIGCONT)


async def patiently(client: Stepwell, run_id: str) -> Any:
    """A server that was killed a moment ago may refuse the first question."""
    while True:
        try:
            return await completed(client, run_id, 120)
        except StepwellError:
            await asyncio.sleep(0.2)


async def at_rest(stack: Stack) -> bool:
    return (
        await stack.value("SELECT count(*) FROM permit") == 0 and await stack.value("SELECT count(*) FROM lease") == 0
    )


def lines_of(ledger: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in ledger.read_text().splitlines()]


def most_inside(lines: list[dict[str, Any]], runs: int) -> int:
    """How many were inside at once, at most: a run is, from its first "in" to its last "out"."""
    assert [line["at"] for line in lines] == sorted(line["at"] for line in lines)  # one clock for all processes here
    first = {line["run"]: place for place, line in reversed(list(enumerate(lines))) if line["what"] == "in"}
    last = {line["run"]: place for place, line in enumerate(lines) if line["what"] == "out"}
    assert len(first) == len(last) == runs
    return max(sum(first[run] <= place <= last[run] for run in first) for place in range(len(lines)))
