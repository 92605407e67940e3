"""What the processes of `stepwell dev` say, line by line, each behind its name."""

from __future__ import annotations

import re
import sys
from datetime import datetime

from rich.console import Console
from rich.text import Text

_COLOURS = {"dev": "bold", "server": "magenta", "worker": "cyan", "postgres": "blue"}
_OUTCOMES = {
    "started": ("▶", "cyan"),
    "resumed": ("↻", "cyan"),
    "waiting": ("◷", "blue"),
    "completed": ("✓", "green"),
    "given back": ("↩", "yellow"),
    "failed": ("✗", "red"),
    "canceled": ("⊘", "yellow"),
}
_RUN = re.compile(rf"({'|'.join(_OUTCOMES)}) (\S+) (run_\w+)(?:: (.*))?$")
_TROUBLE = re.compile(r"^(error\[|ERROR|CRITICAL|Traceback|\w*Error\b)|\b(error|killed|lost|failed|refused)\b")


class Voices:
    """One line at a time on stdout. Colours only on a terminal."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)

    def say(self, who: str, line: str, style: str = "") -> None:
        text = Text().append(f"{datetime.now().astimezone():%H:%M:%S} ", style="dim")
        text.append(f"{who:<8} ", style=_COLOURS.get(who, ""))
        run = _RUN.match(line)
        if run:
            mark, colour = _OUTCOMES[run[1]]
            text.append(f"{mark} {run[1]:<9} ", style=colour).append(f"{run[2]}  ").append(run[3], style="dim")
            text.append(f"  {run[4]}" if run[4] else "", style=colour)
        else:
            text.append(line, style=style or ("red" if _TROUBLE.search(line) else ""))
        self._console.print(text)
        sys.stdout.flush()

    def of(self, who: str) -> _Voice:
        return _Voice(self, who)


class _Voice:
    """The voice of one process."""

    def __init__(self, voices: Voices, who: str) -> None:
        self._voices = voices
        self._who = who

    def __call__(self, line: str) -> None:
        self._voices.say(self._who, line)
