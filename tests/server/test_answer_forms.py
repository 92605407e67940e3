"""Forms made from an answer's JSON Schema, and answers read back from them."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from enum import IntEnum
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter

from stepwell.server.pages.answering import submission, typed_in
from stepwell.server.pages.fields import decision_of, form_of
from stepwell.server.pages.submitted import initial


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Address(BaseModel):
    """Where it goes."""

    street: str = Field(min_length=2)
    city: str


class Refund(BaseModel):
    amount: Decimal = Field(gt=0, le=100)
    count: int = Field(ge=1, le=10)
    share: float = 0.5
    reason: Literal["late", "damaged"]
    level: Level = Level.LOW
    urgent: bool = False
    sure: bool
    due: dt.date | None = None
    at: dt.datetime | None = None
    opens: dt.time | None = None
    tags: list[str] = []
    kinds: list[Literal["x", "y"]] = ["x"]
    to: Address
    other: Address | None = None
    limits: dict[str, int] = {}
    note: str | None = Field("as usual", description="For the books.")


SCHEMA = Refund.model_json_schema()
GOOD = {
    "answer/amount": "12.50",
    "answer/count": " 3 ",
    "answer/share": "0.25",
    "answer/reason": '"late"',
    "answer/level": "2",
    "answer/sure": "false",
    "answer/due": "2026-03-31",
    "answer/at": "2026-03-31T14:30",
    "answer/opens": "09:00",
    "answer/tags": "one\r\n\r\n two \r\n",
    "answer/kinds": '"y"',
    "answer/to/street": "Main St",
    "answer/to/city": "Ulm",
    "answer/limits": '{"a": 1}',
    "answer/note": "as usual",
    "by": "Ada",
}


def sent(schema: Any, **changes: Any) -> Any:
    """What the schema makes of the good form with some fields changed; None leaves one out."""
    typed = {**GOOD, **{name.replace("__", "/"): value for name, value in changes.items()}}
    return submission(schema, {name: [value] for name, value in typed.items() if value is not None})


def alone(annotation: Any, *values: str) -> Any:
    """What an answer of this type is, from a form with that only control."""
    return submission(TypeAdapter(annotation).json_schema(), {"answer": list(values), "by": ["Ada"]})


def test_every_kind_of_field_reads_back_as_the_model_that_made_the_form() -> None:
    got = sent(SCHEMA)
    assert got.problems == {}
    assert Refund.model_validate(got.answer) == Refund(
        amount=Decimal("12.50"),
        count=3,
        share=0.25,
        reason="late",
        level=Level.HIGH,
        sure=False,
        due=dt.date(2026, 3, 31),
        at=dt.datetime(2026, 3, 31, 14, 30, tzinfo=dt.UTC),
        opens=dt.time(9),
        tags=["one", "two"],
        kinds=["y"],
        to=Address(street="Main St", city="Ulm"),
        limits={"a": 1},
        note="as usual",
    )
    assert str(got.answer["amount"]) == "12.50", "digits of a decimal stay as they were typed"


def test_an_optional_group_that_nobody_touched_is_left_out_and_one_that_was_touched_is_judged() -> None:
    assert "other" not in sent(SCHEMA).answer
    assert sent(SCHEMA, answer__other__city="Ulm").problems == {"answer/other/street": ["This is required."]}


def test_defaults_stand_in_the_form_and_a_cleared_one_does_not_come_back() -> None:
    form = form_of(SCHEMA)
    shown = initial(form)
    assert shown["answer/note"] == ["as usual"]
    assert shown["answer/kinds"] == ['"x"']
    assert shown["answer/level"] == ["1"]
    assert sent(SCHEMA, answer__note="").answer["note"] is None
    assert sent(SCHEMA, answer__kinds="").answer["kinds"] == []


def test_names_of_types_are_no_labels_and_descriptions_are_help() -> None:
    fields = {field.path: field for field in form_of(SCHEMA).fields}
    assert fields["other",].label == "Other"
    assert fields["other",].required is False
    assert fields["note",].help == "For the books."
    assert [option.text for option in fields["level",].options] == ["1", "2"]


@pytest.mark.parametrize(
    ("field", "typed", "problem"),
    [
        ("answer/amount", "twelve", "Enter a number, such as 12.5."),
        ("answer/amount", "NaN", "Enter a number, such as 12.5."),
        ("answer/amount", "0.00", "Enter a number greater than 0"),
        ("answer/amount", "100.01", "Enter a number that is at most 100"),
        ("answer/amount", "", "This is required."),
        ("answer/count", "3.5", "Enter a whole number."),
        ("answer/count", "0", "Enter a number that is 1 or more."),
        ("answer/count", "11", "Enter a number that is 10 or less."),
        ("answer/count", "9" * 5000, "Enter a whole number."),
        ("answer/share", "1e999", "Enter a number, such as 12.5."),
        ("answer/reason", '"other"', "Choose one of the options."),
        ("answer/reason", None, "This is required."),
        ("answer/level", "nonsense", "Choose one of the options."),
        ("answer/sure", None, "This is required."),
        ("answer/sure", "perhaps", "Choose yes or no."),
        ("answer/due", "31.3.2026", "Enter a date, such as 2026-03-31."),
        ("answer/at", "tomorrow", "Enter a date and time, such as 2026-03-31 14:30."),
        ("answer/opens", "25:00", "Enter a time, such as 14:30."),
        ("answer/kinds", '"z"', "Choose one of the options."),
        ("answer/to/street", "M", "Enter at least 2 characters."),
        ("answer/to/city", "  ", "This is required."),
        ("answer/limits", "{bad", "This is not valid JSON: Expecting property name enclosed in double quotes: line 1"),
        ("answer/limits", '{"a": NaN}', "This is not valid JSON: NaN is no JSON number."),
        ("answer/limits", '{"a": "x"}', 'a: "x" is not of type "integer".'),
        ("by", " ", "Enter your name."),
        ("by", "x" * 121, "Enter at most 120 characters that can be read."),
        ("by", "a\x00b", "Enter at most 120 characters that can be read."),
    ],
)
def test_a_wrong_field_is_named_with_what_is_wrong_and_no_other_one_is(
    field: str, typed: str | None, problem: str
) -> None:
    got = sent(SCHEMA, **{field: typed})
    assert list(got.problems) == [field]
    assert got.problems[field][0].startswith(problem)
    assert not got.fits


@pytest.mark.parametrize(
    ("annotation", "typed", "answer"),
    [
        (bool, "true", True),
        (bool, "false", False),
        (int, "7", 7),
        (str, "two\r\nlines", "two\nlines"),
        (Literal["a", "b"], '"b"', "b"),
        (int | None, "", None),
        (list[int], "1\n2", [1, 2]),
        (list[dict[str, int]], '[{"a": 1}]', [{"a": 1}]),
        (int | str, '"x"', "x"),
        (dict[str, Any], "{}", {}),
    ],
)
def test_an_answer_need_not_be_an_object(annotation: Any, typed: str, answer: Any) -> None:
    got = alone(annotation, typed)
    assert got.problems == {}
    assert got.answer == answer


def test_a_line_that_is_wrong_is_said_which_one() -> None:
    assert alone(list[int], "1\ntwo").problems == {"answer": ["Line 2: Enter a whole number."]}
    assert alone(list[Literal[1, 2]], "1", "3").problems == {"answer": ["Choose one of the options."]}


def test_only_a_boolean_called_approved_or_alone_becomes_two_buttons() -> None:
    class Approval(BaseModel):
        approved: bool
        comment: str = ""

    class Other(BaseModel):
        accepted: bool

    decision = decision_of(form_of(Approval.model_json_schema()))
    assert decision is not None
    assert decision.name == "answer/approved"
    assert decision_of(form_of({"type": "boolean"})) is not None
    assert decision_of(form_of(Other.model_json_schema())) is None
    assert decision_of(form_of({"type": "object", "properties": {"approved": {"type": "string"}}})) is None


def test_the_name_that_comes_with_every_answer_fills_the_answers_own_field_for_it() -> None:
    class Signed(BaseModel):
        approved: bool
        by: str = Field(max_length=10)

    schema = Signed.model_json_schema()
    form = {"answer/approved": ["true"], "by": [" Ada  Lovelace "], "answer/by": ["Eve"]}
    assert submission(schema, form).problems == {"by": ["Enter at most 10 characters."]}
    assert submission(schema, {**form, "by": ["Ada"]}).answer == {"approved": True, "by": "Ada"}
    assert submission(schema, {**form, "by": [""]}).problems == {"by": ["Enter your name."]}


def test_a_form_sent_without_a_button_approves_nothing() -> None:
    schema = {"type": "object", "properties": {"approved": {"type": "boolean"}}, "required": ["approved"]}
    assert not submission(schema, {"by": ["Ada"]}).fits
    assert not submission({"type": "boolean"}, {"by": ["Ada"]}).fits
    assert not submission(schema, {"by": ["Ada"], "answer/approved": ["yes"]}).fits


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"$ref": "#/$defs/Missing"},
        {"$ref": "#"},
        {"$ref": "https://example.com/schema"},
        {"type": "nonsense"},
        {"type": ["string", "integer"]},
        {"oneOf": [{"type": "object", "properties": {"a": {}}}, {"type": "array"}]},
        {"type": "array", "prefixItems": [{"type": "string"}]},
        {"properties": {"a": 3}, "type": "object"},
        {"type": "object", "properties": {"me": {"$ref": "#"}, "n": {"type": "integer"}}},
    ],
)
def test_a_schema_that_no_form_fits_is_asked_for_as_json_and_nothing_breaks(schema: Any) -> None:
    form = form_of(schema)
    initial(form)
    assert form.kind in {"json", "group"}
    submission(schema, {"answer": ["{}"], "by": ["Ada"]})


_names = st.text(max_size=6)
_schemas = st.recursive(
    st.one_of(
        st.sampled_from([{"type": t} for t in ("string", "integer", "number", "boolean", "null", "array", "object")]),
        st.builds(
            lambda values: {"enum": values}, st.lists(st.one_of(st.none(), st.integers(), st.text()), min_size=1)
        ),
        st.just({"type": "string", "format": "date-time", "default": 3}),
    ),
    lambda inner: st.one_of(
        st.builds(
            lambda named, required: {"type": "object", "properties": named, "required": required},
            st.dictionaries(_names, inner, max_size=3),
            st.lists(_names, max_size=2),
        ),
        st.builds(lambda item: {"type": "array", "items": item}, inner),
        st.builds(lambda options: {"anyOf": options}, st.lists(inner, min_size=1, max_size=3)),
    ),
    max_leaves=8,
)


@given(_schemas, st.dictionaries(_names.map("answer/{}".format), st.lists(st.text(max_size=8), max_size=2), max_size=4))
def test_whatever_is_asked_and_typed_there_is_an_answer_or_a_problem(schema: Any, typed: Any) -> None:
    got = submission(schema, {**typed, "by": ["Ada"]})
    assert got.fits or got.problems
    names = set()

    def collect(field: Any) -> None:
        assert field.name not in names, "two controls would share one name"
        names.add(field.name)
        for each in field.fields:
            collect(each)

    collect(form_of(schema))


def test_a_forms_body_is_read_as_browsers_write_it() -> None:
    assert typed_in(b"answer%2Fa=%C3%A9+%26&answer%2Fa=2&by=") == {"answer/a": ["é &", "2"], "by": [""]}


@pytest.mark.parametrize("body", [b"a=%ff", b"\xff=1", b"&".join(b"a=1" for _ in range(3000))])
def test_a_body_that_no_form_sends_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - from the standard library, in its own words
        typed_in(body)
