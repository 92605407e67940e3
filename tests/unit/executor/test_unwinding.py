"""Of programs made up at random: where it is said that nothing would run, nothing does."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from types import CodeType
from typing import Any

import pytest

from stepwell.executor.unwinding import would_run

_PROGRAMS = 120


class Probe(BaseException):
    """What is thrown in."""


class Notes:
    """What a program did, as a context manager too."""

    def __init__(self) -> None:
        self.count = 0

    def note(self) -> None:
        self.count += 1

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        self.note()

    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *_: object) -> None:
        self.note()


class Pause:
    def __await__(self) -> Iterator[None]:
        yield


class Writer:
    """Programs of nested blocks. Each block that reacts to exceptions says so by `n.note()`."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def program(self) -> str:
        return "\n".join(["async def made(n, pause, wanted):", *self._block(1, 0)])

    def _block(self, depth: int, loops: int) -> list[str]:
        lines: list[str] = []
        for _ in range(self._random.randint(1, 3)):
            lines += self._statement(depth, loops)
        return lines

    def _statement(self, depth: int, loops: int) -> list[str]:
        simple = ["await pause()", "await pause()", "x = [1, await pause()]", "y = [await pause() for z in (1, 2)]"]
        templates = simple if depth > 4 else [*simple, *_BLOCKS]
        filled: list[str] = []
        for line in self._random.choice(templates).splitlines():
            if line.lstrip().startswith("BLOCK"):
                filled += self._block(depth + 1 + line.count("  "), loops)
            else:
                filled.append("    " * depth + line.replace("  ", "    ").replace("DEPTH", str(depth)))
        return filled


_RAISES = "try:\n  raise ValueError\n"
_BLOCKS = [
    "try:\nBLOCK\nfinally:\n  n.note()\nBLOCK",
    "try:\nBLOCK\nexcept wanted:\n  n.note()\nBLOCK",
    f"{_RAISES}except ValueError as e:\nBLOCK",
    f"{_RAISES}except:\nBLOCK",
    "try:\nBLOCK\nexcept* ValueError:\n  n.note()",
    "try:\n  pass\nexcept wanted:\n  n.note()\nelse:\nBLOCK",
    "with n:\nBLOCK",
    "async with n:\nBLOCK",
    "for iDEPTH in (1, 2):\nBLOCK",
    "match 1:\n  case 1:\n  BLOCK",
    "if n:\nBLOCK",
]
"""`  ` is one level; at BLOCK stands another block, one level deeper than that word."""


def _made(seed: int) -> Any:
    names: dict[str, Any] = {}
    exec(compile(Writer(seed).program(), f"<program {seed}>", "exec"), names)
    return names["made"]


def _stopped(made: Any, pauses: int, notes: Notes) -> Any:
    """The coroutine at its pause of this number; None when it has not as many."""
    coro = made(notes, Pause, Probe)
    try:
        for _ in range(pauses):
            coro.send(None)
    except StopIteration:
        return None
    return coro


def _runs(coro: Any, notes: Notes, *, close: bool) -> bool:
    before = notes.count
    try:
        if close:
            coro.close()
        else:
            coro.throw(Probe())
    except BaseException:
        pass
    ran = notes.count > before
    while coro.cr_frame is not None:  # it awaits in a handler: let it come to its end
        with contextlib.suppress(BaseException):
            coro.send(None)
    return ran


@pytest.mark.parametrize("part", range(10))
def test_where_nothing_is_said_to_run_nothing_runs(part: int) -> None:
    let_go = kept = 0
    for seed in range(part * _PROGRAMS // 10, (part + 1) * _PROGRAMS // 10):
        made = _made(seed)
        for pauses in range(1, 30):
            for close in (False, True):
                notes = Notes()
                coro = _stopped(made, pauses, notes)
                if coro is None:
                    break
                code: CodeType = coro.cr_code
                said = would_run(code, coro.cr_frame.f_lasti)
                line = coro.cr_frame.f_lineno
                ran = _runs(coro, notes, close=close)
                assert said or not ran, f"line {line} of\n{Writer(seed).program()}"
                let_go, kept = let_go + (not said), kept + said
    assert let_go > 20
    assert kept > 20
