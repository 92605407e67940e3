"""What a task does to the world, written down by its steps, so that a test can tell what was done twice."""

from __future__ import annotations

from collections import Counter
from typing import Any

from stepwell.errors import ConfigError
from stepwell.executor.domain import current_leaf


class Effects:
    """`effects.record("charged", order_id)` inside a function that a task awaits.

    `check_every_prefix(..., effects=effects)` empties it before each life of the run and compares what each life did.
    """

    def __init__(self) -> None:
        self._done: list[tuple[str, tuple[Any, ...]]] = []

    def record(self, *what: Any) -> None:
        """Notes that this was done, by the step that is being executed.

        Raises:
            ConfigError: it is not called from a step.
        """
        leaf = current_leaf.get()
        if leaf is None:
            raise ConfigError(
                f"effects.record{what!r} was called outside a step",
                hint="call it in a function that the task awaits: the task's own lines run again on each resume",
            )
        self._done.append((leaf.key, what))

    def clear(self) -> None:
        self._done.clear()

    def of_steps(self) -> dict[str, Counter[tuple[Any, ...]]]:
        """What each step did, by its key."""
        found: dict[str, Counter[tuple[Any, ...]]] = {}
        for key, what in self._done:
            found.setdefault(key, Counter())[what] += 1
        return found

    def __len__(self) -> int:
        return len(self._done)

    def __iter__(self) -> Any:
        return (what for _, what in self._done)
