"""THE table of the HTTP API: name, method, path, request, response, errors, scope of every operation.

The server's routing and validation, OpenAPI, the Python client and the reference docs are all made from it.
Where the official npm client knows an operation, path and shapes are its own; ours stand beside them in the same style.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

import msgspec

from stepwell.protocol import (
    dead,
    events,
    fleet,
    frames,
    guarding,
    messages,
    queueing,
    runs,
    scheduling,
    tokens,
    triggering,
)
from stepwell.protocol.wire import Id, Message

Method = Literal["GET", "POST", "PUT", "DELETE"]
# key: an API key of the environment. anyone: no credential at all (health, the description of the API).
Access = Literal["key", "anyone"]

JSON = "application/json"
NDJSON = "application/x-ndjson"
SSE = "text/event-stream"

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that can be asked of the server.

    request: the JSON body's struct (for NDJSON: one line's), None for no body. query: the query string's struct.
    response: the body's struct, None where it is not JSON. errors: codes of docs/errors.md beyond the usual ones
    (unauthorized, invalid-request, limit-exceeded, database-unavailable). access: who may call; an API key may call
    everything of its environment. scope: what a public token needs instead, with path parameters in braces; None:
    public tokens are refused. max_body: bytes. browser: CORS is answered.
    """

    name: str
    method: Method
    path: str
    summary: str
    response: type | None
    request: type | None = None
    query: type | None = None
    status: int = 200
    errors: tuple[str, ...] = ()
    access: Access = "key"
    scope: str | None = None
    request_type: str = JSON
    response_type: str = JSON
    max_body: int = MIB
    browser: bool = False
    websocket: bool = False

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the path's parameters, in order."""
        return tuple(re.findall(r"{(\w+)}", self.path))

    def url(self, query: msgspec.Struct | Mapping[str, str] | None = None, **parameters: str) -> str:
        """The path (and query) of one call. Parameters are quoted; query fields that are None are left out."""
        path = self.path.format(**{name: quote(value, safe="") for name, value in parameters.items()})
        pairs: Mapping[str, object] = msgspec.to_builtins(query) if query is not None else {}
        given = [f"{quote(name)}={quote(_text(value), safe='')}" for name, value in pairs.items() if value is not None]
        return path + ("?" + "&".join(given) if given else "")


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


_RUN = "run-not-found"
_GROUP = "error-group-not-found"
_QUEUE = "queue-not-found"
_TRIGGER_ERRORS = (
    "task-not-found",
    "queue-not-found",
    "idempotency-conflict",
    "payload-invalid",
    "payload-too-large",
)
_READ_RUN = "read:runs:{run_id}"

TRIGGER = Operation(
    name="tasks.trigger",
    method="POST",
    path="/api/v1/tasks/{task_id}/trigger",
    summary="Trigger a run of a task. Answered after commit: the run will not be lost.",
    request=triggering.Trigger,
    response=triggering.Triggered,
    errors=_TRIGGER_ERRORS,
    scope="trigger:tasks:{task_id}",
    max_body=11 * MIB,
    browser=True,
)
RESET_KEY = Operation(
    name="tasks.reset_idempotency_key",
    method="POST",
    path="/api/v1/idempotencyKeys/{key}/reset",
    summary="Forget an idempotency key of a task: the next trigger with it makes a new run.",
    request=triggering.ResetKey,
    response=Id,
    errors=("idempotency-key-not-found",),
)
TRIGGER_BATCH = Operation(
    name="tasks.trigger_batch",
    method="POST",
    path="/api/v2/tasks/batch",
    summary="Trigger many runs in one request. A refused item does not stop the others.",
    request=triggering.TriggerBatch,
    response=triggering.BatchTriggered,
    errors=("payload-too-large",),
    scope="batchTrigger:tasks",
    max_body=32 * MIB,
    browser=True,
)
CREATE_BATCH = Operation(
    name="batches.create",
    method="POST",
    path="/api/v3/batches",
    summary="Announce a batch; its items follow.",
    request=triggering.CreateBatch,
    response=triggering.BatchCreated,
    status=202,
    errors=("idempotency-conflict",),
    scope="batchTrigger:tasks",
    browser=True,
)
BATCH_ITEMS = Operation(
    name="batches.add_items",
    method="POST",
    path="/api/v3/batches/{batch_id}/items",
    summary="Send a batch's items, one JSON object a line. Sending an index again makes no second run.",
    request=triggering.BatchItem,
    response=triggering.ItemsAccepted,
    request_type=NDJSON,
    errors=("batch-not-found", "content-type", "payload-too-large"),
    scope="write:batch:{batch_id}",
    max_body=256 * MIB,
    browser=True,
)
GET_BATCH = Operation(
    name="batches.retrieve",
    method="GET",
    path="/api/v2/batches/{batch_id}",
    summary="A batch, its runs, and the errors of refused items.",
    response=triggering.Batch,
    errors=("batch-not-found",),
    scope="read:batch:{batch_id}",
    browser=True,
)
BATCH_RESULTS = Operation(
    name="batches.results",
    method="GET",
    path="/api/v1/batches/{batch_id}/results",
    summary="The results of a batch's ended runs.",
    response=triggering.BatchResults,
    errors=("batch-not-found",),
    scope="read:batch:{batch_id}",
    browser=True,
)
GET_RUN = Operation(
    name="runs.retrieve",
    method="GET",
    path="/api/v3/runs/{run_id}",
    summary="A run in full.",
    response=runs.RunDetail,
    errors=(_RUN,),
    scope=_READ_RUN,
    browser=True,
)
LIST_RUNS = Operation(
    name="runs.list",
    method="GET",
    path="/api/v1/runs",
    summary="Runs of the environment, newest first.",
    query=runs.RunFilter,
    response=runs.RunList,
    scope="read:runs",
)
CANCEL_RUN = Operation(
    name="runs.cancel",
    method="POST",
    path="/api/v2/runs/{run_id}/cancel",
    summary="Cancel a run and its children. Says so when it had already ended.",
    request=runs.Cancel,
    response=runs.Canceled,
    errors=(_RUN,),
    scope="write:runs:{run_id}",
)
REPLAY_RUN = Operation(
    name="runs.replay",
    method="POST",
    path="/api/v1/runs/{run_id}/replay",
    summary="A new run with the same payload, from the start.",
    request=runs.Empty,
    response=Id,
    errors=(_RUN,),
    scope="write:runs:{run_id}",
)
FORK_RUN = Operation(
    name="runs.fork",
    method="POST",
    path="/api/v1/runs/{run_id}/fork",
    summary="A new run from any checkpoint of this one, with another payload or other checkpoint values.",
    request=runs.Fork,
    response=Id,
    errors=(_RUN, "checkpoint-not-found", "payload-invalid", "payload-too-large"),
    scope="write:runs:{run_id}",
    max_body=11 * MIB,
)
RESCHEDULE_RUN = Operation(
    name="runs.reschedule",
    method="POST",
    path="/api/v1/runs/{run_id}/reschedule",
    summary="Another delay for a run that has not begun.",
    request=runs.Reschedule,
    response=runs.RunDetail,
    errors=(_RUN, "run-started"),
    scope="write:runs:{run_id}",
)
BUMP_RUN = Operation(
    name="runs.bump",
    method="POST",
    path="/api/v1/runs/{run_id}/bump",
    summary="Put a queued run to the front of its queue.",
    request=runs.Empty,
    response=runs.RunDetail,
    errors=(_RUN, "run-not-queued"),
    scope="write:runs:{run_id}",
)
GET_RESULT = Operation(
    name="runs.result",
    method="GET",
    path="/api/v1/runs/{run_id}/result",
    summary="How the run ended; 404 `run-unfinished` while it has not. `wait` holds the answer until it has.",
    query=runs.WaitQuery,
    response=triggering.Result,
    errors=(_RUN, "run-unfinished"),
    scope=_READ_RUN,
    browser=True,
)
ADD_TAGS = Operation(
    name="runs.add_tags",
    method="POST",
    path="/api/v1/runs/{run_id}/tags",
    summary="Add tags to a run.",
    request=runs.AddTags,
    response=Message,
    errors=(_RUN,),
    scope="write:runs:{run_id}",
)
GET_METADATA = Operation(
    name="runs.metadata",
    method="GET",
    path="/api/v1/runs/{run_id}/metadata",
    summary="The run's metadata document.",
    response=runs.Metadata,
    errors=(_RUN,),
    scope=_READ_RUN,
)
PUT_METADATA = Operation(
    name="runs.update_metadata",
    method="PUT",
    path="/api/v1/runs/{run_id}/metadata",
    summary="Replace or change the run's metadata document.",
    request=runs.UpdateMetadata,
    response=runs.Metadata,
    errors=(_RUN,),
    scope="write:runs:{run_id}",
)
GET_JOURNAL = Operation(
    name="runs.journal",
    method="GET",
    path="/api/v1/runs/{run_id}/journal",
    summary="The run's checkpoints, in order, with their values.",
    query=runs.After,
    response=runs.Journal,
    errors=(_RUN,),
    scope=_READ_RUN,
)
GET_EVENTS = Operation(
    name="runs.events",
    method="GET",
    path="/api/v1/runs/{run_id}/events",
    summary="What happened to the run, in order.",
    query=runs.After,
    response=runs.Events,
    errors=(_RUN,),
    scope=_READ_RUN,
)
GET_ATTEMPTS = Operation(
    name="runs.attempts",
    method="GET",
    path="/api/v1/runs/{run_id}/attempts",
    summary="The run's attempts, in order.",
    response=runs.Attempts,
    errors=(_RUN,),
    scope=_READ_RUN,
)
GET_LOGS = Operation(
    name="runs.logs",
    method="GET",
    path="/api/v1/runs/{run_id}/logs",
    summary="What the run's code printed and logged.",
    query=runs.After,
    response=runs.Logs,
    errors=(_RUN,),
    scope=_READ_RUN,
)
WATCH_RUN = Operation(
    name="runs.watch",
    method="GET",
    path="/api/v1/runs/{run_id}/watch",
    summary="Follow a run to its end: server-sent events `event`, `checkpoint`, `log`, and `run` at each change.",
    response=None,
    response_type=SSE,
    errors=(_RUN,),
    scope=_READ_RUN,
    browser=True,
)
LIST_DEAD = Operation(
    name="dead.list",
    method="GET",
    path="/api/v1/dead",
    summary="Dead letters: failed runs awaiting review.",
    query=dead.DeadQuery,
    response=dead.Dead,
)
LIST_DEAD_GROUPS = Operation(
    name="dead.groups",
    method="GET",
    path="/api/v1/dead/groups",
    summary="Dead letters that failed alike, as groups with counts, the last seen first.",
    query=dead.GroupQuery,
    response=dead.Groups,
)
GET_DEAD_GROUP = Operation(
    name="dead.group",
    method="GET",
    path="/api/v1/dead/groups/{group}",
    summary="One group of dead letters.",
    response=dead.GroupView,
    errors=(_GROUP,),
)
GET_DEAD = Operation(
    name="dead.retrieve",
    method="GET",
    path="/api/v1/dead/{run_id}",
    summary="A dead letter in full, with its group.",
    response=dead.DeadLetter,
    errors=(_RUN, "not-dead"),
)
REDRIVE_MANY = Operation(
    name="dead.redrive_many",
    method="POST",
    path="/api/v1/dead/redrive",
    summary="Run many dead letters again, the oldest first and so many a second, and take them off the list.",
    request=dead.RedriveMany,
    response=dead.Redriven,
)
DISCARD_MANY = Operation(
    name="dead.discard_many",
    method="POST",
    path="/api/v1/dead/discard",
    summary="Take many dead letters off the list without running them again.",
    request=dead.DiscardMany,
    response=dead.Discarded,
)
REDRIVE = Operation(
    name="dead.redrive",
    method="POST",
    path="/api/v1/dead/{run_id}/redrive",
    summary="Run a dead letter again as a new run, perhaps with another payload, and take it off the list.",
    request=dead.Redrive,
    response=Id,
    errors=(_RUN, "not-dead", "task-not-found", "payload-invalid", "payload-too-large"),
    max_body=11 * MIB,
)
DISCARD = Operation(
    name="dead.discard",
    method="POST",
    path="/api/v1/dead/{run_id}/discard",
    summary="Take a dead letter off the list without running it again.",
    request=dead.Discard,
    response=Id,
    errors=(_RUN, "not-dead"),
)
LIST_QUEUES = Operation(
    name="queues.list",
    method="GET",
    path="/api/v1/queues",
    summary="The environment's queues, with what runs and waits in them.",
    query=fleet.PageQuery,
    response=queueing.Queues,
)
GET_QUEUE = Operation(
    name="queues.retrieve",
    method="GET",
    path="/api/v1/queues/{queue}",
    summary="A queue, with what runs and waits in it.",
    query=queueing.QueueQuery,
    response=queueing.QueueView,
    errors=(_QUEUE,),
)
PAUSE_QUEUE = Operation(
    name="queues.pause",
    method="POST",
    path="/api/v1/queues/{queue}/pause",
    summary="Pause a queue, or resume it: nothing of a paused one is handed to workers; what executes goes on.",
    request=queueing.PauseQueue,
    response=queueing.QueueView,
    errors=(_QUEUE,),
)
OVERRIDE_CONCURRENCY = Operation(
    name="queues.override_concurrency",
    method="POST",
    path="/api/v1/queues/{queue}/concurrency/override",
    summary="Set how many runs of a queue may execute at once, in place of what code declares.",
    request=queueing.OverrideConcurrency,
    response=queueing.QueueView,
    errors=(_QUEUE,),
)
RESET_CONCURRENCY = Operation(
    name="queues.reset_concurrency",
    method="POST",
    path="/api/v1/queues/{queue}/concurrency/reset",
    summary="What code declares of that counts again.",
    request=queueing.Named,
    response=queueing.QueueView,
    errors=(_QUEUE,),
)
OVERRIDE_QUEUE = Operation(
    name="queues.override",
    method="POST",
    path="/api/v1/queues/{queue}/override",
    summary="Set any limits of a queue in place of those that code declares. No deploy undoes it.",
    request=queueing.Override,
    response=queueing.QueueView,
    errors=(_QUEUE,),
)
RESET_QUEUE = Operation(
    name="queues.reset",
    method="POST",
    path="/api/v1/queues/{queue}/reset",
    summary="What code declares counts again, for all limits or some.",
    request=queueing.ResetQueue,
    response=queueing.QueueView,
    errors=(_QUEUE,),
)
PAUSE_TASK = Operation(
    name="tasks.pause",
    method="POST",
    path="/api/v1/tasks/{task_id}/pause",
    summary="Pause a task, whatever queues its runs are in, or resume it.",
    request=queueing.Pause,
    response=queueing.Paused,
    errors=("task-not-found",),
)
PAUSE_ENVIRONMENT = Operation(
    name="environment.pause",
    method="POST",
    path="/api/v1/environment/pause",
    summary="Pause all that the environment has, or resume it.",
    request=queueing.Pause,
    response=queueing.Paused,
)
LIMIT_TASK = Operation(
    name="tasks.limit",
    method="POST",
    path="/api/v1/tasks/{task_id}/concurrency",
    summary="Set how many runs of a task may execute at once, in place of what it declares.",
    request=queueing.LimitTask,
    response=queueing.TaskLimit,
    errors=("task-not-found",),
)
GET_ENVIRONMENT = Operation(
    name="environment.retrieve",
    method="GET",
    path="/api/v1/environment",
    summary="The key's environment: its limit, and whether it is paused.",
    response=queueing.EnvironmentView,
)
LIMIT_ENVIRONMENT = Operation(
    name="environment.limit",
    method="POST",
    path="/api/v1/environment/concurrency",
    summary="Set how many runs of the environment may execute at once.",
    request=queueing.LimitEnvironment,
    response=queueing.EnvironmentView,
)
LIST_GUARDS = Operation(
    name="guards.list",
    method="GET",
    path="/api/v1/guards",
    summary="The environment's semaphores, limiters and breakers, and how they stand.",
    query=guarding.GuardQuery,
    response=guarding.Guards,
)
GET_GUARD = Operation(
    name="guards.retrieve",
    method="GET",
    path="/api/v1/guards/{kind}/{name}",
    summary="One of them, with the runs that hold it and those that wait.",
    response=guarding.GuardDetail,
    errors=("guard-not-found",),
)
FORGET_GUARD = Operation(
    name="guards.forget",
    method="DELETE",
    path="/api/v1/guards/{kind}/{name}",
    summary="Reset one: as if it had never been used. A semaphore that is in use is refused.",
    response=Id,
    errors=("guard-not-found", "guard-in-use"),
)
CREATE_SCHEDULE = Operation(
    name="schedules.create",
    method="POST",
    path="/api/v1/schedules",
    summary="Make a schedule, or change the one with the same deduplication key.",
    request=scheduling.CreateSchedule,
    response=scheduling.ScheduleView,
    errors=("task-not-found", "payload-invalid", "schedule-declared"),
)
LIST_SCHEDULES = Operation(
    name="schedules.list",
    method="GET",
    path="/api/v1/schedules",
    summary="The environment's schedules, newest first.",
    query=fleet.PageQuery,
    response=scheduling.Schedules,
)
PREVIEW_SCHEDULE = Operation(
    name="schedules.preview",
    method="POST",
    path="/api/v1/schedules/preview",
    summary="The next ticks that such a schedule would have. Makes nothing.",
    request=scheduling.Preview,
    response=scheduling.Previewed,
)
GET_SCHEDULE = Operation(
    name="schedules.retrieve",
    method="GET",
    path="/api/v1/schedules/{schedule_id}",
    summary="A schedule, with its next ticks.",
    response=scheduling.ScheduleView,
    errors=("schedule-not-found",),
)
UPDATE_SCHEDULE = Operation(
    name="schedules.update",
    method="PUT",
    path="/api/v1/schedules/{schedule_id}",
    summary="Change a schedule that a caller made, all but its key.",
    request=scheduling.ScheduleFields,
    response=scheduling.ScheduleView,
    errors=("schedule-not-found", "task-not-found", "payload-invalid", "schedule-declared"),
)
DELETE_SCHEDULE = Operation(
    name="schedules.delete",
    method="DELETE",
    path="/api/v1/schedules/{schedule_id}",
    summary="Remove a schedule that a caller made. Its runs stay.",
    response=Id,
    errors=("schedule-not-found", "schedule-declared"),
)
PAUSE_SCHEDULE = Operation(
    name="schedules.deactivate",
    method="POST",
    path="/api/v1/schedules/{schedule_id}/deactivate",
    summary="Pause a schedule: its ticks trigger nothing, and are not made up for.",
    request=runs.Empty,
    response=scheduling.ScheduleView,
    errors=("schedule-not-found",),
)
RESUME_SCHEDULE = Operation(
    name="schedules.activate",
    method="POST",
    path="/api/v1/schedules/{schedule_id}/activate",
    summary="Resume a schedule with its next tick from now.",
    request=runs.Empty,
    response=scheduling.ScheduleView,
    errors=("schedule-not-found",),
)
LIST_TICKS = Operation(
    name="schedules.ticks",
    method="GET",
    path="/api/v1/schedules/{schedule_id}/ticks",
    summary="What came of its ticks, newest first.",
    query=scheduling.TickQuery,
    response=scheduling.Ticks,
    errors=("schedule-not-found",),
)
BACKFILL = Operation(
    name="schedules.backfill",
    method="POST",
    path="/api/v1/schedules/{schedule_id}/backfill",
    summary="Trigger a run for each past tick of a span that had none; up to 1,000.",
    request=scheduling.Backfill,
    response=scheduling.Ticks,
    errors=("schedule-not-found", "backfill-future"),
)
LIST_ZONES = Operation(
    name="schedules.timezones",
    method="GET",
    path="/api/v1/timezones",
    summary="The time zones that a schedule can be meant in.",
    query=scheduling.ZoneQuery,
    response=scheduling.Zones,
    access="anyone",
)
LIST_WORKERS = Operation(
    name="workers.list",
    method="GET",
    path="/api/v1/workers",
    summary="The environment's workers.",
    response=fleet.Workers,
)
LIST_TASKS = Operation(
    name="tasks.list",
    method="GET",
    path="/api/v1/tasks",
    summary="The environment's tasks, as their workers declared them.",
    response=fleet.Tasks,
)
_CLOSED = ("token-not-found", "token-closed", "payload-invalid", "payload-too-large")
CREATE_TOKEN = Operation(
    name="tokens.create",
    method="POST",
    path="/api/v1/waitpoints/tokens",
    summary="Make a token that belongs to no run, for somebody to complete.",
    request=tokens.CreateToken,
    response=tokens.TokenCreated,
    errors=("schema-invalid", "payload-too-large"),
)
LIST_TOKENS = Operation(
    name="tokens.list",
    method="GET",
    path="/api/v1/waitpoints/tokens",
    summary="Tokens of the environment, newest first.",
    query=tokens.TokenQuery,
    response=tokens.TokenList,
    scope="read:waitpoints",
)
GET_TOKEN = Operation(
    name="tokens.retrieve",
    method="GET",
    path="/api/v1/waitpoints/tokens/{token_id}",
    summary="A token in full, with its answer.",
    response=tokens.TokenDetail,
    errors=("token-not-found",),
    scope="read:waitpoints:{token_id}",
    browser=True,
)
COMPLETE_TOKEN = Operation(
    name="tokens.complete",
    method="POST",
    path="/api/v1/waitpoints/tokens/{token_id}/complete",
    summary="Complete a token. The first to do so wins; the others are told the stored outcome.",
    request=tokens.CompleteToken,
    response=tokens.TokenCompleted,
    errors=_CLOSED,
    scope="write:waitpoints:{token_id}",
    browser=True,
)
CALLBACK_TOKEN = Operation(
    name="tokens.callback",
    method="POST",
    path="/api/v1/waitpoints/tokens/{token_id}/callback/{signature}",
    summary="Complete a token by its `url`, with any JSON as the answer; the signature is the permission.",
    request=None,
    response=tokens.TokenCompleted,
    errors=("token-closed", "payload-invalid", "payload-too-large", "length-required", "signature-invalid"),
    access="anyone",
    browser=True,
)
CANCEL_TOKEN = Operation(
    name="tokens.cancel",
    method="POST",
    path="/api/v1/waitpoints/tokens/{token_id}/cancel",
    summary="Close a token without an answer.",
    request=tokens.CancelToken,
    response=tokens.TokenDetail,
    errors=("token-not-found", "token-closed"),
)
_TO_RUN = (_RUN, "run-ended", "inbox-full", "payload-invalid", "payload-too-large")
SEND_SIGNAL = Operation(
    name="runs.signal",
    method="POST",
    path="/api/v1/runs/{run_id}/signals",
    summary="Send a message to a run; its code receives it in its turn, whatever the run is doing now.",
    request=messages.SendMessage,
    response=messages.MessageSent,
    errors=_TO_RUN,
    scope="write:runs:{run_id}",
    max_body=MIB + 64 * KIB,
    browser=True,
)
SEND_UPDATE = Operation(
    name="runs.update",
    method="POST",
    path="/api/v1/runs/{run_id}/updates",
    summary="Ask something of a run, which it accepts or refuses. `wait` holds the answer until it has.",
    request=messages.SendMessage,
    query=messages.UpdateQuery,
    response=messages.UpdateView,
    errors=_TO_RUN,
    scope="write:runs:{run_id}",
    max_body=MIB + 64 * KIB,
    browser=True,
)
GET_UPDATE = Operation(
    name="runs.update_status",
    method="GET",
    path="/api/v1/runs/{run_id}/updates/{update_id}",
    summary="What came of an update. `wait` holds the answer until the run has accepted or refused it.",
    query=messages.UpdateQuery,
    response=messages.UpdateView,
    errors=(_RUN, "update-not-found"),
    scope=_READ_RUN,
    browser=True,
)
SEND_INPUT = Operation(
    name="streams.input",
    method="POST",
    path="/realtime/v1/streams/{run_id}/input/{stream_id}",
    summary="Send a message to a run as the npm client does: a signal of the stream's name.",
    request=messages.StreamInput,
    response=messages.StreamTaken,
    errors=_TO_RUN,
    scope="write:inputStreams:{run_id}",
    max_body=MIB + 64 * KIB,
    browser=True,
)
SEND_EVENTS = Operation(
    name="events.send",
    method="POST",
    path="/api/v1/events",
    summary="Send events: to each run that waits for one that fits or ends by it, and to the tasks that they start.",
    request=events.SendEvents,
    response=events.EventsSent,
    errors=("payload-invalid", "payload-too-large", "event-conflict"),
    max_body=11 * MIB,
)
LIST_EVENTS = Operation(
    name="events.list",
    method="GET",
    path="/api/v1/events",
    summary="Events that were sent, newest first.",
    query=events.SentEventQuery,
    response=events.SentEventList,
)
GET_EVENT = Operation(
    name="events.retrieve",
    method="GET",
    path="/api/v1/events/{event_id}",
    summary="An event with its data, and what came of it.",
    response=events.SentEvent,
    errors=("event-not-found",),
)
TOKEN_CLAIMS = Operation(
    name="auth.claims",
    method="POST",
    path="/api/v1/auth/jwt/claims",
    summary="The claims that identify this environment in a public token.",
    request=runs.Empty,
    response=fleet.Claims,
)
CREATE_PUBLIC_TOKEN = Operation(
    name="auth.create_public_token",
    method="POST",
    path="/api/v1/auth/public-tokens",
    summary="A short-lived token that may do only what its scopes name.",
    request=fleet.CreatePublicToken,
    response=fleet.PublicToken,
    errors=("scope-unknown",),
)
HEARTBEAT = Operation(
    name="worker.heartbeat",
    method="POST",
    path="/api/v1/worker/heartbeat",
    summary="Renew a worker's leases.",
    request=frames.Heartbeat,
    response=frames.HeartbeatReply,
)
WORKER = Operation(
    name="worker.connect",
    method="GET",
    path="/api/v1/worker",
    summary="A worker's WebSocket: binary messages of msgpack frames.",
    response=None,
    websocket=True,
    status=101,
)
HEALTH = Operation(
    name="health.live",
    method="GET",
    path="/healthz",
    summary="The process answers.",
    response=fleet.Health,
    access="anyone",
)
READY = Operation(
    name="health.ready",
    method="GET",
    path="/readyz",
    summary="The database is reachable and the server is not draining; 503 otherwise.",
    response=fleet.Health,
    access="anyone",
)
METRICS = Operation(
    name="metrics",
    method="GET",
    path="/metrics",
    summary="What waits in each queue and for how long, in the text format of Prometheus.",
    response=None,
    response_type="text/plain",
)
OPENAPI = Operation(
    name="openapi",
    method="GET",
    path="/openapi.json",
    summary="This API in OpenAPI 3.1.",
    response=None,
    access="anyone",
)

OPERATIONS: tuple[Operation, ...] = (
    TRIGGER,
    RESET_KEY,
    TRIGGER_BATCH,
    CREATE_BATCH,
    BATCH_ITEMS,
    GET_BATCH,
    BATCH_RESULTS,
    GET_RUN,
    LIST_RUNS,
    CANCEL_RUN,
    REPLAY_RUN,
    FORK_RUN,
    RESCHEDULE_RUN,
    BUMP_RUN,
    GET_RESULT,
    ADD_TAGS,
    GET_METADATA,
    PUT_METADATA,
    GET_JOURNAL,
    GET_EVENTS,
    GET_ATTEMPTS,
    GET_LOGS,
    WATCH_RUN,
    LIST_DEAD,
    LIST_DEAD_GROUPS,
    GET_DEAD_GROUP,
    REDRIVE_MANY,
    DISCARD_MANY,
    GET_DEAD,
    REDRIVE,
    DISCARD,
    LIST_QUEUES,
    GET_QUEUE,
    PAUSE_QUEUE,
    OVERRIDE_CONCURRENCY,
    RESET_CONCURRENCY,
    OVERRIDE_QUEUE,
    RESET_QUEUE,
    PAUSE_TASK,
    PAUSE_ENVIRONMENT,
    LIMIT_TASK,
    GET_ENVIRONMENT,
    LIMIT_ENVIRONMENT,
    LIST_GUARDS,
    GET_GUARD,
    FORGET_GUARD,
    CREATE_SCHEDULE,
    LIST_SCHEDULES,
    PREVIEW_SCHEDULE,
    GET_SCHEDULE,
    UPDATE_SCHEDULE,
    DELETE_SCHEDULE,
    PAUSE_SCHEDULE,
    RESUME_SCHEDULE,
    LIST_TICKS,
    BACKFILL,
    LIST_ZONES,
    LIST_WORKERS,
    LIST_TASKS,
    CREATE_TOKEN,
    LIST_TOKENS,
    GET_TOKEN,
    COMPLETE_TOKEN,
    CALLBACK_TOKEN,
    CANCEL_TOKEN,
    SEND_SIGNAL,
    SEND_UPDATE,
    GET_UPDATE,
    SEND_INPUT,
    SEND_EVENTS,
    LIST_EVENTS,
    GET_EVENT,
    TOKEN_CLAIMS,
    CREATE_PUBLIC_TOKEN,
    HEARTBEAT,
    WORKER,
    HEALTH,
    READY,
    METRICS,
    OPENAPI,
)
BY_NAME: dict[str, Operation] = {operation.name: operation for operation in OPERATIONS}
