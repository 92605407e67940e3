"""What a chaos run leaves behind, as plain data: what clients were told, the world saw, and the database holds."""

from __future__ import annotations

from dataclasses import dataclass, field

TERMINAL = frozenset({"completed", "failed", "canceled", "expired"})


@dataclass
class Execution:
    """One time that a step's body ran. started, ended: seconds of the monotonic clock; wall: of the calendar.

    key: of the step, the same over all its executions. branch, index: the step's place in its task, said by the task.
    """

    run: str
    key: str
    branch: str
    index: int
    pid: int
    token: str
    started: float
    wall: float
    ended: float | None = None


@dataclass(frozen=True)
class Acked:
    """A trigger that the server acknowledged."""

    idempotency_key: str
    run: str


@dataclass(frozen=True)
class RunRow:
    """A run as the database holds it at the end. tokens: of its output; steps, attempts: how many it should have."""

    id: str
    task: str
    queue: str
    status: str
    idempotency_key: str | None
    attempt: int
    tokens: tuple[str, ...] | None
    steps: int
    attempts: int = 1


@dataclass(frozen=True)
class Entry:
    """A row of a journal."""

    run: str
    seq: int
    epoch: int


@dataclass(frozen=True)
class Fact:
    """An event of a run, in order. `wall`: when; `epoch`: of a claim."""

    run: str
    wall: float
    kind: str
    epoch: int | None = None


@dataclass(frozen=True)
class Fault:
    """kind: executor, worker, server, postgres, freeze. pids: of the executors that it met; none: it met everybody."""

    kind: str
    at: float
    pids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Canceled:
    """What a client was told of its request to cancel. asked: how often it had to ask until it was told anything."""

    run: str
    won: bool
    state: str
    asked: int = 1


@dataclass(frozen=True)
class Answer:
    """What a client was told of its answer to a token. won: None, when it was told nothing."""

    token: str
    by: str
    won: bool | None


@dataclass
class History:
    """stuck: runs without a wake-up reason twice in a row, or at the end. leases: (run, epoch) left at the end.

    cancels, answers: by clients. taken: by run, how many steps that can be undone its journal holds. closed: by whom
    each token was completed. limits: of queues. healed: how many runs were triggered after the last fault, and how many
    of them completed.
    """

    acked: list[Acked] = field(default_factory=list)
    runs: list[RunRow] = field(default_factory=list)
    executions: list[Execution] = field(default_factory=list)
    journal: list[Entry] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    leases: list[tuple[str, int]] = field(default_factory=list)
    cancels: list[Canceled] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    taken: dict[str, int] = field(default_factory=dict)
    closed: dict[str, str | None] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)
    healed: tuple[int, int] = (0, 0)
