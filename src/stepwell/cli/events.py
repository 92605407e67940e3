"""`stepwell events …`: what happens outside, told to the runs that wait for it or end by it, and to tasks."""

from __future__ import annotations

from typing import Annotated

import typer

from stepwell.cli.options import AsJson, json_given

app = typer.Typer(help="Events: what happens outside and runs wait for.", no_args_is_help=True)


@app.command()
def send(
    name: Annotated[str, typer.Argument(metavar="NAME", help='What happened: "order.paid".', show_default=False)],
    data: Annotated[
        str | None, typer.Option("--data", "-d", help="What there is to say of it: JSON, @file or -.")
    ] = None,
    event_id: Annotated[
        str | None, typer.Option("--id", help="Your own id: sent again, it is known to be the same event.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Send an event: to each run that waits for one that fits or ends by it, and to the tasks that it starts."""
    from stepwell.cli.asking import ask
    from stepwell.cli.console import out, print_json

    given = None if data is None else json_given(data, "--data")
    sent = ask(lambda client: client.send_event(name, given, id=event_id))
    if as_json:
        print_json(sent)
        return
    before = " was sent before" if sent.duplicate else ""
    out().print(f"{sent.id}{before}: {sent.received} {'run' if sent.received == 1 else 'runs'} had waited for it")
    if sent.canceled:
        out().print(f"{sent.canceled} {'run' if sent.canceled == 1 else 'runs'} canceled")
    for each in sent.runs:
        out().print(f"{each.task}: {each.run_id or each.problem}")


@app.command("list")
def list_events(
    name: Annotated[str | None, typer.Option("--name", help="Only those of this name.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100, help="At most so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """The newest first."""
    from stepwell.cli.asking import ask
    from stepwell.cli.console import out, print_json, remark
    from stepwell.cli.wording import ago

    page = ask(lambda client: client.list_events(limit=limit, name=name))
    if as_json:
        print_json(page.data)
        return
    if not page.data:
        remark("no events")
        return
    from stepwell.cli.pages import plain_table

    table = plain_table("id", "name", "sent", "received by", "started")
    for each in page.data:
        started = ", ".join(run.run_id or f"{run.task}: {run.code}" for run in each.runs)
        table.add_row(each.id, each.name, ago(each.sent_at), str(each.received), started)
    out().print(table)


@app.command()
def show(
    event: Annotated[str, typer.Argument(metavar="EVENT", help="The event's id.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """An event with its data, and what came of it."""
    import msgspec

    from stepwell.cli.asking import ask
    from stepwell.cli.console import out, print_json

    found = ask(lambda client: client.get_event(event))
    if as_json:
        print_json(found)
        return
    shown = {
        "event": found.id,
        "name": found.name,
        "sent": found.sent_at.isoformat(),
        "received by": f"{found.received} {'run' if found.received == 1 else 'runs'}",
        "canceled": f"{found.canceled} {'run' if found.canceled == 1 else 'runs'}",
        "data": msgspec.json.encode(found.data).decode(),
    }
    for each in found.runs:
        shown[f"started {each.task}"] = each.run_id or f"nothing: {each.problem}"
    for name, value in shown.items():
        out().print(f"{name:<18} {value}")
