"""docs/performance.md, made of the results."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from bench import machine
from bench.catalog import OURS, PEERS, Workload
from bench.medians import Row, measured, rows
from bench.rounds import Result, Stand


@dataclass(frozen=True)
class Surroundings:
    """On what the figures were measured."""

    machine: dict[str, str]
    postgres: dict[str, str]
    day: str

    @classmethod
    def seen(cls, stand: Stand) -> Surroundings:
        return cls(machine.description(), stand.postgres.settings(), time.strftime("%Y-%m-%d"))

    def text(self) -> str:
        told = self.machine | {f"postgres {name}": value for name, value in self.postgres.items()}
        return " · ".join(f"{name} {value}" for name, value in told.items())


def page(results: Sequence[Result], surroundings: Surroundings) -> str:
    parts = [_opening(results, surroundings)]
    parts += [_section(workload, rows(results, workload)) for workload in measured(results)]
    parts += [_behind(results), _setups(results), _missing(results)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _opening(results: Sequence[Result], surroundings: Surroundings) -> str:
    count = max((result.round for result in results), default=0)
    busy = statistics.median(result.busy for result in results) if results else 0.0
    return f"""# Performance

Written by `make bench` on {surroundings.day}: medians of up to {count} interleaved rounds, in parentheses least and
most where they are more than 10 % apart. "vs. ours" says how many times as good as ours the peer's first figure is:
below 1, we are ahead.

- {surroundings.text()}
- Clients, servers, workers and databases share these processors. Just before a measurement others used {busy:.0%} of
  them (median). Ratios within this page mean more than its figures; figures of two machines compare nothing.
- "CPU us each" is the processor time of all processes together, which disturbance hardly changes.
- Every peer starts with a fresh database after a checkpoint. A trigger counts when it is acknowledged as durable, an
  end when the peer's store has it. What a peer does not do, or does with a weaker promise, is said below."""


def _section(workload: Workload, found: Sequence[Row]) -> str:
    titles = [title for title, _ in workload.figures.values()]
    lines = [
        f"## {workload.key.upper()}: {workload.title}",
        "",
        f"| peer | {' | '.join(titles)} | vs. ours | rounds |",
        "|---|" + "---:|" * (len(titles) + 2),
    ]
    for row in found:
        cells = [row.error] + [""] * len(titles) if row.error else [row.shown(each) for each in workload.figures]
        lines.append(f"| {row.peer} | {' | '.join(cells[: len(titles)])} | {row.shown_ratio()} | {row.rounds} |")
    return "\n".join(lines)


def _behind(results: Sequence[Result]) -> str:
    """Every peer that is ahead, from the figures themselves; why is what its note says."""
    notes = {entry.name: entry.note for entry in PEERS}
    lines: list[str] = []
    for workload in measured(results):
        for row in rows(results, workload):
            if row.ratio is not None and row.ratio > 1.02 and not row.peer.startswith(OURS):
                note = f": {notes[row.peer]}" if notes[row.peer] else ""
                lines.append(f"- {workload.key.upper()}, {row.peer}, {row.shown_ratio()}{note}.")
    return "\n".join(["## Where a peer is ahead", "", *(lines or ["Nowhere, in these rounds."])])


def _setups(results: Sequence[Result]) -> str:
    lines = ["## How each was set up", "", "| peer | versions | set up |", "|---|---|---|"]
    for entry in PEERS:
        last = next((each for each in reversed(results) if each.peer == entry.name and not each.error), None)
        if last is not None:
            versions = ", ".join(f"{name} {version}" for name, version in last.versions.items())
            lines.append(f"| {entry.name} | {versions} | {last.setup}{'; ' + entry.note if entry.note else ''} |")
    return "\n".join(lines)


def _missing(results: Sequence[Result]) -> str:
    lines = sorted({f"- {each.peer} {each.workload}: {each.error}" for each in results if each.error})
    return "\n".join(["## What could not be measured", "", *lines]) if lines else ""
