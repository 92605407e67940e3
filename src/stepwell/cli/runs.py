"""`stepwell runs …`: look at runs, follow them, stop them, and begin new ones from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from stepwell.cli.options import AsJson, RunId, json_given

if TYPE_CHECKING:
    from stepwell.client.asynchronous import Stepwell
    from stepwell.client.runs import Filter
    from stepwell.protocol.runs import Run

app = typer.Typer(help="Look at runs, follow them, cancel them, replay them.", no_args_is_help=True)

_PAGE = 100


@app.command("list")
def list_runs(
    status: Annotated[
        list[str] | None,
        typer.Option(
            "--status",
            "-s",
            help="delayed, queued, executing, waiting, completed, failed, canceled or expired; may be repeated.",
        ),
    ] = None,
    task: Annotated[str | None, typer.Option("--task", "-t", help="Only runs of this task.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only runs with this tag.")] = None,
    queue: Annotated[str | None, typer.Option(help="Only runs in this queue.")] = None,
    parent: Annotated[str | None, typer.Option(help="Only children of this run.")] = None,
    schedule: Annotated[str | None, typer.Option(help="Only runs that this schedule triggered.")] = None,
    period: Annotated[str | None, typer.Option(help='Only runs triggered in the last "24h", "30m", ….')] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=10_000, help="At most so many.")] = 20,
    as_json: AsJson = False,
) -> None:
    """The newest runs first."""
    from stepwell.cli.asking import ask
    from stepwell.cli.console import out, print_json, remark
    from stepwell.client.runs import Filter

    filters = Filter(task=task, tag=tag, queue=queue, parent=parent, schedule=schedule, period=period)
    filters["status"] = ",".join(_statuses(status or [])) or None
    runs, more = ask(lambda client: _pages(client, limit, filters))
    if as_json:
        print_json(runs)
        return
    if not runs:
        remark("no such run" if any(filters.values()) else "no runs yet: stepwell trigger TASK -p JSON")
        return
    from stepwell.cli.pages import runs_table

    out().print(runs_table(runs))
    if more:
        remark(f"these are the newest {limit}; more with --limit")


def _statuses(given: list[str]) -> list[str]:
    from stepwell.errors import ConfigError
    from stepwell.model.lifecycle import ACTIVE, TERMINAL

    names = [name.strip() for each in given for name in each.split(",") if name.strip()]
    for name in names:
        if name not in ACTIVE | TERMINAL:
            raise ConfigError(f"no such status: {name!r}", hint=f"one of {', '.join(sorted(ACTIVE | TERMINAL))}")
    return names


async def _pages(client: Stepwell, limit: int, filters: Filter) -> tuple[list[Run], bool]:
    found: list[Run] = []
    while True:
        page = await client.runs.list(limit=min(_PAGE, limit - len(found)), **filters)
        found += page.data
        filters["after"] = page.pagination.next
        if len(found) >= limit or page.pagination.next is None:
            return found[:limit], page.pagination.next is not None


@app.command()
def show(
    run: RunId,
    everything: Annotated[bool, typer.Option("--all", help="Every entry of a long timeline.")] = False,
    as_json: AsJson = False,
) -> None:
    """A run and its timeline: attempts, checkpoints, waits, retries, where it was killed and resumed, its failure."""
    from stepwell.cli.asking import ask
    from stepwell.cli.console import out, print_json
    from stepwell.cli.record import record_of

    record = ask(lambda client: record_of(client, run))
    if as_json:
        print_json(record.plain())
        return
    from stepwell.cli.pages import print_run

    print_run(out(), record, everything=everything)


@app.command()
def logs(
    run: RunId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run has ended.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one line for each.")] = False,
) -> None:
    """What the run's code printed and logged."""
    from stepwell.cli.asking import ask
    from stepwell.cli.following import print_logs

    ask(lambda client: print_logs(client, run, follow=follow, as_json=as_json))


@app.command()
def watch(run: RunId, as_json: AsJson = False) -> None:
    """Follow a run until it has ended, and print its output. Ctrl-C stops watching, not the run."""
    from stepwell.cli.asking import ask
    from stepwell.cli.following import follow

    _exit(ask(lambda client: follow(client, run, as_json=as_json)))


@app.command()
def cancel(
    run: RunId,
    reason: Annotated[str | None, typer.Option(help="Kept with the run.")] = None,
    grace: Annotated[
        str | None, typer.Option(help="How long its code may clean up, e.g. 30s; 0 ends it at once, unheard.")
    ] = None,
) -> None:
    """Cancel a run and its children. Exit code 1 when it had ended before."""
    from stepwell.cli.asking import ask
    from stepwell.cli.console import out, remark

    outcome = ask(lambda client: client.runs.cancel(run, reason, grace=grace))
    if not outcome.canceled:
        remark(f"{run} had ended before: it is {outcome.state}", "yellow")
        raise typer.Exit(1)
    done = outcome.state == "canceled"
    out().print(f"{run} is canceled" if done else f"{run} is being canceled: its code may clean up first")


@app.command()
def signal(
    run: RunId,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The inbox's name.", show_default=False)],
    data: Annotated[str | None, typer.Option("--data", "-d", help="JSON, @file or -.")] = None,
) -> None:
    """Send a message to a run: its code receives it in its turn. Prints the message's id."""
    from stepwell.cli.asking import ask
    from stepwell.cli.console import out

    given = None if data is None else json_given(data, "--data")
    out().print(ask(lambda client: client.signal(run, name, given)))


@app.command()
def update(
    run: RunId,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What is asked of it.", show_default=False)],
    data: Annotated[str | None, typer.Option("--data", "-d", help="JSON, @file or -.")] = None,
    timeout: Annotated[str, typer.Option(help="How long to wait for the answer.")] = "30s",
) -> None:
    """Ask something of a run, and print as JSON what it accepts. Exit code 1 when it refuses, or does not answer."""
    from stepwell.cli.asking import ask
    from stepwell.cli.console import print_json

    given = None if data is None else json_given(data, "--data")
    print_json(ask(lambda client: client.update(run, name, given, timeout=timeout)))


Wait = Annotated[bool, typer.Option("--wait", "-w", help="Follow the new run until it has ended.")]
Payload = Annotated[
    str | None, typer.Option("--payload", "-p", metavar="JSON", help="Another payload: JSON, @file, or - for stdin.")
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="CHECKPOINT=JSON", help="Another value for a kept checkpoint, by its name, key or number."
    ),
]


@app.command()
def replay(
    run: RunId,
    from_checkpoint: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="CHECKPOINT",
            help="Keep all up to and with this checkpoint (its number, key or name), and go on after it.",
        ),
    ] = None,
    payload: Payload = None,
    changes: Changes = None,
    wait: Wait = False,
    as_json: AsJson = False,
) -> None:
    """Begin a new run from this one.

    Again from the start; or, with --from, from a checkpoint, whose number `runs show` tells. With --set kept
    checkpoints get other values, and the new run goes on after the last of them.
    """
    from stepwell.cli.asking import ask
    from stepwell.cli.following import new_run
    from stepwell.cli.options import changes_given
    from stepwell.protocol.wire import UNSET

    changed = changes_given(changes or [])
    other = UNSET if payload is None else json_given(payload, "--payload")
    at = int(from_checkpoint) if from_checkpoint and from_checkpoint.isdecimal() else from_checkpoint

    async def begin(client: Stepwell) -> int:
        if at is None and other is UNSET and not changed:
            handle = await client.runs.replay(run)
        else:
            handle = await client.runs.fork(run, from_checkpoint=at, payload=other, changes=changed)
        return await new_run(client, handle.id, wait=wait, as_json=as_json)

    _exit(ask(begin))


app.command("fork", help="The same as replay, which says from where.", hidden=True)(replay)


@app.command()
def reschedule(
    run: RunId,
    delay: Annotated[str, typer.Option("--delay", help='From now: "1h30m", seconds; or a moment (ISO 8601).')],
) -> None:
    """Another delay for a run that has not begun."""
    from stepwell.cli.asking import ask
    from stepwell.cli.console import out
    from stepwell.cli.wording import ago, clock

    detail = ask(lambda client: client.runs.reschedule(run, delay))
    until = f" until {clock(detail.delayed_until)} ({ago(detail.delayed_until)})" if detail.delayed_until else ""
    out().print(f"{run} is {detail.state}{until}")


@app.command()
def bump(run: RunId) -> None:
    """Put a queued run to the front of its queue; limits hold for it as for all."""
    from stepwell.cli.asking import ask
    from stepwell.cli.console import out

    detail = ask(lambda client: client.runs.bump(run))
    out().print(f"{run} is at the front of {detail.queue}")


def _exit(code: int) -> None:
    if code:
        raise typer.Exit(code)
