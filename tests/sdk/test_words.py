"""sleep, sleep_until, checkpoint and ctx; with await, and without in `stepwell.sync`."""

from __future__ import annotations

import random
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from stepwell import checkpoint, ctx, sleep, sleep_until, sync
from stepwell.errors import ConfigError
from stepwell.sdk.runtime import RunInfo
from stepwell.sdk.words import is_word
from tests.sdk.in_place import inside_a_run

NOW = 1_800_000_000.0


async def test_a_sleep_in_a_run_is_a_timer_on_the_runs_clock() -> None:
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    with inside_a_run() as run:
        await sleep("1h30m")
        await sleep(timedelta(days=30))
        await sleep_until(moment)
    assert run.asked == [
        ("sleep_until", NOW + 5400),
        ("sleep_until", NOW + 30 * 86400),
        ("sleep_until", moment.timestamp()),
    ]


def test_a_blocking_sleep_in_a_def_task_is_the_same_timer() -> None:
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    with inside_a_run() as run:
        sync.sleep("1h30m")
        sync.sleep_until(moment)
        sync.checkpoint("listed", n=3)
    assert run.asked == [
        ("sleep_until", NOW + 5400),
        ("sleep_until", moment.timestamp()),
        ("checkpoint", ("listed", {"n": 3})),
    ]


async def test_outside_a_run_they_pause_as_anything_else_does() -> None:
    past = datetime(2020, 1, 1, tzinfo=UTC)
    await sleep(0)
    await sleep("1ms")
    await sleep_until(past)
    sync.sleep(0.001)
    sync.sleep_until(past)


async def test_a_wrong_length_or_moment_is_refused() -> None:
    with pytest.raises(ConfigError, match="soon"):
        await sleep("soon")
    with pytest.raises(ConfigError, match="no time zone"):
        await sleep_until(datetime(2030, 1, 1))  # noqa: DTZ001


async def test_a_checkpoint_stores_its_data_under_its_name() -> None:
    with inside_a_run() as run:
        await checkpoint("round-done", messages=[1], name="also a value")
    assert run.asked == [("checkpoint", ("round-done", {"messages": [1], "name": "also a value"}))]


async def test_a_checkpoint_outside_a_run_does_nothing_but_check_its_name() -> None:
    await checkpoint("round-done", x=1)
    sync.checkpoint("round-done", x=1)
    for wrong in ("", "a\nb", 7, "x" * 129):
        with pytest.raises(ConfigError, match="checkpoint got the name"):
            await checkpoint(wrong)  # type: ignore[arg-type]


def test_every_coroutine_around_an_operation_is_a_word() -> None:
    for fn in (sleep, sleep_until, checkpoint):
        assert is_word(fn.__code__)


# ---- ctx ----


def test_ctx_tells_of_the_run() -> None:
    with inside_a_run():
        assert isinstance(ctx.run, RunInfo)
        assert (ctx.run.id, ctx.run.tags, ctx.task.id, ctx.attempt.number) == ("run_1", ("vip",), "outer", 2)
        assert ctx.now() == datetime.fromtimestamp(NOW, UTC)
        assert ctx.now().tzinfo is UTC
        assert ctx.idempotency_key == "run_1:charge#0"
        assert ctx.log.name == "run"
        assert repr(ctx) == "<ctx of run run_1>"


def test_ctx_random_is_a_seeded_random_that_can_be_called() -> None:
    expected = random.Random(7)
    with inside_a_run():
        assert isinstance(ctx.random, random.Random)
        assert ctx.random() == expected.random()
        assert ctx.random.choice("abc") == expected.choice("abc")
        assert ctx.random.gauss(0, 1) == expected.gauss(0, 1)
        assert ctx.uuid() == uuid.UUID(int=expected.getrandbits(128), version=4)


def test_ctx_metadata_is_stored_whenever_a_key_is_set_or_deleted() -> None:
    with inside_a_run() as run:
        ctx.metadata["stage"] = "fetch"
        ctx.metadata.update({"done": 1}, total=3)
        del ctx.metadata["stage"]
        assert ctx.metadata.setdefault("done", 9) == 1
        assert dict(ctx.metadata) == {"done": 1, "total": 3}
        assert len(ctx.metadata) == 2
        with pytest.raises(KeyError):
            del ctx.metadata["stage"]
    assert run.asked == [
        ("set_metadata", {"stage": "fetch"}),
        ("set_metadata", {"stage": "fetch", "done": 1, "total": 3}),
        ("set_metadata", {"done": 1, "total": 3}),
    ]


@pytest.mark.parametrize(
    "use",
    [
        lambda: ctx.run,
        lambda: ctx.task,
        lambda: ctx.attempt,
        lambda: ctx.log,
        lambda: ctx.metadata,
        lambda: ctx.random,
        lambda: ctx.idempotency_key,
        lambda: ctx.now(),
        lambda: ctx.uuid(),
    ],
)
def test_ctx_outside_a_run_says_so(use: Any) -> None:
    with pytest.raises(ConfigError, match=r"ctx\.\w+(\(\))? was used outside a run") as refused:
        use()
    assert "stepwell.testing" in (refused.value.hint or "")
    assert repr(ctx) == "<ctx outside a run>"
