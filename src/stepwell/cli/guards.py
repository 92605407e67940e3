"""`stepwell guards …`: semaphores, limiters and breakers that runs share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from stepwell.cli.options import AsJson
from stepwell.errors import ConfigError

if TYPE_CHECKING:
    from stepwell.model.permit import GuardKind
    from stepwell.protocol.guarding import GuardView, PermitView

app = typer.Typer(help="Guards: semaphores, limiters and breakers that runs share.", no_args_is_help=True)

Kind = Annotated[str, typer.Argument(help="semaphore, limiter or breaker.", show_default=False)]
Name = Annotated[str, typer.Argument(help="As in the code.", show_default=False)]


@app.command("list")
def list_guards(
    kind: Annotated[str | None, typer.Option("--kind", "-k", help="semaphore, limiter or breaker.")] = None,
    as_json: AsJson = False,
) -> None:
    """Every one that was ever used, and how it stands."""
    from stepwell.cli.asking import ask
    from stepwell.cli.console import out, print_json, remark

    found = ask(lambda client: client.guards.list(None if kind is None else _kind(kind)))
    if as_json:
        print_json(found)
        return
    if not found:
        remark("no semaphore, limiter or breaker was used yet")
        return
    from stepwell.cli.pages import plain_table

    table = plain_table("kind", "name", "declared", "now", "waiting", "by")
    for guard in found:
        table.add_row(guard.kind, guard.name, _declared(guard), _now(guard), str(guard.waiting), guard.task)
    out().print(table)


@app.command()
def show(kind: Kind, name: Name, as_json: AsJson = False) -> None:
    """One, with who holds it and who waits for it."""
    from stepwell.cli.asking import ask
    from stepwell.cli.console import out, print_json

    detail = ask(lambda client: client.guards.retrieve(_kind(kind), name))
    if as_json:
        print_json(detail)
        return
    guard = detail.guard
    out().print(f"{guard.kind} {guard.name}: {_declared(guard)}; now {_now(guard)}; declared by {guard.task}")
    for what, users in (("holds", detail.holders), ("waits", detail.waiters)):
        for each in users:
            out().print(f"  {each.run} {what} {_since(each)}")


@app.command()
def forget(kind: Kind, name: Name, as_json: AsJson = False) -> None:
    """Reset one: a limiter is full again, a breaker closed, and the next task that uses it declares it anew."""
    from stepwell.cli.asking import ask
    from stepwell.cli.console import out, print_json

    ask(lambda client: client.guards.forget(_kind(kind), name))
    if as_json:
        print_json({"kind": kind, "name": name})
        return
    out().print(f"{kind} {name} is as if it had never been used")


def _kind(text: str) -> GuardKind:
    if text not in ("semaphore", "limiter", "breaker"):
        raise ConfigError(f"there is no kind {text!r}", hint="semaphore, limiter or breaker")
    return text


def _declared(guard: GuardView) -> str:
    from stepwell.model.permit import Terms

    return str(Terms(guard.kind, guard.name, guard.amount, guard.period or 0.0, guard.cool_down or 0.0))


def _now(guard: GuardView) -> str:
    match guard.kind:
        case "semaphore":
            return f"{guard.held} held"
        case "limiter":
            return f"{guard.available or 0:g} available"
        case "breaker":
            until = f" until {guard.retry_at:%Y-%m-%d %H:%M:%S} UTC" if guard.state == "open" and guard.retry_at else ""
            return f"{guard.state}{until}, {guard.failures or 0} failures"


def _since(each: PermitView) -> str:
    return f"since {each.granted_at or each.asked_at:%Y-%m-%d %H:%M:%S} UTC ({each.key})"
