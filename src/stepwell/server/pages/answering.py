"""The form of a token's page: what it asks, what was sent with it, and the page that shows both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from starlette.responses import Response

from stepwell.server.pages.asked import Asked, Control, controls, in_trouble, moment_text, time_left
from stepwell.server.pages.fields import ABSENT, Field, Schema, decision_of, form_of, signature_of, without
from stepwell.server.pages.problems import judge
from stepwell.server.pages.rendering import page
from stepwell.server.pages.submitted import Problems, Typed, initial, read

BY = "by"
LONGEST_NAME = 120
_MOST_FIELDS = 2000
_BY = Field(name=BY, path=(), kind="text", label="Your name", help="Kept with the answer.")


@dataclass(frozen=True, slots=True)
class Submission:
    """What a person sent. answer: valid only if there are no problems; they are by the name of the control."""

    answer: Any
    by: str
    typed: Typed
    problems: Problems

    @property
    def fits(self) -> bool:
        return not self.problems


def typed_in(body: bytes) -> dict[str, list[str]]:
    """The fields of a form as a browser sends it. Raises ValueError for more than any form has, or another encoding."""
    text = body.decode("ascii")
    return parse_qs(text, keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)


def submission(schema: Schema, typed: Typed) -> Submission:
    """Read and judge what was typed into the form of this schema."""
    form, problems = form_of(schema), Problems()
    by = " ".join(typed.get(BY, [""])[-1].split())
    own = signature_of(form)
    answer = read(form, {**typed, own.name: [by]} if own is not None else typed, problems)
    if answer is not ABSENT:
        judge(schema, form, answer, problems)
    elif not problems:
        problems[form.name] = ["This is required."]
    if own is not None and (wrong := problems.pop(own.name, None)):
        problems[BY] = wrong
    if not by:
        problems[BY] = ["Enter your name."]
    elif len(by) > LONGEST_NAME or not by.isprintable():
        problems[BY] = [f"Enter at most {LONGEST_NAME} characters that can be read."]
    decision = decision_of(form)
    if decision is not None and (missing := problems.pop(decision.name, None)):
        problems.setdefault(form.name, []).append("Choose Approve or Reject." if decision.name in typed else missing[0])
    return Submission(answer, by, typed, problems)


def closed_page(asked: Asked, *, late: str | None = None, status: int = 200) -> Response:
    """A token that takes no answer: how it ended. late: said to somebody whose answer came too late."""
    return page("token.html", status, **_values(asked, late=late))


def open_page(asked: Asked, schema: Schema, sent: Submission | None = None, status: int = 200) -> Response:
    """A token that waits: what is asked, and the form, with what was typed and what is wrong with it."""
    whole = form_of(schema)
    decision = decision_of(whole)
    form = without(whole, decision, signature_of(whole))
    typed, problems = (sent.typed, sent.problems) if sent else (initial(whole), Problems())
    bound, by = controls(form, typed, problems), Control(_BY, "by", typed.get(BY, ()), problems.get(BY, ()))
    wrong = [*in_trouble(bound), *([by] if by.problems else [])]
    return page("token.html", status, **_values(asked, form=bound, by=by, decision=decision, wrong=wrong))


def _values(asked: Asked, **given: Any) -> dict[str, Any]:
    """Everything that the template names."""
    nothing: dict[str, Any] = {"form": None, "by": None, "decision": None, "late": None, "wrong": ()}
    return {**nothing, "asked": asked, "moment_text": moment_text, "time_left": time_left, **given}
