"""A host that runs children in place: the port of `sdk.runtime` with the codec for real, and no journal."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from stepwell.codec.exceptions import encode_exception
from stepwell.codec.text import to_text
from stepwell.codec.values import dumps, round_trip
from stepwell.model.child import ChildOutcome, ChildSpec
from stepwell.model.failure import Failure
from stepwell.sdk import registry
from stepwell.sdk.runtime import AttemptInfo, RunInfo, StepCall, enter

TAGGED = "application/vnd.stepwell+json"


class InPlace:
    """Notes every operation in `asked`, and carries it out."""

    def __init__(self) -> None:
        self.run = RunInfo(id="run_1", tags=("vip",))
        self.attempt = AttemptInfo(number=2)
        self.task_id = "outer"
        self.replaying = False
        self.log = logging.getLogger("run")
        self.metadata: dict[str, Any] = {}
        self.asked: list[tuple[str, Any]] = []
        self.triggered: list[ChildSpec] = []
        self._random = random.Random(7)

    async def step(self, call: StepCall) -> Any:
        self.asked.append(("step", call.options.name or call.fn.__name__))
        result = call.fn(*call.args, **call.kwargs)
        return round_trip(await result if asyncio.iscoroutine(result) else result)

    def step_blocking(self, call: StepCall) -> Any:
        self.asked.append(("step_blocking", call.fn.__name__))
        return round_trip(call.fn(*call.args, **call.kwargs))

    async def sleep_until(self, when: float) -> None:
        self.asked.append(("sleep_until", when))

    async def checkpoint(self, name: str, data: dict[str, Any]) -> None:
        self.asked.append(("checkpoint", (name, data)))

    async def trigger(self, name: str, children: Sequence[ChildSpec]) -> list[str]:
        self.asked.append(("trigger", name))
        self.triggered += children
        return [f"run_child_{index}" for index, _ in enumerate(children)]

    async def trigger_and_wait(self, name: str, children: Sequence[ChildSpec]) -> list[ChildOutcome]:
        self.asked.append(("trigger_and_wait", name))
        self.triggered += children
        return [await self._ended(f"run_child_{index}", child) for index, child in enumerate(children)]

    async def _ended(self, run_id: str, child: ChildSpec) -> ChildOutcome:
        task = registry.task_of(child.task_id)
        args, kwargs = task.call(json.loads(child.payload))
        try:
            output = task.function(*args, **kwargs)
            output = await output if asyncio.iscoroutine(output) else output
        except Exception as error:
            failure = Failure(
                code="error",
                message=str(error),
                name=type(error).__name__,
                exception=to_text(encode_exception(error)),
            )
            return ChildOutcome(run_id, "failed", failure=failure)
        return ChildOutcome(run_id, "completed", dumps(output), TAGGED)

    def set_metadata(self, document: dict[str, Any]) -> None:
        self.asked.append(("set_metadata", document))
        self.metadata = document

    def now(self) -> float:
        return 1_800_000_000.0

    def random(self) -> random.Random:
        return self._random

    def uuid(self) -> uuid.UUID:
        return uuid.UUID(int=self._random.getrandbits(128), version=4)

    def idempotency_key(self) -> str:
        return "run_1:charge#0"

    def blocking(self, make: Callable[[], Awaitable[Any]]) -> Any:
        async def performed() -> Any:
            return await make()

        return asyncio.run(performed())


@contextmanager
def inside_a_run() -> Iterator[InPlace]:
    """The code within belongs to a run."""
    runtime = InPlace()
    enter(runtime)
    try:
        yield runtime
    finally:
        enter(None)
