"""The table of operations is sound in itself."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest

from stepwell.errors import ConnectionFailed, LeaseLost, NotFound, PayloadInvalid, StepwellError, Unauthorized
from stepwell.model.failure import FailureCode
from stepwell.model.lifecycle import Status
from stepwell.protocol import operations
from stepwell.protocol.operations import OPERATIONS, Operation
from stepwell.protocol.refusals import body_of, error_from, status_of
from stepwell.protocol.runs import RunFilter
from stepwell.protocol.status import PublicStatus, public_batch_status, public_status, statuses_matching
from stepwell.protocol.triggering import Triggered


def test_every_operation_of_the_module_is_in_the_table() -> None:
    declared = [value for value in vars(operations).values() if isinstance(value, Operation)]
    assert sorted(o.name for o in declared) == sorted(o.name for o in OPERATIONS)


def test_no_two_operations_share_a_name_or_a_method_and_path() -> None:
    assert len({o.name for o in OPERATIONS}) == len(OPERATIONS)
    assert len({(o.method, o.path) for o in OPERATIONS}) == len(OPERATIONS)


def test_every_scope_speaks_of_parameters_that_the_path_has() -> None:
    for operation in OPERATIONS:
        if operation.scope is not None:
            operation.scope.format(**dict.fromkeys(operation.parameters, "x"))


def test_a_url_quotes_its_parameters_and_leaves_out_what_is_not_asked() -> None:
    assert operations.GET_RUN.url(run_id="a/b c") == "/api/v3/runs/a%2Fb%20c"
    query = RunFilter(page_size=5, status="FAILED", is_test=False)
    url = operations.LIST_RUNS.url(query)
    assert url == "/api/v1/runs?page%5Bsize%5D=5&filter%5Bstatus%5D=FAILED&filter%5BisTest%5D=false"


def test_bodies_are_camel_case_and_leave_out_what_is_absent() -> None:
    assert msgspec.json.encode(Triggered(id="run_1", is_cached=False)) == b'{"id":"run_1","isCached":false}'


@pytest.mark.parametrize("status", get_args(Status))
def test_every_status_has_a_name_that_the_npm_client_knows(status: Status) -> None:
    assert public_status(status) in get_args(PublicStatus)


@pytest.mark.parametrize("code", get_args(FailureCode))
def test_a_filter_by_a_failed_runs_public_name_finds_that_run(code: str) -> None:
    wanted = statuses_matching([public_status("failed", code)])
    assert len(wanted) == 1
    status, codes = wanted[0]
    assert status == "failed"
    assert codes is not None
    assert code in codes


def test_filters_take_our_names_too_and_refuse_others() -> None:
    assert statuses_matching(["failed", "QUEUED"]) == [("failed", None), ("queued", None)]
    with pytest.raises(ValueError, match="SLEEPING"):
        statuses_matching(["SLEEPING"])


def test_old_clients_hear_only_the_batch_states_they_know() -> None:
    def state(version: str | None) -> str:
        return public_batch_status(version, sealed=True, ended=False, refused=0, accepted=2)

    assert state("4.8.3") == state(None) == "PROCESSING"
    assert state("4.0.4") == "PENDING"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotFound("no run"), 404),
        (Unauthorized("no key"), 401),
        (Unauthorized("no scope", status=403), 403),
        (PayloadInvalid("bad", problems=[{"field": "a", "reason": "missing"}]), 422),
        (ConnectionFailed("away"), 503),
        (LeaseLost("gone"), 409),
        (StepwellError("?"), 500),
    ],
)
def test_an_error_is_the_same_on_both_sides_of_http(error: StepwellError, status: int) -> None:
    assert status_of(error) == status
    returned = error_from(status, msgspec.json.encode(body_of(error, "req_1")))
    assert returned.message == error.message
    assert returned.code == error.code
    if isinstance(error, PayloadInvalid):
        assert isinstance(returned, PayloadInvalid)
        assert returned.problems == error.problems


def test_a_proxys_page_becomes_an_error_that_shows_it() -> None:
    error = error_from(502, b"<html>bad gateway</html>")
    assert isinstance(error, ConnectionFailed)
    assert "bad gateway" in error.message
