"""Prints dead letters: groups as a table, one group with its runs, one run with what it was given and why it failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from stepwell.cli.pages import dead_table, plain_table, print_failure
from stepwell.cli.wording import ago, clock, compact, counted, shortened
from stepwell.protocol.wire import UNSET

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from stepwell.protocol.dead import DeadLetter, GroupView
    from stepwell.protocol.runs import Run


def groups_table(groups: Sequence[GroupView]) -> Table:
    table = plain_table("group", "runs", "first", "last", "tasks", "why")
    for each in groups:
        tasks = ", ".join(each.tasks)
        first, last = ago(each.first_seen), ago(each.last_seen)
        table.add_row(each.id, f"{each.count:,}", first, last, shortened(tasks, 60), shortened(_why(each), 200))
    return table


def print_group(console: Console, group: GroupView, runs: Sequence[Run]) -> None:
    console.print(_header(group))
    if group.failure is not None:
        print_failure(console, group.failure)
    console.print(dead_table(runs))
    if group.count > len(runs):
        console.print(f"… and {group.count - len(runs):,} more: stepwell dead list --group {group.id}", style="dim")


def print_dead(console: Console, letter: DeadLetter) -> None:
    run, group = letter.run, letter.group
    text = Text().append(run.task_identifier, style="bold").append(f"  {run.state}", style="red")
    text.append(f"  {run.id}\n", style="dim")
    facts = {
        "failed": f"{clock(run.finished_at)} ({ago(run.finished_at)})" if run.finished_at else None,
        "tries": counted(run.attempt_count, "attempt"),
        "group": f"{group.id}, {counted(group.count, 'run')}",
        "from": ", ".join(each.id for each in run.origins or ()) or None,
        "payload": None if run.payload is UNSET else compact(run.payload, 400),
    }
    for name, value in facts.items():
        if value is not None:
            text.append(f"  {name:<11}", style="dim").append(f"{value}\n")
    for each in run.not_undone or ():
        text.append(f"  {'not undone':<11}", style="dim").append(f"{each}\n", style="red")
    console.print(text, soft_wrap=True, end="")
    if run.failure is not None:
        print_failure(console, run.failure)


def _header(group: GroupView) -> Text:
    text = Text().append(_why(group), style="bold red").append(f"  {group.id}\n", style="dim")
    facts = {
        "runs": f"{group.count:,} of {', '.join(group.tasks)}",
        "seen": f"from {clock(group.first_seen)} to {clock(group.last_seen)} ({ago(group.last_seen)})",
        "raised in": group.place,
    }
    for name, value in facts.items():
        if value is not None:
            text.append(f"  {name:<11}", style="dim").append(f"{value}\n")
    for each in group.not_undone or ():
        text.append(f"  {'not undone':<11}", style="dim").append(f"{each}\n", style="red")
    return text


def _why(group: GroupView) -> str:
    undone = f" (not undone: {len(group.not_undone)})" if group.not_undone and group.failure else ""
    return f"{group.name or group.code}: {group.pattern}{undone}"
