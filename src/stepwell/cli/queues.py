"""`stepwell queues …`: what runs and what waits."""

from __future__ import annotations

import typer

from stepwell.cli.options import AsJson

app = typer.Typer(help="Queues: what runs in them and what waits.", no_args_is_help=True)


@app.command("list")
def list_queues(as_json: AsJson = False) -> None:
    """Every queue with its limit, and how many runs execute and wait in it."""
    from stepwell.cli.asking import ask
    from stepwell.cli.console import out, print_json, remark

    queues = ask(lambda client: client.queues())
    if as_json:
        print_json(queues)
        return
    if not queues:
        remark("no queues yet: a worker declares them")
        return
    from stepwell.cli.pages import plain_table

    table = plain_table("queue", "running", "queued", "limit", "")
    for queue in queues:
        limit = "none" if queue.concurrency_limit is None else str(queue.concurrency_limit)
        name = queue.name if queue.type == "custom" or queue.name.startswith("task/") else f"task/{queue.name}"
        table.add_row(name, str(queue.running), str(queue.queued), limit, "paused" if queue.paused else "")
    out().print(table)
