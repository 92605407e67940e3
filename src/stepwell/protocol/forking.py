"""What a worker and its fork server say to one another, over a Unix stream socket with lengths (`protocol.framing`).

The worker asks for executors; the fork server, which has the user's modules loaded, forks them and tells their ends.
Each `Fork` is accompanied by the file descriptors that the child gets, in this order: its channel, the reading end of
its tray (`protocol.ahead`), then the reading and the writing end of its stdout pipe, then those of its stderr pipe.
"""

from __future__ import annotations

import msgspec

from stepwell.model.task import Manifest

DESCRIPTORS = 6
"""File descriptors that go with each `Fork`."""


class Message(msgspec.Struct, frozen=True, array_like=True):
    """The root of these messages; every subclass has its own tag."""


class Fork(Message, frozen=True, array_like=True, tag="fork"):
    """Start an executor. `memory`: bytes it may use; None sets no limit of the process itself (a control group has it).

    control_groups: the `cgroup.procs` files that the child writes itself into before anything else.
    """

    id: int
    memory: int | None = None
    control_groups: list[str] = []


class Loaded(Message, frozen=True, array_like=True, tag="loaded"):
    """The user's modules are imported. `spawn_because`: why executors cannot be forked from here, if they cannot."""

    manifest: Manifest
    seconds: float
    spawn_because: str | None = None


class LoadFailed(Message, frozen=True, array_like=True, tag="load-failed"):
    """The user's modules cannot be imported, or declare something wrong. `traceback` has the user's frames only."""

    code: str
    message: str
    hint: str | None = None
    traceback: str | None = None


class Forked(Message, frozen=True, array_like=True, tag="forked"):
    id: int
    pid: int


class ForkFailed(Message, frozen=True, array_like=True, tag="fork-failed"):
    id: int
    message: str


class Exited(Message, frozen=True, array_like=True, tag="exited"):
    """An executor is gone, with all that it had started. status: as of waitpid; peak: bytes of its largest RSS."""

    pid: int
    status: int
    peak: int


FromForkServer = Loaded | LoadFailed | Forked | ForkFailed | Exited

_encoder = msgspec.msgpack.Encoder()


def pack(message: Message) -> bytes:
    return _encoder.encode(message)


fork_request = msgspec.msgpack.Decoder(Fork)
from_fork_server = msgspec.msgpack.Decoder(FromForkServer)
