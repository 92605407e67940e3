"""Notices: who is told of a new token is decided by the planner; each target has a courier of its own.

A target that answers slowly, or not at all, holds back nobody but itself.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence

import msgspec

from stepwell.engine import notices
from stepwell.engine.notices import Parcel
from stepwell.primitives.backoff import backoff_delay
from stepwell.services.notices_delivery import PATIENCE, NotDelivered, deliver
from stepwell.services.notices_message import Message
from stepwell.services.notices_targets import Target
from stepwell.services.service import Service
from stepwell.storage.database import Database

TRIES = 12
"""With the pauses between them, about a day."""

_FACTOR, _SHORTEST, _LONGEST = 4.0, 5.0, 4 * 3600.0
_log = logging.getLogger(__name__)


def notice_services(targets: Sequence[Target], public_url: str, lead: float) -> list[Service]:
    """What a server runs for these targets. lead: seconds before a token's end in which it is reminded of."""
    return [Planner(targets, lead), *(Courier(target, public_url) for target in targets)]


def message_of(parcel: Parcel, public_url: str) -> Message:
    """What a notice says of its token as it is now."""
    token = parcel.token
    return Message(
        id=parcel.notice.id,
        occasion=parcel.notice.occasion,
        environment=parcel.environment.slug,
        token_id=token.id,
        title=token.title or "Approve this?",
        url=parcel.page_url(public_url),
        status=token.status,
        created_at=token.created_at,
        timeout_at=token.timeout_at,
        run_id=token.run_id,
        tags=token.tags,
        data=None if token.data is None else msgspec.json.decode(token.data),
        schema=token.answer_schema,
    )


class Planner:
    """New tokens become a notice to each target that wants them, and a reminder."""

    name = "notice planner"
    batch = 200

    def __init__(self, targets: Sequence[Target], lead: float) -> None:
        self._targets = targets
        self._lead = lead

    async def run_once(self, db: Database) -> int:
        return await notices.plan(db, self._wanted_by, self._lead, self.batch)

    async def next_due(self, db: Database) -> float | None:
        return await notices.next_announced(db)

    def _wanted_by(self, environment: str, tags: Sequence[str]) -> list[str]:
        return [target.name for target in self._targets if target.wants(environment, tags)]


class Courier:
    """Delivers what is due for one target: at least once, then with growing pauses, until it gives up."""

    batch = 10

    def __init__(self, target: Target, public_url: str, patience: float = PATIENCE) -> None:
        self.name = f"courier for {target.place}"
        self._target = target
        self._public_url = public_url
        self._patience = patience

    async def run_once(self, db: Database) -> int:
        hold = self._patience * 3  # what a try takes at most, and its outcome to be written
        parcels = await notices.claim(db, self._target.name, self.batch, hold)
        await asyncio.gather(*(self._deliver(db, parcel) for parcel in parcels))
        return len(parcels)

    async def next_due(self, db: Database) -> float | None:
        return await notices.next_due(db, self._target.name)

    async def _deliver(self, db: Database, parcel: Parcel) -> None:
        notice = parcel.notice
        try:
            await deliver(self._target, message_of(parcel, self._public_url), self._patience)
        except NotDelivered as error:
            await self._failed(db, parcel, error)
        except Exception as error:  # noqa: BLE001 - the loop of a service: one notice must not hold back the others
            _log.exception("notice %s of %s could not be made", notice.id, notice.token_id)
            await self._failed(db, parcel, NotDelivered(f"{type(error).__name__}: {error}"))
        else:
            await notices.delivered(db, notice)
            _log.info("notice %s of %s delivered: %s", notice.id, notice.token_id, self._target.place)

    async def _failed(self, db: Database, parcel: Parcel, error: NotDelivered) -> None:
        notice, reason = parcel.notice, str(error)[:500]
        if error.final or notice.tries >= TRIES:
            await notices.give_up(db, notice, reason)
            _log.error(
                "gave up on notice %s of %s after %d tries: %s: %s",
                *(notice.id, notice.token_id, notice.tries, self._target.place, reason),
            )
            return
        pause = backoff_delay(notice.tries, _FACTOR, _SHORTEST, _LONGEST, random=random.random())
        pause = min(max(pause, error.after), _LONGEST)
        await notices.postpone(db, notice, pause, reason)
        _log.warning("notice %s of %s again in %.0f s: %s: %s", notice.id, notice.token_id, pause, self.name, reason)
