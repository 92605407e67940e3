"""What travels executor <-> worker <-> server while runs execute.

A message on either hop is one msgpack array of frames, so that many runs share a write. On the worker's WebSocket a
message is a binary WebSocket message; on the executor's socket it has a 4-byte big-endian length before it.
Payloads, outputs and checkpoint bodies are opaque bytes to everyone but the executor.

Every frame that writes carries the lease epoch: the number that the database issued with the claim. A writer whose
epoch is no longer the run's gets `Refused("lease-lost")` and must end its process.
"""

from __future__ import annotations

import msgspec

from stepwell.model.checkpoint import Checkpoint
from stepwell.model.child import ChildOutcome, ChildSpec
from stepwell.model.failure import Failure
from stepwell.model.message import Reply
from stepwell.model.permit import PermitAnswer, PermitChange
from stepwell.model.retry import RetryPolicy
from stepwell.model.task import DEFAULT_MEMORY, Isolation, Manifest
from stepwell.model.token import TokenOutcome, TokenSpec
from stepwell.model.wait import Wait

PROTOCOL_VERSION = 1


class Frame(msgspec.Struct, frozen=True, array_like=True):
    """The root of all frames; every subclass has its own tag."""


# ---- both hops: from the executor, passed on by its worker --------------------------------------------------------


class Spawn(msgspec.Struct, frozen=True, array_like=True):
    """What is made in the same transaction that stores the entry `seq`: children (its kind is "spawn"), a token,
    a permit that is asked for or given back, an answer to an update. Or that a token of the run is not waited for any
    more: its message, if it has one, is given back."""

    seq: int
    children: list[ChildSpec]
    token: TokenSpec | None = None
    permit: PermitChange | None = None
    reply: Reply | None = None
    given_up: str | None = None


class WriteJournal(Frame, frozen=True, array_like=True, tag="journal"):
    """Store these entries, in order, all or none. Answered by `Persisted` (executor) or `Done` (worker)."""

    run_id: str
    epoch: int
    entries: list[Checkpoint]
    spawns: list[Spawn] = []


class Suspend(Frame, frozen=True, array_like=True, tag="suspend"):
    """The attempt holds still until one of `waits` is satisfied. Everything before it has been persisted.

    stays: for the worker: the executor goes on to another run, though it has one run at a time.
    """

    run_id: str
    epoch: int
    waits: list[Wait]
    stays: bool = False


class Finish(Frame, frozen=True, array_like=True, tag="finish"):
    """The attempt ended: with `output`, or with `failure`, or canceled as asked.

    retry_after: the delay that the task's own code asked for; None leaves it to the policy. no_retry: it asked for no
    further attempt. not_undone: which of its steps could not be undone, and why (None: nothing was to be).
    crashed: the executor died (counts as a crash); the worker sends it in the executor's place.
    """

    run_id: str
    epoch: int
    output: bytes | None = None
    output_type: str = "application/vnd.stepwell+json"
    failure: Failure | None = None
    retry_after: float | None = None
    no_retry: bool = False
    canceled: bool = False
    crashed: bool = False
    not_undone: list[str] | None = None


class Undoing(Frame, frozen=True, array_like=True, tag="undoing"):
    """The run has ended for its code and undoes what it did: nothing but its retries bounds that."""

    run_id: str
    epoch: int


class AwaitChildren(Frame, frozen=True, array_like=True, tag="await-children"):
    """The attempt stays alive and wants to hear of the children spawned under these keys, each when all have ended."""

    run_id: str
    epoch: int
    spawn_keys: list[str]


class AwaitTokens(Frame, frozen=True, array_like=True, tag="await-tokens"):
    """The attempt stays alive and wants to hear of these tokens, of each when it is closed."""

    run_id: str
    epoch: int
    token_ids: list[str]


class AwaitPermits(Frame, frozen=True, array_like=True, tag="await-permits"):
    """The attempt wants to hear what came of these permits, by the keys of the entries that asked for them."""

    run_id: str
    epoch: int
    keys: list[str]


class AskLink(Frame, frozen=True, array_like=True, tag="ask-link"):
    """A step of the attempt wants to know the link to a token's page. Who gets no answer asks again."""

    run_id: str
    epoch: int
    token_id: str


class LogRecord(msgspec.Struct, frozen=True, array_like=True):
    """One line of what user code said. stream: "log", "stdout" or "stderr"."""

    at: float
    level: str
    message: str
    stream: str = "log"
    logger: str = ""
    step: str = ""
    attributes: dict[str, str] = {}


class WriteLogs(Frame, frozen=True, array_like=True, tag="logs"):
    run_id: str
    epoch: int
    attempt: int
    records: list[LogRecord]


class SetMetadata(Frame, frozen=True, array_like=True, tag="metadata"):
    """Replace the run's metadata document (plain JSON)."""

    run_id: str
    epoch: int
    metadata: bytes


# ---- both hops: towards the executor ------------------------------------------------------------------------------


class Stuck(Frame, frozen=True, array_like=True, tag="stuck"):
    """A step of the run did not end with its time, and its executor ends itself: so the attempt has failed."""

    run_id: str
    epoch: int
    failure: Failure


class StartAttempt(Frame, frozen=True, array_like=True, tag="start"):
    """A claimed run, with all that its executor needs.

    epoch: lease epoch. attempt: number of the attempt, from 1; a resume continues the same. started_at: when the run
    first began to execute; now: Postgres's clock when this was sent (all clocks: seconds since the epoch).
    lease_seconds: how long the claim holds without a heartbeat. duration_left: of max_duration, None is no limit.
    attempt_left: the same of attempt_timeout.
    cancel_grace: it was canceled, and is claimed to clean up in so many seconds.
    seed: what `ctx.random` and `ctx.uuid` come from: the run's id, or that of the run whose journal a fork began with.
    """

    run_id: str
    task_id: str
    epoch: int
    attempt: int
    payload: bytes
    payload_type: str
    started_at: float
    now: float
    lease_seconds: float
    retry: RetryPolicy
    journal: list[Checkpoint] = []
    tags: list[str] = []
    metadata: bytes | None = None
    parent_id: str | None = None
    root_id: str | None = None
    idempotency_key: str | None = None
    duration_left: float | None = None
    isolation: Isolation = "process"
    memory: int = DEFAULT_MEMORY
    warm: bool = True
    environment: str = "dev"
    queue: str = ""
    created_at: float = 0.0
    seed: str = ""
    cancel_grace: float | None = None
    attempt_left: float | None = None


class ChildrenEnded(Frame, frozen=True, array_like=True, tag="children-ended"):
    """All children spawned under this key are terminal; outcomes in the order in which they were spawned.

    Many come in pages, one frame each and in their order: these are from child number `first` on. more: another page
    follows. A page with `first` 0 begins anew, whatever came before it.
    """

    run_id: str
    spawn_key: str
    outcomes: list[ChildOutcome]
    first: int = 0
    more: bool = False


class TokensClosed(Frame, frozen=True, array_like=True, tag="tokens-closed"):
    """Tokens that the attempt waits for are closed, so or so."""

    run_id: str
    outcomes: list[TokenOutcome]


class TokenLink(Frame, frozen=True, array_like=True, tag="token-link"):
    """The link that was asked for. url: None if there is no such token."""

    run_id: str
    token_id: str
    url: str | None = None


class PermitsAnswered(Frame, frozen=True, array_like=True, tag="permits-answered"):
    """What came of permits that the attempt waits for."""

    run_id: str
    answers: list[PermitAnswer]


class CancelRun(Frame, frozen=True, array_like=True, tag="cancel"):
    """The run is to be canceled: CancelledError in it, `grace` seconds for its clean-up, which is journaled; then a
    Finish, from its executor or, when that has not come, from the worker that killed it."""

    run_id: str
    epoch: int
    grace: float = 5.0


# ---- executor's hop only ------------------------------------------------------------------------------------------


class Persisted(Frame, frozen=True, array_like=True, tag="persisted"):
    """Everything of this run up to and including entry `seq` is committed."""

    run_id: str
    seq: int


class Rejected(Frame, frozen=True, array_like=True, tag="rejected"):
    """The write of this run that ended with entry `seq` was refused for what it is; nothing of it was stored."""

    run_id: str
    seq: int
    code: str
    message: str
    hint: str | None = None
    status: int = 400


class Discard(Frame, frozen=True, array_like=True, tag="discard"):
    """Let go of the run as a dead process would: no user code runs, nothing more is written (lost lease, drain)."""

    run_id: str


class Released(Frame, frozen=True, array_like=True, tag="released"):
    """The executor holds nothing of this run any more (after Suspend, Finish or Discard) and may take another.

    begun: the run that it goes on with, of those that were handed to it ahead (`protocol.ahead`); "" is none.
    took: the seconds that it had the run, by its own clock.
    """

    run_id: str
    begun: str = ""
    took: float = 0.0


class NotBegun(Frame, frozen=True, array_like=True, tag="not-begun"):
    """A run that was handed to this executor ahead came too late: its lease could not be trusted any more."""

    run_id: str
    epoch: int


# ---- worker's hop only --------------------------------------------------------------------------------------------


class Hello(Frame, frozen=True, array_like=True, tag="hello"):
    """A worker's first frame. `worker_id` is of its own making and kept over reconnects; `held` are its live leases."""

    worker_id: str
    name: str
    pid: int
    protocol: int
    version: str
    manifest: Manifest
    held: list[tuple[str, int]] = []


class Welcome(Frame, frozen=True, array_like=True, tag="welcome"):
    """The server's answer. Leases last `lease_seconds`, are to be renewed each `heartbeat_seconds`."""

    worker_id: str
    environment: str
    lease_seconds: float
    heartbeat_seconds: float
    now: float


class Room(Frame, frozen=True, array_like=True, tag="room"):
    """The worker can take `add` more runs than it said before; each StartAttempt uses one up. Void after a reconnect.

    A negative `add` takes back room that was not used: the worker is about to stop.
    """

    add: int


class Request(Frame, frozen=True, array_like=True, tag="request"):
    """Something that must be answered, by number: `Done(id)` after commit, or `Refused(id, …)`.

    An unanswered request is asked again with the same content after a reconnect; every one of them is idempotent.
    """

    id: int
    frame: WriteJournal | Suspend | Finish | WriteLogs | SetMetadata | Release


class Release(Frame, frozen=True, array_like=True, tag="release"):
    """Give a run back unharmed: it was prefetched and not started, or the worker drains. Burns no attempt."""

    run_id: str
    epoch: int


class Done(Frame, frozen=True, array_like=True, tag="done"):
    id: int


class Refused(Frame, frozen=True, array_like=True, tag="refused"):
    """code: an error code of docs/errors.md; "lease-lost" means another owner. Unless `retryable`, it stays refused."""

    id: int
    code: str
    message: str
    retryable: bool = False
    hint: str | None = None
    status: int = 400


class LeaseLostNotice(Frame, frozen=True, array_like=True, tag="lost"):
    """The run is no longer this worker's: kill its executor, write nothing more."""

    run_id: str
    epoch: int


class Draining(Frame, frozen=True, array_like=True, tag="draining"):
    """The server is about to go: finish what is in flight, reconnect elsewhere."""


# A worker's heartbeat is an HTTP call from a thread of its own, so that nothing else can block it.


class Heartbeat(msgspec.Struct, frozen=True):
    """Renew these leases: [run id, epoch].

    dead: workers whose machine, which is this worker's too, has seen all their processes end: their runs go on at once.
    leaving: this worker has ended; what is leased to it beside `leases` goes back to the queue.
    """

    worker_id: str
    leases: list[tuple[str, int]]
    dead: list[str] = []
    leaving: bool = False


class HeartbeatReply(msgspec.Struct, frozen=True):
    """lost: no longer this worker's. canceling: to be canceled, with the seconds of grace that each has.

    unheld: leased to this worker for a while, but it did not name them: [run id, epoch]. It gives back those that it
    has not got meanwhile, and does not begin them any more.
    """

    now: float
    lost: list[str]
    canceling: list[tuple[str, float]]
    unheld: list[tuple[str, int]] = []


FromExecutor = (
    WriteJournal
    | Suspend
    | Finish
    | Undoing
    | AwaitChildren
    | AwaitTokens
    | AwaitPermits
    | AskLink
    | WriteLogs
    | SetMetadata
    | Released
    | Stuck
    | NotBegun
)
ToExecutor = (
    StartAttempt
    | Persisted
    | Rejected
    | ChildrenEnded
    | TokensClosed
    | PermitsAnswered
    | TokenLink
    | CancelRun
    | Discard
)
FromWorker = Hello | Room | Request | AwaitChildren | AwaitTokens | AwaitPermits | AskLink
ToWorker = (
    Welcome
    | StartAttempt
    | Done
    | Refused
    | ChildrenEnded
    | TokensClosed
    | PermitsAnswered
    | TokenLink
    | CancelRun
    | LeaseLostNotice
    | Draining
)

_encoder = msgspec.msgpack.Encoder()


def pack(frames: list[Frame]) -> bytes:
    """One message of these frames."""
    return _encoder.encode(frames)


from_executor = msgspec.msgpack.Decoder(list[FromExecutor])
to_executor = msgspec.msgpack.Decoder(list[ToExecutor])
from_worker = msgspec.msgpack.Decoder(list[FromWorker])
to_worker = msgspec.msgpack.Decoder(list[ToWorker])
