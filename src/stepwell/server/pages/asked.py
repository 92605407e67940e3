"""What a token's page shows, whatever the token is made of elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from stepwell.primitives.duration import describe
from stepwell.server.pages.fields import ABSENT, Field
from stepwell.server.pages.plain import is_object
from stepwell.server.pages.readable import Node, moment_text, readable
from stepwell.server.pages.submitted import Problems, Typed

State = Literal["open", "answered", "timed-out", "canceled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One question to a person. data and answer are plain trees; ABSENT where there is none.

    state: `open` while an answer is taken. ended_at, answered_by: when and by whom it was closed, if that is known.
    """

    reference: str
    title: str
    state: State
    created_at: datetime
    data: Any = ABSENT
    answer: Any = ABSENT
    task_id: str | None = None
    tags: Sequence[str] = ()
    timeout_at: datetime | None = None
    ended_at: datetime | None = None
    answered_by: str | None = None

    @property
    def details(self) -> Node | None:
        """The data to read; None if there is none."""
        return None if self.data is ABSENT or self.data is None else readable(self.data)

    @property
    def reply(self) -> Node | None:
        """What was answered beside the verdict; None if that was all."""
        if self.answer is ABSENT or self.answer is None:
            return None
        if not is_object(self.answer) or self.verdict is None:
            return None if isinstance(self.answer, bool) else readable(self.answer)
        said = {"approved": self.verdict, "by": self.answered_by}
        rest = {key: value for key, value in self.answer.items() if value is not None and said.get(key, ...) != value}
        return readable(rest) if rest else None

    @property
    def verdict(self) -> bool | None:
        """Approved or rejected; None if the answer was of another kind."""
        found: Any = self.answer.get("approved") if is_object(self.answer) else self.answer
        return found if isinstance(found, bool) else None


@dataclass(frozen=True, slots=True)
class Control:
    """A field as it stands in the form: with what was typed, and what is wrong with it."""

    field: Field
    id: str
    values: Sequence[str]
    problems: Sequence[str]
    controls: tuple[Control, ...] = ()

    @property
    def value(self) -> str:
        return self.values[-1] if self.values else ""

    @property
    def label(self) -> str:
        return self.field.label

    @property
    def described_by(self) -> str:
        """The ids of what a screen reader should say along with the label."""
        parts = [f"{self.id}-problem"] * bool(self.problems) + [f"{self.id}-help"] * bool(self.hint)
        return " ".join(parts)

    @property
    def hint(self) -> str:
        """The schema's description, and how to write what a browser has no control for."""
        how = {"list": "One per line.", "json": "As JSON.", "moment": "In UTC."}.get(self.field.kind, "")
        return " ".join(part for part in (self.field.help, how) if part)


def controls(form: Field, typed: Typed, problems: Problems) -> Control:
    """The form with what was typed into it. Ids are numbers in order: names may hold anything."""
    count = iter(range(1, 1_000_000))

    def bound(field: Field) -> Control:
        number = next(count)
        inner = tuple(bound(each) for each in field.fields if each.kind != "constant")
        values = () if field.kind == "secret" else typed.get(field.name, ())
        return Control(field, f"f{number}", values, problems.get(field.name, ()), inner)

    return bound(form)


def in_trouble(control: Control) -> list[Control]:
    """Those with problems, in the order of the form."""
    own = [control] if control.problems else []
    return own + [found for each in control.controls for found in in_trouble(each)]


def time_left(moment: datetime) -> str:
    """`in 3h 20m`, or `3h 20m ago`."""
    length = (moment - datetime.now(UTC)).total_seconds()
    if abs(length) < 60:
        return "in less than a minute" if length >= 0 else "just now"
    spoken = describe(abs(length) // 60 * 60)
    return f"in {spoken}" if length > 0 else f"{spoken} ago"


__all__ = ["Asked", "Control", "State", "controls", "in_trouble", "moment_text", "time_left"]
