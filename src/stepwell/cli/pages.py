"""Prints runs: one in full with its timeline, many as a table, a failure with its stack."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from textwrap import indent
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from stepwell.cli.timeline import Entry, Tone, ends_at, timeline
from stepwell.cli.wording import STYLE_OF_STATE, ago, clock, compact, counted, offset, shortened, span
from stepwell.protocol.wire import UNSET

if TYPE_CHECKING:
    from rich.console import Console

    from stepwell.cli.record import Record
    from stepwell.protocol.runs import LogView, Run, RunDetail, RunError
    from stepwell.protocol.triggering import FailureView

BAR = 20
SHOWN = 200
"""Entries of a timeline that are printed unless all are asked for: its beginning and its end."""

_STYLES: Mapping[Tone, str] = {
    "plain": "",
    "good": "green",
    "bad": "red",
    "warn": "yellow",
    "quiet": "dim",
    "wait": "blue",
}


def print_run(console: Console, record: Record, *, everything: bool = False) -> None:
    """A run: what it is, what happened in order, its children, and why it failed."""
    run = record.run
    console.print(_header(console, run))
    entries = timeline(run, record.events, record.journal, record.workers)
    print_timeline(console, entries, ends_at(run), everything=everything)
    if record.children:
        console.print(_children(record.children))
    if run.failure is not None:
        print_failure(console, run.failure)


# ── the head ─────────────────────────────────────────────────────────────────


def _header(console: Console, run: RunDetail) -> Text:
    text = Text()
    text.append(run.task_identifier, style="bold").append("  ")
    text.append(run.state, style=f"bold {STYLE_OF_STATE.get(run.state, '')}").append(f"  {run.id}\n", style="dim")
    for name, value in _facts(console, run):
        text.append(f"  {name:<11}", style="dim").append(f"{value}\n")
    return text


def _facts(console: Console, run: RunDetail) -> Iterable[tuple[str, str]]:
    room = max(40, console.width - 15) if console.is_terminal else 400
    yield (
        "triggered",
        f"{clock(run.created_at)} ({ago(run.created_at)})"
        + (f", key {run.idempotency_key}" if run.idempotency_key else ""),
    )
    if run.started_at is not None:
        spent = f", {span(run.duration_ms / 1000)} of that executing" if run.duration_ms else ""
        yield "took" if run.finished_at else "so far", f"{span(ends_at(run))}{spent}"
    tries = counted(run.attempt_count, "attempt") if run.attempt_count else "not begun"
    yield "tries", f"{tries}, {counted(run.crashes, 'crash')}" if run.crashes else tries
    queue = run.queue + (f", key {run.concurrency_key}" if run.concurrency_key else "")
    yield "queue", queue + (f", priority {run.priority}" if run.priority else "")
    if run.tags:
        yield "tags", ", ".join(run.tags)
    if run.delayed_until is not None and run.state == "delayed":
        yield "delayed", f"until {clock(run.delayed_until)} ({ago(run.delayed_until)})"
    yield from _kin(run, room)
    for each in run.not_undone or ():
        yield "not undone", each
    if run.error_group is not None:
        dealt = f", dealt with {ago(run.reviewed_at)}" if run.reviewed_at else ": stepwell dead show " + run.id
        yield "dead", f"group {run.error_group}{dealt}"
    if run.payload is not UNSET:
        yield "payload", compact(run.payload, room)
    if run.output is not UNSET:
        yield "output", compact(run.output, room)


def _kin(run: RunDetail, room: int) -> Iterable[tuple[str, str]]:
    """The runs that it has to do with."""
    if run.parent_id is not None:
        yield "parent", run.parent_id
    for origin in run.origins or ():
        yield "from", f"{origin.id} ({origin.state})"
    for made in run.offspring or ():
        yield "again as", f"{made.id} ({made.state}, {made.made_by})"
    if run.collector is not None:
        yield "collector", run.collector
    if run.members:
        named = ", ".join(run.members)
        yield "members", f"{counted(len(run.members), 'run')}: {named if len(named) <= room else named[:room] + '…'}"


# ── the timeline ─────────────────────────────────────────────────────────────


def print_timeline(console: Console, entries: Sequence[Entry], total: float, *, everything: bool = False) -> None:
    """One line for each entry, with its place in the whole as a bar."""
    left_out = 0 if everything or len(entries) <= SHOWN else len(entries) - SHOWN
    what = min(32, max((len(e.what) + 2 * e.depth for e in entries if e.site), default=0))
    site = min(30, max((len(e.site) for e in entries), default=0))
    for number, entry in enumerate(entries):
        if left_out and number == SHOWN // 2:
            console.print(Text(f"{'⋮':>10}  {left_out:,} more entries: --all shows them", style="dim"))
        if left_out and SHOWN // 2 <= number < SHOWN // 2 + left_out:
            continue
        console.print(_line(entry, total, what, site), no_wrap=console.is_terminal, overflow="ellipsis", crop=True)
    console.print()


def _line(entry: Entry, total: float, what_width: int, site_width: int) -> Text:
    style = _STYLES[entry.tone]
    took = "" if entry.until is None else span(entry.until - entry.at)
    text = Text().append(f"{offset(entry.at):>9}  ", style="dim")
    text.append(bar(entry.at, entry.until, total), style=style or "cyan")
    number = "" if entry.number is None else str(entry.number)
    text.append(f" {took:>7} {number:>4} ", style="dim")
    text.append(f"{'  ' * entry.depth}{entry.mark} ", style=style)
    what = entry.what.ljust(what_width - 2 * entry.depth) if entry.site else entry.what
    text.append(what, style="" if entry.tone == "good" and entry.site else style)
    if entry.site:
        text.append(f"  {entry.site.ljust(site_width) if entry.note else entry.site}", style="dim")
    if entry.note:
        text.append(f"  {entry.note}", style="red" if entry.tone == "bad" else "dim")
    return text


def bar(at: float, until: float | None, total: float) -> str:
    """Where in the whole something was: a stroke from its beginning to its end, a dot for a moment."""
    scale = BAR / total if total > 0 else 0.0
    first = min(BAR - 1, max(0, int(at * scale)))
    last = first if until is None else min(BAR - 1, max(first, int(until * scale - 1e-9)))
    stroke = "·" if until is None else "━" * (last - first + 1)
    return f"{' ' * first}{stroke}".ljust(BAR)


# ── children and failures ────────────────────────────────────────────────────


def _children(children: Sequence[Run]) -> Text:
    """How many there are in each state, and which of them have no output."""
    states = Counter(child.state for child in children)
    tasks = ", ".join(sorted({child.task_identifier for child in children}))
    text = Text().append(f"{counted(len(children), 'child')} ", style="bold").append(f"({tasks}): ")
    for number, (state, many) in enumerate(states.most_common()):
        text.append(", " if number else "").append(f"{many:,} {state}", style=STYLE_OF_STATE.get(state, ""))
    lost = [child for child in children if child.state in {"failed", "canceled", "expired"}]
    for child in lost[:10]:
        reason = f"{child.failure.name or child.failure.code}: {child.failure.message}" if child.failure else ""
        text.append(f"\n✗ {child.id}", style="red").append(f"  {shortened(reason, 70)}")
    if len(lost) > 10:
        text.append(f"\n… and {len(lost) - 10:,} more: stepwell runs list --status failed", style="dim")
    return text.append("\n")


def print_failure(console: Console, failure: FailureView | RunError) -> None:
    """An error with its stack, as Python shows it, and what to do about it."""
    code = getattr(failure, "code", None)
    text = Text().append(f"✗ {failure.name or code}", style="bold red").append(f": {failure.message}")
    if code and code != "error":
        text.append(f"  [{code}]", style="dim")
    console.print(text, soft_wrap=True)
    stack = getattr(failure, "stack", None) or getattr(failure, "stack_trace", None)
    if stack:
        console.print(Text(indent(stack.rstrip(), "  "), style="dim"), soft_wrap=True)
    hint = getattr(failure, "hint", None)
    if hint and not (stack and f"hint: {hint}" in stack):
        console.print(Text().append("hint: ", style="bold").append(hint), soft_wrap=True)


# ── tables and logs ──────────────────────────────────────────────────────────


def runs_table(runs: Sequence[Run]) -> Table:
    table = plain_table("run", "task", "status", "queue", "triggered", "took", "tries")
    for run in runs:
        took = span((run.finished_at - run.created_at).total_seconds()) if run.finished_at else ""
        status = Text(run.state, style=STYLE_OF_STATE.get(run.state, ""))
        if run.failure is not None:
            status.append(f" ({run.failure.code})", style="dim")
        tries = f"{run.attempt_count}" if run.attempt_count else "-"
        table.add_row(run.id, run.task_identifier, status, run.queue, ago(run.created_at), took, tries)
    return table


def plain_table(*columns: str) -> Table:
    """A table without lines, that can be read, copied and piped."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for number, column in enumerate(columns):
        table.add_column(column, no_wrap=True, overflow="ellipsis" if number else "fold")
    return table


def step_name(key: str) -> str:
    """The callee in a checkpoint's key: `/one.0|fetch#2` is `fetch`."""
    return key.rpartition("|")[2].rpartition("#")[0] or key


def log_line(line: LogView) -> Text:
    """One line that user code said, with its level in colour."""
    style = {"error": "red", "critical": "red", "warning": "yellow", "debug": "dim"}.get(line.level.lower(), "")
    moment = line.at.astimezone().strftime("%H:%M:%S.%f")[:-3]
    source = line.stream if line.stream != "log" else line.level.lower()
    text = Text().append(f"{moment} ", style="dim").append(f"{source:<8}", style=style or "dim")
    if line.step:
        text.append(f"{step_name(line.step)}: ", style="dim")
    text.append(line.message, style=style)
    for name, value in line.attributes.items():
        text.append(f" {name}={value}", style="dim")
    return text


def dead_table(runs: Sequence[Run]) -> Table:
    table = plain_table("run", "task", "failed", "tries", "why")
    for run in runs:
        failed = ago(run.finished_at or run.updated_at)
        why = f"{run.failure.name or run.failure.code}: {run.failure.message}" if run.failure else ""
        if run.not_undone:
            why += f"{'; ' if why else ''}not undone: {'; '.join(run.not_undone)}"
        table.add_row(run.id, run.task_identifier, failed, str(run.attempt_count), shortened(why, 200))
    return table
