"""Restate: its server from npm, its Python SDK served by hypercorn."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
import urllib.request
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import restate

from bench.harness import surroundings
from bench.harness.events import emit
from bench.harness.peer import Peer
from bench.harness.processes import Process, spawn, until_port

CONCURRENCY = 64
service = restate.Service("Bench")


@service.handler()
async def noop(ctx: restate.Context, i: int) -> float:
    return time.time()


@service.handler()
async def echo(ctx: restate.Context, text: str) -> str:
    return text


@service.handler()
async def steps(ctx: restate.Context, n: int) -> int:
    for i in range(n):
        await ctx.run_typed("nothing", lambda i=i: i)
    return n


@service.handler()
async def long(ctx: restate.Context, n: int) -> int:
    for i in range(n):
        await ctx.run_typed("reported", emit, name="step", number=i)
    return n


@service.handler()
async def parent(ctx: restate.Context, n: int) -> int:
    children = [ctx.service_call(noop, arg=i) for i in range(n)]
    await restate.gather(*children)
    return len(children)


@service.handler()
async def sleeper(ctx: restate.Context, given: list[float]) -> int:
    emit("sleep", int(given[0]))
    await ctx.sleep(timedelta(seconds=max(0.0, given[1] - time.time())))
    emit("wake", int(given[0]))
    return 0


app = restate.app([service])


class ThePeer(Peer):
    packages = ("restate-sdk", "hypercorn")
    setup = (
        f"single-node server with default settings, hypercorn with 2 processes, {CONCURRENCY} connections of the client"
    )

    def start_server(self) -> None:
        import httpx

        self._ingress, self._admin, self._node, self._endpoint = (surroundings.free_port() for _ in range(4))
        program = Path(os.environ["BENCH_NPM"]) / "restate-server"
        self._server = spawn(
            [program, "--no-logo", "--listen-mode", "tcp"],
            "server",
            RESTATE_BASE_DIR=str(self.folder / "data"),
            RESTATE_DISABLE_TELEMETRY="true",
            DO_NOT_TRACK="1",
            RESTATE_LOG_FILTER="error",
            RESTATE_INGRESS__BIND_ADDRESS=f"127.0.0.1:{self._ingress}",
            RESTATE_ADMIN__BIND_ADDRESS=f"127.0.0.1:{self._admin}",
            RESTATE_BIND_ADDRESS=f"127.0.0.1:{self._node}",
            RESTATE_ADVERTISED_ADDRESS=f"http://127.0.0.1:{self._node}/",
        )
        until_port(self._admin)
        until_port(self._ingress)
        time.sleep(2)
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{self._ingress}", timeout=120)
        self._registered = False
        self._ended = 0

    def start_workers(self, workers: int | None = None) -> list[Process]:
        return [self.start_worker(0, workers=workers or self.workers)]

    def start_worker(self, number: int, *, workers: int = 1) -> Process:
        program = Path(sys.executable).with_name("hypercorn")
        words = ["-b", f"127.0.0.1:{self._endpoint}", "-w", workers, "--log-level", "error"]
        process = spawn([program, *words, "bench.peers.restate_peer:app"], "worker")
        until_port(self._endpoint)
        if not self._registered:
            time.sleep(1)
            self._register()
        return process

    def _register(self) -> None:
        body = json.dumps({"uri": f"http://127.0.0.1:{self._endpoint}", "force": True}).encode()
        address, kind = f"http://127.0.0.1:{self._admin}/deployments", {"content-type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(address, body, kind), timeout=60) as answer:
            answer.read()
        self._registered = True
        time.sleep(1)

    def trigger_each(self, task: str, arguments: Sequence[Any]) -> None:
        asyncio.run(self._many(task, arguments, send=True, at_once=1))

    def trigger_all(self, task: str, arguments: Sequence[Any]) -> None:
        asyncio.run(self._many(task, arguments, send=True, at_once=CONCURRENCY))

    def run_all(self, task: str, arguments: Sequence[Any], limit: float = 300) -> float:
        """Calls that return when the run has durably ended: the way in which it is fastest."""
        began = time.perf_counter()
        asyncio.run(self._many(task, arguments, send=False, at_once=CONCURRENCY))
        return time.perf_counter() - began

    def call(self, task: str, argument: Any) -> Any:
        return self._http.post(f"/Bench/{task}", json=argument).raise_for_status().json()

    def versions(self) -> dict[str, str]:
        package = Path(os.environ["BENCH_NPM"]).parent / "@restatedev" / "restate-server" / "package.json"
        return super().versions() | {"server": json.loads(package.read_text())["version"]}

    def server_pids(self) -> dict[str, int]:
        return {"server": self._server.pid}

    async def _many(self, task: str, arguments: Sequence[Any], *, send: bool, at_once: int) -> None:
        import aiohttp  # httpx as the client was the bottleneck

        limit = asyncio.Semaphore(at_once)
        address = f"http://127.0.0.1:{self._ingress}/Bench/{task}{'/send' if send else ''}"
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=at_once)) as session:

            async def one(argument: Any) -> None:
                async with limit, session.post(address, json=argument) as answer:
                    answer.raise_for_status()
                    await answer.read()

            await asyncio.gather(*(one(argument) for argument in arguments))
