"""Looking at processes, and waiting for their end without asking again and again."""

from __future__ import annotations

import asyncio
import os
import select
from pathlib import Path

PATIENCE = 15.0


def is_alive(pid: int) -> bool:
    """Does it run? A zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def until_gone(pid: int) -> None:
    """Returns when the process has ended. Fails after a while."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        ended = await asyncio.to_thread(poll.poll, PATIENCE * 1000)
        assert ended, f"process {pid} is still alive after {PATIENCE:g} s"
    finally:
        os.close(descriptor)
