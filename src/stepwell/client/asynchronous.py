"""`Stepwell`: the client for async code."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx2

from stepwell.client import dead, events, fleet, guarding, messages, queues, runs, schedules, tokens, triggering
from stepwell.client.async_lines import AsyncLines
from stepwell.client.connection import find_connection
from stepwell.client.dead import Choice
from stepwell.client.exchange import Call, Exchange, Reply, raise_for_refusal
from stepwell.client.handles import BatchHandle, RunHandle
from stepwell.client.lines import goes_direct
from stepwell.client.options import Duration, TriggerFields
from stepwell.client.queues import LimitFields
from stepwell.client.retrying import delay_after_reply, delay_after_silence
from stepwell.client.runs import Filter
from stepwell.client.schedules import Times
from stepwell.client.specs import spec_of, specs_of
from stepwell.client.tokens import TokenChoice, TokenFields
from stepwell.client.transport import headers_of, raise_silence, reply_of, timeout_of, was_sent
from stepwell.client.watching import Message, Seen, Watch
from stepwell.model.child import ChildSpec
from stepwell.model.permit import GuardKind
from stepwell.primitives.duration import seconds
from stepwell.protocol.dead import Dead, DeadLetter, GroupView, Redriven
from stepwell.protocol.events import EventSent, SentEvent, SentEventList
from stepwell.protocol.fleet import Health, TaskView, WorkerView
from stepwell.protocol.guarding import GuardDetail, GuardView
from stepwell.protocol.queueing import LimitName, QueueView
from stepwell.protocol.runs import AttemptView, Canceled, CheckpointView, EventView, LogView, RunDetail, RunList
from stepwell.protocol.scheduling import Previewed, ScheduleView, TickView
from stepwell.protocol.tokens import TokenCreated, TokenDetail, TokenList
from stepwell.protocol.wire import UNSET

T = TypeVar("T")


class Stepwell:
    """A client of one server and one environment.

    url and api_key default to STEPWELL_URL and STEPWELL_API_KEY, or else to those of a `stepwell dev` in this project.
    Requests that got no answer, or one that asks to come again, are repeated up to 5 times with growing delays; no
    repetition makes a second run. Use it as `async with Stepwell() as client`, or call `aclose()`.

    Every method raises Unauthorized for a wrong key, NotFound for an id that this environment does not have,
    ConnectionFailed when there was no answer, and ApiError for any other refusal.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        """`transport` carries the requests instead of the network, e.g. `httpx2.ASGITransport(app)`.

        Raises:
            ConfigError: no server is named, or no key.
        """
        self._connection = find_connection(url, api_key)
        headers = headers_of(self._connection)
        self._http = httpx2.AsyncClient(base_url=self._connection.url, headers=headers, transport=transport)
        direct = transport is None and goes_direct(self._connection.url)
        self._lines = AsyncLines(self._connection.url, headers) if direct else None
        self.runs = Runs(self)
        self.dead = DeadLetters(self)
        self.queues = Queues(self)
        self.schedules = Schedules(self)
        self.guards = GuardsOf(self)

    @property
    def url(self) -> str:
        """The server's address."""
        return self._connection.url

    async def trigger(self, task_id: str, payload: Any = None, **options: Unpack[TriggerFields]) -> RunHandle[Any]:
        """Triggers a run of a task by its id; `payload` is what it takes as JSON: its parameters by name.

        Raises:
            NotFound: no worker has registered the task. PayloadInvalid: the payload does not fit its parameters.
        """
        return await self.send(spec_of(task_id, payload, options))

    async def batch_trigger(
        self, task_id: str, payloads: Sequence[Any], **options: Unpack[TriggerFields]
    ) -> BatchHandle[Any]:
        """Triggers a run for each payload, with the same options. Raises as `trigger`."""
        return await self.send_batch(specs_of(task_id, payloads, options))

    async def send(self, spec: ChildSpec) -> RunHandle[Any]:
        """Triggers what a task has encoded."""
        triggered = await self.ask(triggering.trigger(spec))
        return RunHandle(triggered.id, self, cached=triggered.is_cached, admission=triggered.admission)

    async def send_batch(self, specs: Sequence[ChildSpec]) -> BatchHandle[Any]:
        """Triggers many of them."""
        if not specs:
            return BatchHandle(None, [])
        accepted = await self.ask(triggering.batch(specs))
        return BatchHandle(accepted.id, [RunHandle(run_id, self) for run_id in accepted.run_ids], accepted.errors)

    def handle(self, run_id: str) -> RunHandle[Any]:
        """The handle of a run by its id; nothing is asked yet."""
        return RunHandle(run_id, self)

    async def create_token(self, **fields: Unpack[TokenFields]) -> TokenCreated:
        """Makes a token that belongs to no run: its id, a `url` that completes it, and an access token for it alone."""
        return await self.ask(tokens.create(fields))

    async def complete_token(self, token_id: str, answer: Any = None, *, by: str | None = None) -> None:
        """Completes a token with an answer; whoever waits for it goes on. by: who answers.

        Raises:
            Conflict: it was completed, timed out or canceled before; `details` says how. PayloadInvalid: the answer
            does not fit; the token stays open.
        """
        await self.ask(tokens.complete(token_id, answer, by))

    async def cancel_token(self, token_id: str, *, by: str | None = None) -> TokenDetail:
        """Closes a token without an answer: whoever waits for it gets TokenCanceled. Raises Conflict as above."""
        return await self.ask(tokens.cancel(token_id, by))

    async def get_token(self, token_id: str) -> TokenDetail:
        """A token in full, with its answer."""
        return await self.ask(tokens.retrieve(token_id))

    async def list_tokens(self, *, limit: int = 20, **choice: Unpack[TokenChoice]) -> TokenList:
        """One page of tokens, newest first."""
        return await self.ask(tokens.list_tokens(limit, choice))

    async def signal(self, run_id: str, name: str, data: Any = None) -> str:
        """Sends a message to a run: its code receives it by `inbox(name)`, once and in order. Its id.

        Raises:
            Conflict: the run has ended. LimitExceeded: it has 1000 that it did not receive. PayloadTooLarge: 1 MB.
        """
        return await self.ask(messages.signal(run_id, name, data))

    async def update(self, run_id: str, name: str, data: Any = None, *, timeout: Duration | None = None) -> Any:
        """Asks something of a run, which receives it by `updates(name)`, and waits for what it accepts.

        Raises:
            UpdateRefused: the run refused it, or its data does not fit. UpdatePending: there was no answer within
            `timeout`; it may come still: `update_answer`. Conflict: the run has ended, perhaps without an answer.
        """
        return await self.ask(messages.update(run_id, name, data, None if timeout is None else seconds(timeout)))

    async def update_answer(self, run_id: str, update_id: str, *, timeout: Duration | None = None) -> Any:
        """The answer to an update that was sent before. Raises as `update`, and NotFound."""
        return await self.ask(messages.update_answer(run_id, update_id, None if timeout is None else seconds(timeout)))

    async def send_event(self, name: str, data: Any = None, *, id: str | None = None) -> EventSent:  # noqa: A002
        """Sends an event: to every run that waits for one that fits, and to the tasks that it starts.

        id: your own, by which the same event is known when it is sent again (`duplicate` then); what came of it is
        answered as it was. `received`: how many runs that waited have it, `runs`: what tasks made of it.

        Raises:
            Conflict: another event was sent under this id. PayloadTooLarge: its data is larger than 1 MB.
        """
        return await self.ask(events.send(name, data, id))

    async def send_events(self, given: Iterable[Mapping[str, Any]]) -> list[EventSent]:
        """Sends many, at most 1000, all or none: `[{"name": "order.paid", "data": {...}, "id": "..."}, ...]`."""
        return await self.ask(events.send_many(given))

    async def get_event(self, event_id: str) -> SentEvent:
        """An event with its data, and what came of it."""
        return await self.ask(events.retrieve(event_id))

    async def list_events(self, *, limit: int = 20, name: str | None = None, after: str | None = None) -> SentEventList:
        """One page of events, newest first; `after` is the cursor of the page before."""
        return await self.ask(events.list_events(limit, name, after))

    async def tasks(self) -> list[TaskView]:
        """The environment's tasks, as their workers declared them."""
        return await self.ask(fleet.list_tasks())

    async def workers(self) -> list[WorkerView]:
        """The environment's workers."""
        return await self.ask(fleet.list_workers())

    async def health(self) -> Health:
        """Whether the server is ready. Raises ConnectionFailed when it is not."""
        return await self.ask(fleet.health())

    async def aclose(self) -> None:
        """Closes its connections."""
        await self._http.aclose()
        if self._lines is not None:
            await self._lines.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<Stepwell {self.url}>"

    # ---- carrying calls out ----

    async def ask(self, exchange: Exchange[T]) -> T:
        """Carries an exchange out and returns its outcome."""
        try:
            call = next(exchange)
            while True:
                call = exchange.send(await self._reply(call))
        except StopIteration as done:
            return done.value

    async def follow(self, watch: Watch) -> AsyncIterator[Seen]:
        """What a watch sees, until its run has ended."""
        tried = 0
        while not watch.ended:
            tried += 1
            call = watch.call()
            try:
                async for message in self._messages(call):
                    tried = 1
                    seen = watch.take(message)
                    if seen is not None:
                        yield seen
            except httpx2.TransportError as error:
                if delay_after_silence(call, tried, sent=was_sent(error)) is None:
                    raise_silence(self._connection, call, error, tried)
            if not watch.ended:
                await asyncio.sleep(delay_after_silence(call, min(tried, 4), sent=True) or 0.0)

    async def _messages(self, call: Call) -> AsyncIterator[Message]:
        timeout = timeout_of(call)
        async with self._http.stream(call.method, call.url, headers=call.headers, timeout=timeout) as response:
            if response.status_code != 200:
                await response.aread()
                raise_for_refusal(reply_of(response))
            async for event in httpx2.EventSource(response):
                yield Message(event.event, event.data, event.id)

    async def _reply(self, call: Call) -> Reply:
        delay: float | None = call.pause
        tried = 0
        while True:
            if delay:
                await asyncio.sleep(delay)
            tried += 1
            try:
                reply = await self._sent(call)
            except httpx2.TransportError as error:
                delay = delay_after_silence(call, tried, sent=was_sent(error))
                if delay is None:
                    raise_silence(self._connection, call, error, tried)
            else:
                delay = delay_after_reply(call, reply, tried)
                if delay is None:
                    return reply

    async def _sent(self, call: Call) -> Reply:
        timeout = timeout_of(call)
        if self._lines is not None:
            return await self._lines.send(call, timeout)
        return reply_of(
            await self._http.request(call.method, call.url, content=call.content, headers=call.headers, timeout=timeout)
        )


class Runs:
    """`client.runs`: everything about runs."""

    def __init__(self, client: Stepwell) -> None:
        self._client = client

    async def retrieve(self, run_id: str) -> RunDetail:
        """The run in full: status, times, payload, output, failure, related runs."""
        return await self._client.ask(runs.retrieve(run_id))

    async def list(self, *, limit: int = 20, **filters: Unpack[Filter]) -> RunList:
        """One page of runs, newest first. `status` takes our names, several with commas between; `period` is "24h";
        `after` and `before` are cursors from a page's `pagination`."""
        return await self._client.ask(runs.list_runs(limit, filters))

    async def result(self, run_id: str, timeout: Duration | None = None) -> Any:
        """The run's output, once it has ended. Raises RunFailed when it has none, TimeoutError after `timeout`."""
        return await self._client.ask(runs.result(run_id, None if timeout is None else seconds(timeout)))

    async def cancel(self, run_id: str, reason: str | None = None, *, grace: Duration | None = None) -> Canceled:
        """Cancels a run and its children; `canceled` is False when it had ended before, as `state`.

        A run that has begun gets CancelledError and has `grace` to clean up (default: as its task says, 5 s); `state`
        is "canceled" only when that is over. With `grace=0` it ends at once, and its code hears nothing of it.
        """
        return await self._client.ask(runs.cancel(run_id, reason, grace))

    async def replay(self, run_id: str) -> RunHandle[Any]:
        """A new run with the same payload, from the start."""
        return RunHandle((await self._client.ask(runs.replay(run_id))).id, self._client)

    async def fork(
        self,
        run_id: str,
        *,
        from_checkpoint: str | int | None = None,
        payload: Any = UNSET,
        changes: Mapping[str, Any] | None = None,
    ) -> RunHandle[Any]:
        """A new run that keeps this one's journal up to a checkpoint (its name, key or number) and goes on after it.

        Without a checkpoint it begins at the start, or after the last of `changes`: other values for kept checkpoints.
        """
        forked = await self._client.ask(runs.fork(run_id, from_checkpoint, payload, changes))
        return RunHandle(forked.id, self._client)

    async def journal(self, run_id: str, *, after: int = -1) -> Sequence[CheckpointView]:
        """The run's checkpoints in order, those beyond number `after`."""
        return await self._client.ask(runs.journal(run_id, after))

    async def attempts(self, run_id: str) -> Sequence[AttemptView]:
        """The run's attempts, in order."""
        return await self._client.ask(runs.attempts(run_id))

    async def events(self, run_id: str, *, after: int = -1) -> Sequence[EventView]:
        """What happened to the run, in order, beyond number `after`."""
        return await self._client.ask(runs.events(run_id, after))

    async def logs(self, run_id: str, *, after: int = -1) -> Sequence[LogView]:
        """What the run's code printed and logged, beyond number `after`."""
        return await self._client.ask(runs.logs(run_id, after))

    def watch(self, run_id: str) -> AsyncIterator[Seen]:
        """Follows a run: itself at each change, its events, checkpoints and logs as they come; ends with the run."""
        return self._client.follow(Watch(run_id))


class DeadLetters:
    """`client.dead`: failed runs that nobody has dealt with yet, and their groups."""

    def __init__(self, client: Stepwell) -> None:
        self._client = client

    async def list(
        self, *, limit: int = 50, after: str | None = None, task: str | None = None, group: str | None = None
    ) -> Dead:
        """One page of them, newest first; of one task, or of one group by its id."""
        return await self._client.ask(dead.list_dead(limit, after, task, group))

    async def groups(self, *, task: str | None = None) -> Sequence[GroupView]:
        """Those that failed alike as one, with counts, first and last seen; the last seen first."""
        return await self._client.ask(dead.list_groups(task))

    async def group(self, group_id: str) -> GroupView:
        """One group. Raises NotFound when no dead letter is in it."""
        return await self._client.ask(dead.group(group_id))

    async def retrieve(self, run_id: str) -> DeadLetter:
        """One dead letter in full, with its group. Raises Conflict for a run that is none."""
        return await self._client.ask(dead.retrieve(run_id))

    async def redrive(self, run_id: str, *, payload: Any = UNSET, from_start: bool = False) -> RunHandle[Any]:
        """Runs one again as a new run, from where it failed, and takes it off the list.

        With `from_start` everything runs again, and so it does with another payload.

        Raises:
            Conflict: it is no dead letter. PayloadInvalid: the payload does not fit; it stays on the list.
        """
        made = await self._client.ask(dead.redrive(run_id, payload, from_start=from_start))
        return RunHandle(made.id, self._client)

    async def redrive_many(
        self, *, rate: str | None = None, from_start: bool = False, **choice: Unpack[Choice]
    ) -> Redriven:
        """Runs many again, the oldest first: these runs, a group, a task, or `everything`.

        rate: how many begin at most, "10/s" or "100/m"; the new runs are stored at once, each with its delay. The
        answer has the new run of each old one, and why others stayed on the list.
        """
        return await self._client.ask(dead.redrive_many(choice, rate, from_start=from_start))

    async def discard(self, run_id: str, reason: str, *, by: str | None = None) -> None:
        """Takes one off the list without running it again; reason and by are kept with the run."""
        await self._client.ask(dead.discard(run_id, reason, by))

    async def discard_many(self, reason: str, *, by: str | None = None, **choice: Unpack[Choice]) -> int:
        """The same of many, chosen as for `redrive_many`; how many."""
        return (await self._client.ask(dead.discard_many(choice, reason, by))).count


class Queues:
    """`client.queues`: what runs and waits in them, their limits at runtime; `await client.queues()` lists them."""

    def __init__(self, client: Stepwell) -> None:
        self._client = client

    async def __call__(self) -> Sequence[QueueView]:
        """The same as `list`."""
        return await self._client.ask(queues.list_queues())

    async def list(self) -> Sequence[QueueView]:
        """All of them by name, with what runs and waits in them."""
        return await self._client.ask(queues.list_queues())

    async def retrieve(self, name: str) -> QueueView:
        """One of them; a task's own queue is `task/<id>`. Raises NotFound, as all of these do."""
        return await self._client.ask(queues.retrieve(name))

    async def pause(self, name: str) -> QueueView:
        """Nothing of it is handed to workers until it is resumed; what executes goes on."""
        return await self._client.ask(queues.pause(name, paused=True))

    async def resume(self, name: str) -> QueueView:
        """Go on with a paused queue."""
        return await self._client.ask(queues.pause(name, paused=False))

    async def override(self, name: str, *, by: str | None = None, **limits: Unpack[LimitFields]) -> QueueView:
        """Set limits in place of those in code, until they are reset; no deploy undoes it. by: who does.

        A concurrency of 0 lets nothing start. Rates are texts: "100/1m", "10/1s burst 20", "5/1h sliding".
        """
        return await self._client.ask(queues.override(name, limits, by))

    async def reset(self, name: str, *only: LimitName) -> QueueView:
        """What code declares counts again; with names of limits, for these."""
        return await self._client.ask(queues.reset(name, only))

    async def pause_task(self, task_id: str) -> None:
        """No run of a task is handed to workers, whatever queue it is in."""
        await self._client.ask(queues.pause_task(task_id, paused=True))

    async def resume_task(self, task_id: str) -> None:
        """Go on with a paused task."""
        await self._client.ask(queues.pause_task(task_id, paused=False))

    async def pause_environment(self) -> None:
        """No run of the environment is handed to workers."""
        await self._client.ask(queues.pause_environment(paused=True))

    async def resume_environment(self) -> None:
        """Go on with all there is."""
        await self._client.ask(queues.pause_environment(paused=False))


class Schedules:
    """`client.schedules`: when tasks run by themselves."""

    def __init__(self, client: Stepwell) -> None:
        self._client = client

    async def create(self, task_id: str, *, key: str | None = None, **times: Unpack[Times]) -> ScheduleView:
        """Makes a schedule of a task, or changes the one with the same `key`; without a key it is always a new one.

        Raises:
            ConfigError, ApiError: what was said of it cannot be. NotFound: no worker has registered the task.
            PayloadInvalid: the task would not take what its runs would get. Conflict: the key is declared in code.
        """
        return await self._client.ask(schedules.create(task_id, key, times))

    async def update(self, schedule_id: str, task_id: str, **times: Unpack[Times]) -> ScheduleView:
        """Makes a schedule another one, all but its key; what is not said is the default. Raises as `create`."""
        return await self._client.ask(schedules.update(schedule_id, task_id, times))

    async def retrieve(self, schedule_id: str) -> ScheduleView:
        """A schedule, with its next ten ticks."""
        return await self._client.ask(schedules.retrieve(schedule_id))

    async def delete(self, schedule_id: str) -> None:
        """Removes it; its runs stay. Raises Conflict for one that is declared in code."""
        await self._client.ask(schedules.delete(schedule_id))

    async def pause(self, schedule_id: str) -> ScheduleView:
        """Its ticks trigger nothing until it is resumed, and are not made up for."""
        return await self._client.ask(schedules.pause(schedule_id))

    async def resume(self, schedule_id: str) -> ScheduleView:
        """Goes on with its next tick from now."""
        return await self._client.ask(schedules.resume(schedule_id))

    async def ticks(self, schedule_id: str, *, limit: int = 50, before: datetime | None = None) -> list[TickView]:
        """What came of its ticks, newest first."""
        return await self._client.ask(schedules.ticks(schedule_id, limit, before))

    async def backfill(self, schedule_id: str, begin: datetime, end: datetime) -> list[TickView]:
        """Triggers a run for each past tick from `begin` to `end` that had none, up to 1,000; those ticks."""
        return await self._client.ask(schedules.backfill(schedule_id, begin, end))

    async def preview(
        self, *, cron: str | None = None, every: str | float | None = None, timezone: str | None = None, count: int = 10
    ) -> Previewed:
        """The next ticks that such a schedule would have. Makes nothing."""
        return await self._client.ask(schedules.preview(cron, every, timezone, count))

    async def list(self) -> list[ScheduleView]:
        """The environment's schedules, newest first."""
        return await self._client.ask(schedules.list_all())


class GuardsOf:
    """`client.guards`: semaphores, limiters and breakers, by their kind and name."""

    def __init__(self, client: Stepwell) -> None:
        self._client = client

    async def list(self, kind: GuardKind | None = None) -> list[GuardView]:
        """All that were ever used, or those of a kind: semaphore, limiter or breaker."""
        return await self._client.ask(guarding.list_all(kind))

    async def retrieve(self, kind: GuardKind, name: str) -> GuardDetail:
        """One, with the runs that hold it and those that wait. Raises NotFound."""
        return await self._client.ask(guarding.retrieve(kind, name))

    async def forget(self, kind: GuardKind, name: str) -> None:
        """Reset one. Raises NotFound, and Conflict for a semaphore that is in use."""
        await self._client.ask(guarding.forget(kind, name))
