"""Fixtures for every test. Those that need Postgres live in `tests/postgres.py`, whole stacks in `tests/stack.py`,
a server with environments in `tests/server/tenants.py`."""

from __future__ import annotations

pytest_plugins = ["tests.postgres", "tests.stack", "tests.server.tenants"]
