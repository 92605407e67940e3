"""`stepwell.sync.Stepwell`: the client for code that is not async. Word for word the twin of `asynchronous`."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx2

from stepwell.client import events, fleet, messages, tokens, triggering
from stepwell.client.blocking_dead import DeadLetters
from stepwell.client.blocking_guards import GuardsOf
from stepwell.client.blocking_handles import BatchHandle, RunHandle
from stepwell.client.blocking_queues import Queues
from stepwell.client.blocking_runs import Runs
from stepwell.client.blocking_schedules import Schedules
from stepwell.client.connection import find_connection
from stepwell.client.exchange import Call, Exchange, Reply, raise_for_refusal
from stepwell.client.lines import Lines, goes_direct
from stepwell.client.options import Duration, TriggerFields
from stepwell.client.retrying import delay_after_reply, delay_after_silence
from stepwell.client.specs import spec_of, specs_of
from stepwell.client.tokens import TokenChoice, TokenFields
from stepwell.client.transport import headers_of, raise_silence, reply_of, timeout_of, was_sent
from stepwell.client.watching import Message, Seen, Watch
from stepwell.errors import ConnectionFailed
from stepwell.model.child import ChildSpec
from stepwell.primitives.duration import seconds
from stepwell.protocol.events import EventSent, SentEvent, SentEventList
from stepwell.protocol.fleet import Health, TaskView, WorkerView
from stepwell.protocol.tokens import TokenCreated, TokenDetail, TokenList

T = TypeVar("T")


class Stepwell:
    """A client of one server and one environment.

    url and api_key default to STEPWELL_URL and STEPWELL_API_KEY, or else to those of a `stepwell dev` in this project.
    Requests that got no answer, or one that asks to come again, are repeated up to 5 times with growing delays; no
    repetition makes a second run. Any thread may use it. Use it as `with Stepwell() as client`, or call `close()`.

    Every method raises Unauthorized for a wrong key, NotFound for an id that this environment does not have,
    ConnectionFailed when there was no answer, and ApiError for any other refusal.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        """`transport` carries the requests instead of the network, e.g. `httpx2.WSGITransport(app)`.

        Raises:
            ConfigError: no server is named, or no key.
        """
        self._connection = find_connection(url, api_key)
        headers = headers_of(self._connection)
        self._http = httpx2.Client(base_url=self._connection.url, headers=headers, transport=transport)
        direct = transport is None and goes_direct(self._connection.url)
        self._lines = Lines(self._connection.url, headers) if direct else None
        self.runs = Runs(self)
        self.dead = DeadLetters(self)
        self.queues = Queues(self)
        self.schedules = Schedules(self)
        self.guards = GuardsOf(self)

    @property
    def url(self) -> str:
        """The server's address."""
        return self._connection.url

    def trigger(self, task_id: str, payload: Any = None, **options: Unpack[TriggerFields]) -> RunHandle[Any]:
        """Triggers a run of a task by its id; `payload` is what it takes as JSON: its parameters by name.

        Raises:
            NotFound: no worker has registered the task. PayloadInvalid: the payload does not fit its parameters.
        """
        return self.send(spec_of(task_id, payload, options))

    def batch_trigger(
        self, task_id: str, payloads: Sequence[Any], **options: Unpack[TriggerFields]
    ) -> BatchHandle[Any]:
        """Triggers a run for each payload, with the same options. Raises as `trigger`."""
        return self.send_batch(specs_of(task_id, payloads, options))

    def send(self, spec: ChildSpec) -> RunHandle[Any]:
        """Triggers what a task has encoded."""
        triggered = self.ask(triggering.trigger(spec))
        return RunHandle(triggered.id, self, cached=triggered.is_cached, admission=triggered.admission)

    def send_batch(self, specs: Sequence[ChildSpec]) -> BatchHandle[Any]:
        """Triggers many of them."""
        if not specs:
            return BatchHandle(None, [])
        accepted = self.ask(triggering.batch(specs))
        return BatchHandle(accepted.id, [RunHandle(run_id, self) for run_id in accepted.run_ids], accepted.errors)

    def handle(self, run_id: str) -> RunHandle[Any]:
        """The handle of a run by its id; nothing is asked yet."""
        return RunHandle(run_id, self)

    def reset_idempotency_key(self, task_id: str, key: str) -> None:
        """Forgets an idempotency key of a task before its time: the next trigger with it makes a new run.

        Raises:
            NotFound: no run of the task holds it; it may have expired.
        """
        self.ask(triggering.reset_key(task_id, key))

    def create_token(self, **fields: Unpack[TokenFields]) -> TokenCreated:
        """Makes a token that belongs to no run: its id, a `url` that completes it, and an access token for it alone."""
        return self.ask(tokens.create(fields))

    def complete_token(self, token_id: str, answer: Any = None, *, by: str | None = None) -> None:
        """Completes a token with an answer; whoever waits for it goes on. by: who answers.

        Raises:
            Conflict: it was completed, timed out or canceled before; `details` says how. PayloadInvalid: the answer
            does not fit; the token stays open.
        """
        self.ask(tokens.complete(token_id, answer, by))

    def cancel_token(self, token_id: str, *, by: str | None = None) -> TokenDetail:
        """Closes a token without an answer: whoever waits for it gets TokenCanceled. Raises Conflict as above."""
        return self.ask(tokens.cancel(token_id, by))

    def get_token(self, token_id: str) -> TokenDetail:
        """A token in full, with its answer."""
        return self.ask(tokens.retrieve(token_id))

    def list_tokens(self, *, limit: int = 20, **choice: Unpack[TokenChoice]) -> TokenList:
        """One page of tokens, newest first."""
        return self.ask(tokens.list_tokens(limit, choice))

    def signal(self, run_id: str, name: str, data: Any = None) -> str:
        """Sends a message to a run: its code receives it by `inbox(name)`, once and in order. Its id.

        Raises:
            Conflict: the run has ended. LimitExceeded: it has 1000 that it did not receive. PayloadTooLarge: 1 MB.
        """
        return self.ask(messages.signal(run_id, name, data))

    def update(self, run_id: str, name: str, data: Any = None, *, timeout: Duration | None = None) -> Any:
        """Asks something of a run, which receives it by `updates(name)`, and waits for what it accepts.

        Raises:
            UpdateRefused: the run refused it, or its data does not fit. UpdatePending: there was no answer within
            `timeout`; it may come still: `update_answer`. Conflict: the run has ended, perhaps without an answer.
        """
        return self.ask(messages.update(run_id, name, data, None if timeout is None else seconds(timeout)))

    def update_answer(self, run_id: str, update_id: str, *, timeout: Duration | None = None) -> Any:
        """The answer to an update that was sent before. Raises as `update`, and NotFound."""
        return self.ask(messages.update_answer(run_id, update_id, None if timeout is None else seconds(timeout)))

    def send_event(self, name: str, data: Any = None, *, id: str | None = None) -> EventSent:  # noqa: A002
        """Sends an event: to every run that waits for one that fits, and to the tasks that it starts.

        id: your own, by which the same event is known when it is sent again (`duplicate` then); what came of it is
        answered as it was. `received`: how many runs that waited have it, `runs`: what tasks made of it.

        Raises:
            Conflict: another event was sent under this id. PayloadTooLarge: its data is larger than 1 MB.
        """
        return self.ask(events.send(name, data, id))

    def send_events(self, given: Iterable[Mapping[str, Any]]) -> list[EventSent]:
        """Sends many, at most 1000, all or none: `[{"name": "order.paid", "data": {...}, "id": "..."}, ...]`."""
        return self.ask(events.send_many(given))

    def get_event(self, event_id: str) -> SentEvent:
        """An event with its data, and what came of it."""
        return self.ask(events.retrieve(event_id))

    def list_events(self, *, limit: int = 20, name: str | None = None, after: str | None = None) -> SentEventList:
        """One page of events, newest first; `after` is the cursor of the page before."""
        return self.ask(events.list_events(limit, name, after))

    def tasks(self) -> list[TaskView]:
        """The environment's tasks, as their workers declared them."""
        return self.ask(fleet.list_tasks())

    def workers(self) -> list[WorkerView]:
        """The environment's workers."""
        return self.ask(fleet.list_workers())

    def health(self) -> Health:
        """Whether the server is ready. Raises ConnectionFailed when it is not."""
        return self.ask(fleet.health())

    def close(self) -> None:
        """Closes its connections."""
        self._http.close()
        if self._lines is not None:
            self._lines.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Stepwell {self.url}>"

    # ---- carrying calls out ----

    def ask(self, exchange: Exchange[T]) -> T:
        """Carries an exchange out and returns its outcome."""
        try:
            call = next(exchange)
            while True:
                try:
                    reply = self._reply(call)
                except ConnectionFailed as silence:
                    call = exchange.throw(silence)
                else:
                    call = exchange.send(reply)
        except StopIteration as done:
            return done.value

    def follow(self, watch: Watch) -> Iterator[Seen]:
        """What a watch sees, until its run has ended."""
        tried = 0
        while not watch.ended:
            tried += 1
            call = watch.call()
            try:
                for message in self._messages(call):
                    tried = 1
                    seen = watch.take(message)
                    if seen is not None:
                        yield seen
            except httpx2.TransportError as error:
                if watch.patience.unheard():
                    raise_silence(self._connection, call, error, tried)
            if not watch.ended:
                self._pause(delay_after_silence(call, min(tried, 4), sent=True) or 0.0)

    def _pause(self, delay: float) -> None:
        threading.Event().wait(delay)

    def _messages(self, call: Call) -> Iterator[Message]:
        timeout = timeout_of(call)
        with self._http.stream(call.method, call.url, headers=call.headers, timeout=timeout) as response:
            if response.status_code != 200:
                response.read()
                raise_for_refusal(reply_of(response))
            for event in httpx2.EventSource(response):
                yield Message(event.event, event.data, event.id)

    def _reply(self, call: Call) -> Reply:
        delay: float | None = call.pause
        tried = 0
        while True:
            if delay:
                self._pause(delay)
            tried += 1
            try:
                reply = self._sent(call)
            except httpx2.TransportError as error:
                delay = delay_after_silence(call, tried, sent=was_sent(error))
                if delay is None:
                    raise_silence(self._connection, call, error, tried)
            else:
                delay = delay_after_reply(call, reply, tried)
                if delay is None:
                    return reply

    def _sent(self, call: Call) -> Reply:
        timeout = timeout_of(call)
        if self._lines is not None:
            return self._lines.send(call, timeout)
        return reply_of(
            self._http.request(call.method, call.url, content=call.content, headers=call.headers, timeout=timeout)
        )
