"""`stepwell trigger`: a run of a task from the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from stepwell.cli.options import AsJson

if TYPE_CHECKING:
    from stepwell.client.asynchronous import Stepwell


def trigger(
    task: Annotated[str, typer.Argument(metavar="TASK", help="The task's id.", show_default=False)],
    payload: Annotated[
        str | None,
        typer.Option(
            "--payload", "-p", metavar="JSON", help="The task's parameters by name: JSON, @file, or - for stdin."
        ),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Show its progress and print its output.")] = False,
    delay: Annotated[str | None, typer.Option(help='Not before then: "1h30m" or seconds from now.')] = None,
    queue: Annotated[str | None, typer.Option(help="Instead of the task's own.")] = None,
    priority: Annotated[int | None, typer.Option(help="Larger goes first.")] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="One run for this key; a second trigger finds the first.")
    ] = None,
    idempotency_key_ttl: Annotated[str | None, typer.Option(help='For how long, e.g. "24h"; 30 days.')] = None,
    concurrency_key: Annotated[str | None, typer.Option(help="A limit of its own for each key, e.g. a tenant.")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="May be repeated.")] = None,
    ttl: Annotated[str | None, typer.Option(help='Expires if it has not begun by then: "10m".')] = None,
    max_attempts: Annotated[int | None, typer.Option(min=1, help="Instead of the task's own.")] = None,
    as_json: AsJson = False,
) -> None:
    """Trigger a run and print its id; with --wait its progress on stderr, and its output as JSON on stdout."""
    from stepwell.cli.asking import ask
    from stepwell.cli.following import new_run
    from stepwell.cli.options import json_given

    given: Any = {} if payload is None else json_given(payload, "--payload")

    async def begin(client: Stepwell) -> int:
        handle = await client.trigger(
            task,
            given,
            delay=delay,
            queue=queue,
            priority=priority,
            idempotency_key=idempotency_key,
            idempotency_key_ttl=idempotency_key_ttl,
            concurrency_key=concurrency_key,
            tags=tag,
            ttl=ttl,
            max_attempts=max_attempts,
        )
        return await new_run(client, handle.id, wait=wait, as_json=as_json, cached=handle.cached)

    code = ask(begin)
    if code:
        raise typer.Exit(code)
