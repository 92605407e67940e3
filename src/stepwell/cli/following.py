"""Follows a run to its end: progress on stderr, its output on stdout.

On a terminal one line at the bottom says what the run is at; what is worth keeping (logs, retries, crashes) scrolls by
above it. Into a pipe only the latter goes.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from stepwell.cli.console import err, out, print_json, remark
from stepwell.cli.pages import log_line, print_failure
from stepwell.cli.record import children_of
from stepwell.cli.timeline import ends_at, timeline
from stepwell.cli.wording import STYLE_OF_STATE, counted, shortened, span
from stepwell.errors import ConnectionFailed
from stepwell.model.lifecycle import TERMINAL, is_terminal
from stepwell.protocol.runs import CheckpointView, EventView, LogView, RunDetail
from stepwell.protocol.wire import UNSET

if TYPE_CHECKING:
    from stepwell.client.asynchronous import Stepwell
    from stepwell.client.watching import Seen

_LOOK_AT_CHILDREN = 0.5  # seconds
_TOLD = frozenset({"retrying", "crashed", "rescued", "released"})


async def new_run(client: Stepwell, run_id: str, *, wait: bool, as_json: bool, cached: bool = False) -> int:
    """Says which run it is, and follows it if asked to. The exit code."""
    if wait:
        return await follow(client, run_id, as_json=as_json)
    if as_json:
        print_json({"id": run_id, "isCached": cached})
        return 0
    out().print(run_id)
    if sys.stdout.isatty():
        known = "this key had been used: it is the run made then; " if cached else ""
        remark(f"{known}see it with: stepwell runs show {run_id}")
    return 0


async def follow(client: Stepwell, run_id: str, *, as_json: bool = False) -> int:
    """Shows a run's progress until it has ended; then its output or its failure. 0 if it completed, else 1."""
    progress = Progress(client, run_id)
    try:
        await progress.show()
    except asyncio.CancelledError:
        remark(f"the run goes on; follow it with: stepwell runs watch {run_id}")
        raise
    except ConnectionFailed as error:
        hint = f"the run is stored and goes on with the server; follow it with: stepwell runs watch {run_id}"
        raise ConnectionFailed(error.message, hint=hint, code=error.code) from error
    run = await client.runs.retrieve(run_id)
    if as_json:
        print_json(run)
    elif run.state == "completed":
        output = None if run.output is UNSET else run.output
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(output), indent=2).decode() + "\n")
    tell_end(run)
    return 0 if run.state == "completed" else 1


def tell_end(run: RunDetail) -> None:
    """The run's end in one line on stderr, and its failure if it has one."""
    took = span(ends_at(run))
    text = (
        Text().append(f"{run.state} ", style=f"bold {STYLE_OF_STATE[run.state]}").append(f"after {took}", style="dim")
    )
    if run.attempt_count > 1:
        text.append(f", {counted(run.attempt_count, 'attempt')}", style="dim")
    text.append(f"  {run.id}", style="dim")
    sys.stdout.flush()
    err().print(text)
    if run.failure is not None:
        print_failure(err(), run.failure)
    if run.state != "completed":
        remark(f"its timeline: stepwell runs show {run.id}")


class Progress:
    """What is known of a run while it is followed."""

    def __init__(self, client: Stepwell, run_id: str) -> None:
        self._client = client
        self._run_id = run_id
        self._run: RunDetail | None = None
        self._last = ""
        self._checkpoints = 0
        self._children: tuple[int, int] | None = None

    async def show(self) -> None:
        """Until the run has ended."""
        if not err().is_terminal:
            await self._watch()
            return
        counting = asyncio.ensure_future(self._count_children())
        try:
            with Live(self, console=err(), refresh_per_second=10, transient=True):
                await self._watch()
        finally:
            counting.cancel()
            with suppress(asyncio.CancelledError):
                await counting

    async def _watch(self) -> None:
        async for seen in self._client.runs.watch(self._run_id):
            self._take(seen)

    def _take(self, seen: Seen) -> None:
        if isinstance(seen, RunDetail):
            self._run = seen
        elif isinstance(seen, CheckpointView):
            self._checkpoints += 1
            if seen.kind not in {"order", "timer"}:
                mark = "✗" if seen.outcome == "error" else "✓"
                self._last = f"{mark} {seen.name} {span((seen.at - seen.started_at).total_seconds())}"
        elif isinstance(seen, LogView):
            err().print(log_line(seen))
        else:
            self._tell(seen)

    def _tell(self, event: EventView) -> None:
        """Retries, crashes and the like, in the words of the timeline."""
        if self._run is None or event.type not in _TOLD:
            return
        for entry in timeline(self._run, [event], []):
            style = {"bad": "red", "warn": "yellow"}.get(entry.tone, "dim")
            note = f"  {entry.note}" if entry.note else ""
            err().print(Text().append(f"{entry.mark} {entry.what}", style=style).append(note, style="dim"))

    async def _count_children(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_AT_CHILDREN)
            run = self._run
            if run is not None and any(wait.kind == "children" for wait in run.waits or ()):
                children = await children_of(self._client, self._run_id)
                self._children = sum(child.state in TERMINAL for child in children), len(children)

    def __rich__(self) -> Spinner | Text:
        run = self._run
        if run is None:
            return Text("…", style="dim")
        if is_terminal(run.state):
            return Text("")
        text = Text(f"{run.task_identifier} ", style="bold").append(run.state, style=STYLE_OF_STATE[run.state])
        parts = [span(ends_at(run))]
        if run.attempt_count > 1:
            parts.append(f"attempt {run.attempt_count}")
        if self._checkpoints:
            parts.append(f"{counted(self._checkpoints, 'checkpoint')}, last {shortened(self._last, 40)}")
        if self._children:
            parts.append(f"children {self._children[0]}/{self._children[1]}")
        return Spinner("dots", text.append("  " + " · ".join(parts), style="dim"))


async def print_logs(client: Stepwell, run_id: str, *, follow: bool, as_json: bool) -> None:
    """What there is, or all there will be."""

    def tell(line: LogView) -> None:
        if as_json:
            sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
            sys.stdout.flush()
        else:
            out().print(log_line(line))

    if not follow:
        for line in await client.runs.logs(run_id):
            tell(line)
        return
    async for seen in client.runs.watch(run_id):
        if isinstance(seen, LogView):
            tell(seen)
