"""Runs as they were recorded with `stepwell runs show --json`, and what is printed of them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from stepwell.cli.pages import print_run
from stepwell.cli.record import Record
from stepwell.cli.timeline import Entry, timeline
from stepwell.protocol.runs import AttemptView, CheckpointView, EventView, Run, RunDetail

FOLDER = Path(__file__).with_name("recorded")


def recorded(name: str) -> Record:
    content: dict[str, Any] = msgspec.json.decode((FOLDER / f"{name}.json").read_bytes())
    workers = {event["details"]["worker"] for event in content["events"] if "worker" in event["details"]}
    return Record(
        run=msgspec.convert(content["run"], RunDetail),
        attempts=msgspec.convert(content["attempts"], list[AttemptView]),
        events=msgspec.convert(content["events"], list[EventView]),
        journal=msgspec.convert(content["journal"], list[CheckpointView]),
        children=msgspec.convert(content["children"], list[Run]),
        workers={worker: f"worker-{number}" for number, worker in enumerate(sorted(workers), 1)},
    )


def entries(name: str) -> list[Entry]:
    record = recorded(name)
    return timeline(record.run, record.events, record.journal, record.workers)


def printed(record: Record, *, width: int = 100, everything: bool = False) -> str:
    """As on a terminal of this width, without colours."""
    page = io.StringIO()
    console = Console(file=page, width=width, force_terminal=True, color_system=None, highlight=False, markup=False)
    print_run(console, record, everything=everything)
    return page.getvalue()
