"""Fixtures for every test. Those that need Postgres live in `tests/postgres.py`."""

from __future__ import annotations

from importlib.util import find_spec

pytest_plugins = ["tests.postgres"] if find_spec("tests.postgres") else []
