"""`make bench`: measures, prints, writes docs/performance.md. Options: make bench ARGS="--rounds 3 --only w1,w2"."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from bench import report, tables
from bench.catalog import PEERS, WORKLOADS, Entry, Workload
from bench.environments import HOME, ROOT
from bench.rounds import Stand, rounds, save, saved

Plan = list[tuple[Workload, list[Entry]]]


def main() -> None:
    given = _options()
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=160)
    plan = [] if given.again else _plan(given)
    file = given.again or HOME / "results" / f"{time.strftime('%Y%m%d-%H%M%S')}.jsonl"
    stand = Stand()
    try:
        surroundings = report.Surroundings.seen(stand)
        for result in rounds(stand, plan, given.rounds, quick=given.quick):
            save(file, result)
            console.print(tables.line(result))
    finally:
        stand.close()
    results = saved(file)
    tables.show(console, results)
    console.print(surroundings.text())
    if given.quick or given.no_report:
        console.print("docs/performance.md stays as it is")
        return
    page = ROOT / "docs" / "performance.md"
    page.write_text(report.page(results, surroundings), encoding="utf-8")
    console.print(f"written to {page.relative_to(ROOT)}; each measurement is in {file}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description="Stepwell and its peers, measured side by side.")
    parser.add_argument("--rounds", type=int, default=2, help="how often each is measured; medians are shown")
    parser.add_argument("--only", help="workloads, e.g. w1,w2; by default all")
    parser.add_argument("--peers", help="peers, e.g. stepwell,dbos; by default all")
    parser.add_argument("--quick", action="store_true", help="small sizes, for a look; no report is written")
    parser.add_argument("--full", action="store_true", help="also a database with 1,000,000 finished runs")
    parser.add_argument(
        "--again", type=Path, metavar="FILE", help="measure nothing: report an earlier session's results"
    )
    parser.add_argument("--no-report", action="store_true", help="leave docs/performance.md as it is")
    return parser.parse_args()


def _plan(given: argparse.Namespace) -> Plan:
    peers = _chosen(given.peers, [entry.name for entry in PEERS])
    default = [workload.key for workload in WORKLOADS if given.full or not workload.full]
    keys = _chosen(given.only, [workload.key for workload in WORKLOADS]) if given.only else default
    plan = [
        (workload, [entry for entry in PEERS if entry.name in peers and workload.key in entry.workloads])
        for workload in WORKLOADS
        if workload.key in keys
    ]
    return [(workload, entries) for workload, entries in plan if entries]


def _chosen(text: str | None, known: Sequence[str]) -> list[str]:
    chosen = text.split(",") if text else list(known)
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise SystemExit(f"unknown: {', '.join(unknown)}; known are {', '.join(known)}")
    return chosen


if __name__ == "__main__":
    main()
