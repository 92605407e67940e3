"""`checkpoint(name, **data)`: a named place in the journal."""

from __future__ import annotations

from typing import Any

from stepwell.client.checks import described
from stepwell.errors import ConfigError
from stepwell.sdk.runtime import current
from stepwell.sdk.words import word


@word
async def checkpoint(name: str, /, **data: Any) -> None:
    """Stores `data` under `name` in the run's journal: shown in the inspector, and a place to replay from.

    The same name may come again, as in a loop. Outside a run nothing happens.

    Raises:
        ConfigError: the name is none. CheckpointError: a value cannot be stored.
    """
    checked_checkpoint_name(name)
    runtime = current()
    if runtime is not None:
        await runtime.checkpoint(name, data)


def checked_checkpoint_name(name: object) -> None:
    """Raises ConfigError unless `name` is 1 to 128 printable characters."""
    if not isinstance(name, str) or not 0 < len(name) <= 128 or not name.isprintable():
        raise ConfigError(f"checkpoint got the name {described(name)}", hint="1 to 128 printable characters")
