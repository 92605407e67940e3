"""A run's journal as one attempt uses it: what is replayed, in which order, and what is known beyond that.

Replay delivers the entries of `prefix` in their order, and no other. A marker `!retry` (written when an attempt fails
because a step failed) ends the prefix before the entries that it names: the next attempt goes on there. Steps of other
branches that completed after them are `known`: they are delivered again when they are reached, never run again. A
request to cancel is an entry `!cancel`: it reaches the task at the same place each time. When only an attempt's time
was over the entry is `!overdue`: later attempts replay neither it nor what that attempt did from there on.
The reasoning is in docs/design/replay.md.
"""

from __future__ import annotations

from collections.abc import Sequence

from stepwell.errors import CheckpointError
from stepwell.executor.texts import Texts
from stepwell.model.checkpoint import OVERDUE, REQUESTS, Checkpoint

MAX_ENTRIES = 50_000
RETRY = "!retry"
ATTEMPT = "!attempt"
AGAIN = "!again"
"""A permit that the next entries are under was taken again, before they were begun."""


class Journal:
    """The entries of one run. `next_seq` is the place of the next one to be stored."""

    def __init__(self, entries: Sequence[Checkpoint], attempt: int = 1) -> None:
        for place, entry in enumerate(entries):
            if entry.seq != place:
                raise CheckpointError(
                    f"the journal has a hole: entry {place} is numbered {entry.seq}",
                    hint="the stored journal is damaged; rerun from an earlier checkpoint",
                )
        self.next_seq = len(entries)
        self.texts = Texts(entries)
        self.known: dict[str, Checkpoint] = {}
        self.nested: dict[str, Checkpoint] = {}
        self.attempts: set[str] = set()
        self.undone: set[str] = set()  # completed, then given up with the failure of their own branch
        self.cut_short = False  # it ends with an attempt whose time was over
        self.prefix = self._read(entries, attempt)
        self.recorded = {entry.key: entry for entry in self.prefix}
        self.cursor = 0
        self.canceled = not REQUESTS.isdisjoint(self.recorded)
        self.held = False  # the end is not the end: a request to cancel has its place there

    @property
    def replaying(self) -> bool:
        return self.held or self.cursor < len(self.prefix)

    @property
    def at_end(self) -> bool:
        """Whether all that is recorded has been delivered."""
        return self.cursor >= len(self.prefix)

    def leave(self) -> None:
        """What is left of the prefix does not matter any more."""
        self.held = False
        self.cursor = len(self.prefix)

    def _read(self, entries: Sequence[Checkpoint], attempt: int) -> list[Checkpoint]:
        prefix: list[Checkpoint] = []
        given_up: Checkpoint | None = None  # the end of an earlier attempt, whose clean-up is passed over
        for entry in entries:
            if entry.key.startswith(ATTEMPT):
                given_up = None
            elif entry.key == OVERDUE and entry.attempt != attempt:
                given_up = entry
            if given_up is not None:
                self._pass_over(entry, given_up)
            elif entry.key.startswith(RETRY):
                prefix = self._cut(prefix, self._superseded(entry))
            elif entry.nested:
                self.nested[entry.key] = entry
            else:
                if entry.key.startswith(ATTEMPT) and entry.attempt:
                    self.attempts.add(entry.key)
                self.known.pop(entry.key, None)
                prefix.append(entry)
        self.cut_short = given_up is not None
        return prefix

    def _cut(self, prefix: list[Checkpoint], superseded: list[int]) -> list[Checkpoint]:
        """What the branches that failed did afterwards (in their handlers) is undone with the failure."""
        first = min(superseded)
        failed = {branch_of(entry.key) for entry in prefix if entry.seq in superseded}
        for entry in prefix:
            reusable = entry.outcome == "value" and entry.kind in REUSABLE
            if entry.seq <= first or not reusable:
                continue
            if branch_of(entry.key) in failed:
                self.undone.add(entry.key)
            else:
                self.known[entry.key] = entry
        self.nested = {key: entry for key, entry in self.nested.items() if entry.outcome == "value"}
        return [entry for entry in prefix if entry.seq < first]

    def _pass_over(self, entry: Checkpoint, given_up: Checkpoint) -> None:
        """What was under way when the attempt's time was over and completed all the same has completed; what its
        handlers began then is undone."""
        if entry.nested or entry.outcome != "value" or entry.kind not in REUSABLE:
            return
        if entry.started <= given_up.at:
            self.known[entry.key] = entry
        else:
            self.undone.add(entry.key)

    def _superseded(self, marker: Checkpoint) -> list[int]:
        seqs = self.texts.read(marker).value()
        if not isinstance(seqs, list) or not seqs:
            raise CheckpointError(f"entry {marker.seq} ({marker.key}) names no entry", hint="the journal is damaged")
        return seqs  # pyright: ignore[reportUnknownVariableType]


def branch_of(key: str) -> str:
    """The path of the branch in a key."""
    return key.partition("|")[0]


# What work came to. A timer is set anew, and `async with` is entered anew.
REUSABLE = frozenset({"step", "spawn", "children", "named", "token", "answer"})
