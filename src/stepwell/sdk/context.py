"""`ctx`: the run that this code belongs to."""

from __future__ import annotations

import logging
import random
import uuid
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from stepwell.errors import ConfigError
from stepwell.sdk.runtime import AttemptInfo, RunInfo, Runtime, current


@dataclass(frozen=True, slots=True)
class TaskIdentity:
    """`ctx.task`."""

    id: str


class RunRandom(random.Random):
    """`ctx.random`: a `random.Random` seeded by the run, the same on every replay. Called, it gives a float."""

    def __call__(self) -> float:
        return self.random()


class Metadata(MutableMapping[str, Any]):
    """`ctx.metadata`: the run's own document of plain JSON, seen from outside while the run goes on.

    Setting and deleting a key stores the document; changing a value inside it does not: set its key again.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def __getitem__(self, key: str) -> Any:
        return self._runtime.metadata[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._runtime.set_metadata({**self._runtime.metadata, key: value})

    def __delitem__(self, key: str) -> None:
        document = dict(self._runtime.metadata)
        del document[key]
        self._runtime.set_metadata(document)

    def update(self, *others: Any, **values: Any) -> None:
        """Several keys at once, stored once."""
        self._runtime.set_metadata({**self._runtime.metadata, **dict(*others, **values)})

    def __iter__(self) -> Iterator[str]:
        return iter(self._runtime.metadata)

    def __len__(self) -> int:
        return len(self._runtime.metadata)

    def __repr__(self) -> str:
        return f"<metadata {dict(self._runtime.metadata)!r}>"


class Context:
    """The run that the calling code belongs to: a task's own lines, or a step of it.

    Everything raises ConfigError outside a run.
    """

    @property
    def run(self) -> RunInfo:
        """id, tags, parent_id, root_id, created_at, idempotency_key, queue, environment; the same over all attempts."""
        return _runtime("run").run

    @property
    def task(self) -> TaskIdentity:
        """The task of this run: `ctx.task.id`."""
        return TaskIdentity(_runtime("task").task_id)

    @property
    def attempt(self) -> AttemptInfo:
        """`ctx.attempt.number`, from 1; a resume continues the same attempt, a retry makes a new one."""
        return _runtime("attempt").attempt

    @property
    def log(self) -> logging.Logger:
        """A logger whose lines are kept with the run; silent while replaying."""
        return _runtime("log").log

    @property
    def metadata(self) -> Metadata:
        """The run's document of plain JSON, a mutable mapping."""
        return Metadata(_runtime("metadata"))

    @property
    def random(self) -> RunRandom:
        """A seeded `random.Random`; `ctx.random()` is a float in [0, 1)."""
        source = _runtime("random").random()
        # Ours only adds a way to call it; the state stays with the runtime.
        source.__class__ = RunRandom
        return cast("RunRandom", source)

    @property
    def idempotency_key(self) -> str:
        """In a step: a key of that step, the same over all its attempts, to hand to services. Else the run's id."""
        return _runtime("idempotency_key").idempotency_key()

    def heartbeat(self, progress: Any = None) -> None:
        """In a `@step(heartbeat=...)`: a sign of life, from its own code or a thread that it started. `progress` (plain
        data) is kept for the step's next try, which finds it in `ctx.progress`. Call it as often as you like."""
        _runtime("heartbeat()").heartbeat(progress)

    @property
    def progress(self) -> Any:
        """In a `@step(heartbeat=...)`: what it told `ctx.heartbeat` last, in this try or in the one before; or None."""
        return _runtime("progress").progress()

    def now(self) -> datetime:
        """The time (UTC), moving only with the journal: the same on every replay."""
        return datetime.fromtimestamp(_runtime("now()").now(), UTC)

    def uuid(self) -> uuid.UUID:
        """A UUID drawn from the run's randomness: the same on every replay."""
        return _runtime("uuid()").uuid()

    def __repr__(self) -> str:
        runtime = current()
        return "<ctx outside a run>" if runtime is None else f"<ctx of run {runtime.run.id}>"


ctx = Context()


def _runtime(attribute: str) -> Runtime:
    runtime = current()
    if runtime is None:
        raise ConfigError(
            f"ctx.{attribute} was used outside a run",
            hint="use it in a task or a step while it runs; in tests, run the task with stepwell.testing",
        )
    return runtime
