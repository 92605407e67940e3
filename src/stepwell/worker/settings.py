"""What can be set of a worker."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from pathlib import Path

from stepwell.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """Durations are seconds, sizes are bytes.

    url, api_key: of the server. modules: files or dotted names of the modules that declare tasks.
    name: shown to people.
    slots: runs that execute at once. prefetch: runs held ready beyond that, and more while runs are short
        (`claimer.Claimer`); one that is not begun within `prefetch_wait` of its lease is given back.
    warm_seconds, warm_per_task, warm_total: how long an idle executor is kept, and how many.
    max_processes: processes and threads that the executor of a run may have; more end it.
    kill_grace: when a run's max_duration, or the attempt's attempt_timeout, is over its executor ends it by itself,
        with 5 s for its clean-up; one that has not done so after this time is killed.
    drain_grace: what executing runs have to end by themselves when the worker is told to stop.
    shared_suspended: suspended runs after which a process of `isolation="shared"` is replaced.
    control_groups: "auto" uses the kernel's control groups where they are writable, "off" watches processes instead.
    state_dir: a folder in which the workers of this machine see that one of them has died, so that its runs go on at
        once; "": one below the system's folder for temporary files, "off": its leases run out.
    directory: where the modules are looked for. environment: what user code finds in os.environ; None: the worker's own
        without credentials.
    """

    url: str
    api_key: str = field(repr=False)
    modules: tuple[str, ...]
    name: str = field(default_factory=socket.gethostname)
    slots: int = field(default_factory=lambda: 8 * (os.cpu_count() or 1))
    prefetch: int = 4
    prefetch_wait: float = 1 / 3
    warm_seconds: float = 60.0
    warm_per_task: int = 5
    warm_total: int = 50
    max_processes: int = 512
    kill_grace: float = 6.0
    drain_grace: float = 20.0
    shared_suspended: int = 10_000
    control_groups: str = "auto"
    state_dir: str = ""
    directory: Path = field(default_factory=Path.cwd)
    environment: dict[str, str] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ConfigError(f"url = {self.url!r} is no address of a server", hint="for example http://127.0.0.1:8430")
        if not self.api_key:
            raise ConfigError(
                "there is no API key", hint="set STEPWELL_API_KEY to a key of the environment to work for"
            )
        if self.slots < 1 or self.prefetch < 0:
            raise ConfigError(
                f"slots = {self.slots}, prefetch = {self.prefetch}: a worker needs at least one slot",
                hint="set slots to the number of runs that may execute at once; prefetch may be 0",
            )
        if self.control_groups not in ("auto", "off"):
            raise ConfigError(f'control_groups = {self.control_groups!r}, expected "auto" or "off"')
