"""One entry of a run's journal."""

from __future__ import annotations

import struct
from functools import lru_cache
from hashlib import sha256
from typing import Literal

import msgspec

CheckpointKind = Literal[
    "step",  # something awaited once: its value, its error, or its cancellation
    "timer",  # a durable timer fired
    "spawn",  # child runs were triggered; committed together with them
    "children",  # the outcome of children that were waited for
    "named",  # checkpoint(name, **data): shown in the inspector, a place to replay from
    "token",  # a token was made; committed together with it
    "answer",  # how a token that was waited for came to be closed; a message, or the answer to an update
    "permit",  # a semaphore, limiter or breaker was asked, answered, or told how it went
    "order",  # a foreign `async with` was entered or left; it holds no value, only its place in the order
]

CheckpointOutcome = Literal["value", "error", "canceled"]

_LENGTH, _NUMBERS = struct.Struct(">I"), struct.Struct(">idd?I")

CANCEL = "!cancel"
"""The key of the entry that asks the run to end."""
OVERDUE = "!overdue"
"""The key of the entry that asks this attempt of it to end."""
REQUESTS = frozenset({CANCEL, OVERDUE})


class Checkpoint(msgspec.Struct, frozen=True, array_like=True):
    """What one await came to, stored before the task sees it.

    A struct, unlike the other nouns: each step makes one and sends it over two hops, and a frozen dataclass of so many
    fields takes twenty times as long to make.

    seq: place in the journal, dense from 0. Replay delivers in this order and no other.
    key: `<branch path>|<callee>#<occurrence>`; unique in the run, and the same whenever the run is replayed.
    at: when it was delivered, `started`: when its work began; both seconds since the epoch by Postgres's clock.
    body: opaque to everyone but executor and reader: compressed codec bytes of what is needed to deliver it again.
    site: "file.py:31", the line of the await. attempt: the attempt that stored it.
    nested: belongs inside another step; it is not delivered in cursor order.
    fingerprint: 8 bytes of hash over the arguments, to notice the right key doing other work; empty when unknown.
    """

    seq: int
    key: str
    kind: CheckpointKind
    outcome: CheckpointOutcome
    at: float
    started: float
    body: bytes
    site: str = ""
    attempt: int = 1
    nested: bool = False
    fingerprint: bytes = b""

    def checksum(self) -> bytes:
        """8 bytes over all that replay depends on: they tell a re-sent entry from another one, and show damage.

        Postgres can make them too: a claim notes that a timer rang (`ready.sql`).
        """
        parts = [_measured(self.key), _often(self.kind), _often(self.outcome), _often(self.site)]
        parts.append(_NUMBERS.pack(self.seq, self.at, self.started, self.nested, len(self.fingerprint)))
        parts += (self.fingerprint, self.body)
        return sha256(b"".join(parts)).digest()[:8]  # at once: each `update` costs as much as all of this

    @property
    def name(self) -> str:
        """The callee's part of the key, as people know it: `/scrape.2|fetch#0` is `fetch`."""
        return self.key.rpartition("|")[2].rpartition("#")[0] or self.key


def _measured(text: str) -> bytes:
    """The text behind its length: no two texts one after another look like two others."""
    encoded = text.encode("utf-8", "surrogatepass")
    return _LENGTH.pack(len(encoded)) + encoded


_often = lru_cache(maxsize=1024)(_measured)
