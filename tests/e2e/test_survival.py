"""SIGKILL to everything at once, Postgres too, between each of three approvals and in a wait of two weeks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest

from stepwell.client import Stepwell
from tests.e2e.terminal import Dev, gone
from tests.stack import completed, until

TASKS = """
import pathlib

from stepwell import sleep, step, task, token


@step
async def note(ledger: str, line: str) -> None:
    with pathlib.Path(ledger).open("a") as file:
        file.write(line + "\\n")


@task(id="release")
async def release(ledger: str) -> list[str]:
    told = []
    for who in ("ada", "mara", "kim"):
        await note(ledger, f"asks {who}")
        answer = await token(title=f"{who}, release it?", timeout="30d")
        told.append(f"{who}: {answer.comment}")
        await note(ledger, f"heard {who}")
    nobody = await token(title="Any objection?", timeout="14d", default=None)
    await note(ledger, f"objection: {nobody}")
    return told


@task(id="nap")
async def nap(ledger: str) -> str:
    await sleep("14d")
    await note(ledger, "slept")
    return "rested"
"""
TWO_WEEKS_PASS = (
    "UPDATE token SET timeout_at = timeout_at - interval '14 days' WHERE status = 'waiting'",
    "UPDATE wait SET due_at = due_at - interval '14 days' WHERE due_at IS NOT NULL",
    "UPDATE run SET started_at = started_at - interval '14 days' WHERE task_id = 'nap'",
)


def killed(dev: Dev) -> None:
    """Every process of it at once: server, worker, fork server, executors, Postgres."""
    family = dev.family()
    assert any("postgres" in process.name() for process in family)
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    dev.ended()
    assert gone(family) == []


@pytest.mark.timeout(240)
async def test_three_approvals_and_two_weeks_survive_the_death_of_everything_between_each(
    project: Path, start: Callable[..., Dev], tmp_path: Path
) -> None:
    (project / "tasks.py").write_text(TASKS)
    ledger = tmp_path / "ledger"

    def up() -> tuple[Dev, Stepwell]:
        dev = start(project)
        dev.ready()
        return dev, Stepwell(url=dev.file()["url"], api_key=dev.file()["api_key"])

    async def asked(client: Stepwell) -> Any:
        return (await client.list_tokens(status="waiting")).data

    async def suspended(client: Stepwell) -> bool:
        return (await client.runs.retrieve(run)).state == "waiting"

    dev, client = up()
    nap = (await client.trigger("nap", {"ledger": str(tmp_path / "nap")})).id
    run = (await client.trigger("release", {"ledger": str(ledger)})).id
    for number, who in enumerate(("ada", "mara", "kim")):
        [open_token] = await until(partial(asked, client))
        assert open_token.title == f"{who}, release it?"
        await until(partial(suspended, client))
        killed(dev)
        await client.aclose()
        dev, client = up()
        await client.complete_token(open_token.id, {"approved": True, "comment": f"yes {number}"}, by=who)
    await until(lambda: len(ledger.read_text().splitlines()) == 6)
    await until(partial(suspended, client))
    killed(dev)
    await client.aclose()
    dev, client = up()
    connection = await asyncpg.connect(dev.file()["database_url"])
    for statement in TWO_WEEKS_PASS:
        assert await connection.execute(statement) == "UPDATE 1"
    await connection.close()
    assert await completed(client, nap) == "rested"
    assert await completed(client, run) == ["ada: yes 0", "mara: yes 1", "kim: yes 2"]
    kinds = [event.type for event in await client.runs.events(run)]
    await client.aclose()
    assert dev.interrupt() == 0
    asks = [line for who in ("ada", "mara", "kim") for line in (f"asks {who}", f"heard {who}")]
    assert ledger.read_text().splitlines() == [*asks, "objection: None"]
    assert (tmp_path / "nap").read_text() == "slept\n"
    assert kinds.count("woken") == 4
