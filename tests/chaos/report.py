"""The one table that a chaos run ends with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from tests.chaos import checker
from tests.chaos.checker import Violation
from tests.chaos.history import Fault, History


@dataclass(frozen=True)
class Report:
    """Names and numbers, in the order in which they are shown."""

    lines: tuple[tuple[str, str], ...]
    violations: tuple[Violation, ...]

    def show(self) -> None:
        table = Table(title="chaos", show_header=False)
        for name, value in self.lines:
            table.add_row(name, value)
        console = Console()
        console.print(table)
        for violation in self.violations[:20]:
            console.print(f"[red]{violation.kind}[/red]: {violation.what}", highlight=False)


def report(history: History, violations: Sequence[Violation], seed: int, seconds: float) -> Report:
    faults = Counter(fault.kind for fault in history.faults)
    found = Counter(violation.kind for violation in violations)
    took = checker.recoveries(history)
    lines = [
        ("faults", ", ".join(f"{kind} {count}" for kind, count in sorted(faults.items())) or "none"),
        ("processes killed", str(sum(map(_killed, history.faults)))),
        ("runs acknowledged", str(len(history.acked))),
        ("runs in all, with children", str(len(history.runs))),
        ("steps executed", str(len(history.executions))),
        ("cancels won / lost", _won_and_lost(history)),
        ("lost", str(found["lost"])),
        ("repeated outside the window", str(found["repeated"])),
        ("repeated inside the window", str(checker.repeats(history))),
        ("stuck", str(found["stuck"])),
        ("other violations", str(sum(found.values()) - found["lost"] - found["repeated"] - found["stuck"])),
        ("recovery p50 / p95 / max", _percentiles(took)),
        ("seconds", f"{seconds:.1f}"),
        ("seed", str(seed)),
    ]
    return Report(tuple(lines), tuple(violations))


def _won_and_lost(history: History) -> str:
    won = sum(each.won for each in history.cancels)
    return f"{won} / {len(history.cancels) - won}"


def _killed(fault: Fault) -> int:
    """The executors, and whose they were. Frozen processes live."""
    return 0 if fault.kind == "freeze" else len(fault.pids) + (fault.kind != "executor")


def _percentiles(values: Sequence[float]) -> str:
    if not values:
        return "none"
    picked = [values[min(len(values) - 1, int(len(values) * part))] for part in (0.5, 0.95, 1.0)]
    return " / ".join(f"{value:.2f} s" for value in picked)
