"""An approval from end to end: the task asks, a notice goes out, a person answers on the page, the task goes on."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from standardwebhooks import Webhook

from tests.server.asking import seen
from tests.services.receivers import HttpReceiver
from tests.services.test_notice_delivery import SECRET
from tests.stack import MakeStack, completed, until

TASKS = """
import pathlib
from typing import Literal

from pydantic import BaseModel, Field

from stepwell import create_token, task, token


class Refund(BaseModel):
    approved: bool
    amount: int = Field(ge=1, le=500)
    reason: Literal["late", "damaged"]


@task(id="release")
async def release(version: str) -> str:
    answer = await token(title=f"Release {version}?", data={"version": version}, timeout="1h")
    return f"{version} {answer.approved} {answer.comment} {answer.by}"


@task(id="asks-by-link")
async def asks_by_link(file: str) -> str:
    asked = await create_token(title="By link?", timeout="1h")
    url = await asked.url()
    pathlib.Path(file).write_text(url)
    return f"{(await asked).approved} {url == await asked.url()}"


@task(id="refund")
async def refund(order: str) -> int:
    decided = await token(title=f"Refund {order}?", answer=Refund, timeout="1h")
    return decided.amount if decided.approved else 0
"""


@pytest.mark.timeout(180)
async def test_a_task_goes_on_with_what_a_person_answered_on_its_page(make_stack: MakeStack, tmp_path: Path) -> None:
    (tmp_path / "asking.py").write_text(TASKS)
    with HttpReceiver() as receiver:
        told = json.dumps([{"webhook": receiver.url, "secret": SECRET}])
        stack = make_stack(str(tmp_path / "asking.py"), server={"notices": told})
        async with stack.client() as client, httpx.AsyncClient() as browser:
            run = await client.trigger("release", {"version": "1.2"})
            event = Webhook(SECRET).verify((got := await receiver.next()).body, got.headers)
            assert event["data"]["runId"] == run.id
            assert event["data"]["data"] == {"version": "1.2"}
            await until(lambda: stack.value("SELECT status = 'waiting' FROM run WHERE id = $1", run.id))
            page = await browser.get(event["data"]["url"])
            assert "Asked by release on" in seen(page)
            form = {"answer/approved": "true", "answer/comment": "go", "by": "Ada Lovelace"}
            assert (await browser.post(event["data"]["url"], data=form)).status_code == 303
            assert await completed(client, run.id) == "1.2 True go Ada Lovelace"

            run = await client.trigger("refund", {"order": "7"})
            url = json.loads((await receiver.next()).body)["data"]["url"]
            form = {"answer/approved": "true", "answer/amount": "501", "answer/reason": '"late"', "by": "Ada"}
            wrong = await browser.post(url, data=form)
            assert "Amount: Enter a number that is 500 or less." in seen(wrong)
            stack.worker.kill()
            assert (await browser.post(url, data=form | {"answer/amount": "90"})).status_code == 303
            stack.add_worker(str(tmp_path / "asking.py"))
            assert await completed(client, run.id) == 90


@pytest.mark.timeout(120)
async def test_a_task_may_send_the_link_to_its_page_itself(make_stack: MakeStack, tmp_path: Path) -> None:
    (tmp_path / "asking.py").write_text(TASKS)
    stack, file = make_stack(str(tmp_path / "asking.py")), tmp_path / "link"
    async with stack.client() as client, httpx.AsyncClient() as browser:
        run = await client.trigger("asks-by-link", {"file": str(file)})
        await until(lambda: stack.value("SELECT status = 'waiting' FROM run WHERE id = $1", run.id))
        link = file.read_text()
        assert "By link?" in seen(await browser.get(link))
        assert (await browser.post(link, data={"answer/approved": "true", "by": "Ada"})).status_code == 303
        assert await completed(client, run.id) == "True True"
