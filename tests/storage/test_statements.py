from __future__ import annotations

import pytest

from stepwell.errors import ConfigError
from stepwell.storage.statements import load, parse

TWO = """
-- name: claim_ready
-- Takes up to $1 ready runs,
-- oldest first.
SELECT 1 -- a remark; with a semicolon
-- and another
  , 2;

--name:forget
--   Deletes one run.
DELETE FROM run
WHERE id = $1;
"""


def test_statements_are_found_by_attribute_and_by_key_with_their_purpose() -> None:
    run = parse("run", TWO)
    assert list(run) == ["claim_ready", "forget"]
    assert run.forget == run["forget"] == "/* run.forget */ DELETE FROM run\nWHERE id = $1"
    assert run.purpose("claim_ready") == "Takes up to $1 ready runs, oldest first."
    assert "forget" in run
    assert "remember" not in run


def test_comments_inside_a_statement_stay_in_it() -> None:
    text = "SELECT 1 -- a remark; with a semicolon\n-- and another\n  , 2"
    assert parse("run", TWO).claim_ready == f"/* run.claim_ready */ {text}"


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"run.sql has no statement 'claim_redy'\n  hint: did you mean 'claim_ready'"):
        _ = parse("run", TWO).claim_redy


def test_a_noun_without_a_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"there is no queries/unicorn.sql"):
        load("unicorn")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("-- name: a\n-- Does.\nSELECT 1\n-- name: a\n-- Does.\nSELECT 1", "two statements called 'a'"),
        ("-- name: a\nSELECT 1", "does not say what 'a' is for"),
        ("-- name: a\n-- Does nothing.\n;", "has nothing under 'a'"),
        ("-- name: one two\n-- Does.\nSELECT 1", "begins with '-- name: one two'"),
        ("-- name: one-two\n-- Does.\nSELECT 1", "a statement called 'one-two'"),
        ("-- name:\n-- Does.\nSELECT 1", "a statement called ''"),
        ("SELECT 1", "begins with 'SELECT 1'"),
    ],
)
def test_a_malformed_file_is_refused_with_its_fault(text: str, fault: str) -> None:
    with pytest.raises(ConfigError, match=f"queries/run.sql .*{fault}"):
        parse("run", text)
