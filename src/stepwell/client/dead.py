"""What can be asked of dead letters, and done with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

from stepwell.client.exchange import Exchange, ask, every_page
from stepwell.client.runs import plain, raw
from stepwell.protocol import operations
from stepwell.protocol.dead import (
    Chosen,
    Dead,
    DeadLetter,
    DeadQuery,
    Discard,
    Discarded,
    DiscardMany,
    GroupQuery,
    Groups,
    GroupView,
    Redrive,
    RedriveMany,
    Redriven,
    Refusal,
)
from stepwell.protocol.wire import UNSET, Id

_PAGE = 100


class Choice(TypedDict, total=False):
    """Which dead letters: these runs, those of a group (its id), those of a task, or `everything`."""

    runs: Iterable[str] | None
    group: str | None
    task: str | None
    everything: bool


def list_dead(limit: int, after: str | None, task: str | None, group: str | None) -> Exchange[Dead]:
    return ask(operations.LIST_DEAD, Dead, query=DeadQuery(limit=limit, after=after, task=task, group=group))


def list_groups(task: str | None) -> Exchange[list[GroupView]]:
    return every_page(operations.LIST_DEAD_GROUPS, Groups, GroupQuery(per_page=_PAGE, task=task))


def group(group_id: str) -> Exchange[GroupView]:
    return ask(operations.GET_DEAD_GROUP, GroupView, group=group_id)


def retrieve(run_id: str) -> Exchange[DeadLetter]:
    return ask(operations.GET_DEAD, DeadLetter, run_id=run_id)


def redrive(run_id: str, payload: Any, *, from_start: bool) -> Exchange[Id]:
    body = Redrive(from_start=from_start, payload=UNSET if payload is UNSET else raw(payload))
    return ask(operations.REDRIVE, Id, body, repeatable=False, run_id=run_id)


def redrive_many(
    choice: Choice, rate: str | None, patch: Mapping[str, Any] | None, *, from_start: bool
) -> Exchange[Redriven]:
    """Call after call until nothing is left; what is redriven once is not on the list for the next one."""
    chosen, changes = _chosen(choice), None if patch is None else plain(patch)
    made: dict[str, str] = {}
    refused: list[Refusal] = []
    rest: str | None = None
    while True:
        body = RedriveMany(**chosen, rate=rate, patch=changes, from_start=from_start, rest=rest)
        part = yield from ask(operations.REDRIVE_MANY, Redriven, body)
        made |= part.runs
        refused += part.refused
        rest = part.rest
        if rest is None:
            passed_over = set(chosen["runs"] or ()) - made.keys() - {each.id for each in refused}
            refused += [
                Refusal(id=each, code="not-dead", message="it is no dead letter") for each in sorted(passed_over)
            ]
            return Redriven(runs=made, refused=refused)


def discard(run_id: str, reason: str, by: str | None) -> Exchange[Id]:
    return ask(operations.DISCARD, Id, Discard(reason=reason, by=by), repeatable=False, run_id=run_id)


def discard_many(choice: Choice, reason: str, by: str | None) -> Exchange[Discarded]:
    return ask(operations.DISCARD_MANY, Discarded, DiscardMany(**_chosen(choice), reason=reason, by=by))


def _chosen(choice: Choice) -> dict[str, Any]:
    runs = choice.get("runs")
    chosen = Chosen(
        runs=None if runs is None else list(runs),
        group=choice.get("group"),
        task=choice.get("task"),
        all=choice.get("everything", False),
    )
    return {name: getattr(chosen, name) for name in Chosen.__struct_fields__}
