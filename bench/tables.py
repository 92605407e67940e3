"""The results in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from bench.medians import measured, rows
from bench.rounds import Result


def show(console: Console, results: Sequence[Result]) -> None:
    for workload in measured(results):
        table = Table(title=f"{workload.key}  {workload.title}", title_justify="left", title_style="bold")
        table.add_column("peer")
        for title, _ in workload.figures.values():
            table.add_column(title, justify="right")
        table.add_column("vs. ours", justify="right")
        table.add_column("rounds", justify="right")
        for row in rows(results, workload):
            if row.error:
                table.add_row(row.peer, f"[red]{row.error}", *[""] * (len(workload.figures) + 1))
            else:
                shown = [row.shown(figure) for figure in workload.figures]
                table.add_row(row.peer, *shown, row.shown_ratio(), str(row.rounds))
        console.print(table)


def line(result: Result) -> str:
    """One measurement, as it comes in."""
    told = f"[red]{result.error}" if result.error else "  ".join(f"{k} {v}" for k, v in result.figures.items())
    where = f"\\[{result.round}] {result.workload:4} {result.peer:16}"
    return f"{where} {result.seconds:6.1f} s, load {result.load:.1f}, busy {result.busy:.0%}:  {told}"
