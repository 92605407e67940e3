"""Where the command line prints: what was asked for on stdout, everything about it on stderr.

Colours only on a terminal, and none with NO_COLOR. A pipe gets whole lines, whatever their length.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from stepwell.errors import StepwellError

_PIPE_WIDTH = 10_000


@cache
def out() -> Console:
    """stdout, for the answer."""
    return _console(stderr=False)


@cache
def err() -> Console:
    """stderr, for progress and remarks."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(
        stderr=stderr,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=not terminal,
        width=None if terminal else _PIPE_WIDTH,
    )


def print_json(value: Any) -> None:
    """A value of ours as indented JSON on stdout, named as in the HTTP API."""
    import msgspec

    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def print_error(error: StepwellError) -> None:
    """`error[code]: message`, and the hint below it, on stderr."""
    console = err()
    console.print(f"error[{error.code}]:", style="bold red", end=" ")
    console.print(error.message, soft_wrap=True)
    if error.hint:
        console.print("hint:", style="bold", end=" ")
        console.print(error.hint, soft_wrap=True)
    request_id = getattr(error, "request_id", None)
    if request_id and error.code in {"api-error", "system"}:
        console.print(f"request: {request_id}", style="dim", soft_wrap=True)


def remark(text: str, style: str = "dim") -> None:
    """A line beside the answer, on stderr."""
    err().print(text, style=style, soft_wrap=True)
