"""What the user's modules have declared in this process, gathered as they are imported."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

from stepwell.client.checks import did_you_mean
from stepwell.errors import ConfigError
from stepwell.model.queue import QueueLimits
from stepwell.model.task import Manifest

if TYPE_CHECKING:
    from stepwell.sdk.queues import Queue
    from stepwell.sdk.task import Task

T = TypeVar("T", bound="Task[..., Any]")

tasks: dict[str, Task[..., Any]] = {}
queues: dict[str, Queue] = {}
_LIMITS = fields(QueueLimits)


def add_task(task: T) -> T:
    """Registers a task under its id.

    Raises:
        ConfigError: another function has that id. The same function imported or defined again replaces itself.
    """
    known = tasks.get(task.id)
    if known is not None and not _same_function(known, task):
        raise ConfigError(
            f"two tasks have the id {task.id!r}: {known.function.__qualname__} ({known.source}) "
            f"and {task.function.__qualname__} ({task.source})",
            hint="give one of them another id: @task(id=...)",
        )
    tasks[task.id] = task
    return task


def add_queue(queue: Queue) -> Queue:
    """Registers a queue under its name.

    Raises:
        ConfigError: it was declared elsewhere with another limit.
    """
    known = queues.get(queue.name)
    if known is not None and known != queue and known.source != queue.source:
        raise ConfigError(
            f"queue {queue.name!r} is declared twice: {_differing(known, queue)} ({known.source}) "
            f"and {_differing(queue, known)} ({queue.source})",
            hint="declare it once and import it where it is needed",
        )
    queues[queue.name] = queue
    return queue


def task_of(task_id: str) -> Task[..., Any]:
    """The task with this id.

    Raises:
        ConfigError: there is none in the modules imported so far.
    """
    try:
        return tasks[task_id]
    except KeyError:
        raise ConfigError(
            f"no task {task_id!r} is declared in this process",
            hint=did_you_mean(task_id, tasks) or f"declared are: {', '.join(sorted(tasks)) or 'none'}",
        ) from None


def manifest() -> Manifest:
    """Everything declared so far, as a worker registers it.

    Raises:
        ConfigError: a task names a queue that is not declared, or has a parameter that no payload can fill.
    """
    for task in tasks.values():
        if task.queue is not None and task.queue not in queues:
            raise ConfigError(
                f"task {task.id!r} ({task.source}) names the queue {task.queue!r}, which is not declared",
                hint=did_you_mean(task.queue, queues) or f"declare it: queue({task.queue!r}, concurrency=...)",
            )
    return Manifest(
        tasks=tuple(tasks[task_id].declaration() for task_id in sorted(tasks)),
        queues=tuple(queues[name].declaration() for name in sorted(queues)),
    )


def _differing(queue: Queue, other: Queue) -> str:
    """What one says where the other says something else."""
    given = [(each.name, getattr(queue.limits, each.name), getattr(other.limits, each.name)) for each in _LIMITS]
    return ", ".join(f"{name}={value}" for name, value, others in given if value != others)


def _same_function(known: Task[..., Any], new: Task[..., Any]) -> bool:
    """A reloaded module, a script that is imported under its own name as well, or a function made anew at each call."""
    old, fn = known.function, new.function
    if "<locals>" in fn.__qualname__ or "<locals>" in old.__qualname__:
        return True
    same_place = old.__module__ == fn.__module__ or old.__code__.co_filename == fn.__code__.co_filename
    return same_place and old.__qualname__ == fn.__qualname__
