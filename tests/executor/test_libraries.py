"""Real libraries as plain awaits in tasks, against local servers, killed after every checkpoint."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import aiohttp
import anthropic
import anyio
import anyio.to_thread
import asyncpg
import httpx
import openai
import psycopg
import pytest

from stepwell import step, task
from stepwell.testing import check_every_prefix_sync, run_task_sync

ANSWERS: dict[str, Any] = {
    "/v1/chat/completions": {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hello"}}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    },
    "/v1/messages": {
        "id": "m1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": "hello"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    },
}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    asked: list[str]

    def answer(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        self.rfile.read(length)
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        body = json.dumps(ANSWERS.get(self.path, {"path": self.path})).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer  # noqa: N815 - the handler's protocol

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.asked = asked  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


asked: list[str] = []

# A life that is as good as dead closes no socket, as a dead process would; the process of these tests lives on.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def sockets_of_dead_lives() -> Iterator[None]:
    """They are collected here, where the warnings about them are expected, and not within another test."""
    yield
    gc.collect()


def check(guilty: Any, *args: Any) -> Any:
    """Every prefix; and with the whole journal nothing is asked of the server again."""
    result = check_every_prefix_sync(guilty, *args, strict=False)
    return result.value


@task
async def with_httpx(url: str) -> Any:
    async with httpx.AsyncClient(base_url=url) as client:
        first = await client.get("/a")
        both = await asyncio.gather(client.get("/b"), client.post("/c", json={"x": 1}))
    return [first.status_code, first.json(), [response.json()["path"] for response in both]]


def test_httpx(url: str) -> None:
    assert check(with_httpx, url) == [200, {"path": "/a"}, ["/b", "/c"]]


def test_httpx_asks_once_for_each_await(url: str) -> None:
    asked.clear()
    run_task_sync(with_httpx, url)
    assert sorted(asked) == ["/a", "/b", "/c"]


@step
async def get_with_aiohttp(session: aiohttp.ClientSession, path: str) -> Any:
    async with session.get(path) as response:
        return await response.json()


async def read(response: aiohttp.ClientResponse) -> Any:
    return await response.json()


@task
async def with_aiohttp(url: str) -> Any:
    async with aiohttp.ClientSession(url) as session:
        first = await get_with_aiohttp(session, "/a")
        async with session.get("/b") as response:
            second = await read(response)
        return [first, second, await asyncio.gather(*(get_with_aiohttp(session, f"/{i}") for i in range(3)))]


def test_aiohttp(url: str) -> None:
    assert check(with_aiohttp, url) == [{"path": "/a"}, {"path": "/b"}, [{"path": f"/{i}"} for i in range(3)]]


@task
async def with_openai(url: str) -> Any:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k") as client:
        messages: Any = [{"role": "user", "content": "hi"}]
        said = []
        for _ in range(2):
            completion = await client.chat.completions.create(model="m", messages=messages)
            messages.append({"role": "assistant", "content": completion.choices[0].message.content})
            said.append(completion.choices[0].message.content)
        return [said, len(messages)]


def test_openai(url: str) -> None:
    assert check(with_openai, url) == [["hello", "hello"], 3]


@task
async def with_anthropic(url: str) -> Any:
    messages: Any = [{"role": "user", "content": "hi"}]
    async with anthropic.AsyncAnthropic(base_url=url, api_key="k") as client:
        first = await client.messages.create(model="m", max_tokens=5, messages=messages)
        second = await client.messages.create(model="m", max_tokens=5, messages=messages)
    return [first.content[0].text, second.usage.input_tokens]  # type: ignore[union-attr]


def test_anthropic(url: str) -> None:
    assert check(with_anthropic, url) == ["hello", 1]


async def with_a_task_group_of_anyio(n: int) -> list[int]:
    out: list[int] = []

    async def one(i: int) -> None:
        await anyio.sleep(0.001)
        out.append(await anyio.to_thread.run_sync(lambda: i * 2))

    async with anyio.create_task_group() as group:
        for i in range(n):
            group.start_soon(one, i)
    with anyio.move_on_after(0.01):
        await anyio.sleep_forever()
    return sorted(out)


@task
async def with_anyio() -> Any:
    return [await with_a_task_group_of_anyio(3), await with_a_task_group_of_anyio(2)]


def test_anyio_inside_a_step() -> None:
    assert check(with_anyio) == [[0, 2, 4], [0, 2]]


@task
async def with_asyncpg(dsn: str) -> Any:
    return await open_asyncpg(dsn)


async def open_asyncpg(dsn: str) -> Any:
    connection = await asyncpg.connect(dsn)
    try:
        return [dict(row) for row in await connection.fetch("SELECT n FROM generate_series(1, 3) AS n")]
    finally:
        await connection.close()


@task
async def with_a_pool_of_asyncpg(dsn: str) -> Any:
    async with asyncpg.create_pool(dsn, min_size=1, max_size=2) as pool:
        first = await pool.fetchval("SELECT 1")
        both = await asyncio.gather(pool.fetchval("SELECT 2"), pool.fetchval("SELECT 3"))
        async with pool.acquire() as connection:
            async with connection.transaction():
                last = await connection.fetchval("SELECT 4")
    return [first, *both, last]


def test_asyncpg_in_a_step(database_url: str) -> None:
    assert check(with_asyncpg, database_url) == [{"n": 1}, {"n": 2}, {"n": 3}]


def test_a_pool_of_asyncpg_in_a_task(database_url: str) -> None:
    assert check(with_a_pool_of_asyncpg, database_url) == [1, 2, 3, 4]


async def query(connection: Any, text: Any) -> Any:
    cursor = await connection.execute(text)
    return (await cursor.fetchone())[0]


@task
async def with_psycopg(dsn: str) -> Any:
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        return await connection.info


@task
async def with_psycopg_in_a_task(dsn: str) -> Any:
    async with connected(dsn) as connection:
        first = await query(connection, "SELECT 1")
        second = await query(connection, "SELECT 2")
    return [first, second]


class connected:  # noqa: N801 - reads as a word
    """`AsyncConnection.connect` is a coroutine whose result cannot be stored: an `async with` around both."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn

    async def __aenter__(self) -> Any:
        self.connection = await psycopg.AsyncConnection.connect(self.dsn)
        return self.connection

    async def __aexit__(self, *_: object) -> None:
        await self.connection.close()


def test_psycopg(database_url: str) -> None:
    assert check(with_psycopg_in_a_task, database_url) == [1, 2]


def test_a_connection_as_a_result_is_refused_with_the_way_out(database_url: str) -> None:
    result = run_task_sync(with_psycopg, database_url)
    assert result.failure is not None
    assert result.failure.code == "checkpoint_invalid"
    assert "async with" in (result.failure.hint or "")
