"""The bodies of a run's entries, packed and unpacked: each as a delta of the last one of its name, if it pays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stepwell.codec import body
from stepwell.errors import CheckpointError
from stepwell.model.checkpoint import Checkpoint

_WORTH_A_DELTA = 1024
_KEPT = 64  # names whose last document is kept in memory


@dataclass(slots=True)
class _Last:
    seq: int
    text: bytes
    whole: int  # length of the last document stored whole
    since: int  # bytes of deltas stored since then: when they outgrow it, the next is whole again


class Texts:
    """Knows the last large document of each name, so that the next may be stored as a delta of it."""

    def __init__(self, entries: Sequence[Checkpoint]) -> None:
        self._entries = entries
        self._last: dict[str, _Last] = {}

    def pack(self, key: str, seq: int, text: bytes) -> bytes:
        """The stored body of entry `seq`."""
        if len(text) < _WORTH_A_DELTA:
            return body.pack(text)
        name = key.rpartition("#")[0]
        last = self._last.get(name)
        packed = body.pack_delta(text, last.seq, last.text) if last is not None and last.since < last.whole else None
        whole = packed is None
        packed = packed if packed is not None else body.pack(text)
        since = 0 if last is None or whole else last.since + len(packed)
        self._keep(name, _Last(seq, text, len(packed) if last is None or whole else last.whole, since))
        return packed

    def read(self, entry: Checkpoint) -> body.Body:
        """Raises CheckpointError, naming the entry, when it is damaged."""
        try:
            return body.read(self.text(entry))
        except CheckpointError as error:
            raise CheckpointError(f"entry {entry.seq} ({entry.key}): {error.message}", hint=error.hint) from error

    def text(self, entry: Checkpoint) -> bytes:
        """The document of an entry of the journal."""
        packed = entry.body
        earlier = body.earlier_seq(packed)
        text = body.text_of(packed, self._earlier)
        if len(text) >= _WORTH_A_DELTA:
            name = entry.key.rpartition("#")[0]
            last = self._last.get(name)
            if earlier is None or last is None:
                self._keep(name, _Last(entry.seq, text, len(packed), 0))
            else:
                self._keep(name, _Last(entry.seq, text, last.whole, last.since + len(packed)))
        return text

    def forget(self) -> None:
        """Entries packed last were not stored after all: the next ones stand alone."""
        self._last.clear()

    def _earlier(self, seq: int) -> bytes:
        for last in self._last.values():
            if last.seq == seq:
                return last.text
        chain = [seq]
        while (earlier := body.earlier_seq(self._entry(chain[-1]).body)) is not None:
            chain.append(earlier)
        text = b""
        for each in reversed(chain):
            base = text
            text = body.text_of(self._entry(each).body, lambda _, base=base: base)
        return text

    def _entry(self, seq: int) -> Checkpoint:
        if not 0 <= seq < len(self._entries):
            raise CheckpointError(f"a stored body refers to entry {seq}, which is not there")
        return self._entries[seq]

    def _keep(self, name: str, last: _Last) -> None:
        self._last.pop(name, None)
        self._last[name] = last
        if len(self._last) > _KEPT:
            del self._last[next(iter(self._last))]
