"""`stepwell dead …`: failed runs that await review, alone and in groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from stepwell.cli.options import AsJson, json_given

if TYPE_CHECKING:
    from stepwell.client.asynchronous import Stepwell
    from stepwell.client.dead import Choice
    from stepwell.protocol.dead import Redriven

app = typer.Typer(help="Dead letters: failed runs that nobody has dealt with yet.", no_args_is_help=True)

Task = Annotated[str | None, typer.Option("--task", "-t", help="Only those of this task.")]
Group = Annotated[str | None, typer.Option("--group", "-g", help="Only those of this group, by its id: err_….")]
RunIds = Annotated[list[str] | None, typer.Argument(metavar="[RUN]…", help="Ids of dead letters.", show_default=False)]
Everything = Annotated[bool, typer.Option("--all", help="All of them.")]


@app.command("list")
def list_dead(
    task: Task = None,
    group: Group = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=500, help="At most so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """The newest first, with why they failed."""
    from stepwell.cli.asking import ask
    from stepwell.cli.console import out, print_json, remark

    dead = ask(lambda client: client.dead.list(limit=limit, task=task, group=group))
    if as_json:
        print_json(dead.data)
        return
    if not dead.data:
        remark("no dead letters")
        return
    from stepwell.cli.pages import dead_table

    out().print(dead_table(dead.data))


@app.command()
def groups(task: Task = None, as_json: AsJson = False) -> None:
    """Those that failed alike as one, with how many there are; the last seen first."""
    from stepwell.cli.asking import ask
    from stepwell.cli.console import out, print_json, remark

    found = ask(lambda client: client.dead.groups(task=task))
    if as_json:
        print_json(found)
        return
    if not found:
        remark("no dead letters")
        return
    from stepwell.cli.dead_pages import groups_table

    out().print(groups_table(found))


@app.command()
def show(
    which: Annotated[str, typer.Argument(metavar="RUN_OR_GROUP", help="The id of either.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """A dead letter with its payload and failure; or a group with its newest runs."""
    from stepwell.cli.asking import ask
    from stepwell.cli.console import out, print_json
    from stepwell.cli.dead_pages import print_dead, print_group
    from stepwell.model.error_group import PREFIX

    if not which.startswith(PREFIX):
        letter = ask(lambda client: client.dead.retrieve(which))
        print_json(letter) if as_json else print_dead(out(), letter)
        return

    async def asked(client: Stepwell) -> tuple[Any, Any]:
        return await client.dead.group(which), await client.dead.list(limit=10, group=which)

    group, runs = ask(asked)
    print_json({"group": group, "runs": runs.data}) if as_json else print_group(out(), group, runs.data)


@app.command()
def redrive(
    runs: RunIds = None,
    everything: Everything = False,
    task: Task = None,
    group: Group = None,
    rate: Annotated[
        str | None, typer.Option("--rate", help="So many begin at most: 10/s, 100/m, 1000/h. Default: all at once.")
    ] = None,
    from_start: Annotated[
        bool, typer.Option("--from-start", help="Run everything again, not only what had not completed.")
    ] = False,
    payload: Annotated[
        str | None,
        typer.Option(
            "--payload", "-p", metavar="JSON", help="Another payload for one run, from its start: JSON, @file or -."
        ),
    ] = None,
    patch: Annotated[
        str | None,
        typer.Option(
            "--patch",
            metavar="JSON",
            help="What shall be otherwise in each payload: fields to replace, null removes one. From the start.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run dead letters again as new runs, and take them off the list. Exit code 1 when some stayed on it."""
    from stepwell.cli.asking import ask
    from stepwell.cli.console import out, print_json, remark
    from stepwell.errors import ConfigError
    from stepwell.protocol.wire import UNSET

    choice = _choice(runs, task, group, everything=everything)
    alone = len(runs or ()) == 1 and rate is patch is None and not (task or group)
    if payload is not None and not alone:
        raise ConfigError(
            "--payload goes with one run id, and neither --rate nor --patch",
            hint="--patch changes the payload of each of many",
        )
    changes = None if patch is None else _patch(patch)
    other = UNSET if payload is None else json_given(payload, "--payload")

    async def redriven(client: Stepwell) -> Redriven:
        from stepwell.protocol.dead import Redriven

        if alone and runs:
            made = await client.dead.redrive(runs[0], payload=other, from_start=from_start)
            return Redriven(runs={runs[0]: made.id}, refused=[])
        return await client.dead.redrive_many(rate=rate, patch=changes, from_start=from_start, **choice)

    done = ask(redriven)
    if as_json:
        print_json(done.runs)
    else:
        for old, new in done.runs.items():
            out().print(f"{old} runs again as {new}")
        if not done.runs and not done.refused:
            remark("no dead letters")
    for each in done.refused:
        remark(f"{each.id} stays on the list: {each.message} [{each.code}]", "yellow")
    if done.refused:
        raise typer.Exit(1)


@app.command()
def discard(
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why nobody has to look at them; kept with the runs.")],
    runs: RunIds = None,
    everything: Everything = False,
    task: Task = None,
    group: Group = None,
    by: Annotated[str | None, typer.Option("--by", help="Who says so.")] = None,
    as_json: AsJson = False,
) -> None:
    """Take dead letters off the list without running them again."""
    from stepwell.cli.asking import ask
    from stepwell.cli.console import out, print_json

    choice = _choice(runs, task, group, everything=everything)

    async def discarded(client: Stepwell) -> int:
        if runs and len(runs) == 1 and not (task or group):
            await client.dead.discard(runs[0], reason, by=by)
            return 1
        return await client.dead.discard_many(reason, by=by, **choice)

    count = ask(discarded)
    if as_json:
        print_json({"count": count})
        return
    out().print(f"{count:,} discarded")


def _patch(text: str) -> dict[str, Any]:
    from stepwell.errors import ConfigError

    given = json_given(text, "--patch")
    if not isinstance(given, dict):
        raise ConfigError(f"--patch {text!r} is no JSON object", hint="""e.g. --patch '{"currency": "EUR"}'""")
    return cast("dict[str, Any]", given)


def _choice(runs: list[str] | None, task: str | None, group: str | None, *, everything: bool) -> Choice:
    from stepwell.client.dead import Choice
    from stepwell.errors import ConfigError

    if everything if runs else not (everything or task or group):
        raise ConfigError(
            "say which: run ids, --group, --task, or --all", hint="`stepwell dead groups` lists the groups"
        )
    return Choice(runs=runs, task=task, group=group, everything=everything)
