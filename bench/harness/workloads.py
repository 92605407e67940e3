"""The workloads: each takes a peer and sizes, and returns figures by name. Rates are per second."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bench.harness.events import Event, Sink
from bench.harness.numbers import milliseconds
from bench.harness.peer import Peer, rows
from bench.harness.processes import cpu_seconds, kill, largest, memory, stop, until
from bench.harness.wal import wal

Figures = dict[str, Any]


@contextmanager
def _costs(figures: Figures, units: int) -> Iterator[None]:
    """Adds what each unit cost: processor time of each process, syncs and bytes of Postgres's log."""
    logged = "BENCH_DATABASE_URL" in os.environ
    log_before = wal() if logged else None
    used_before = cpu_seconds()
    yield
    used = {name: seconds - used_before.get(name, 0.0) for name, seconds in cpu_seconds().items()}
    figures["cpu_us"] = round(1e6 * sum(used.values()) / units)
    figures |= {f"cpu_us_{name}": round(1e6 * seconds / units) for name, seconds in used.items()}
    if log_before is not None:
        figures.update(wal().per_unit(log_before, units))


def throughput(peer: Peer, n: int) -> Figures:
    """W1: n no-op runs, from the first trigger to the last durable end; then triggering alone, without a worker."""
    figures: Figures = {}
    workers = peer.start_workers()
    peer.run_all("noop", range(100))
    with _costs(figures, n):
        seconds = peer.run_all("noop", range(n))
    figures |= {"runs": round(n / seconds, 1)}
    for worker in workers:
        stop(worker)
    singles = min(n, 1000)
    began = time.perf_counter()
    peer.trigger_each("noop", range(singles))
    figures["single_triggers"] = round(singles / (time.perf_counter() - began), 1)
    if peer.bulk:
        began = time.perf_counter()
        peer.trigger_all("noop", range(n))
        figures["bulk_triggers"] = round(n / (time.perf_counter() - began), 1)
    return figures


def steps(peer: Peer, runs: int, each: int, alone: int) -> Figures:
    """W2: many runs of sequential steps at once; then one long run alone."""
    figures: Figures = {}
    peer.start_workers()
    peer.run_all("steps", [2] * 8)
    with _costs(figures, runs * each):
        seconds = peer.run_all("steps", [each] * runs)
    figures |= {"steps": round(runs * each / seconds, 1)}
    seconds = peer.run_all("steps", [alone])
    return figures | {"alone_steps": round(alone / seconds, 1)}


def latency(peer: Peer, n: int, task: str = "noop") -> Figures:
    """W3: an idle system, one run at a time; milliseconds from the trigger to user code, and to the result."""
    peer.start_workers(1)
    for number in range(5):
        peer.call(task, number)
    starts, results = [], []
    for number in range(n):
        began = time.time()
        started = peer.call(task, number)
        results.append(time.time() - began)
        starts.append(started - began)
        time.sleep(random.uniform(0.02, 0.06))
    return milliseconds("start", starts) | milliseconds("result", results)


def cold_latency(peer: Peer, n: int) -> Figures:
    """W3, cold: each run gets a process that is forked for it."""
    return latency(peer, n, "cold")


def fan_out(peer: Peer, children: int) -> Figures:
    """W4: one run triggers children and waits for all of them; and how large the largest process of the workers got."""
    workers = peer.start_workers()
    peer.run_all("noop", range(20))
    began = time.perf_counter()
    found = peer.call("parent", children)
    seconds = time.perf_counter() - began
    if found != children:
        raise RuntimeError(f"the parent got {found} of {children} results")
    return {"seconds": round(seconds, 3), "largest_mib": largest(worker.pid for worker in workers)}


WARM_UP = 100
"""Runs that a worker of W5 has done before."""
SETTLED = 7.5
"""Seconds until it has let go of what it had for them only: of ours, idle processes beyond five of a task."""


def sleepers(peer: Peer, n: int, lead: float, spread: float) -> Figures:
    """W5: n sleeping runs that wake over `spread` seconds; MiB of each process before and while they sleep. The worker
    has done others before: what any worker grows by with its first runs is not what runs take that sleep."""
    sink = Sink()
    worker = peer.start_workers(1)[0]
    peer.run_all("sleeper", [(-1 - number, time.time()) for number in range(WARM_UP)])
    time.sleep(SETTLED)
    processes = {"worker": worker.pid} | peer.server_pids()
    before = {name: memory(pid) for name, pid in processes.items()}
    used = cpu_seconds()
    first = time.time() + lead
    wakes = [first + spread * number / n for number in range(n)]
    peer.trigger_all("sleeper", list(enumerate(wakes)))
    time.sleep(max(0.0, first - time.time() - 0.7))
    asleep = len({event.number for event in sink.named("sleep")} & set(range(n)))
    figures: Figures = {"asleep": asleep} | _cpu_each("cpu_us_sleep", used, max(asleep, 1))
    used = cpu_seconds()
    for name, pid in processes.items():
        figures |= {f"{name}_mib": before[name], f"{name}_mib_more": round(memory(pid) - before[name], 1)}
    woken: dict[int, float] = {}
    looked_at = 0

    def all_woke(events: list[Event]) -> bool:
        nonlocal looked_at
        for event in events[looked_at:]:
            if event.name == "wake" and event.number >= 0:
                woken.setdefault(event.number, event.at)
        looked_at = len(events)
        return len(woken) >= n

    sink.until(all_woke, lead + spread + 60)
    figures |= _cpu_each("cpu_us_wake", used, n)
    return figures | {"woken": len(woken)} | milliseconds("late", [at - wakes[number] for number, at in woken.items()])


def _cpu_each(name: str, before: dict[str, float], count: int) -> Figures:
    """Microseconds of processor time since then, for each of so many runs."""
    return {f"{name}_{who}": round((used - before.get(who, 0.0)) / count * 1e6) for who, used in cpu_seconds().items()}


def killed(peer: Peer, n: int) -> Figures:
    """W6: SIGKILL for the worker in the middle of a run of n steps, and a new worker at once."""
    return _killed(peer, n, standby=False)


def killed_standby(peer: Peer, n: int) -> Figures:
    """W6, with another worker that stands by instead of a restart."""
    return _killed(peer, n, standby=True)


def _killed(peer: Peer, n: int, *, standby: bool) -> Figures:
    sink, middle = Sink(), n // 2
    worker = peer.start_workers(1)[0]
    peer.trigger_each("long", [n])
    if not sink.until(lambda events: events[-1:] != [] and events[-1].number >= middle, 120):
        raise TimeoutError("the run never came to its middle")
    if standby:
        peer.start_worker(1)
    kill(worker)
    died = time.time()
    reached = max(event.number for event in sink.named("step"))
    if not standby:
        peer.start_worker(1)

    def new(events: list[Event]) -> list[Event]:
        return [event for event in events[-50:] if event.at > died and event.number > reached]

    if not sink.until(lambda events: new(events) != [], 120):
        raise TimeoutError("no new step within 120 s")
    resumed = min(event.at for event in sink.named("step") if event.at > died and event.number > reached)
    if not sink.until(lambda events: events[-1].number == n - 1, 120):
        raise TimeoutError("the run never came to its end")
    seen = [event.number for event in sink.named("step")]
    return {
        "progress_s": round(resumed - died, 3),
        "repeated": len(seen) - len(set(seen)),
        "missing": n - len(set(seen)),
    }


def payloads(peer: Peer, n: int, size: int) -> Figures:
    """W7: as W1, with payloads and results of `size` bytes."""
    figures: Figures = {}
    peer.start_workers()
    peer.run_all("echo", rows(100, size))
    given = rows(n, size)
    with _costs(figures, n):
        seconds = peer.run_all("echo", given)
    return figures | {"runs": round(n / seconds, 1)}


def growth(peer: Any, n: int, history: int) -> Figures:
    """W8: as W1, in a database with `history` finished runs."""
    peer.start_workers()
    peer.run_all("noop", range(100))
    peer.add_finished_runs(history)
    return {"runs": round(n / peer.run_all("noop", range(n)), 1)}


def backlog(peer: Peer, n: int, queued: int) -> Figures:
    """W8, the other way: the first n of `queued` runs that had been queued before a worker came; n runs on an empty
    queue before that, and what triggering the last n of them took in place of the first n."""
    empty: Figures = {}
    worker = peer.start_workers(1)[0]
    peer.run_all("noop", range(100))
    with _costs(empty, n):
        alone = n / peer.run_all("noop", range(n))
    stop(worker)
    before = peer.finished()
    first = _seconds(peer, n)
    between = _seconds(peer, queued - 2 * n)
    last = _seconds(peer, n)
    figures: Figures = {"bulk_triggers": round(queued / (first + between + last), 1)}
    peer.start_workers()
    until(lambda: peer.finished() > before, 60)
    with _costs(figures, n):
        ended, began = peer.finished(), time.perf_counter()
        until(lambda: peer.finished() >= ended + n, 300)
        runs = n / (time.perf_counter() - began)
    ratios = {"of_empty": runs / alone, "trigger_times": last / first}
    return figures | {"runs": round(runs, 1)} | _rounded(ratios) | _before(empty)


def _seconds(peer: Peer, n: int) -> float:
    began = time.perf_counter()
    peer.trigger_all("noop", range(n))
    return time.perf_counter() - began


def held_back(peer: Any, n: int, seconds: float) -> Figures:
    """W8, n runs at a time while a transaction elsewhere is open, until it is `seconds` old; n runs before that."""
    before: Figures = {}
    during: Figures = {}
    peer.start_workers()
    for _ in range(2):  # the tables have grown to what they need
        peer.run_all("noop", range(n))
    with _costs(before, n):
        alone = n / peer.run_all("noop", range(n))
    size, passed = peer.hot_bytes(), 0
    with peer.old_transaction():
        began = time.monotonic()
        while time.monotonic() < began + seconds:
            peer.count_from_here()
            peer.run_all("noop", range(n))
            passed += n
        peer.count_from_here()
        with _costs(during, n):
            runs = n / peer.run_all("noop", range(n))
        grown = (peer.hot_bytes() - size) / (passed + n)
    peer.vacuum()
    size = peer.hot_bytes()
    peer.run_all("noop", range(n))
    ratios = {"of_before": runs / alone, "grown_after": peer.hot_bytes() / size}
    figures = {"runs": round(runs, 1), "passed": passed, "hot_bytes": round(grown)}
    return during | figures | _rounded(ratios) | _before(before)


def _rounded(ratios: dict[str, float]) -> Figures:
    return {name: round(ratio, 2) for name, ratio in ratios.items()}


def _before(figures: Figures) -> Figures:
    return {f"{name}_before": value for name, value in figures.items()}


WORKLOADS = {
    each.__name__: each
    for each in (
        throughput,
        steps,
        latency,
        cold_latency,
        fan_out,
        sleepers,
        killed,
        killed_standby,
        payloads,
        growth,
        backlog,
        held_back,
    )
}
