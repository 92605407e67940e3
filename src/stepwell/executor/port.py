"""All that an attempt needs of the world around it. The executor process implements it over its worker's socket,
`stepwell.testing` in memory for tests of users' tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from stepwell.model.checkpoint import Checkpoint
from stepwell.protocol.frames import LogRecord, Spawn

Answered = Callable[[Exception | None], None]


class AttemptPort(Protocol):
    """One attempt's way out. Methods never block; what comes back enters through the attempt's own methods."""

    def now(self) -> float:
        """Postgres's clock: seconds since the epoch, never going backwards within the attempt."""
        ...

    def persist(self, entries: Sequence[Checkpoint], spawns: Sequence[Spawn], answered: Answered) -> None:
        """Calls `answered(None)` once all entries are committed (and the children of `spawns` triggered with them),
        on the loop's thread, perhaps before it returns.

        Or with LeaseLost: discard the attempt. With a StepwellError that has a code when the server refuses an entry
        for what it is (an unknown child task, a payload that does not fit): the spawn itself failed, nothing was
        stored. To raise is the same as to answer with the error.
        """
        ...

    def await_children(self, spawn_keys: Sequence[str]) -> None:
        """Asks to hear, by `attempt.children_ended(key, outcomes)`, when all children under a key have ended."""
        ...

    def await_tokens(self, token_ids: Sequence[str]) -> None:
        """Asks to hear, by `attempt.tokens_closed(outcomes)`, when one of these is closed."""
        ...

    def ask_link(self, token_id: str) -> None:
        """Asks to hear, by `attempt.link_found(token_id, url)`, the link to a token's page."""
        ...

    def undoing(self) -> None:
        """What the run has done is being undone: no grace, and no max_duration, ends it meanwhile."""
        ...

    def await_permits(self, keys: Sequence[str]) -> None:
        """Asks to hear, by `attempt.permits_answered(answers)`, what came of these permits."""
        ...

    def log(self, record: LogRecord) -> None: ...

    def set_metadata(self, document: bytes) -> None: ...
