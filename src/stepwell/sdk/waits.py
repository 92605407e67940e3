"""`sleep` and `sleep_until`: inside a run a durable timer, for which nothing is held; outside an ordinary pause."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from stepwell.client.checks import epoch_seconds
from stepwell.primitives.duration import seconds
from stepwell.sdk.runtime import current
from stepwell.sdk.words import word


@word
async def sleep(duration: float | str | timedelta) -> None:
    """Goes on after `duration`: "1h30m", seconds, or a timedelta. A run that sleeps holds no worker.

    Raises:
        ConfigError: it is no duration.
    """
    length, runtime = seconds(duration), current()
    if runtime is None:
        await asyncio.sleep(length)
    else:
        await runtime.sleep_until(runtime.now() + length)


@word
async def sleep_until(moment: datetime) -> None:
    """Goes on at `moment`, at once if that is past. A run that sleeps holds no worker.

    Raises:
        ConfigError: it has no time zone.
    """
    when, runtime = epoch_seconds(moment, "sleep_until"), current()
    if runtime is None:
        await asyncio.sleep(max(0.0, when - datetime.now(UTC).timestamp()))
    else:
        await runtime.sleep_until(when)
