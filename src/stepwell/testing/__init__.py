"""For users' tests, and ours: run a task to its end in this process, and crash it after every checkpoint.

May import: sdk, executor and below.
The next harness goes here if users can run it on their own tasks; else it belongs to tests/.
"""

from stepwell.executor import determinism, graveyard
from stepwell.testing.answering import NOBODY, answers
from stepwell.testing.crashes import InjectedFailure
from stepwell.testing.effects import Effects
from stepwell.testing.running import (
    RunResult,
    check_every_prefix,
    check_every_prefix_sync,
    run_task,
    run_task_sync,
)
from stepwell.testing.sending import sends

__all__ = [
    "NOBODY",
    "Effects",
    "InjectedFailure",
    "RunResult",
    "answers",
    "check_every_prefix",
    "check_every_prefix_sync",
    "run_task",
    "run_task_sync",
    "sends",
]

# Lives that "died" are never unwound, not even when the interpreter ends: their `finally` blocks are the user's code.
graveyard.keep_for_ever()

# From here on functions become durable when they are decorated; those decorated before become so now.
determinism.install()
