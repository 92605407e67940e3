"""What of a worker begins before the worker itself can be imported: its fork server, which imports the user's modules.

Both take a quarter of a second, and a machine has more than one processor. So nothing is imported here that a worker of
whom nothing is known yet does not need.
"""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import sys
from dataclasses import dataclass

from stepwell.primitives.ids import new_id
from stepwell.worker.environment import scrubbed
from stepwell.worker.presence import Presence
from stepwell.worker.settings import WorkerSettings

_MODULE = "stepwell.executor.forkserver"  # by name only: nothing of it is imported here
_PR_SET_DUMPABLE = 4


@dataclass(frozen=True)
class ForkServerProcess:
    """One that imports the modules, and our end of its socket."""

    process: subprocess.Popen[bytes]
    socket: socket.socket


@dataclass(frozen=True)
class Beginning:
    """A worker as far as it exists: its id, its sign of life, and its fork server."""

    worker_id: str
    presence: Presence
    fork_server: ForkServerProcess


def begin(settings: WorkerSettings) -> Beginning:
    """To be called once, in the process that becomes the worker. What has been begun ends with it."""
    hide_environment()
    worker_id = new_id("worker")
    presence = Presence(settings.state_dir, worker_id, settings.url, settings.api_key)
    presence.enter()
    return Beginning(worker_id, presence, start_fork_server(settings, presence))


def start_fork_server(settings: WorkerSettings, presence: Presence) -> ForkServerProcess:
    """It begins to import the modules, and dies with this process."""
    mine, theirs = socket.socketpair()
    environment = dict(os.environ) if settings.environment is None else settings.environment
    # -P: what lies in the working directory must not take the place of a module of ours or of the library.
    lock = presence.descriptor
    given = [theirs.fileno(), os.getpid(), -1 if lock is None else lock]
    command = [sys.executable, "-P", "-m", _MODULE, *map(str, given), *settings.modules]
    with theirs:
        process = subprocess.Popen(
            command,
            env=scrubbed(environment, [settings.api_key]) | {"PYTHONHASHSEED": "0"},
            cwd=settings.directory,
            stdin=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(), *([] if lock is None else [lock])),
            start_new_session=True,
        )
    mine.setblocking(False)
    return ForkServerProcess(process, mine)


def hide_environment() -> None:
    """Our environment has the API key. Of a process that may not be dumped, others of the same user cannot read it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
