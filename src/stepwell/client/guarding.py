"""What can be asked of semaphores, limiters and breakers from outside."""

from __future__ import annotations

from stepwell.client.exchange import Exchange, ask
from stepwell.model.permit import GuardKind
from stepwell.protocol import operations
from stepwell.protocol.guarding import GuardDetail, GuardQuery, Guards, GuardView
from stepwell.protocol.wire import Id


def list_all(kind: GuardKind | None) -> Exchange[list[GuardView]]:
    return (yield from ask(operations.LIST_GUARDS, Guards, query=GuardQuery(kind=kind))).data


def retrieve(kind: GuardKind, name: str) -> Exchange[GuardDetail]:
    return ask(operations.GET_GUARD, GuardDetail, kind=kind, name=name)


def forget(kind: GuardKind, name: str) -> Exchange[Id]:
    return ask(operations.FORGET_GUARD, Id, kind=kind, name=name)
