"""`examples/process_order`: an order is charged once, whenever who charges dies."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.examples.processes import Proxy, free_port, lines_of, program
from tests.stack import ROOT, MakeStack, Stack, completed, ended

EXAMPLE = ROOT / "examples" / "process_order"
SEED = 11
AT_ONCE = 6
KILLS = 50


@dataclass
class Shop:
    """The stack, and the payment service behind a proxy."""

    stack: Stack
    proxy: Proxy
    charges: Path

    def charged(self) -> list[dict[str, Any]]:
        return lines_of(self.charges)


@pytest.fixture
async def shop(make_stack: MakeStack, tmp_path: Path) -> AsyncIterator[Shop]:
    port, charges = free_port(), tmp_path / "charges.jsonl"
    with program(str(EXAMPLE / "payments.py"), str(port), str(charges), says="payments on"):
        async with Proxy(port) as proxy:
            environ = {"PAYMENTS_URL": proxy.url, "NO_PROXY": "127.0.0.1"}
            yield Shop(make_stack(str(EXAMPLE / "orders.py"), environ=environ), proxy, charges)


def order(number: int, customer: str = "ada", quantity: int = 2) -> dict[str, Any]:
    return {"id": f"o-{number}", "customer": customer, "lines": [{"sku": "tea", "quantity": quantity, "price": "4.50"}]}


async def test_a_charge_that_was_made_just_before_a_kill_is_found_again(shop: Shop) -> None:
    """The window that no system can close: the service has charged, and nobody was told."""
    kills: list[int] = []

    async def kill_once(_: bytes) -> None:
        if not kills:
            kills.extend(shop.stack.worker.kill_executors())

    shop.proxy.answer = kill_once
    async with shop.stack.client() as client:
        receipt = await completed(client, (await client.trigger("process-order", order(1))).id)
    (charge,) = shop.charged()
    assert receipt["charge"] == charge["id"]
    assert kills
    assert len(shop.proxy.asked) == 2


@pytest.mark.timeout(150)
async def test_each_order_is_charged_once_under_fifty_kills_at_random_points(shop: Shop) -> None:
    """Each SIGKILL that counts met a run at work: between two steps, or before, in or after its charge."""
    chance = random.Random(SEED)
    runs: list[str] = []
    enough = asyncio.Event()

    async def order_on() -> None:
        while not enough.is_set():
            if await shop.stack.value("SELECT count(*) FROM run WHERE ended_as IS NULL") < AT_ONCE:
                runs.append((await client.trigger("process-order", order(len(runs)))).id)

    async with shop.stack.client() as client:
        ordering = asyncio.create_task(order_on())
        while await shop.stack.value("SELECT count(*) FROM event WHERE kind = 'crashed'") < KILLS:
            await asyncio.sleep(chance.uniform(0.0, 0.1))
            if await shop.stack.value("SELECT count(*) FROM run WHERE ended_as IS NULL AND crashes > 2"):
                continue  # five in a row without a checkpoint would be its end: it may get further first
            if executors := shop.stack.worker.executors():
                with suppress(ProcessLookupError):
                    os.kill(chance.choice(executors), signal.SIGKILL)
        enough.set()
        await ordering
        receipts = [await completed(client, run) for run in runs]
    assert [receipt["order"] for receipt in receipts] == [f"o-{number}" for number in range(len(runs))]
    assert {receipt["charge"] for receipt in receipts} == {charge["id"] for charge in shop.charged()}
    assert len(shop.charged()) == len(runs)
    assert set(Counter(charge["key"] for charge in shop.charged()).values()) == {1}
    assert len(shop.proxy.asked) > len(runs)  # some asked twice: without the key they would have paid twice


async def test_a_declined_card_ends_the_run_without_another_attempt(shop: Shop) -> None:
    async with shop.stack.client() as client:
        run = await ended(client, (await client.trigger("process-order", order(1, "broke"))).id)
    assert run.state == "failed"
    assert run.failure is not None
    assert run.failure.code == "aborted"
    assert "declined" in run.failure.message
    assert run.attempt_count == 1
    assert len(shop.proxy.asked) == 1
    assert shop.charged() == []


async def test_an_order_of_more_than_there_is_never_reaches_the_payment_service(shop: Shop) -> None:
    async with shop.stack.client() as client:
        run = await ended(client, (await client.trigger("process-order", order(1, quantity=1000))).id)
    assert run.failure is not None
    assert "1000 ordered, 100 in stock" in run.failure.message
    assert shop.proxy.asked == []


async def test_a_busy_service_is_asked_again_after_the_time_that_it_asked_for(shop: Shop) -> None:
    async with shop.stack.client() as client:
        receipt = await completed(client, (await client.trigger("process-order", order(1, "flaky"))).id)
    (first, _), (second, _) = shop.proxy.asked
    assert second - first >= 0.2
    (charge,) = shop.charged()
    assert receipt["charge"] == charge["id"]
