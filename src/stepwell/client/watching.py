"""Following a run: the server's events one by one, each once, over broken connections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from stepwell.client.exchange import Call, call
from stepwell.client.patience import Patience
from stepwell.errors import ApiError
from stepwell.model.lifecycle import is_terminal
from stepwell.protocol import operations
from stepwell.protocol.runs import CheckpointView, EventView, LogView, RunDetail

Seen: TypeAlias = RunDetail | EventView | CheckpointView | LogView

_KINDS: dict[str, type[Seen]] = {
    "run": RunDetail,
    "event": EventView,
    "checkpoint": CheckpointView,
    "log": LogView,
}
SILENCE = 60.0  # seconds without a byte (the server sends comments) after which the connection is taken for dead


@dataclass(frozen=True, slots=True)
class Message:
    """One server-sent event: its name, its data, and the place in the stream to take up again from."""

    kind: str
    data: str
    id: str = ""


class Watch:
    """What has been seen of a run. `ended`: the run is over, and so is the watch. `patience`: with its server."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.ended = False
        self.patience = Patience()
        self._place = ""

    def call(self) -> Call:
        """The request that begins, or takes up again, the stream."""
        again = {"last-event-id": self._place} if self._place else {}
        return call(operations.WATCH_RUN, headers=again, run_id=self.run_id, within=SILENCE)

    def take(self, message: Message) -> Seen | None:
        """What the message says, or None when it is of a kind that only a newer client knows.

        Raises:
            ApiError: it cannot be read.
        """
        self.patience.heard()
        kind = _KINDS.get(message.kind)
        if kind is None:
            return None
        try:
            seen = msgspec.json.decode(message.data, type=kind)
        except msgspec.MsgspecError as error:
            raise ApiError(
                f"the server's event {message.kind!r} of run {self.run_id} cannot be read: {error}"
            ) from error
        self._place = message.id or self._place
        if isinstance(seen, RunDetail):
            self.ended = is_terminal(seen.state)
        return seen
