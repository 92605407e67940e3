"""Each test declares tasks and queues of its own, and meets none of another's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from stepwell.sdk import registry


@pytest.fixture(autouse=True)
def empty_registry() -> Iterator[None]:
    kept_tasks, kept_queues = dict(registry.tasks), dict(registry.queues)
    registry.tasks.clear()
    registry.queues.clear()
    yield
    registry.tasks.clear()
    registry.queues.clear()
    registry.tasks.update(kept_tasks)
    registry.queues.update(kept_queues)
