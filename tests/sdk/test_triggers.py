"""Triggering from inside a run: checkpoints of that run, children, their outputs and failures."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from stepwell import AbortRun, Queue, RunHandle, queue, sync, task
from stepwell.errors import ConfigError, PayloadInvalid, RunFailed
from stepwell.model.child import TriggerOptions
from stepwell.sdk.task import Task
from tests.sdk.in_place import inside_a_run


@dataclass
class Page:
    url: str
    size: int


class TooLarge(Exception):
    def __init__(self, *, limit: int) -> None:
        super().__init__(f"more than {limit}")
        self.limit = limit


async def scrape(url: str) -> Page:
    if url == "bad":
        raise TooLarge(limit=7)
    if url == "stop":
        raise AbortRun("no")
    return Page(url, len(url))


@pytest.fixture
def scraper() -> Task[..., Page]:
    return task(scrape)


async def test_a_trigger_in_a_run_is_an_operation_of_it_and_gives_a_handle(scraper: Task[..., Page]) -> None:
    with inside_a_run() as run:
        handle = await scraper.trigger("a")
        assert handle == RunHandle("run_child_0")
        batch = await scraper.batch_trigger(["a", {"url": "b"}])
        assert [each.id for each in batch] == ["run_child_0", "run_child_1"]
        assert batch.id is None
    assert run.asked == [("trigger", "scrape"), ("trigger", "scrape")]
    assert [child.payload for child in run.triggered] == [b'{"url":"a"}', b'{"url":"a"}', b'{"url":"b"}']


async def test_trigger_and_wait_gives_the_childs_output_with_its_class(scraper: Task[..., Page]) -> None:
    with inside_a_run():
        assert await scraper.trigger_and_wait(url="abc") == Page("abc", 3)


async def test_a_failed_child_raises_run_failed_with_its_own_exception_as_the_cause(scraper: Task[..., Page]) -> None:
    with inside_a_run(), pytest.raises(RunFailed) as failed:
        await scraper.trigger_and_wait("bad")
    assert failed.value.run_id == "run_child_0"
    assert failed.value.status == "failed"
    assert failed.value.failure is not None
    assert failed.value.failure.message == "more than 7"
    assert str(failed.value) == "run run_child_0 failed: TooLarge: more than 7"
    assert isinstance(failed.value.__cause__, TooLarge)
    assert failed.value.__cause__.limit == 7


async def test_map_gives_outputs_in_the_order_of_the_payloads(scraper: Task[..., Page]) -> None:
    with inside_a_run() as run:
        pages = await scraper.map(f"{'x' * n}" for n in range(1, 20))
    assert [page.size for page in pages] == list(range(1, 20))
    assert run.asked == [("trigger_and_wait", "scrape")]


async def test_map_raises_the_first_failure_unless_exceptions_are_wanted(scraper: Task[..., Page]) -> None:
    with inside_a_run():
        with pytest.raises(RunFailed, match="run_child_1"):
            await scraper.map(["a", "bad", "stop"])
        outcomes = await scraper.map(["a", "bad", "stop"], return_exceptions=True)
    assert outcomes[0] == Page("a", 1)
    assert [type(getattr(each, "__cause__", None)) for each in outcomes[1:]] == [TooLarge, AbortRun]


async def test_map_over_nothing_is_nothing_and_asks_nothing(scraper: Task[..., Page]) -> None:
    with inside_a_run() as run:
        assert await scraper.map([]) == []
        assert len(await scraper.batch_trigger([])) == 0
    assert run.asked == []


async def test_one_bad_payload_of_many_is_named_and_none_is_triggered(scraper: Task[..., Page]) -> None:
    with inside_a_run() as run:
        with pytest.raises(PayloadInvalid) as refused:
            await scraper.map([{"url": "a"}, {"url": 7}])
        assert refused.value.problems[0]["field"] == "payloads[1].url"
        assert refused.value.message.startswith("payloads[1]: payload of task 'scrape' does not fit: url:")
    assert run.triggered == []


@pytest.mark.parametrize("verb", ["trigger_and_wait", "map"])
async def test_waiting_for_children_outside_a_run_says_what_to_use_instead(scraper: Task[..., Page], verb: str) -> None:
    with pytest.raises(ConfigError, match=f"{verb} of task 'scrape' was called outside a run") as refused:
        await getattr(scraper, verb)(["a"] if verb == "map" else "a")
    assert "result" in (refused.value.hint or "")


async def test_a_task_called_inside_a_run_runs_in_place(scraper: Task[..., Page]) -> None:
    with inside_a_run() as run:
        assert await scraper("ab") == Page("ab", 2)  # type: ignore[operator]
    assert run.asked == []


# ---- options ----


def options_of(**options: Any) -> TriggerOptions:
    t: Task[..., Page] = task(scrape)
    return t.options(**options).trigger_options()


def test_options_are_kept_in_the_units_that_are_stored() -> None:
    bulk: Queue = queue("bulk")
    assert options_of(
        queue=bulk,
        concurrency_key="tenant-1",
        priority=10,
        delay="1h",
        ttl=timedelta(minutes=10),
        idempotency_key="k",
        idempotency_key_ttl="1d",
        max_attempts=1,
        max_duration=60,
        tags=["vip", "vip"],
        metadata={"a": [1, None]},
    ) == TriggerOptions(
        queue="bulk",
        concurrency_key="tenant-1",
        priority=10,
        delay=3600.0,
        ttl=600.0,
        idempotency_key="k",
        idempotency_key_ttl=86400.0,
        max_attempts=1,
        max_duration=60.0,
        tags=("vip",),
        metadata=b'{"a": [1, null]}',
    )


def test_a_delay_may_be_a_moment_and_may_be_nothing_at_all() -> None:
    assert options_of(delay=datetime(2030, 1, 1, tzinfo=UTC)).delay_until == 1893456000.0
    assert options_of(delay=0).delay == 0.0
    assert options_of(delay=None, ttl=None) == TriggerOptions()


def test_options_add_up_and_the_later_one_counts() -> None:
    t: Task[..., Page] = task(scrape)
    chosen = t.options(priority=1, ttl="1m").options(priority=2)
    assert chosen.trigger_options() == TriggerOptions(priority=2, ttl=60.0)
    assert chosen.task is t
    assert t.trigger_options() == TriggerOptions()


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"dely": "1h"}, "no option 'dely'", "did you mean 'delay'?"),
        ({"version": "1"}, "no option 'version'", "its options are"),
        ({"delay": "later"}, "delay: expected a duration", "1h30m"),
        ({"delay": datetime(2030, 1, 1)}, "has no time zone", "tzinfo"),  # noqa: DTZ001
        ({"ttl": 0}, "ttl=0", "more than 0"),
        ({"priority": 1.5}, "priority=1.5", "a whole number"),
        ({"priority": 2**40}, "priority=", "a whole number"),
        ({"max_attempts": 0}, "max_attempts=0", "1 or more"),
        ({"idempotency_key": ""}, "idempotency_key=''", "1 to 512"),
        ({"idempotency_key": "a\x00b"}, "idempotency_key=", "printable"),
        ({"concurrency_key": 7}, "concurrency_key=7", "printable"),
        ({"metadata": [1]}, "metadata=[1]", "a mapping"),
        ({"metadata": {"a": object()}}, "metadata=", "plain JSON values only"),
        ({"metadata": {"a": float("nan")}}, "metadata=", "plain JSON values only"),
        ({"tags": ["a\nb"]}, "tags=", "printable"),
    ],
)
def test_a_wrong_option_is_refused_with_its_value_and_the_way_out(
    options: dict[str, Any], message: str, hint: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        options_of(**options)
    assert message in refused.value.message
    assert "options of task 'scrape'" in refused.value.message
    assert hint in (refused.value.hint or "")


# ---- the same from a def task ----


def test_a_def_task_triggers_and_waits_without_await(scraper: Task[..., Page]) -> None:
    with inside_a_run() as run:
        assert scraper.trigger_sync("a").id == "run_child_0"
        assert sync.trigger(scraper.options(priority=1), "a").id == "run_child_0"
        assert [each.id for each in sync.batch_trigger(scraper, ["a", "b"])] == ["run_child_0", "run_child_1"]
        assert sync.trigger_and_wait(scraper, url="abc") == Page("abc", 3)
        assert sync.map(scraper, ["a", "bb"]) == [Page("a", 1), Page("bb", 2)]
        assert isinstance(sync.map(scraper, ["bad"], return_exceptions=True)[0], RunFailed)
        assert sync.map(scraper, []) == []
    assert [verb for verb, _ in run.asked] == ["trigger"] * 3 + ["trigger_and_wait"] * 3
    assert run.triggered[1].options == TriggerOptions(priority=1)


def test_the_blocking_waits_outside_a_run_say_what_to_use_instead(scraper: Task[..., Page]) -> None:
    with pytest.raises(ConfigError, match="outside a run"):
        sync.trigger_and_wait(scraper, "a")
    with pytest.raises(ConfigError, match="outside a run"):
        sync.map(scraper, ["a"])


async def test_a_blocking_verb_in_an_async_task_is_refused_since_it_would_stop_the_run(
    scraper: Task[..., Page],
) -> None:
    with inside_a_run():
        for verb in (
            lambda: scraper.trigger_sync("a"),
            lambda: sync.map(scraper, ["a"]),
            lambda: sync.sleep(1),
            lambda: sync.sleep_until(datetime.now(UTC)),
            lambda: sync.checkpoint("x"),
        ):
            with pytest.raises(ConfigError, match="would block the event loop of run run_1") as refused:
                verb()
            assert "await" in (refused.value.hint or "")


def test_the_words_may_be_used_from_several_event_loops(scraper: Task[..., Page]) -> None:
    for _ in range(2):
        with inside_a_run():
            assert asyncio.run(scraper.trigger_and_wait("a")) == Page("a", 1)


async def test_a_key_counts_within_the_run_that_triggers_or_its_attempt_where_its_scope_says_so(
    scraper: Task[..., Page],
) -> None:
    def keyed(scope: Any) -> Any:
        return scraper.options(idempotency_key="k", idempotency_key_ttl="1h", idempotency_key_scope=scope)

    with inside_a_run() as run:
        for scope in (None, "global", "run", "attempt"):
            await keyed(scope).trigger("a")
        await keyed("run").batch_trigger(["b"])
        run_id, number = run.run.id, run.attempt.number
    keys = [child.options.idempotency_key for child in run.triggered]
    assert keys == ["k", "k", f"{run_id}:k", f"{run_id}#{number}:k", f"{run_id}:k"]
    assert {child.options.idempotency_key_ttl for child in run.triggered} == {3600.0}
    assert {child.options.idempotency_key_scope for child in run.triggered} == {None}
    outside = [keyed(scope).spec(("a",), {}) for scope in ("run", "attempt", "global")]
    assert {spec.options.idempotency_key for spec in outside} == {"k"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"idempotency_key_scope": "run"}, "together with an idempotency_key"),
        ({"idempotency_key": "k", "idempotency_key_scope": "runs"}, "'global' or 'run' or 'attempt'; did you mean"),
    ],
)
def test_a_scope_that_cannot_be_is_refused(scraper: Task[..., Page], options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        scraper.options(**options)
    assert said in f"{refused.value} {refused.value.hint}"
