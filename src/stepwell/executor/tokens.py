"""Tokens: made as a checkpoint, and waited for; messages too, each of which completes a token that was made for it.

What is asked from inside a step is in `nested`.

Who stops waiting (a timeout around it, a first-of that another one won) is an outcome in the journal like an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import msgspec

from stepwell.executor import divergence
from stepwell.executor.domain import branch_of_task
from stepwell.executor.futures import Delivery
from stepwell.executor.operations import journaled, site_of_caller
from stepwell.executor.record import Record
from stepwell.executor.steps import GO, turn
from stepwell.executor.transparent import transparent
from stepwell.model.message import Reply
from stepwell.model.token import TokenOutcome, TokenSpec, token_id
from stepwell.model.wait import Wait

if TYPE_CHECKING:
    from stepwell.executor.attempt import Attempt

_ENDED = frozenset({"completed", "timed_out"})
Closed = dict[str, Any]
"""How a token was closed, as the journal shows it: token, status, and if there are such: answer, by, at."""


@transparent
async def create(attempt: Attempt, name: str, spec: TokenSpec) -> str:
    return await journaled(attempt, branch_of_task.get().key(name), lambda key: created(attempt, key, spec))


@transparent
async def receive(attempt: Attempt, name: str, spec: TokenSpec) -> Closed:
    """How a wait for a message ended: completed by one, or timed out."""
    while True:
        token = await create(attempt, name, spec)
        ended = await closed(attempt, name, token, message=True)
        if ended["status"] in _ENDED:
            return ended
        # A fork found the wait of the run that it came from, which has ended: it waits for itself.


@transparent
async def closed(attempt: Attempt, name: str, token: str, *, message: bool = False) -> Closed:
    """message: it is completed by one; if that is not waited for any more, it is given back."""
    key, site = branch_of_task.get().key(f"{name}.answer"), site_of_caller()
    canceled = False
    if attempt.replaying:
        _check_same(attempt, key, site, token)
        delivery = attempt.expect(key, site)
        record = await turn(attempt, delivery)
        if record is not GO:
            return record.result()
        canceled = bool(delivery.requests)
    record = attempt.known(key, fingerprint(token))
    if record is None and canceled:  # by its own branch, in the part that was replayed
        record = Record(key, "answer", "canceled", site=site, fingerprint=fingerprint(token))
        record.set_canceled()
        record.given_up = token if message else None
    if record is not None:
        record.site = site
        return (await turn(attempt, attempt.post(record))).result()
    return (await turn(attempt, attempt.wait_for_token(key, token, site, message=message))).result()


@transparent
async def reply(attempt: Attempt, name: str, given: Reply) -> None:
    """Answers an update, in the transaction that stores the entry."""
    await journaled(attempt, branch_of_task.get().key(name), lambda key: replied(key, given))


def replied(key: str, given: Reply) -> Record:
    record = Record(key, "answer", "value")
    record.set_value(given.accepted)
    record.reply = given
    return record


def created(attempt: Attempt, key: str, spec: TokenSpec) -> Record:
    record = Record(key, "token", "value")
    record.set_value(token_id(attempt.run_id, key))
    record.token = spec
    attempt.tokens.made.add(record.value)
    return record


def fingerprint(token: str) -> bytes:
    return blake2b(token.encode(), digest_size=8).digest()


def _check_same(attempt: Attempt, key: str, site: str, token: str) -> None:
    entry = attempt.journal.recorded.get(key)
    if entry is not None and entry.fingerprint and entry.fingerprint != fingerprint(token):
        error = divergence.other_work(attempt.run_id, entry, site)
        if attempt.options.strict:
            attempt.fail(error)
        attempt.warn_once(key, str(error))


class AnswerDelivery(Delivery):
    """Nothing is at work that could end by itself when it is canceled: whoever waits says so."""

    def __init__(self, attempt: Attempt, abandon: Callable[[], None]) -> None:
        super().__init__(attempt)
        self._abandon = abandon

    def cancel(self, msg: Any | None = None) -> bool:
        canceled = super().cancel(msg)
        if self.requests and not self.done():
            self._abandon()
        return canceled


@dataclass(slots=True)
class _Awaited:
    token: str
    site: str
    nested: bool
    message: bool
    deliver: Callable[[Record], None]
    linger_until: float  # the loop's own clock


class Tokens:
    """The tokens that an attempt waits for, by the keys of the entries that their ends will become."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._awaited: dict[str, _Awaited] = {}
        self._asked: set[str] = set()
        self.made: set[str] = set()  # in this life: whoever is asked has hardly seen them

    @property
    def waiting(self) -> bool:
        return bool(self._awaited)

    @property
    def awaited(self) -> set[str]:
        """Their ids."""
        return {each.token for each in self._awaited.values()}

    def wait(
        self, key: str, token: str, site: str, deliver: Callable[[Record], None], *, nested: bool, message: bool = False
    ) -> None:
        options = self._attempt.options
        linger = options.linger if token in self.made else options.linger_resumed
        until = self._attempt.loop.time_outside() + linger
        self._awaited[key] = _Awaited(token, site, nested, message, deliver, until)

    def ask(self) -> None:
        """Ask to be told, once for each."""
        new = self.awaited - self._asked
        if new:
            self._asked.update(new)
            self._attempt.port.await_tokens(sorted(new))

    def closed(self, outcomes: Iterable[TokenOutcome]) -> None:
        for outcome in outcomes:
            self._asked.discard(outcome.token_id)  # somebody may wait for it again
            for key in [key for key, each in self._awaited.items() if each.token == outcome.token_id]:
                record = self._record(key, self._awaited.pop(key))
                record.set_value(_shown(outcome))
                self._attempt.mailbox.post(record)

    def abandon(self, key: str) -> None:
        """Nobody waits for it any more."""
        awaited = self._awaited.pop(key, None)
        if awaited is not None:
            self._forget_asked(awaited.token)
            record = self._record(key, awaited)
            record.set_canceled()
            record.given_up = awaited.token if awaited.message else None
            self._attempt.mailbox.post(record)

    def forget(self, key: str) -> None:
        """The step that waited for it waits no more."""
        awaited = self._awaited.pop(key, None)
        if awaited is not None:
            self._forget_asked(awaited.token)

    def _forget_asked(self, token: str) -> None:
        """Whoever waits for it again asks again: nobody may be listening by then."""
        if token not in self.awaited:
            self._asked.discard(token)

    def _record(self, key: str, awaited: _Awaited) -> Record:
        record = Record(key, "answer", "value", site=awaited.site, nested=awaited.nested)
        record.fingerprint = fingerprint(awaited.token)
        record.deliver = awaited.deliver
        return record

    def linger(self) -> float:
        """For how many seconds more the run should stay for them."""
        latest = max((each.linger_until for each in self._awaited.values()), default=0.0)
        return latest - self._attempt.loop.time_outside()

    def waits(self) -> Sequence[Wait]:
        return [Wait(key, "token", token_id=each.token) for key, each in self._awaited.items()]


def _shown(outcome: TokenOutcome) -> Closed:
    shown: Closed = {"token": outcome.token_id, "status": outcome.status}
    if outcome.output is not None:
        shown["answer"] = msgspec.json.decode(outcome.output)
    if outcome.completed_by is not None:
        shown["by"] = outcome.completed_by
    return shown
