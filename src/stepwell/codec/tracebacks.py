"""Tracebacks as people want them: without the runtime's own frames, and kept as text when the frames are gone."""

from __future__ import annotations

import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

from stepwell.codec.walk import class_of

_PACKAGE = str(Path(__file__).resolve().parent.parent) + "/"
_MOST_FRAMES = 60
_MOST_TEXT = 4_000
_MOST_STACK = 32_000
_HEADING = "Recorded when it was raised (most recent call last):\n"


class RecordedTraceback(str):
    """A note with the frames that an exception had when it was stored. Storing the exception again does not repeat
    it.
    """

    __slots__ = ()

    @classmethod
    def of(cls, frames: str) -> RecordedTraceback:
        return cls(_HEADING + frames.rstrip("\n"))

    @property
    def frames(self) -> str:
        return self.removeprefix(_HEADING) + "\n"


def is_runtime(filename: str) -> bool:
    """Does this source file belong to stepwell itself?"""
    return filename.startswith(_PACKAGE)


def without_runtime(tb: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame that is not the runtime's; the whole of it when there is none."""
    first = tb
    while first is not None and is_runtime(first.tb_frame.f_code.co_filename):
        first = first.tb_next
    return first or tb


def frames_text(error: BaseException) -> str:
    """The formatted frames of an exception, live ones first, then those recorded before; the last 4000 characters."""
    live = _user_frames(traceback.extract_tb(error.__traceback__, limit=-_MOST_FRAMES))
    recorded = "".join(note.frames for note in notes_of(error) if isinstance(note, RecordedTraceback))
    text = "".join(live.format()) + recorded
    return text if len(text) <= _MOST_TEXT else "  ...\n" + text[-_MOST_TEXT:].partition("\n")[2]


def stack_text(error: BaseException) -> str:
    """The whole report on an exception, with causes, groups and notes, as Python prints it but without the runtime's
    frames.
    """
    report = traceback.TracebackException.from_exception(error, limit=-_MOST_FRAMES)
    _hide_runtime(report)
    text = "".join(report.format())
    if len(text) <= _MOST_STACK:
        return text
    half = _MOST_STACK // 2
    return f"{text[:half]}\n  ... {len(text) - _MOST_STACK} characters left out ...\n{text[-half:]}"


def notes_of(error: BaseException) -> list[str]:
    """The notes of an exception; what someone else put there that is not text is left out."""
    notes: Any = getattr(error, "__notes__", None)
    return [note for note in notes if isinstance(note, str)] if class_of(notes) is list else []


def members_of(error: BaseException) -> tuple[BaseException, ...]:
    """What is in an exception group; nothing for an exception that is none."""
    return error.exceptions if isinstance(error, BaseExceptionGroup) else ()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


def _hide_runtime(report: traceback.TracebackException) -> None:
    reports = [report]
    for each in reports:  # grows while we go: a report is a tree of reports
        each.stack = _user_frames(each.stack)
        reports += [r for r in (each.__cause__, each.__context__, *(each.exceptions or ())) if r is not None]


def _user_frames(stack: traceback.StackSummary) -> traceback.StackSummary:
    frames = [frame for frame in stack if not is_runtime(frame.filename)]
    return traceback.StackSummary.from_list(frames or list(stack))
