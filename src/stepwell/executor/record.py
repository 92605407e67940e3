"""What is delivered to an await: an entry's outcome, read from the journal or just stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from stepwell.codec.body import Body, document
from stepwell.codec.exceptions import decode_exception, encode_exception, with_frames_of
from stepwell.codec.values import dumps, loads
from stepwell.errors import CheckpointError
from stepwell.model.checkpoint import CheckpointKind, CheckpointOutcome
from stepwell.model.child import ChildSpec
from stepwell.model.message import Reply
from stepwell.model.permit import PermitChange
from stepwell.model.token import TokenSpec
from stepwell.sdk.retry_headers import keep_headers

MAX_VALUE = 10 * 1024 * 1024  # bytes of one entry's document
_SAME_BACK = frozenset({str, int, bool, type(None)})  # nothing is lost in their JSON
_NOTHING = document(value_text=b"null")


class Record(msgspec.Struct, eq=False):
    """An entry from an await's point of view. Live: a draft, until it has been stored under `seq`.

    text: the document that is stored. value and error: as the task gets them, which is as a replay would give them.
    deliver: called once, in its turn. In the transaction that stores it children are triggered, a token is made, a
    permit is asked for or given back, an update is answered (reply), a wait for a message is given up (its token).
    undoable: what a step with `undo=` came to.
    """

    key: str
    kind: CheckpointKind
    outcome: CheckpointOutcome
    text: bytes = _NOTHING
    value: Any = None
    error: BaseException | None = None
    site: str = ""
    started: float = 0.0
    nested: bool = False
    fingerprint: bytes = b""
    arguments: dict[str, Any] = msgspec.field(default_factory=dict[str, Any])
    swallowed: int = 0
    children: list[ChildSpec] | None = None
    token: TokenSpec | None = None
    undoable: bool = False
    permit: PermitChange | None = None
    reply: Reply | None = None
    given_up: str | None = None
    deliver: Callable[[Record], None] | None = None
    seq: int = -1
    at: float = 0.0

    def result(self) -> Any:
        """The value, or the error raised."""
        if self.error is not None:
            raise self.error
        return self.value

    def set_value(self, value: Any, arguments: dict[str, Any] | None = None, swallowed: int = 0) -> None:
        """Raises CheckpointError when the value cannot be stored."""
        self.outcome = "value"
        if value is None and not arguments and not swallowed:
            return
        text = dumps(value)
        self._check_size(len(text))
        self.text = document(value_text=text, arguments=arguments, swallowed=swallowed)
        self.value = value if type(value) in _SAME_BACK else loads(text)

    def set_error(self, error: BaseException, arguments: dict[str, Any] | None = None) -> None:
        """The task gets the error as a replay would give it, with the frames of this one.

        Raises CheckpointError for what must end the process (KeyboardInterrupt, MemoryError, ...).
        """
        keep_headers(error)
        tree = encode_exception(error)
        self.outcome = "error"
        self.text = document(error=tree, arguments=arguments)
        self.value, self.error = None, with_frames_of(decode_exception(tree), error)

    def set_canceled(self, arguments: dict[str, Any] | None = None) -> None:
        self.outcome = "canceled"
        self.text = document(arguments=arguments)

    def _check_size(self, size: int) -> None:
        if size > MAX_VALUE:
            raise CheckpointError(
                f"the value has {size / 2**20:.1f} MB; one checkpoint may hold {MAX_VALUE // 2**20} MB",
                hint="store it elsewhere inside the step (a file, a bucket, a table) and return where it is",
            )


def described(record: Record) -> str:
    """`fetch (tasks.py:12)`: an entry as a person knows it, by what was awaited and where."""
    name = record.key.rpartition("|")[2].rpartition("#")[0]
    return f"{name} ({record.site})" if record.site else name


def fill(record: Record, body: Body) -> Record:
    """A record of what a stored body says."""
    record.arguments, record.swallowed = body.arguments, body.swallowed
    if record.outcome == "value":
        record.value = body.value()
    elif record.outcome == "error":
        record.error = body.error()
    return record
