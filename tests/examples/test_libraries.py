"""Real libraries just work as plain awaits in a task, and what they did before a kill is not done again after it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.examples.processes import free_port, lines_of, program
from tests.stack import MakeStack, completed, until

TASKS = str(Path(__file__).with_name("libraries.py"))
PLAYED = str(Path(__file__).with_name("played_model.py"))


def counted(name: str) -> list[dict[str, Any]]:
    return [{"name": name, "count": 1}, {"name": name, "count": 2}]


OUTPUTS: dict[str, Any] = {
    "with-httpx": ["Response", 200, "application/json", *counted("httpx")],
    "with-aiohttp": counted("aiohttp"),
    "with-asyncpg": [1, 2],
    "with-psycopg": [1, 2],
    "with-openai": ["ChatCompletion", "search"],
    "with-anthropic": ["Message", "search"],
    "with-anyio-in-a-step": [[0, 1, 2, 3, 4], [0, 1, 2, 3, 4]],
    "with-a-thread": [1, 2],
    "with-values": {
        "pydantic": "Person(name='Ada', balance=Decimal('10.50'))",
        "dataclass": "Point(x=1, y=2)",
        "attrs": "Pair(left='l', right=<Colour.RED: 'red'>)",
        "msgspec": "Reading(at=1.5, label='warm')",
        "enum": "<Colour.RED: 'red'>",
        "scalar": "np.float32(2.5)",
        "array": "array([[0, 1, 2],\n       [3, 4, 5]], dtype=int16)",
    },
}


@pytest.mark.timeout(180)
async def test_each_library_goes_on_after_a_kill_without_doing_anything_again(
    make_stack: MakeStack, database_url: str, tmp_path: Path
) -> None:
    port, questions, held = free_port(), tmp_path / "questions.jsonl", tmp_path / "held"
    held.mkdir()
    with program(PLAYED, str(port), str(questions), says="model on"):
        counter = f"http://127.0.0.1:{port}"
        environ = {"LIBRARY_COUNTER": counter, "LIBRARY_DATABASE": database_url, "LIBRARY_HELD": str(held)}
        stack = make_stack(TASKS, environ=environ | {"NO_PROXY": "127.0.0.1"}, slots=16)
        await stack.rows("CREATE SEQUENCE of_asyncpg")
        await stack.rows("CREATE SEQUENCE of_psycopg")
        async with stack.client() as client:
            runs = {task: (await client.trigger(task, {})).id for task in OUTPUTS}
            await until(lambda: len(list(held.iterdir())) == len(runs), 90)
            assert stack.worker.kill_executors()
            outputs = {task: await completed(client, run) for task, run in runs.items()}
        assert outputs == OUTPUTS
        assert len(lines_of(questions)) == 2  # one of each vendor's client
    crashed = await stack.value("SELECT count(DISTINCT run_id) FROM event WHERE kind = 'crashed'")
    assert crashed == len(runs)
