"""`stepwell tokens …`: what waits for somebody, and answering it."""

from __future__ import annotations

from typing import Annotated

import typer

from stepwell.cli.options import AsJson, json_given

app = typer.Typer(help="Tokens: what runs wait for somebody to answer.", no_args_is_help=True)

TokenId = Annotated[str, typer.Argument(metavar="TOKEN", help="The token's id.", show_default=False)]
By = Annotated[str | None, typer.Option("--by", help="Who answers; kept with the token.")]


@app.command("list")
def list_tokens(
    status: Annotated[
        str | None, typer.Option("--status", "-s", help="waiting, completed, timed_out, canceled; commas between.")
    ] = "waiting",
    everything: Annotated[bool, typer.Option("--all", "-a", help="Whatever their status.")] = False,
    run: Annotated[str | None, typer.Option("--run", help="Only those that this run made.")] = None,
    tag: Annotated[str | None, typer.Option("--tag", help="Only those with this tag.")] = None,
    unheard: Annotated[
        bool, typer.Option("--unheard", help="Only those of which somebody was to be told, and could not be.")
    ] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100, help="At most so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """The newest first; by default those that are open."""
    from stepwell.cli.asking import ask
    from stepwell.cli.console import out, print_json, remark
    from stepwell.cli.wording import ago

    wanted = None if everything else status
    notices = "failed" if unheard else None
    page = ask(lambda client: client.list_tokens(limit=limit, status=wanted, run=run, tags=tag, notices=notices))
    if as_json:
        print_json(page.data)
        return
    if not page.data:
        remark("no tokens" if everything else f"no tokens that are {status}")
        return
    from stepwell.cli.pages import plain_table

    table = plain_table("id", "state", "title", "run", "made", "times out")
    for token in page.data:
        due = token.timeout_at.isoformat(timespec="minutes") if token.timeout_at else "never"
        table.add_row(token.id, token.state, token.title or "", token.run_id or "", ago(token.created_at), due)
    out().print(table)


@app.command()
def show(token: TokenId, as_json: AsJson = False) -> None:
    """What is asked, what an answer has to be, and the answer if there is one."""
    from stepwell.cli.asking import ask
    from stepwell.cli.console import out, print_json

    found = ask(lambda client: client.get_token(token))
    if as_json:
        print_json(found)
        return
    import msgspec

    from stepwell.protocol.wire import UNSET

    shown = {
        "token": found.id,
        "title": found.title,
        "state": found.state,
        "run": found.run_id,
        "times out": found.timeout_at and found.timeout_at.isoformat(),
        "closed": found.completed_at and found.completed_at.isoformat(),
        "by": found.completed_by,
        "url": found.url,
        "data": None if found.data is UNSET else msgspec.json.encode(found.data).decode(),
        "answer has to fit": found.answer_schema and msgspec.json.encode(found.answer_schema).decode(),
        "answer": found.output,
    }
    for name, value in shown.items():
        if value is not None:
            out().print(f"{name:<18} {value}")
    for notice in found.notices or ():
        tried = f"{notice.tries} tries" if notice.tries != 1 else "1 try"
        problem = f": {notice.problem}" if notice.problem else ""
        out().print(f"{'notice':<18} {notice.occasion}, {notice.outcome or 'not delivered yet'} after {tried}{problem}")


@app.command()
def create(
    title: Annotated[str, typer.Argument(metavar="TITLE", help="What is asked, in a line.", show_default=False)],
    data: Annotated[str | None, typer.Option("--data", "-d", help="What it is about: JSON or @file.")] = None,
    schema: Annotated[
        str | None, typer.Option("--schema", help="What an answer has to fit: JSON Schema or @file.")
    ] = None,
    timeout: Annotated[str | None, typer.Option(help='How long it is open: "24h". By default for ever.')] = None,
    as_json: AsJson = False,
) -> None:
    """Make a token that belongs to no run."""
    from stepwell.cli.asking import ask
    from stepwell.cli.console import out, print_json

    about = None if data is None else json_given(data, "--data")
    fits = None if schema is None else json_given(schema, "--schema")
    made = ask(lambda client: client.create_token(title=title, data=about, answer_schema=fits, timeout=timeout))
    if as_json:
        print_json(made)
        return
    out().print(f"{made.id}\n{made.url}")


@app.command()
def complete(
    token: TokenId,
    answer: Annotated[
        str | None, typer.Argument(metavar="[ANSWER]", help="JSON, @file or -.", show_default=False)
    ] = None,
    approve: Annotated[bool, typer.Option("--approve", help="""The answer {"approved": true}.""")] = False,
    reject: Annotated[bool, typer.Option("--reject", help="""The answer {"approved": false}.""")] = False,
    comment: Annotated[str | None, typer.Option(help="Goes with --approve or --reject.")] = None,
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Answer a token: whoever waits for it goes on. The first answer counts."""
    from stepwell.cli.asking import ask
    from stepwell.cli.console import out, print_json
    from stepwell.errors import ConfigError

    if (answer is not None) + approve + reject != 1:
        raise ConfigError("say one of: an answer as JSON, --approve, --reject")
    given = {"approved": approve} if answer is None else json_given(answer, "the answer")
    if comment is not None:
        given = {**given, "comment": comment}
    ask(lambda client: client.complete_token(token, given, by=by))
    if as_json:
        print_json({"id": token, "state": "completed"})
        return
    out().print(f"{token} is completed")


@app.command()
def cancel(token: TokenId, by: By = None, as_json: AsJson = False) -> None:
    """Close a token without an answer: whoever waits for it gets TokenCanceled."""
    from stepwell.cli.asking import ask
    from stepwell.cli.console import out, print_json

    closed = ask(lambda client: client.cancel_token(token, by=by))
    if as_json:
        print_json(closed)
        return
    out().print(f"{token} is canceled")
