"""`inbox` and `updates`: what is sent to this run, in order; an update is answered."""

from __future__ import annotations

from typing import Any, Generic, TypeVar, overload

from stepwell.codec.payload import TAGGED, Packet, plain_bytes
from stepwell.codec.values import dumps
from stepwell.errors import ConfigError, MessageTimeout, PayloadInvalid
from stepwell.model.message import MessageKind, Reply, Subscription
from stepwell.sdk.messages import (
    RAISE,
    Duration,
    Message,
    checked_message_name,
    fitted,
    message_of,
    moment,
    of_a_run,
    wait_spec,
)
from stepwell.sdk.runtime import current
from stepwell.sdk.words import word

A = TypeVar("A")
D = TypeVar("D")
WORDS: dict[MessageKind, str] = {"signal": "inbox", "update": "updates"}


class Inbox(Generic[A]):
    """Signals of one name that are sent to this run: each is received once, in the order in which they were sent."""

    __stepwell_word__ = True
    __slots__ = ("data", "name")

    def __init__(self, name: str, data: Any) -> None:
        self.name = checked_message_name("inbox", name)
        self.data = data

    @overload
    async def receive(self, *, timeout: Duration | None = None) -> Message[A]: ...
    @overload
    async def receive(self, *, timeout: Duration | None = None, default: D) -> Message[A] | D: ...
    @word
    async def receive(self, *, timeout: Duration | None = None, default: Any = RAISE) -> Any:
        """The next one, as soon as there is one; the run holds no worker meanwhile.

        Raises:
            MessageTimeout: none came within `timeout`, and there is no `default`. PayloadInvalid: its data is not what
            `data=` says; it is received all the same. ConfigError: outside a run.
        """
        closed = await _received("signal", self.name, timeout)
        return message_of(closed, f"signal {self.name!r}", self.data, default, MessageTimeout)

    def __aiter__(self) -> Inbox[A]:
        return self

    @word
    async def __anext__(self) -> Message[A]:
        return await self.receive()

    def __repr__(self) -> str:
        return f"<inbox {self.name!r}>"


@overload
def inbox(name: str) -> Inbox[Any]: ...
@overload
def inbox(name: str, *, data: type[A]) -> Inbox[A]: ...
def inbox(name: str, *, data: Any = None) -> Inbox[Any]:
    """The signals of this name that are sent to the run: `async for message in inbox("chat")`, or `receive()`.

    data: what a signal's data has to be: a model, a dataclass, a type.

    Raises:
        ConfigError: the name is none.
    """
    return Inbox(name, data)


class UpdateRequest(Generic[A]):
    """An update that waits for this run's answer: `id`, `name`, `data`, `sent_at`. The first answer counts."""

    __slots__ = ("answered", "data", "id", "name", "sent_at")

    def __init__(self, given: dict[str, Any], data: A) -> None:
        self.id: str = given["id"]
        self.name: str = given["name"]
        self.data = data
        self.sent_at = moment(given["at"])
        self.answered = False

    @word
    async def accept(self, value: Any = None) -> None:
        """Answers it with a value, anything with a JSON form: what `handle.update(...)` returns.

        Raises:
            ConfigError: it is answered already. CheckpointError: the value has no JSON form.
        """
        await self._answer(Reply(self.id, accepted=True, value=_json(value)))

    @word
    async def refuse(self, reason: str, details: Any = None) -> None:
        """Answers that it is not done, and why: `handle.update(...)` raises UpdateRefused. Raises as `accept`."""
        await self._answer(Reply(self.id, accepted=False, value=_json({"reason": reason, "details": details})))

    @word
    async def _answer(self, reply: Reply) -> None:
        runtime = of_a_run(current(), "accept and refuse", "handle.update(...) asks a run")
        if self.answered:
            raise ConfigError(f"update {self.id} was answered before", hint="answer each update once")
        self.answered = True
        await runtime.reply(f"updates:{self.name}.reply", reply)

    def __repr__(self) -> str:
        return f"<update {self.name!r} {self.id}>"


class Updates(Generic[A]):
    """Updates of one name that this run is asked for, in order. Each is to be accepted or refused."""

    __stepwell_word__ = True
    __slots__ = ("data", "name")

    def __init__(self, name: str, data: Any) -> None:
        self.name = checked_message_name("updates", name)
        self.data = data

    @overload
    async def receive(self, *, timeout: Duration | None = None) -> UpdateRequest[A]: ...
    @overload
    async def receive(self, *, timeout: Duration | None = None, default: D) -> UpdateRequest[A] | D: ...
    @word
    async def receive(self, *, timeout: Duration | None = None, default: Any = RAISE) -> Any:
        """The next one whose data is what `data=` says; one whose data is not is refused, with the fields.

        Raises:
            MessageTimeout: none came within `timeout`, and there is no `default`. ConfigError: outside a run.
        """
        while True:
            closed = await _received("update", self.name, timeout)
            if closed["status"] != "completed":
                return message_of(closed, f"update {self.name!r}", None, default, MessageTimeout)
            given = closed["answer"]
            try:
                return UpdateRequest(given, fitted(given["data"], self.data, f"update {self.name!r}", given["id"]))
            except PayloadInvalid as invalid:
                await UpdateRequest(given, None).refuse(invalid.message, {"problems": invalid.problems})

    def __aiter__(self) -> Updates[A]:
        return self

    @word
    async def __anext__(self) -> UpdateRequest[A]:
        return await self.receive()

    def __repr__(self) -> str:
        return f"<updates {self.name!r}>"


@overload
def updates(name: str) -> Updates[Any]: ...
@overload
def updates(name: str, *, data: type[A]) -> Updates[A]: ...
def updates(name: str, *, data: Any = None) -> Updates[Any]:
    """The updates of this name that the run is asked for: `async for request in updates("set-limit", data=Limit)`, and
    then `await request.accept(value)` or `await request.refuse(reason)`.

    data: what an update's data has to be; one that does not fit is refused before the task sees it.

    Raises:
        ConfigError: the name is none.
    """
    return Updates(name, data)


@word
async def _received(kind: MessageKind, name: str, timeout: Duration | None) -> dict[str, Any]:
    runtime = of_a_run(current(), f"{WORDS[kind]}(...)", f"handle.{kind}(...) sends one to a run")
    return await runtime.receive(f"{WORDS[kind]}:{name}", wait_spec(Subscription(kind, name), timeout))


def _json(value: Any) -> bytes:
    """Raises CheckpointError."""
    return plain_bytes(Packet(dumps(value), TAGGED))
