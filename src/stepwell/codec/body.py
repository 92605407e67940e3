"""How a checkpoint's body is packed: what is needed to deliver it again.

A body is a document of JSON: the value or the exception, and what the step did to its arguments. It is compressed when
that helps. A document that repeats most of an earlier one (an agent's growing list of messages) stores only the part
between their common beginning and their common end, and the `seq` of the earlier entry: bytes stay linear.

What a step with `undo=` came to is marked in the first byte. So the server, to which bodies are bytes, can tell what is
left to be undone of a run that can do it no more.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from stepwell.codec.exceptions import decode_exception
from stepwell.codec.text import from_text, to_text
from stepwell.codec.values import Tree, decode
from stepwell.errors import CheckpointError

_PLAIN, _DEFLATED, _DELTA, _UNDOABLE = b"j", b"z", b"d", b"u"
_WORTH_DEFLATING = 256
_DELTA_HEADER = struct.Struct(">III")  # seq of the earlier entry, length of the common beginning, of the common end


@dataclass(frozen=True, slots=True)
class Body:
    """An unpacked body. Trees are those of `codec.values`; `value()` and `error()` rebuild what they stand for.

    arguments: by name, how the step changed an argument (see `executor.arguments`). swallowed: how often the step was
    cancelled and went on.
    """

    value_tree: Tree = None
    error_tree: Tree = None
    arguments: dict[str, Tree] = field(default_factory=dict[str, Tree])
    swallowed: int = 0

    def value(self) -> Any:
        """Raises CheckpointError when it cannot be rebuilt."""
        return decode(self.value_tree)

    def error(self) -> BaseException:
        """Raises CheckpointError when it cannot be rebuilt."""
        return decode_exception(self.error_tree)


def document(
    *, value_text: bytes | None = None, error: Tree = None, arguments: dict[str, Tree] | None = None, swallowed: int = 0
) -> bytes:
    """The JSON text of a body. `value_text` is the text that `codec.values.dumps` made."""
    if value_text is not None and error is None and not (arguments or swallowed):  # nearly always
        return b'{"v":' + value_text + b"}"
    parts: list[bytes] = []
    if value_text is not None:
        parts.append(b'"v":' + value_text)
    if error is not None:
        parts.append(b'"x":' + to_text(error))
    if arguments:
        parts.append(b'"a":' + to_text(arguments))
    if swallowed:
        parts.append(b'"s":%d' % swallowed)
    return b"{" + b",".join(parts) + b"}"


def read(text: bytes) -> Body:
    """The body in a document's text. Raises CheckpointError when it is damaged."""
    tree = from_text(text)
    if not isinstance(tree, dict):
        raise CheckpointError(f"stored body is no document: {text[:60]!r}", hint="the journal is damaged")
    fields: dict[str, Any] = tree  # pyright: ignore[reportUnknownVariableType]
    return Body(fields.get("v"), fields.get("x"), fields.get("a") or {}, fields.get("s") or 0)


def pack(text: bytes) -> bytes:
    """A document as it is stored."""
    if len(text) >= _WORTH_DEFLATING:
        deflated = zlib.compress(text, 3)
        if len(deflated) < len(text):
            return _DEFLATED + deflated
    return _PLAIN + text


def undoable(packed: bytes) -> bytes:
    """The same, marked as of a completed step that can be undone."""
    return _UNDOABLE + packed


def is_undoable(body: bytes) -> bool:
    return body[:1] == _UNDOABLE


def pack_delta(text: bytes, earlier_seq: int, earlier: bytes) -> bytes | None:
    """A document as it differs from that of an earlier entry, or None when storing it whole is no worse."""
    beginning = _common_beginning(text, earlier)
    end = _common_beginning(text[beginning:][::-1], earlier[beginning:][::-1])
    middle = text[beginning : len(text) - end]
    if len(middle) * 2 > len(text):
        return None
    return _DELTA + _DELTA_HEADER.pack(earlier_seq, beginning, end) + pack(middle)


def text_of(body: bytes, earlier: Callable[[int], bytes]) -> bytes:
    """The document in a stored body; `earlier(seq)` gives the document (unpacked) of another entry of the same run.

    Raises CheckpointError when the body is damaged.
    """
    kind = body[:1]
    try:
        if kind == _UNDOABLE:
            return text_of(body[1:], earlier)
        if kind == _PLAIN:
            return body[1:]
        if kind == _DEFLATED:
            return zlib.decompress(body[1:])
        if kind == _DELTA:
            seq, beginning, end = _DELTA_HEADER.unpack_from(body, 1)
            base = earlier(seq)
            middle = text_of(body[1 + _DELTA_HEADER.size :], earlier)
            return base[:beginning] + middle + base[len(base) - end :]
    except (zlib.error, struct.error) as error:
        raise CheckpointError(f"stored body is damaged: {error}", hint="rerun from an earlier checkpoint") from error
    raise CheckpointError(f"stored body is of an unknown kind: {body[:1]!r}", hint="a newer stepwell wrote it: upgrade")


def earlier_seq(body: bytes) -> int | None:
    """The entry that a stored body is a delta of, or None: it stands alone."""
    start = 1 if is_undoable(body) else 0
    return _DELTA_HEADER.unpack_from(body, start + 1)[0] if body[start : start + 1] == _DELTA else None


def unpack(body: bytes, stored: Callable[[int], bytes]) -> Body:
    """For readers (inspector, fork): the body of one entry; `stored(seq)` gives the stored body of another of its run.

    Raises CheckpointError when it is damaged.
    """
    chain = [body]
    while (seq := earlier_seq(chain[-1])) is not None:
        chain.append(stored(seq))
    text = b""
    for each in reversed(chain):
        base = text
        text = text_of(each, lambda _, base=base: base)
    return read(text)


def _common_beginning(a: bytes, b: bytes) -> int:
    """Length of the longest common prefix, found by halving: comparing slices is done at the speed of memory."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
