"""A local server, and clients of it that do not really wait between their tries."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from stepwell import Stepwell, sync
from tests.client.local_server import LocalServer

KEY = "tr_dev_sk_" + "a" * 24


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    for name in ("STEPWELL_URL", "STEPWELL_API_KEY", "STEPWELL_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path_factory.mktemp("project"))
    monkeypatch.setattr("stepwell.client.retrying.FIRST_DELAY", 0.001)
    monkeypatch.setattr("stepwell.client.patience.AGAIN", 0.001)


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with LocalServer().running() as running:
        yield running


@pytest.fixture
async def client(server: LocalServer) -> AsyncIterator[Stepwell]:
    async with Stepwell(server.url, KEY) as made:
        yield made


@pytest.fixture
def blocking(server: LocalServer) -> Iterator[sync.Stepwell]:
    with sync.Stepwell(server.url, KEY) as made:
        yield made
