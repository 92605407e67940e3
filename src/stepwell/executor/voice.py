"""A run's answer to the words that users write: `sdk.runtime.Runtime`, for its own lines and for its steps."""

from __future__ import annotations

import json
import logging
import random
import uuid
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from stepwell.errors import ConfigError
from stepwell.executor import constructs, guarded, nested, operations, threads, tokens
from stepwell.executor.domain import branch_of_task, current_leaf, domain
from stepwell.executor.leaf import Leaf
from stepwell.model.child import ChildOutcome, ChildSpec
from stepwell.model.message import Reply
from stepwell.model.permit import Terms
from stepwell.model.token import TokenSpec
from stepwell.sdk.runtime import AttemptInfo, RunInfo, StepCall

if TYPE_CHECKING:
    from stepwell.executor.attempt import Attempt


class Voice:
    """One for each attempt; in the contexts of all its code, steps included."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        start = attempt.given
        self._metadata: dict[str, Any] = json.loads(start.metadata) if start.metadata else {}
        self._run: RunInfo | None = None

    @property
    def run(self) -> RunInfo:
        if self._run is None:  # most runs never ask
            start = self._attempt.given
            self._run = RunInfo(
                id=start.run_id,
                tags=tuple(start.tags),
                parent_id=start.parent_id,
                root_id=start.root_id,
                created_at=_moment(start.created_at),
                idempotency_key=start.idempotency_key,
                queue=start.queue,
                environment=start.environment,
            )
        return self._run

    @property
    def attempt(self) -> AttemptInfo:
        return AttemptInfo(self._attempt.number)

    @property
    def task_id(self) -> str:
        return self._attempt.task.id

    @property
    def replaying(self) -> bool:
        return domain.get() is self._attempt and self._attempt.replaying

    @property
    def log(self) -> logging.Logger:
        logger = logging.getLogger(f"stepwell.task.{self.task_id}")
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.DEBUG)
        return logger

    @property
    def metadata(self) -> dict[str, Any]:
        return self._metadata

    def set_metadata(self, document: dict[str, Any]) -> None:
        self._metadata = json.loads(json.dumps(document))
        if not self.replaying:
            self._attempt.port.set_metadata(json.dumps(document).encode())

    def step(self, call: StepCall) -> Awaitable[Any]:
        attempt = self._attempt
        return (operations if domain.get() is attempt else nested).step(attempt, call)

    def step_blocking(self, call: StepCall) -> Any:
        return self.blocking(lambda: self.step(call))

    def heartbeat(self, progress: Any) -> None:
        pulse = _step("heartbeat()").pulse
        if pulse is not None:
            pulse.beat(progress)

    def progress(self) -> Any:
        pulse = _step("progress").pulse
        return pulse.progress if pulse is not None else None

    def sleep_until(self, when: float) -> Awaitable[None]:
        return (operations if self._own_lines else nested).sleep_until(self._attempt, when)

    def checkpoint(self, name: str, data: dict[str, Any]) -> Awaitable[None]:
        return (operations if self._own_lines else nested).checkpoint(self._attempt, name, data)

    def trigger(self, name: str, children: Sequence[ChildSpec]) -> Awaitable[list[str]]:
        return (operations if self._own_lines else nested).trigger(self._attempt, name, children)

    def trigger_and_wait(self, name: str, children: Sequence[ChildSpec]) -> Awaitable[list[ChildOutcome]]:
        return (operations if self._own_lines else nested).trigger_and_wait(self._attempt, name, children)

    def create_token(self, name: str, spec: TokenSpec) -> Awaitable[str]:
        return (tokens.create if self._own_lines else nested.create_token)(self._attempt, name, spec)

    def token_closed(self, name: str, token_id: str) -> Awaitable[dict[str, Any]]:
        return (tokens.closed if self._own_lines else nested.token_closed)(self._attempt, name, token_id)

    def token_link(self, token_id: str) -> Awaitable[str]:
        return self._attempt.links.ask(token_id)

    def receive(self, name: str, spec: TokenSpec) -> Awaitable[dict[str, Any]]:
        return (tokens.receive if self._own_lines else nested.receive)(self._attempt, name, spec)

    def reply(self, name: str, given: Reply) -> Awaitable[None]:
        return (tokens.reply if self._own_lines else nested.reply)(self._attempt, name, given)

    def enter_guard(self, terms: Terms) -> Awaitable[None]:
        return guarded.enter(self._attempt, terms)

    def leave_guard(self, terms: Terms, failed: bool | None) -> Awaitable[None]:
        return guarded.leave(self._attempt, terms, failed)

    def take(self, terms: Terms, weight: float) -> Awaitable[None]:
        return guarded.take(self._attempt, terms, weight)

    def stream(self, source: Any, on_resume: str) -> Any:
        return constructs.stream(source, operations.site_of_caller(), on_resume)

    def blocking(self, make: Callable[[], Awaitable[Any]]) -> Any:
        return threads.blocking(self._attempt, make)

    def now(self) -> float:
        return self._attempt.clock if self._in_task else self._attempt.port.now()

    def random(self) -> random.Random:
        leaf = current_leaf.get()
        return leaf.random() if leaf is not None else branch_of_task.get().random()

    def uuid(self) -> uuid.UUID:
        return uuid.UUID(int=self.random().getrandbits(128), version=4)

    def idempotency_key(self) -> str:
        leaf = current_leaf.get()
        run_id = self._attempt.run_id
        return run_id if leaf is None else f"{run_id}:{leaf.step_key}"

    @property
    def _own_lines(self) -> bool:
        return domain.get() is self._attempt

    @property
    def _in_task(self) -> bool:
        """In the run's own lines, or in the thread of a `def` task, which are its own lines too."""
        return self._own_lines or current_leaf.get() is None


def _step(attribute: str) -> Leaf:
    leaf = current_leaf.get()
    if leaf is None:
        raise ConfigError(
            f"ctx.{attribute} was used in the task's own lines", hint="use it in a @step that has a heartbeat"
        )
    return leaf


def _moment(seconds: float) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None
