"""What the one who started this measurement has set up: database, Redis, a folder."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any


def database_url() -> str:
    return os.environ["BENCH_DATABASE_URL"]


def redis_url() -> str:
    return os.environ["BENCH_REDIS_URL"]


def folder() -> Path:
    """Of this measurement alone; removed before the next one of the peer."""
    return Path(os.environ["BENCH_FOLDER"])


def variant() -> str:
    return os.environ.get("BENCH_VARIANT", "")


def service_pids() -> dict[str, int]:
    """Of Postgres and Redis, where this peer uses them."""
    names = {"postgres": "BENCH_POSTGRES_PID", "redis": "BENCH_REDIS_PID"}
    return {name: int(os.environ[key]) for name, key in names.items() if key in os.environ}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


_connection: Any = None


def sql(query: str) -> Any:
    """The first value of the first row of a query on the measurement's database; one connection is kept."""
    global _connection
    if _connection is None:
        import psycopg

        _connection = psycopg.connect(database_url(), autocommit=True, application_name="bench")
    cursor = _connection.execute(query)
    return cursor.fetchone()[0] if cursor.description else None
