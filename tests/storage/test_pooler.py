"""Behind PgBouncer in transaction mode, where a session is anybody's: everything works, but nothing is heard."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from stepwell.errors import DatabaseUnavailable
from stepwell.storage.database import Database, Tx
from stepwell.storage.migrations import migrate
from stepwell.storage.notify import Listener

PGBOUNCER = shutil.which("pgbouncer", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))
CONFIGURATION = """
[databases]
* = host=127.0.0.1 port={server.port} user={server.username} password={server.password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
"""

pytestmark = pytest.mark.skipif(PGBOUNCER is None, reason="pgbouncer is not installed here")


@pytest.fixture
async def pooled_url(database_url: str, tmp_path: Path) -> AsyncIterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = urlsplit(database_url)
    configuration = tmp_path / "pgbouncer.ini"
    configuration.write_text(CONFIGURATION.format(server=server, port=port))
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    command = [str(PGBOUNCER), *user, "/dev/stdin"]  # another user could not open the file itself
    with configuration.open() as stdin:
        pooler = subprocess.Popen(command, stdin=stdin, stderr=subprocess.DEVNULL)
    url = server._replace(netloc=f"{server.username}@127.0.0.1:{port}").geturl()
    try:
        await accepting(port, pooler)
        yield url
    finally:
        pooler.kill()
        pooler.wait()


async def accepting(port: int, pooler: subprocess.Popen[bytes]) -> None:
    while pooler.poll() is None:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            continue
        writer.close()
        await writer.wait_closed()
        return
    raise AssertionError(f"pgbouncer ended with {pooler.returncode}")


async def test_writes_and_reads_work_with_the_same_safeguards(pooled_url: str) -> None:
    async with await Database.connect(pooled_url, statement_timeout=7, lock_timeout=3) as database:

        async def make(tx: Tx) -> None:
            await tx.execute("CREATE TABLE note (id int, words jsonb)")

        async def insert(tx: Tx) -> int:
            return await tx.execute("INSERT INTO note VALUES ($1, $2)", 1, {"a": 1})

        await database.transact("make", make)
        assert await asyncio.gather(*(database.transact("insert", insert) for _ in range(50))) == [1] * 50
        async with database.read("look") as tx:
            assert await tx.fetchval("SELECT count(*) FROM note WHERE words = $1", b'{"a": 1}') == 50
            shown = [await tx.fetchval(f"SHOW {name}") for name in ("statement_timeout", "lock_timeout")]
        assert shown == ["7s", "3s"]


async def test_a_listener_says_that_nothing_can_be_heard(pooled_url: str, caplog: pytest.LogCaptureFixture) -> None:
    warned = asyncio.Event()
    caplog.handler.addFilter(lambda record: warned.set() or True)
    async with Listener(pooled_url) as listener:
        await warned.wait()
        assert not listener.listening
    assert "is a transaction pooler" in caplog.text


async def test_a_migration_asks_for_postgres_itself(pooled_url: str) -> None:
    with pytest.raises(DatabaseUnavailable, match="is a transaction pooler, and this needs a session of its own"):
        await migrate(pooled_url)
