"""The words of admission: read, checked, declared, and sent as the API takes them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from stepwell import Debounce, Singleton, Throttle, Unique, task
from stepwell.client.triggering import wire_options
from stepwell.errors import ConfigError
from stepwell.model.admission import Admission, DebounceRule, SingletonRule, ThrottleRule, UniqueRule
from stepwell.model.task import TaskDeclaration
from stepwell.protocol.triggering import Options
from stepwell.server.options import trigger_request

EVERY: dict[str, Any] = {
    "debounce": Debounce("k", delay="5s", mode="trailing", max_delay="1m"),
    "throttle": Throttle(10, per="1h", over="drop", by="a.b"),
    "singleton": Singleton("queue", by=["a", "b"]),
    "unique": Unique("1d", by=("a",)),
}
RULES = Admission(
    UniqueRule(86400.0, by=("a",)),
    DebounceRule(5.0, 60.0, "trailing", "k"),
    SingletonRule("queue", by=("a", "b")),
    ThrottleRule(10, 3600.0, "drop", by=("a.b",)),
)


def test_a_task_declares_its_rules_and_a_worker_registers_them() -> None:
    @task(**EVERY)
    async def ruled(a: int) -> None: ...

    declared = ruled.declaration()
    assert declared.admission == RULES
    assert msgspec.json.decode(msgspec.json.encode(declared), type=TaskDeclaration) == declared


def test_rules_of_a_trigger_reach_the_server_as_they_were_given() -> None:
    @task
    async def free(a: int = 0) -> None: ...

    spec = free.options(**EVERY).spec((), {})
    assert spec.options.admission == RULES
    sent = msgspec.json.decode(msgspec.json.encode(wire_options(spec)), type=Options)
    request = trigger_request("free", msgspec.Raw(b"{}"), sent, max_payload=1000)
    assert request.options.admission == RULES
    assert free.options(singleton="skip").trigger_options().admission == Admission(singleton=SingletonRule())


def test_the_npm_client_s_debounce_is_understood() -> None:
    text = b'{"debounce": {"key": "k", "delay": "5s", "mode": "trailing", "maxDelay": "30m"}}'
    request = trigger_request("t", msgspec.Raw(b"{}"), msgspec.json.decode(text, type=Options), max_payload=1000)
    assert request.options.admission == Admission(debounce=DebounceRule(5.0, 1800.0, "trailing", "k"))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"debounce": Debounce("k")}, "delay"),
        ({"debounce": Debounce("k", delay="2h")}, "a debounce must end"),
        ({"debounce": Debounce("k", delay="5s", max_delay="1s")}, "a debounce must end"),
        ({"debounce": Debounce("k", delay="5s", mode="middle")}, "leading"),  # type: ignore[arg-type]
        ({"debounce": "5s"}, "write debounce=Debounce"),
        ({"throttle": Throttle(0, per="1h")}, "1 to 1000"),
        ({"throttle": Throttle(1.5, per="1h")}, "a whole number"),  # type: ignore[arg-type]
        ({"throttle": Throttle(1, per=0)}, "more than 0"),
        ({"throttle": Throttle(1, per="1h", over="wait")}, "refuse"),  # type: ignore[arg-type]
        ({"singleton": "once"}, "skip"),
        ({"unique": Unique("1h", by="")}, "names of fields"),
    ],
)
def test_a_rule_that_cannot_be_is_refused_at_the_declaration_with_what_was_expected(
    given: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ConfigError) as refused:

        @task(**given)
        async def wrong() -> None: ...

    assert expected in str(refused.value)
    assert "wrong" in str(refused.value)
