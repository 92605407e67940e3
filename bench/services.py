"""The Postgres and the Redis that all peers share, one after the other, under .bench/."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import psycopg
from psycopg import sql

from bench.environments import redis_program
from bench.harness.processes import until_port
from bench.harness.surroundings import free_port
from stepwell.storage.embedded import EmbeddedPostgres, find_postgres_bindir

DEBIAN = Path("/usr/lib/postgresql/15/bin")


class Postgres:
    """A cluster of its own, with shipped settings: fsync and synchronous_commit on. Only connections are more."""

    def __init__(self, home: Path) -> None:
        self.bindir = DEBIAN if (DEBIAN / "postgres").exists() else find_postgres_bindir()
        self._server = EmbeddedPostgres(home, settings={"max_connections": "200"}, bindir=self.bindir)
        self._server.start()

    def fresh(self, name: str) -> str:
        """The URL of an empty database, after a checkpoint."""
        database = sql.Identifier(name)
        with self._connect() as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(database))
            connection.execute(sql.SQL("CREATE DATABASE {}").format(database))
            connection.execute("CHECKPOINT")
        return self._server.url.removesuffix("/postgres") + f"/{name}"

    def settings(self) -> dict[str, str]:
        names = ("server_version", "fsync", "synchronous_commit", "shared_buffers", "wal_sync_method")
        with self._connect() as connection:
            return {name: connection.execute(f"SHOW {name}").fetchone()[0] for name in names}  # type: ignore[index]

    @property
    def pid(self) -> int:
        return self._server.pid or 0

    def stop(self) -> None:
        self._server.stop()

    def _connect(self) -> psycopg.Connection:
        return psycopg.connect(self._server.url, autocommit=True)


class Redis:
    """Append-only file, synced each second: what its documentation advises for durability. Empty at start."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def fresh(self) -> str:
        """The URL of an empty server."""
        self.stop()
        shutil.rmtree(self._home, ignore_errors=True)
        self._home.mkdir(parents=True)
        settings = {
            "bind": "127.0.0.1",
            "port": str(self._port),
            "dir": str(self._home),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "everysec",
        }
        options = [word for name, value in settings.items() for word in (f"--{name}", value)]
        with (self._home / "redis.log").open("wb") as log:
            self._process = subprocess.Popen([redis_program(), *options], stdout=log, stderr=log)
        until_port(self._port)
        return f"redis://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    def version(self) -> str:
        told = subprocess.run([redis_program(), "--version"], capture_output=True, text=True, check=True).stdout
        return told.partition("v=")[2].split()[0]

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()  # its data is thrown away
            self._process.wait()
            self._process = None
