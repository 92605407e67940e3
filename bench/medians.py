"""Medians of the rounds, and their ratios to ours."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.catalog import OURS, PEERS, WORKLOADS, Workload
from bench.rounds import Result


@dataclass(frozen=True)
class Row:
    """A peer in one workload. ratio: how many times better than ours its first figure is; None for ours."""

    peer: str
    values: dict[str, tuple[float, float, float]]  # median, least, most
    ratio: float | None
    rounds: int
    error: str = ""

    def shown(self, figure: str) -> str:
        if figure not in self.values:
            return "-"
        median, least, most = self.values[figure]
        spread = f" ({number(least)} to {number(most)})" if most > 1.1 * least else ""
        return number(median) + spread

    def shown_ratio(self) -> str:
        return "" if self.ratio is None else f"{self.ratio:.2f} x"


def number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}".rstrip("0").rstrip(".") if abs(value) >= 0.1 or value == 0 else f"{value:.3g}"


def rows(results: Sequence[Result], workload: Workload) -> list[Row]:
    """One row for each peer that took part, ours first."""
    found = {entry.name: _of(results, entry.name, workload) for entry in PEERS}
    present = {name: row for name, row in found.items() if row is not None}
    ours = present.get(OURS)
    return [_compared(row, ours, workload) for row in present.values()]


def measured(results: Iterable[Result]) -> list[Workload]:
    keys = {result.workload for result in results}
    return [workload for workload in WORKLOADS if workload.key in keys]


def _of(results: Sequence[Result], peer: str, workload: Workload) -> Row | None:
    own = [result for result in results if result.peer == peer and result.workload == workload.key]
    good = [result for result in own if not result.error]
    if not own:
        return None
    values: dict[str, tuple[float, float, float]] = {}
    for figure in workload.figures:
        seen = [float(result.figures[figure]) for result in good if result.figures.get(figure) is not None]
        if seen:
            values[figure] = statistics.median(seen), min(seen), max(seen)
    return Row(peer, values, None, len(good), "" if good else own[-1].error)


def _compared(row: Row, ours: Row | None, workload: Workload) -> Row:
    figure, (_, more_is_better) = next(iter(workload.figures.items()))
    if ours is None or row is ours or figure not in row.values or figure not in ours.values:
        return row
    theirs, own = row.values[figure][0], ours.values[figure][0]
    if not theirs or not own:
        return row
    return Row(row.peer, row.values, theirs / own if more_is_better else own / theirs, row.rounds, row.error)
