"""The ledger of the demo: what steps themselves wrote into a file outside the system, and what it proves.

Each line says that a step began or ended, in which run, under which key, in which process.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec


class Line(msgspec.Struct, frozen=True):
    """`key` is stable over all executions of one step of one run."""

    t: float
    what: Literal["start", "end"]
    step: str
    key: str
    run: str
    pid: int


@dataclass(frozen=True, slots=True)
class Repeat:
    """A step whose body ran more than once. excused: it was in flight when its process was killed."""

    step: str
    run: str
    times: int
    excused: bool
    why: str


@dataclass(frozen=True, slots=True)
class Verdict:
    completed: int
    repeats: Sequence[Repeat]

    @property
    def violations(self) -> list[Repeat]:
        return [repeat for repeat in self.repeats if not repeat.excused]


def read(file: Path) -> list[Line]:
    """All whole lines: the last one may be half written at this moment."""
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return []
    return [msgspec.json.decode(line, type=Line) for line in content[: content.rfind(b"\n") + 1].splitlines()]


def in_flight(lines: Iterable[Line]) -> list[Line]:
    """The beginnings of steps that have not ended."""
    open_steps: dict[tuple[str, int], Line] = {}
    for line in lines:
        if line.what == "start":
            open_steps[line.key, line.pid] = line
        else:
            open_steps.pop((line.key, line.pid), None)
    return list(open_steps.values())


def judge(lines: Sequence[Line], killed: Iterable[int]) -> Verdict:
    """Which steps ran more than once, and whether each of them may have.

    A body may run again only if its process died before its result was stored. So each execution but the last must
    belong to a killed process, and be the last thing that this process did in that run: had a later step of the run
    begun there, the result of this one was stored, and running it again was wrong.
    """
    dead = set(killed)
    starts: dict[str, list[int]] = defaultdict(list)
    for number, line in enumerate(lines):
        if line.what == "start":
            starts[line.key].append(number)
    ended = {line.key for line in lines if line.what == "end"}
    repeats = [_repeat(lines, numbers, dead) for numbers in starts.values() if len(numbers) > 1]
    return Verdict(len(ended), repeats)


def _repeat(lines: Sequence[Line], numbers: Sequence[int], dead: set[int]) -> Repeat:
    for number in numbers[:-1]:
        first = lines[number]
        if first.pid not in dead:
            return _told(first, numbers, excused=False, why=f"process {first.pid} was not killed")
        later = next((other for other in lines[number + 1 :] if _is_later_step(first, other)), None)
        if later is not None:
            return _told(first, numbers, excused=False, why=f"process {first.pid} had gone on to {later.step}")
    return _told(
        lines[numbers[0]], numbers, excused=True, why=f"in flight when process {lines[numbers[0]].pid} was killed"
    )


def _is_later_step(first: Line, other: Line) -> bool:
    return other.what == "start" and (other.run, other.pid) == (first.run, first.pid) and other.key != first.key


def _told(line: Line, numbers: Sequence[int], *, excused: bool, why: str) -> Repeat:
    return Repeat(line.step, line.run, len(numbers), excused, why)
