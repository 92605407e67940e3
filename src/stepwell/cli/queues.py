"""`stepwell queues …`: what runs and what waits, with which limits; paused and resumed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from stepwell.cli.options import AsJson

if TYPE_CHECKING:
    from stepwell.client.asynchronous import Stepwell
    from stepwell.protocol.queueing import EnvironmentView, LimitName, Limits, QueueView, RateView

app = typer.Typer(help="Queues: what runs in them and what waits, their limits, pausing.", no_args_is_help=True)

Name = Annotated[
    str, typer.Argument(metavar="QUEUE", help="Its name; a task's own queue is task/ID.", show_default=False)
]
Which = Annotated[str | None, typer.Argument(metavar="[QUEUE]", help="A queue's name.", show_default=False)]
Task = Annotated[str | None, typer.Option("--task", "-t", help="A task instead, whatever queues its runs are in.")]
Everything = Annotated[bool, typer.Option("--all", help="All that the environment has.")]


@app.command("list")
def list_queues(as_json: AsJson = False) -> None:
    """Every queue with its limits, how many runs execute and wait in it, and for how long the oldest waits."""
    from stepwell.cli.asking import ask
    from stepwell.cli.console import out, print_json, remark

    queues = ask(lambda client: client.queues.list())
    if as_json:
        print_json(queues)
        return
    if not queues:
        remark("no queues yet: a worker declares them")
        return
    from stepwell.cli.pages import plain_table
    from stepwell.cli.wording import span

    table = plain_table("queue", "running", "queued", "oldest", "limit", "")
    for queue in queues:
        overridden = "overridden" if queue.overridden_at else ""
        state = ", ".join(each for each in ("paused" if queue.paused else "", overridden) if each)
        oldest = "" if queue.oldest is None else span(queue.oldest)
        table.add_row(queue.id, f"{queue.running:,}", f"{queue.queued:,}", oldest, _told(queue.limits), state)
    out().print(table)


@app.command()
def show(queue: Name, as_json: AsJson = False) -> None:
    """One queue: what counts, what code declares, and what was set at runtime, by whom and when."""
    _print(lambda client: client.queues.retrieve(queue), as_json)


@app.command()
def pause(queue: Which = None, task: Task = None, everything: Everything = False, as_json: AsJson = False) -> None:
    """Hand nothing of it to workers until it is resumed; what executes goes on."""
    _set_paused(queue, task, as_json, everything=everything, paused=True)


@app.command()
def resume(queue: Which = None, task: Task = None, everything: Everything = False, as_json: AsJson = False) -> None:
    """Go on with what is paused."""
    _set_paused(queue, task, as_json, everything=everything, paused=False)


@app.command()
def override(
    queue: Name,
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", "-c", help="Runs that may execute at once; 0 lets none start.")
    ] = None,
    per_key: Annotated[int | None, typer.Option("--concurrency-per-key", help="The same for each key.")] = None,
    rate: Annotated[
        str | None, typer.Option("--rate", help='So many may start: "100/1m", "10/1s burst 20", "5/1h sliding".')
    ] = None,
    rate_per_key: Annotated[str | None, typer.Option("--rate-per-key", help="The same for each key.")] = None,
    weight: Annotated[
        list[str] | None, typer.Option("--weight", metavar="KEY=SHARE", help="The share of a key; may be repeated.")
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option("--max-length", help="Runs that may be queued before triggers are refused; 0: all are."),
    ] = None,
    by: Annotated[str | None, typer.Option("--by", help="Who does; shown with the queue.")] = None,
    as_json: AsJson = False,
) -> None:
    """Set limits in place of those that code declares. No deploy undoes it; `reset` does."""
    from stepwell.client.queues import LimitFields

    limits = LimitFields(
        concurrency=concurrency,
        concurrency_per_key=per_key,
        rate_limit=rate,
        rate_limit_per_key=rate_per_key,
        key_weights=_weights(weight or []) if weight else None,
        max_length=max_length,
    )
    _print(lambda client: client.queues.override(queue, by=by, **limits), as_json)


@app.command()
def reset(
    queue: Name,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="LIMIT", help="This limit alone, e.g. max_length; may be repeated."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What code declares counts again."""
    names: list[LimitName] = [_limit_named(each) for each in only or []]
    _print(lambda client: client.queues.reset(queue, *names), as_json)


@app.command()
def limit(
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", "-c", help="Runs that may execute at once; 0 lets none start.")
    ] = None,
    none: Annotated[bool, typer.Option("--none", help="No limit; of a task: as its code declares.")] = False,
    burst: Annotated[
        float | None, typer.Option("--burst", help="All queues together may have so many times as many.")
    ] = None,
    task: Task = None,
    everything: Everything = False,
    as_json: AsJson = False,
) -> None:
    """The limit of the environment (--all), or of a task over all queues (--task): shown, or set."""
    from stepwell.cli.asking import ask
    from stepwell.cli.console import out, print_json
    from stepwell.errors import ConfigError

    given = concurrency is not None or none
    if (task is not None) == everything or (concurrency is not None and none) or (task and (burst or not given)):
        raise ConfigError("say --all or --task, and --concurrency or --none", hint="--all alone shows what is set")

    def told(most: int | None) -> str:
        return "no limit" if most is None else f"{most:,} at once"

    if task is not None:
        name = task
        now = ask(lambda client: client.queues.limit_task(name, concurrency))
        print_json(now) if as_json else out().print(f"{task}: {told(now.current)}")
        return

    async def asked(client: Stepwell) -> EnvironmentView:
        kept = await client.queues.environment()
        if not given and burst is None:
            return kept
        return await client.queues.limit_environment(
            concurrency if given else kept.concurrency_limit, burst_factor=burst
        )

    shown = ask(asked)
    text = f"the environment: {told(shown.concurrency_limit)}, burst {shown.burst_factor:g}"
    print_json(shown) if as_json else out().print(text)


def _limit_named(given: str) -> LimitName:
    from stepwell.errors import ConfigError
    from stepwell.protocol.queueing import LimitName

    name = given.replace("-", "_")
    if name not in get_args(LimitName):
        raise ConfigError(f"--only {given!r} is no limit", hint=f"one of {', '.join(get_args(LimitName))}")
    return cast("LimitName", name)


def _set_paused(queue: str | None, task: str | None, as_json: bool, *, everything: bool, paused: bool) -> None:
    from stepwell.cli.asking import ask
    from stepwell.cli.console import out, print_json
    from stepwell.errors import ConfigError

    if (queue is not None) + (task is not None) + everything != 1:
        raise ConfigError("say one of: a queue, --task, --all")

    async def asked(client: Stepwell) -> None:
        queues = client.queues
        if queue is not None:
            await (queues.pause(queue) if paused else queues.resume(queue))
        elif task is not None:
            await (queues.pause_task(task) if paused else queues.resume_task(task))
        else:
            await (queues.pause_environment() if paused else queues.resume_environment())

    ask(asked)
    what = queue or (f"task {task}" if task else "the environment")
    if as_json:
        print_json({"id": queue or task or "environment", "paused": paused})
        return
    out().print(f"{what} is {'paused' if paused else 'resumed'}")


def _print(question: Callable[[Stepwell], Awaitable[QueueView]], as_json: bool) -> None:
    from stepwell.cli.asking import ask
    from stepwell.cli.console import out, print_json
    from stepwell.cli.wording import ago, span

    queue = ask(question)
    if as_json:
        print_json(queue)
        return
    overridden = f" ({ago(queue.overridden_at)}, by {queue.overridden_by})" if queue.overridden_at else ""
    facts = {
        "state": "paused" if queue.paused else "open",
        "running": f"{queue.running:,}",
        "queued": f"{queue.queued:,}" + ("" if queue.oldest is None else f", the oldest for {span(queue.oldest)}"),
        "limit": _told(queue.limits),
        "declared": _told(queue.declared),
        "overridden": f"{_told(queue.overrides)}{overridden}" if overridden else "nothing",
    }
    out().print(queue.id, style="bold")
    for name, value in facts.items():
        out().print(f"  {name:<11}{value}")


def _told(limits: Limits) -> str:
    """Limits in words."""
    given = [
        f"{limits.concurrency} at once" if limits.concurrency is not None else "",
        f"{limits.concurrency_per_key} at once per key" if limits.concurrency_per_key is not None else "",
        _rate(limits.rate_limit),
        f"{_rate(limits.rate_limit_per_key)} per key" if limits.rate_limit_per_key else "",
        f"shares {', '.join(f'{key} {share:g}' for key, share in limits.key_weights.items())}"
        if limits.key_weights
        else "",
        f"{limits.max_length:,} queued" if limits.max_length is not None else "",
    ]
    return "; ".join(each for each in given if each) or "none"


def _rate(rate: RateView | None) -> str:
    if rate is None:
        return ""
    more = " sliding" if rate.window == "sliding" else f" burst {rate.burst:g}" if rate.burst != rate.amount else ""
    per = rate.per if isinstance(rate.per, str) else f"{rate.per:g}s"
    return f"{rate.amount:g}/{per}{more}"


def _weights(pairs: list[str]) -> dict[str, float]:
    from stepwell.errors import ConfigError

    weights: dict[str, float] = {}
    for pair in pairs:
        key, _, share = pair.rpartition("=")
        try:
            weights[key] = float(share)
        except ValueError:
            key = ""
        if not key:
            raise ConfigError(f"--weight {pair!r} names no share", hint="e.g. --weight gold=3")
    return weights
