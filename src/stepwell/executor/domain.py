"""Where code runs: in a run's own lines (orchestrated by its pump), inside one of its steps, or in neither.

Three context variables, copied with each asyncio task, so that `gather`, task groups and friends need no API of ours.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stepwell.executor.attempt import Attempt
    from stepwell.executor.branch import Branch
    from stepwell.executor.leaf import Leaf

# The attempt whose own lines these are: its handles go to its pump. None: the normal event loop, steps included.
domain: ContextVar[Attempt | None] = ContextVar("stepwell_domain", default=None)
# The branch of that attempt; each asyncio task of a run is one.
branch_of_task: ContextVar[Branch] = ContextVar("stepwell_branch")
# The step that is being executed, for what it asks of the run (nested operations, its idempotency key).
current_leaf: ContextVar[Leaf | None] = ContextVar("stepwell_leaf", default=None)
