"""Runs the worker's process, with its log as readable lines on stderr."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stepwell.model.task import Manifest
    from stepwell.worker.settings import WorkerSettings


def work_on(modules: Sequence[str] | None, given: Mapping[str, Any] | None = None) -> None:
    """As `stepwell worker` does, with these modules or else the project's; `given`: settings. Raises ConfigError."""
    from stepwell.cli.configuration import project_modules, worker_settings

    work(worker_settings(project_modules(modules), given))


def work(
    settings: WorkerSettings, *, ready: Callable[[Manifest], None] | None = None, beside_dev: bool = False
) -> None:
    """Until SIGTERM or SIGINT. A module that cannot be imported is shown with its traceback, then raised: ImportFailed.

    beside_dev: `stepwell dev` shows the log, with times of its own, and starts the server at the same moment.
    """
    from stepwell.worker import early

    begun = early.begin(settings)  # before the worker is imported: its fork server has as much to import
    from stepwell.worker.main import ImportFailed, run

    handler = logging.StreamHandler(sys.stderr)
    quiet = _UntilConnected()
    if beside_dev:
        handler.setFormatter(_Plain())
        handler.addFilter(quiet)
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)

    def connected(manifest: Manifest) -> None:
        quiet.over = True
        if ready is not None:
            ready(manifest)

    try:
        run(settings, when_ready=connected, begun=begun)
    except ImportFailed as failed:
        if failed.traceback:
            sys.stderr.write(failed.traceback.rstrip() + "\n")
        raise


class _Plain(logging.Formatter):
    """The message alone; its level where it is worth a look."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if record.levelno <= logging.INFO else f"{record.levelname.lower()}: {text}"


class _UntilConnected(logging.Filter):
    """While server and worker start side by side, only what is wrong with the modules is news."""

    over = False

    def filter(self, record: logging.LogRecord) -> bool:
        return self.over or record.levelno >= logging.ERROR
