"""`ctx.random` and `ctx.uuid` follow the journal, not the run: a fork draws the numbers its journal was made with."""

from __future__ import annotations

from typing import Any

from stepwell import ctx, step, task
from stepwell.codec.values import loads
from stepwell.executor.outcomes import Completed
from tests.executor.life import Store, attempt_of, lives


@step
async def drawn_in_a_step() -> float:
    return ctx.random.random()


@task
async def draws() -> list[Any]:
    return [ctx.random.random(), str(ctx.uuid()), await drawn_in_a_step()]


def _drawn(**fields: Any) -> list[Any]:
    async def live() -> Any:
        return await attempt_of(draws, Store(), **fields).run()

    outcome = lives(live)
    assert isinstance(outcome, Completed)
    return loads(outcome.output)


def test_another_run_draws_other_numbers() -> None:
    assert _drawn(run_id="run_a") == _drawn(run_id="run_a")
    assert set(_drawn(run_id="run_a")).isdisjoint(_drawn(run_id="run_b"))


def test_a_fork_draws_the_numbers_of_the_run_whose_journal_it_began_with() -> None:
    assert _drawn(run_id="run_b", seed="run_a") == _drawn(run_id="run_a")
