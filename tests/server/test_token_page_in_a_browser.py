"""A token's page in headless Chromium: on a phone and on a desk, by touch and by keyboard alone, in light and dark."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from playwright.async_api import Browser, Error, Page

from stepwell.engine import tokens
from stepwell.storage.database import Database
from tests.server.asking import Asker
from tests.server.browsers import CONTRAST, DESKTOP, OUTLINE, PHONE, SIDEWAYS, TOO_SMALL, UNNAMED, chromium, visitor
from tests.server.tenants import Tenant

REFUND = {
    "type": "object",
    "title": "Refund",
    "properties": {
        "amount": {"type": "integer", "minimum": 1, "description": "In euros."},
        "reason": {"enum": ["late", "damaged"]},
        "urgent": {"type": "boolean", "default": False},
        "due": {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}], "default": None},
        "email": {"type": "string", "format": "email"},
        "comment": {"type": "string", "default": ""},
    },
    "required": ["amount", "reason", "email"],
}
DEEP: dict[str, Any] = {
    "customer": {"name": "Ada <script>document.title = 'ran'</script>", "since": "2019-03-04", "flags": []},
    "lines": [{"sku": f"KLP-{n}", "text": "Dried kelp, 1 kg", "price": "18.50", "where": "Hall 3"} for n in range(9)],
    "summary": "The customer writes that two crates arrived warm. " * 30,
    "query": "SELECT sku\n  FROM line\n WHERE invoice = '2026-1187'\n   AND " + "x" * 300 + ";",
    "unbroken": "0123456789abcdef" * 40,
    "tries": [{"at": "2026-11-20T09:12:44+01:00", "result": {"ok": False}}],
}

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@pytest.fixture
async def asker(tenant: Tenant, server_database_url: str) -> AsyncIterator[Asker]:
    async with await Database.connect(server_database_url, application_name="test") as db:
        yield Asker(db, tenant.environment, tenant.url)


async def output(asker: Asker, token: Any) -> Any:
    done = await asker.now(token)
    assert done.status == "completed"
    return json.loads(done.output or b"")


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
async def test_a_person_approves_by_touch_or_click(browser: Browser, asker: Asker, size: tuple[int, int]) -> None:
    token = await asker.ask(data=DEEP)
    async with visitor(browser, size) as (page, complaints):
        await page.goto(asker.link(token))
        await page.get_by_label("Your name").fill("Ada Lovelace")
        await page.get_by_label("Comment").fill("Fine.")
        await page.get_by_role("button", name="Approve").click()
        await page.get_by_text("Approved", exact=True).wait_for()
        assert "By Ada Lovelace on" in await page.inner_text("main")
        assert complaints == []
        await page.reload()  # sends nothing again, and asks nothing
        assert await page.get_by_role("button").count() == 0
    assert await output(asker, token) == {"approved": True, "comment": "Fine."}


async def tabbed_to(page: Page, role: str, name: str) -> None:
    """Press Tab until the control with this name has the focus, which must be seen at each stop."""
    target = page.get_by_role(role, name=name)  # type: ignore[arg-type]
    for _ in range(40):
        await page.keyboard.press("Tab")
        style, width = await page.evaluate(OUTLINE)
        assert style != "none"
        assert width >= 2
        if await target.evaluate("e => e === document.activeElement"):
            return
    raise AssertionError(f"Tab never reached {role} {name!r}")


async def test_the_keyboard_alone_is_enough_and_enter_in_a_field_decides_nothing(
    browser: Browser, asker: Asker
) -> None:
    token = await asker.ask(data=DEEP)
    async with visitor(browser, DESKTOP) as (page, _):
        await page.goto(asker.link(token))
        await tabbed_to(page, "textbox", "Comment")
        await page.keyboard.type("No, thanks.")
        await tabbed_to(page, "textbox", "Your name")
        await page.keyboard.type("Grace Hopper")
        await page.keyboard.press("Enter")
        assert (await asker.now(token)).status == "waiting"
        await tabbed_to(page, "button", "Reject")
        await page.keyboard.press("Enter")
        await page.get_by_text("Rejected", exact=True).wait_for()
    assert await output(asker, token) == {"approved": False, "comment": "No, thanks."}


async def test_a_form_of_six_fields_is_filled_by_keyboard_and_says_what_is_wrong_where_it_is(
    browser: Browser, asker: Asker
) -> None:
    token = await asker.ask(schema=REFUND)
    async with visitor(browser) as (page, _):
        await page.goto(asker.link(token))
        await page.get_by_label("Amount").fill("0")
        await page.get_by_label("Email").fill("ada at example")
        await page.get_by_label("Due").fill("2026-12-01")
        await page.get_by_label("Comment").fill("Two crates.")
        await page.get_by_role("button", name="Send answer").click()
        alert = page.get_by_role("alert")
        await alert.wait_for()
        assert await alert.evaluate("e => e === document.activeElement"), "whoever hears the page hears this first"
        assert (await page.title()).startswith("Please check: ")
        assert await page.get_by_label("Amount").evaluate(
            "e => [e.value, e.getAttribute('aria-invalid'), document.getElementById("
            "e.getAttribute('aria-describedby').split(' ')[0]).textContent]"
        ) == ["0", "true", "Enter a number that is 1 or more."]
        assert await page.get_by_label("Comment").input_value() == "Two crates."
        assert await page.get_by_label("Due").input_value() == "2026-12-01"
        await alert.get_by_role("link", name="Email: ").press("Enter")
        assert await page.get_by_label("Email").evaluate("e => e === document.activeElement || e.matches(':target')")
        await page.get_by_label("Email").fill("ada@example.com")
        await page.get_by_label("Amount").fill("92")
        await page.get_by_role("radio", name="damaged").focus()
        await page.keyboard.press("Space")
        await page.get_by_label("Your name").fill("Ada")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await page.get_by_text("Answered", exact=True).wait_for()
    assert await output(asker, token) == {
        "amount": 92,
        "reason": "damaged",
        "urgent": False,
        "due": "2026-12-01",
        "email": "ada@example.com",
        "comment": "Two crates.",
    }


async def test_it_works_where_scripts_are_off(browser: Browser, asker: Asker) -> None:
    token = await asker.ask()
    async with visitor(browser, scripts=False) as (page, _):
        await page.goto(asker.link(token))
        await page.get_by_label("Your name").fill("Ada")
        await page.get_by_role("button", name="Reject").click()
        await page.get_by_text("Rejected", exact=True).wait_for()
    assert await output(asker, token) == {"approved": False}


async def test_no_script_runs_neither_of_the_data_nor_one_that_is_put_in(browser: Browser, asker: Asker) -> None:
    token = await asker.ask(data=DEEP, title="<script>document.title = 'ran'</script>")
    async with visitor(browser) as (page, complaints):
        await page.goto(asker.link(token))
        assert await page.title() == "<script>document.title = 'ran'</script>"
        assert "<script>document.title = 'ran'</script>" in await page.inner_text("dl")
        assert await page.locator("script").count() == 0
        assert complaints == []
        with pytest.raises(Error):
            await page.add_script_tag(content="document.title = 'ran'")
        await page.evaluate(
            "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"document.title=`ran`\">')"
        )
        await page.evaluate("document.body.insertAdjacentHTML('beforeend', '<p style=\"color: red\" id=styled>x</p>')")
        assert await page.locator("#styled").evaluate("e => getComputedStyle(e).color") != "rgb(255, 0, 0)"
        assert await page.title() != "ran"
        assert any("Content Security Policy" in each for each in complaints)


async def test_another_page_can_neither_frame_it_nor_send_its_form(
    browser: Browser, asker: Asker, tenant: Tenant
) -> None:
    token = await asker.ask()
    async with visitor(browser) as (page, _):
        evil = f"""<iframe src="{asker.link(token)}"></iframe>
            <form method="post" action="{asker.link(token)}"><input name="answer/approved" value="true">
            <input name="by" value="Eve"><button>Win</button></form>"""
        await page.route("http://evil.example/", lambda route: route.fulfill(body=evil, content_type="text/html"))
        await page.goto("http://evil.example/")
        framed = page.frames[1]
        assert "Run it?" not in await framed.content()
        await page.get_by_role("button", name="Win").click()
        await page.get_by_text("This was sent from another page").wait_for()
    assert (await asker.now(token)).status == "waiting"


async def every_state(asker: Asker) -> dict[str, str]:
    """Links to the page in each state that it can be in."""
    waiting, answered, late, gone = [await asker.ask(data=DEEP) for _ in range(4)]
    await tokens.complete(asker.db, asker.environment.id, answered.id, b'{"approved":true,"comment":"ok"}', by="Ada")
    await asker.time_out(late)
    await tokens.cancel(asker.db, asker.environment.id, gone.id)
    return {
        "waiting": asker.link(waiting),
        "form": asker.link(await asker.ask(schema=REFUND)),
        "answered": asker.link(answered),
        "timed out": asker.link(late),
        "canceled": asker.link(gone),
        "forged": asker.link(waiting)[:-3] + "AAA",
        "expired": asker.link(waiting, expires=1),
    }


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESKTOP, (320, 640)], ids=["phone", "desktop", "small"])
async def test_every_state_can_be_read_and_nothing_is_cut_off(
    browser: Browser, asker: Asker, size: tuple[int, int], scheme: str
) -> None:
    async with visitor(browser, size, scheme) as (page, _):
        for state, link in (await every_state(asker)).items():
            await page.goto(link)
            await page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
            await readable(page, f"{state}, {size}, {scheme}")
            if state == "form":
                await page.get_by_role("button", name="Send answer").click()
                await page.get_by_role("alert").wait_for()
                await readable(page, f"wrong answer, {size}, {scheme}")


async def readable(page: Page, where: str) -> None:
    """Enough contrast, a name for each control, one heading that says what it is, and no scrolling sideways."""
    contrast = await page.evaluate(CONTRAST)
    assert contrast["seen"] >= 3, where
    assert contrast["poor"] == [], where
    assert await page.evaluate(UNNAMED) == [], where
    assert await page.evaluate(SIDEWAYS) <= 0, where
    assert await page.locator("h1").count() == 1, where
    assert await page.evaluate(TOO_SMALL) == [], where


async def test_what_measures_a_page_finds_what_is_wrong_with_it(browser: Browser) -> None:
    async with visitor(browser) as (page, _):
        await page.set_content(
            "<p style='color: #999; background: #fff'>grey</p><input><button style='height: 20px'>b</button>"
            "<div style='width: 3000px'>wide</div>"
        )
        assert [text for text, _ in (await page.evaluate(CONTRAST))["poor"]] == ["grey"]
        assert await page.evaluate(UNNAMED) == ["<input>"]
        assert await page.evaluate(SIDEWAYS) > 0
        assert len(await page.evaluate(TOO_SMALL)) == 2
