"""Whether a suspended coroutine or generator could be let go of without a line of it being executed.

An exception thrown in where it stands, and its closing, go to the handler that the compiler has noted for that place.
Some handlers are the compiler's own: they clear a variable or the stack and raise again. Where only such ones cover the
place, nothing that is written there would run. All others (`except`, `finally`, `with`) count as lines that do.
"""

from __future__ import annotations

import dis
from types import CodeType
from typing import Any, NamedTuple

_PASSES = frozenset(
    {
        "CACHE",
        "COPY",
        "DELETE_FAST",
        "EXTENDED_ARG",
        "LOAD_CONST",
        "NOP",
        "POP_EXCEPT",
        "POP_TOP",
        "PUSH_EXC_INFO",
        "STORE_FAST",
        "SWAP",
    }
)
"""What a handler may do before it raises again: nothing of these calls anything or is seen by anybody else."""
_RAISES_AGAIN = frozenset({"RERAISE", "CLEANUP_THROW"})
_STOP_ITERATION_ERROR = 3  # CALL_INTRINSIC_1 of Python 3.12 and later, around the whole of each generator


class _Handler(NamedTuple):
    start: int
    end: int
    target: int


class _Shape(NamedTuple):
    handlers: list[_Handler]
    instructions: dict[int, tuple[str, int | None]]
    offsets: list[int]


_parsed: Any = dis.__dict__["_parse_exception_table"]  # private, and not in the type stubs
_shapes: dict[int, tuple[CodeType, _Shape]] = {}  # by identity: the hash of a code object is by value, and slow


def would_run(code: CodeType, at: int) -> bool:
    """Whether an exception at this place (`f_lasti` of a suspended frame) would run a line of this code.

    The instructions beside it are looked at as well: whether `f_lasti` is that of the `yield` or of what follows it
    differs between versions of Python.
    """
    shape = _shape(code)
    return bool(shape.handlers) and any(_runs(shape, at + beside) for beside in (-2, 0, 2))


def _runs(shape: _Shape, at: int) -> bool:
    seen: set[int] = set()
    while at not in seen:
        seen.add(at)
        handler = next((each for each in shape.handlers if each.start <= at < each.end), None)
        if handler is None:
            return False
        again = _raised_again(shape, handler.target)
        if again is None:
            return True
        at = again
    return True


def _raised_again(shape: _Shape, target: int) -> int | None:
    """Where a handler that does nothing else raises again. None: it does something."""
    for offset in shape.offsets:
        if offset < target:
            continue
        name, argument = shape.instructions[offset]
        if name in _RAISES_AGAIN:
            return offset
        if name not in _PASSES and not (name == "CALL_INTRINSIC_1" and argument == _STOP_ITERATION_ERROR):
            return None
    return None


def _shape(code: CodeType) -> _Shape:
    known = _shapes.get(id(code))
    if known is None:
        handlers = [_Handler(entry.start, entry.end, entry.target) for entry in _parsed(code)]
        instructions = {each.offset: (each.opname, each.arg) for each in dis.get_instructions(code)} if handlers else {}
        known = _shapes[id(code)] = code, _Shape(handlers, instructions, sorted(instructions))
    return known[1]
