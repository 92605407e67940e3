"""`queue(...)`: what limits how many runs execute at once."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

from stepwell.client.checks import checked_name, described
from stepwell.errors import ConfigError
from stepwell.model.task import QueueDeclaration
from stepwell.sdk import registry
from stepwell.sdk.wrong_use import place


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue as declared in code; give it, or its name, to `task(queue=...)` and `task.options(queue=...)`.

    concurrency: how many of its runs may execute at once, over all workers; None is no limit.
    """

    name: str
    concurrency: int | None = None
    source: str = field(default="", compare=False)

    def declaration(self) -> QueueDeclaration:
        return QueueDeclaration(self.name, self.concurrency)


def queue(name: str, *, concurrency: int | None = None) -> Queue:
    """Declares a queue. A run that waits (for a timer, for children) takes up none of its concurrency.

    Declaring it again in the same words gives the same queue.

    Raises:
        ConfigError: the name or the concurrency is none, or the queue was declared with another concurrency.
    """
    checked_name("queue", name)
    if concurrency is not None and (type(concurrency) is not int or concurrency < 1):
        raise ConfigError(
            f"queue {name!r} got concurrency={described(concurrency)}",
            hint="a whole number of runs, 1 or more; leave it out for no limit",
        )
    caller = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    return registry.add_queue(Queue(name, concurrency, place(caller.f_code.co_filename, caller.f_lineno)))
