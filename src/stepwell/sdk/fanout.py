"""`map`: many children at once, so many at a time, and what of their outcomes is enough."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from stepwell.client.checks import described
from stepwell.errors import ConfigError
from stepwell.model.child import ChildOutcome, ChildSpec
from stepwell.sdk.runtime import Runtime
from stepwell.sdk.words import word


@word
async def fan_out(runtime: Runtime, name: str, specs: Sequence[ChildSpec], limit: int | None) -> list[ChildOutcome]:
    """Outcomes in the order of the specs. All are triggered at once, or `limit` of them and then one for each that
    ends; each by a branch of its own, so that a child's id does not depend on who ended when."""
    if not specs:
        return []
    if limit is None or limit >= len(specs):
        return await runtime.trigger_and_wait(name, specs)
    room = asyncio.Semaphore(limit)

    @word
    async def one(spec: ChildSpec) -> ChildOutcome:
        async with room:
            return (await runtime.trigger_and_wait(name, [spec]))[0]

    return await asyncio.gather(*(one(spec) for spec in specs))


def check_map(specs: Sequence[ChildSpec], limit: Any, min_success: Any) -> None:
    """Raises ConfigError for a limit that lets nothing through, and for more successes than there are children."""
    if limit is not None and (type(limit) is not int or limit < 1):
        raise ConfigError(f"map got limit={described(limit)}", hint="how many children may be under way: 1 or more")
    if min_success is not None and (type(min_success) is not int or not 0 <= min_success <= len(specs)):
        raise ConfigError(
            f"map got min_success={described(min_success)} for {len(specs)} payloads",
            hint="how many of them must complete: from 0 to all",
        )
