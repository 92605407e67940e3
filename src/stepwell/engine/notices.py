"""Notices: a token that is made is announced by the same statement; here that becomes notices to targets.

Delivering one is outside of any transaction. It is taken for a while before, and ended or postponed after: whoever dies
in between leaves a notice that is due again, so a receiver hears of each at least once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stepwell.engine.links import token_url
from stepwell.model.environment import Environment
from stepwell.model.notice import Notice, Occasion
from stepwell.model.token import Token
from stepwell.primitives.ids import new_id
from stepwell.storage import environment, notice, token
from stepwell.storage.database import Database, Tx

WantedBy = Callable[[str, Sequence[str]], list[str]]
"""The names of the targets that want to hear of a token, by the slug of its environment and its tags."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """A notice to be delivered now, and what it is about."""

    notice: Notice
    token: Token
    environment: Environment

    def page_url(self, public_url: str) -> str:
        """The signed address of the token's page."""
        return token_url(public_url, self.environment, self.token)


async def plan(db: Database, wanted_by: WantedBy, lead: float, limit: int) -> int:
    """Announcements become a notice for each target, and one more `lead` seconds before the token's end. How many."""

    async def body(tx: Tx) -> int:
        announced = await notice.take_announced(tx, limit)
        occasions: tuple[Occasion, ...] = ("created", "expiring") if lead > 0 else ("created",)
        rows: list[tuple[str, str, str, Occasion, str]] = [
            (new_id("msg"), each.environment_id, each.token_id, occasion, target)
            for each in announced
            for target in wanted_by(each.environment, each.tags)
            for occasion in occasions
        ]
        if rows:
            await notice.insert(tx, rows, lead)
        return len(announced)

    return await db.transact("plan_notices", body)


async def next_announced(db: Database) -> float | None:
    """Seconds until there is something to plan; None when there is nothing."""
    async with db.read("next_announced") as tx:
        return await notice.next_announced(tx)


async def claim(db: Database, target: str, limit: int, hold: float) -> list[Parcel]:
    """Take what is due for a target, for `hold` seconds. Reminders of tokens that wait no more are dropped."""

    async def body(tx: Tx) -> list[Parcel]:
        claimed = await notice.claim(tx, target, limit, hold)
        if not claimed:
            return []
        tokens = await token.by_ids(tx, [each.token_id for each in claimed])
        environments = {each.id: each for each in await environment.every(tx)}
        parcels: list[Parcel] = []
        for each in claimed:
            found = tokens[each.token_id]
            if each.occasion == "expiring" and found.status != "waiting":
                await notice.close(tx, each, "skipped", f"the token is {found.status}")
            else:
                parcels.append(Parcel(each, found, environments[each.environment_id]))
        return parcels

    return await db.transact("claim_notices", body)


async def next_due(db: Database, target: str) -> float | None:
    """Seconds until the next notice for a target; None when there is none."""
    async with db.read("next_notice") as tx:
        return await notice.next_due(tx, target)


async def delivered(db: Database, done: Notice) -> None:
    """Its receiver took it."""

    async def body(tx: Tx) -> None:
        await notice.close(tx, done, "delivered")

    await db.transact("notice_delivered", body)


async def postpone(db: Database, failed: Notice, delay: float, problem: str) -> None:
    """Try again in so many seconds."""

    async def body(tx: Tx) -> None:
        await notice.postpone(tx, failed, delay, problem)

    await db.transact("postpone_notice", body)


async def give_up(db: Database, failed: Notice, problem: str) -> None:
    """There will be no other try. The notice stays, with the reason."""

    async def body(tx: Tx) -> None:
        await notice.close(tx, failed, "failed", problem)

    await db.transact("give_up_notice", body)


async def of_token(db: Database, token_id: str) -> list[Notice]:
    """A token's notices and what became of them, the ended ones first."""
    async with db.read("notices_of_token") as tx:
        return await notice.of_token(tx, token_id)
