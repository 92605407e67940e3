"""`stepwell schedules …`: when tasks run by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from stepwell.cli.options import AsJson

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from stepwell.client.asynchronous import Stepwell
    from stepwell.client.schedules import Times
    from stepwell.protocol.scheduling import ScheduleView, TickView

app = typer.Typer(help="Schedules: when tasks run by themselves.", no_args_is_help=True)

ScheduleId = Annotated[str, typer.Argument(metavar="SCHEDULE", help="The schedule's id.", show_default=False)]
Cron = Annotated[str | None, typer.Option("--cron", help='Five fields, e.g. "0 2 * * *"; six with seconds first.')]
Every = Annotated[str | None, typer.Option("--every", help="An interval, e.g. 10m.")]
Zone = Annotated[str | None, typer.Option("--timezone", "-z", help="An IANA name; default UTC.")]


@app.command("list")
def list_schedules(as_json: AsJson = False) -> None:
    """Every schedule with its next tick."""
    from stepwell.cli.asking import ask
    from stepwell.cli.console import out, print_json, remark

    async def listed(client: Stepwell) -> list[ScheduleView]:
        return await client.schedules.list()

    found = ask(listed)
    if as_json:
        print_json(found)
        return
    if not found:
        remark("no schedules: declare one with @task(cron=...), or `stepwell schedules create`")
        return
    from stepwell.cli.pages import plain_table

    table = plain_table("schedule", "task", "when", "time zone", "next", "")
    for each in found:
        state = "" if each.active else f"paused: {each.paused_because}"
        when = each.generator.expression if each.generator.type == "CRON" else each.generator.description.lower()
        table.add_row(each.id, each.task, when, each.timezone, _written(each.next_run, each.timezone), state)
    out().print(table)


@app.command()
def show(schedule: ScheduleId, as_json: AsJson = False) -> None:
    """A schedule with its policy, its next ticks, and what came of the last ones."""
    from stepwell.cli.asking import ask
    from stepwell.cli.console import out, print_json

    async def shown(client: Stepwell) -> tuple[ScheduleView, list[TickView]]:
        return await client.schedules.retrieve(schedule), await client.schedules.ticks(schedule, limit=10)

    found, ticks = ask(shown)
    if as_json:
        print_json({"schedule": found, "ticks": ticks})
        return
    out().print(f"[bold]{found.task}[/]  {found.generator.description} ({found.timezone})  [dim]{found.id}[/]")
    declared = "in code" if found.type == "DECLARATIVE" else "by API"
    out().print(f"  declared {declared}, key {found.deduplication_key}", highlight=False)
    out().print(f"  missed ticks: {found.missed}; while a run has not ended: {found.overlap}", highlight=False)
    if not found.active:
        out().print(f"  [yellow]paused: {found.paused_because}[/]", highlight=False)
    for moment in found.upcoming:
        out().print(f"  next   {_written(moment, found.timezone)}", highlight=False)
    for tick in ticks:
        until = f" to {_written(tick.until, found.timezone)}" if tick.until else ""
        said = tick.run_id or tick.reason or ""
        out().print(f"  {_written(tick.at, found.timezone)}{until}  {tick.outcome}  {said}", highlight=False)


@app.command()
def create(
    task: Annotated[str, typer.Argument(metavar="TASK", help="The task's id.", show_default=False)],
    cron: Cron = None,
    every: Every = None,
    timezone: Zone = None,
    key: Annotated[str | None, typer.Option("--key", help="The same key changes the same schedule.")] = None,
    payload: Annotated[
        str | None,
        typer.Option("--payload", "-p", metavar="JSON", help="What its runs get: JSON, @file, or - for stdin."),
    ] = None,
    missed: Annotated[str, typer.Option("--missed", help="skip, catch_up or latest.")] = "skip",
    overlap: Annotated[str, typer.Option("--overlap", help="allow, skip, buffer_one or cancel_other.")] = "allow",
    jitter: Annotated[str | None, typer.Option("--jitter", help="Ticks are spread over so long, e.g. 5m.")] = None,
    pause_after: Annotated[
        int | None, typer.Option("--pause-after", min=1, help="So many failed runs in a row pause it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a schedule, or change the one with the same key."""
    from stepwell.cli.options import json_given

    times: dict[str, Any] = {
        "cron": cron,
        "every": every,
        "timezone": timezone,
        "missed": missed,
        "overlap": overlap,
        "jitter": jitter,
        "pause_after": pause_after,
        "payload": None if payload is None else json_given(payload, "--payload"),
    }
    given: Times = times  # type: ignore[assignment]  # judged by the client, which names the option
    _told(lambda client: client.schedules.create(task, key=key, **given), as_json)


@app.command()
def pause(schedule: ScheduleId, as_json: AsJson = False) -> None:
    """Its ticks trigger nothing until it is resumed."""
    _told(lambda client: client.schedules.pause(schedule), as_json)


@app.command()
def resume(schedule: ScheduleId, as_json: AsJson = False) -> None:
    """Go on with its next tick from now."""
    _told(lambda client: client.schedules.resume(schedule), as_json)


@app.command()
def delete(schedule: ScheduleId) -> None:
    """Remove a schedule that was made by API; its runs stay."""
    from stepwell.cli.asking import ask
    from stepwell.cli.console import out

    ask(lambda client: client.schedules.delete(schedule))
    out().print(f"{schedule} is removed", highlight=False)


@app.command()
def preview(
    cron: Cron = None,
    every: Every = None,
    timezone: Zone = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=100, help="So many ticks.")] = 10,
    as_json: AsJson = False,
) -> None:
    """The next ticks that such a schedule would have."""
    from stepwell.cli.asking import ask
    from stepwell.cli.console import out, print_json

    found = ask(lambda client: client.schedules.preview(cron=cron, every=every, timezone=timezone, count=count))
    if as_json:
        print_json(found)
        return
    out().print(found.description)
    for moment in found.upcoming:
        out().print(f"  {_written(moment, timezone or 'UTC')}", highlight=False)


@app.command()
def backfill(
    schedule: ScheduleId,
    begin: Annotated[str, typer.Option("--from", help="ISO 8601, e.g. 2026-11-01T00:00Z.")],
    end: Annotated[str, typer.Option("--to", help="The end of the span, which is over.")],
    as_json: AsJson = False,
) -> None:
    """Trigger a run for each past tick of a span that had none."""
    from stepwell.cli.asking import ask
    from stepwell.cli.console import out, print_json

    first, last = _moment(begin, "--from"), _moment(end, "--to")
    ticks = ask(lambda client: client.schedules.backfill(schedule, first, last))
    if as_json:
        print_json(ticks)
        return
    for tick in ticks:
        out().print(f"{_written(tick.at, 'UTC')}  {tick.run_id}", highlight=False)


def _told(question: Callable[[Stepwell], Awaitable[ScheduleView]], as_json: bool) -> None:
    from stepwell.cli.asking import ask
    from stepwell.cli.console import out, print_json

    found = ask(question)
    if as_json:
        print_json(found)
        return
    state = f"next {_written(found.next_run, found.timezone)}" if found.active else f"paused: {found.paused_because}"
    out().print(f"{found.id}  {found.task}  {found.generator.description}  {state}", highlight=False)


def _written(moment: datetime | None, timezone: str) -> str:
    """In the schedule's own zone, which is what its expression means."""
    from zoneinfo import ZoneInfo

    return "" if moment is None else moment.astimezone(ZoneInfo(timezone)).strftime("%Y-%m-%d %H:%M:%S %Z")


def _moment(text: str, option: str) -> datetime:
    from datetime import datetime

    from stepwell.errors import ConfigError

    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{option}: {text!r} is no moment", hint="ISO 8601, e.g. 2026-11-01T00:00Z") from None
    return moment.astimezone() if moment.tzinfo is None else moment
