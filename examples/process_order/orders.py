r"""An order that is paid exactly once, whatever dies in between.

The payment service is another process, reached over HTTP; it honours idempotency keys as real ones do. The task passes
`ctx.idempotency_key`, which is the same over all attempts of that step: a charge that was made just before a crash is
found again, not made again.

    python examples/process_order/payments.py 9402 &
    PAYMENTS_URL=http://127.0.0.1:9402 stepwell dev examples/process_order/orders.py
    stepwell trigger process-order --wait \
        -p '{"id": "o-1", "customer": "ada", "lines": [{"sku": "tea", "quantity": 2, "price": "4.50"}]}'
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from decimal import Decimal

import httpx2
from pydantic import BaseModel, Field

from stepwell import AbortRun, Retry, RetryAfter, checkpoint, ctx, step, task

STOCK = {"tea": 100, "kettle": 3, "cup": 40}


class Line(BaseModel):
    sku: str
    quantity: int = Field(gt=0)
    price: Decimal = Field(gt=0)


class Order(BaseModel):
    id: str
    customer: str
    lines: list[Line] = Field(min_length=1)

    @property
    def total(self) -> Decimal:
        return sum((line.price * line.quantity for line in self.lines), Decimal(0))


@dataclass
class Charge:
    id: str
    amount: Decimal


@dataclass
class Receipt:
    order: str
    charge: str
    amount: Decimal
    parcel: str


@step
async def check_stock(order: Order) -> None:
    for line in order.lines:
        if STOCK.get(line.sku, 0) < line.quantity:
            raise AbortRun(f"{line.sku}: {line.quantity} ordered, {STOCK.get(line.sku, 0)} in stock")


def retry_after(error: BaseException, attempt: int) -> RetryAfter | None:
    """What the payment service asks for comes before our own backoff."""
    if isinstance(error, httpx2.HTTPStatusError) and "retry-after" in error.response.headers:
        return RetryAfter(float(error.response.headers["retry-after"]))
    return None


@step(retry=Retry(max_attempts=6, min_timeout="200ms", max_timeout="5s", when=retry_after), timeout="10s")
async def charge(customer: str, amount: Decimal) -> Charge:
    async with httpx2.AsyncClient(base_url=os.environ["PAYMENTS_URL"]) as client:
        response = await client.post(
            "/charges",
            json={"customer": customer, "amount": str(amount)},
            headers={"idempotency-key": ctx.idempotency_key},
        )
    if response.status_code == 402:
        raise AbortRun(f"the card of {customer} was declined for {amount}")
    response.raise_for_status()
    made = response.json()
    return Charge(made["id"], Decimal(made["amount"]))


@step
async def ship(order: Order) -> str:
    return f"parcel-{order.id}"


@task(id="process-order", retry=Retry(max_attempts=4, min_timeout="200ms"))
async def process_order(order: Order) -> Receipt:
    await check_stock(order)
    await checkpoint("checked", total=order.total)
    paid = await charge(order.customer, order.total)
    await checkpoint("paid", charge=paid.id)
    parcel = await ship(order)
    await checkpoint("shipped", parcel=parcel)
    return Receipt(order.id, paid.id, paid.amount, parcel)
