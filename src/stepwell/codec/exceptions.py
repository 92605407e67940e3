"""What a step raised, as a tree in the journal, and raised again at the same await.

The task gets the rebuilt exception in the live path too, with the original's frames; after a replay the frames are a
note.
"""

from __future__ import annotations

import asyncio

from stepwell.codec.refusal import name_of
from stepwell.codec.tracebacks import RecordedTraceback, members_of, notes_of, without_runtime
from stepwell.codec.values import decode, encode
from stepwell.codec.walk import TAG, Tree, class_of
from stepwell.errors import CheckpointError


def is_recordable(error: BaseException) -> bool:
    """May the journal keep this as a step's outcome? Not what ends the process: then the attempt dies and the step
    runs again.
    """
    members = members_of(error)
    if members:
        return all(is_recordable(member) for member in members)
    return isinstance(error, Exception | asyncio.CancelledError) and not isinstance(error, MemoryError)


def encode_exception(error: BaseException) -> Tree:
    """The JSON-able tree of an exception: class, args, attributes that can be stored, notes, frames, causes.

    Raises:
        CheckpointError: it is one that must end the process (KeyboardInterrupt, SystemExit, MemoryError, ...).
    """
    if not is_recordable(error):
        raise CheckpointError(
            f"{name_of(class_of(error))} is not kept in the journal: it ends the attempt, and the step runs again",
            hint="raise a subclass of Exception for an outcome that the task should see",
        )
    return encode(error)


def decode_exception(tree: Tree) -> BaseException:
    """The exception that a tree stands for, with its recorded frames as a note.

    Raises:
        CheckpointError: the tree is damaged, or is not that of an exception.
    """
    error = decode(tree) if class_of(tree) is dict and tree.get(TAG) == "exc" else None
    if not isinstance(error, BaseException):
        raise CheckpointError(
            f"expected a stored exception, got {str(tree)[:80]!r}",
            hint="the stored value is damaged; rerun from an earlier checkpoint",
        )
    return error


def rebuilt(error: BaseException) -> BaseException:
    """The exception as a replay will see it, for the live path: same content, and the frames of the original.

    Raises:
        CheckpointError: it is one that must end the process.
    """
    return with_frames_of(decode_exception(encode_exception(error)), error)


def with_frames_of(copy: BaseException, original: BaseException) -> BaseException:
    """Give a rebuilt exception and its causes the real frames of the original in place of the recorded ones. Returns
    it.
    """
    pairs = [(copy, original)]
    for new, old in pairs:  # grows while we go: causes have causes
        frames = without_runtime(old.__traceback__)
        if frames is not None:
            new.__traceback__ = frames
            _drop_recorded(new)
        pairs += [(a, b) for a, b in ((new.__cause__, old.__cause__), (new.__context__, old.__context__)) if a and b]
        pairs += zip(members_of(new), members_of(old), strict=False)
    return copy


def _drop_recorded(error: BaseException) -> None:
    kept = [note for note in notes_of(error) if not isinstance(note, RecordedTraceback)]
    if kept:
        error.__notes__ = kept
    elif hasattr(error, "__notes__"):
        del error.__notes__
