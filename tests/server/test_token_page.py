"""A token's page over HTTP: who may see it, what it takes, what it says, and what it never does."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest
from pydantic import TypeAdapter

from stepwell.engine import tokens
from stepwell.storage.database import Database
from tests.server.asking import APPROVAL, Asker, seen
from tests.server.processes import ServerProcess
from tests.server.tenants import Tenant

EVIL = "<script>document.title='ran'</script><img src=x onerror=alert(1)>\"'&{{ 7*7 }}"


@pytest.fixture
async def db(server_database_url: str) -> AsyncIterator[Database]:
    async with await Database.connect(server_database_url, application_name="test") as db:
        yield db


@pytest.fixture
def asker(tenant: Tenant, db: Database) -> Asker:
    return Asker(db, tenant.environment, tenant.url)


@pytest.fixture
async def browser(server: ServerProcess) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody without a key."""
    async with httpx.AsyncClient(timeout=30) as client:
        yield client


def form(approved: bool = True, by: str = "Ada Lovelace", **fields: str) -> dict[str, str]:
    return {"answer/approved": "true" if approved else "false", "by": by} | fields


async def test_whoever_has_the_link_sees_what_is_asked_and_answers_it(asker: Asker, browser: httpx.AsyncClient) -> None:
    token = await asker.ask(data={"topic": "kelp", "cost": 4.2}, tags=("research",))
    page = await browser.get(asker.link(token))
    assert page.status_code == 200
    for text in ("Run it?", "Waiting for an answer", "topic", "kelp", "4.2", "research", "Approve", "Reject"):
        assert text in seen(page)
    sent = await browser.post(asker.link(token), data=form(**{"answer/comment": "go"}))
    assert sent.status_code == 303
    shown = await browser.get(str(sent.url.join(sent.headers["location"])))
    assert "Approved Run it? By Ada Lovelace on" in seen(shown)
    assert "go" in seen(shown)
    assert "<form" not in shown.text
    done = await asker.now(token)
    assert (done.status, done.completed_by) == ("completed", "Ada Lovelace")
    assert json.loads(done.output or b"") == {"approved": True, "comment": "go"}


async def test_a_rejection_is_an_answer_too(asker: Asker, browser: httpx.AsyncClient) -> None:
    token = await asker.ask()
    assert (await browser.post(asker.link(token), data=form(approved=False))).status_code == 303
    assert json.loads((await asker.now(token)).output or b"") == {"approved": False}
    assert "Rejected" in seen(await browser.get(asker.link(token)))


async def test_a_token_that_takes_any_answer_is_approved_or_rejected(asker: Asker, browser: httpx.AsyncClient) -> None:
    token = await asker.ask(schema=None, title=None)
    assert "Approve this?" in seen(await browser.get(asker.link(token)))
    assert (await browser.post(asker.link(token), data=form())).status_code == 303
    assert json.loads((await asker.now(token)).output or b"") == {"approved": True}


async def test_the_api_gives_the_link_to_whoever_has_a_key(
    asker: Asker, tenant: Tenant, browser: httpx.AsyncClient
) -> None:
    token = await asker.ask(title="From the API")
    told = (await tenant.http.get(f"/api/v1/waitpoints/tokens/{token.id}")).json()
    assert told["pageUrl"] == asker.link(token)
    assert "From the API" in seen(await browser.get(told["pageUrl"]))
    scopes = [f"read:waitpoints:{token.id}"]
    public = (await tenant.http.post("/api/v1/auth/public-tokens", json={"scopes": scopes})).json()["token"]
    headers = {"authorization": f"Bearer {public}"}
    read = await browser.get(f"{tenant.url}/api/v1/waitpoints/tokens/{token.id}", headers=headers)
    assert (read.status_code, "pageUrl" in read.json()) == (200, False)


async def test_opening_a_link_never_answers(asker: Asker, browser: httpx.AsyncClient) -> None:
    """Mail scanners and previews open every link that they see, with whatever they find in it."""
    token = await asker.ask()
    link = asker.link(token)
    await browser.get(link)
    await browser.head(link)
    await browser.get(link + "&answer/approved=true&by=bot")
    for method in ("PUT", "DELETE", "PATCH"):
        assert (await browser.request(method, link)).status_code == 405
    assert (await asker.now(token)).status == "waiting"


async def test_the_page_may_do_nothing_but_show_itself_and_send_its_form(
    asker: Asker, browser: httpx.AsyncClient
) -> None:
    token = await asker.ask()
    first, second = await browser.get(asker.link(token)), await browser.get(asker.link(token))
    policy = dict(part.split(" ", 1) for part in first.headers["content-security-policy"].split("; "))
    nonce = policy.pop("style-src").removeprefix("'nonce-").removesuffix("'")
    assert policy == {
        "default-src": "'none'",
        "img-src": "data:",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
    }
    assert f'<style nonce="{nonce}">' in first.text
    assert nonce not in second.text, "a nonce is good for one response"
    assert "<script" not in first.text
    assert not re.search(r"\b(?:src|href)=\"(?!data:|#)", first.text), "nothing is loaded from anywhere"
    expected = {
        "cache-control": "no-store",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
        "x-frame-options": "DENY",
        "x-robots-tag": "noindex, nofollow",
    }
    assert {name: first.headers[name] for name in expected} == expected
    assert "set-cookie" not in first.headers


class Tags(HTMLParser):
    """The tags of a page with their attributes, as a browser would find them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


async def test_markup_in_what_is_asked_is_text(asker: Asker, browser: httpx.AsyncClient) -> None:
    schema = {
        "type": "object",
        "properties": {
            EVIL: {"type": "string", "title": EVIL, "description": EVIL, "default": EVIL},
            "pick": {"enum": [EVIL, *"abcdef"]},
            "few": {"enum": [EVIL, "b"], "description": EVIL},
            "more": {"type": "array", "items": {"enum": [EVIL]}},
            "in": {"type": "object", "title": EVIL, "properties": {EVIL: {"type": "integer"}}},
        },
    }
    data = {EVIL: EVIL, "rows": [{EVIL: EVIL, "b": 1}, {EVIL: EVIL, "b": 2}], "code": EVIL, "long": EVIL * 100}
    data["link"] = "https://example.com/" + EVIL.replace(" ", "")
    token = await asker.ask(schema=schema, data=data, title=EVIL, tags=(EVIL[:100],))
    pages = [await browser.get(asker.link(token))]
    pages.append(await browser.post(asker.link(token), data={"answer/pick": EVIL, "by": EVIL + "\x00"}))
    assert pages[1].status_code == 422
    pages.append(await browser.post(asker.link(token), data={"by": EVIL}, follow_redirects=True))
    assert (await asker.now(token)).completed_by == EVIL
    for page in pages:
        tags = Tags(page.text)
        assert not {"script", "img", "iframe", "object"} & {name for name, _ in tags.found}
        assert not [name for _, attributes in tags.found for name in attributes if name.startswith("on")]
        assert "{{ 7*7 }}" in page.text
        assert EVIL in seen(page)


async def test_a_wrong_answer_shows_its_field_and_keeps_what_was_typed(
    asker: Asker, browser: httpx.AsyncClient
) -> None:
    schema = {
        "type": "object",
        "properties": {"amount": {"type": "integer", "maximum": 100}, "why": {"type": "string"}},
        "required": ["amount", "why"],
    }
    token = await asker.ask(schema=schema)
    typed = {"answer/amount": "101", "answer/why": 'broken "crate"', "by": "Ada"}
    page = await browser.post(asker.link(token), data=typed)
    assert page.status_code == 422
    assert "Amount: Enter a number that is 100 or less." in seen(page)
    control = re.search(r"<input name=\"answer/amount\"[^>]*>", page.text)
    assert control is not None
    assert 'value="101"' in control[0]
    assert 'aria-invalid="true"' in control[0]
    described = re.search(r'aria-describedby="([^"]+)"', control[0])
    assert described is not None
    assert f'id="{described[1]}">Enter a number that is 100 or less.' in page.text
    assert 'value="broken &#34;crate&#34;"' in page.text
    assert 'value="Ada"' in page.text
    assert (await asker.now(token)).status == "waiting"
    assert (await browser.post(asker.link(token), data=typed | {"answer/amount": "100"})).status_code == 303
    assert json.loads((await asker.now(token)).output or b"") == {"amount": 100, "why": 'broken "crate"'}


async def test_nobody_answers_without_a_name(asker: Asker, browser: httpx.AsyncClient) -> None:
    token = await asker.ask()
    page = await browser.post(asker.link(token), data=form(by=" "))
    assert page.status_code == 422
    assert "Enter your name." in seen(page)


# ── links ────────────────────────────────────────────────────────────────────


async def links_that_are_none(asker: Asker, other: Asker) -> dict[str, str]:
    token, second, foreign = await asker.ask(title="Secret"), await asker.ask(), await other.ask()
    good = httpx.URL(asker.link(token))
    signature, expires = good.params["signature"], int(good.params["expires"])
    other_letter = "A" if signature[10] != "A" else "B"
    theirs = httpx.URL(other.link(foreign)).params["signature"]
    return {
        "changed": str(good.copy_set_param("signature", signature[:10] + other_letter + signature[11:])),
        "cut": str(good.copy_set_param("signature", signature[:-1])),
        "of another token": str(good.copy_set_param("signature", httpx.URL(asker.link(second)).params["signature"])),
        "of another environment": str(good.copy_set_param("signature", theirs)),
        "prolonged": str(good.copy_set_param("expires", str(expires + 1))),
        "without a signature": str(good.copy_remove_param("signature")),
        "without an end": str(good.copy_remove_param("expires")),
        "with a strange end": str(good.copy_set_param("expires", "-1")),
        "with an end in other digits": str(good.copy_set_param("expires", "٣")),
        "with a strange signature": str(good.copy_set_param("signature", "é\x00")),
        "of no token": str(good).replace(token.id, token.id[:-4] + "0000"),
        "of no id": str(good).replace(token.id, "..%2f..%2fetc"),
    }


async def test_a_link_that_is_not_exactly_ours_shows_and_answers_nothing(
    make_tenant: Callable[[], Awaitable[Tenant]], db: Database, browser: httpx.AsyncClient
) -> None:
    one, two = await make_tenant(), await make_tenant()
    asker, other = Asker(db, one.environment, one.url), Asker(db, two.environment, two.url)
    bodies = set()
    for what, link in (await links_that_are_none(asker, other)).items():
        for answer in (await browser.get(link), await browser.post(link, data=form())):
            assert answer.status_code == 404, what
            assert "Secret" not in answer.text
            bodies.add(re.sub(r"nonce=\"[^\"]*\"", "", answer.text))
    assert len(bodies) == 1, "what differs would tell which tokens there are"
    page = await tokens.list_tokens(db, one.environment.id)
    assert {token.status for token in page.tokens} == {"waiting"}


async def test_an_expired_link_says_so_and_takes_no_answer(asker: Asker, browser: httpx.AsyncClient) -> None:
    token = await asker.ask(title="Secret")
    link = asker.link(token, expires=1_000_000_000)
    for answer in (await browser.get(link), await browser.post(link, data=form())):
        assert answer.status_code == 410
        assert "This link has expired" in seen(answer)
        assert "Secret" not in answer.text
    assert (await asker.now(token)).status == "waiting"


async def test_a_link_lives_a_week_longer_than_its_token_and_is_always_the_same(asker: Asker) -> None:
    token = await asker.ask(timeout=60.0)
    expires = int(httpx.URL(asker.link(token)).params["expires"])
    assert token.timeout_at is not None
    assert expires - token.timeout_at.timestamp() == pytest.approx(7 * 86_400, abs=1)
    assert asker.link(token) == asker.link(await asker.now(token))
    forever = await asker.ask(timeout=None)
    assert int(httpx.URL(asker.link(forever)).params["expires"]) > expires


# ── too late ─────────────────────────────────────────────────────────────────


async def test_what_timed_out_or_was_canceled_says_so_and_takes_no_answer(
    asker: Asker, browser: httpx.AsyncClient
) -> None:
    late, withdrawn = await asker.ask(), await asker.ask()
    await asker.time_out(late)
    await tokens.cancel(asker.db, asker.environment.id, withdrawn.id)
    for token, text in ((late, "Timed out Run it? Nobody answered"), (withdrawn, "Withdrawn Run it?")):
        assert text in seen(await browser.get(asker.link(token)))
        refused = await browser.post(asker.link(token), data=form())
        assert refused.status_code == 409
        assert text in seen(refused)
        assert "Your answer came too late" in seen(refused)
    assert (await asker.now(late)).status == "timed_out"


async def test_of_twenty_answers_at_once_one_counts_and_the_others_see_it(
    asker: Asker, browser: httpx.AsyncClient
) -> None:
    token = await asker.ask()
    sent = [browser.post(asker.link(token), data=form(n % 2 == 0, by=f"Person {n}")) for n in range(20)]
    answers = await asyncio.gather(*sent)
    assert sorted(answer.status_code for answer in answers) == [303] + [409] * 19
    winner = next(n for n, answer in enumerate(answers) if answer.status_code == 303)
    done = await asker.now(token)
    assert done.completed_by == f"Person {winner}"
    assert json.loads(done.output or b"") == {"approved": winner % 2 == 0}
    assert all(f"By Person {winner} on" in seen(answer) for answer in answers if answer.status_code == 409)


async def test_a_second_click_is_no_conflict(asker: Asker, browser: httpx.AsyncClient) -> None:
    token = await asker.ask()
    clicks = [browser.post(asker.link(token), data=form()) for _ in range(5)]
    assert {answer.status_code for answer in await asyncio.gather(*clicks)} == {303}


# ── what no browser of ours sends ────────────────────────────────────────────


@pytest.mark.parametrize(
    ("headers", "content", "status"),
    [
        ({"sec-fetch-site": "cross-site"}, b"answer/approved=true&by=Eve", 403),
        ({"sec-fetch-site": "same-site"}, b"answer/approved=true&by=Eve", 403),
        ({"content-type": "application/json"}, b'{"approved": true}', 415),
        ({"content-type": "text/plain"}, b"answer/approved=true&by=Eve", 415),
        ({"content-type": ""}, b"answer/approved=true&by=Eve", 415),
        ({}, b"answer/approved=true&by=%ff", 400),
        ({}, b"\xff\xfe", 400),
        ({}, b"&".join(b"a=1" for _ in range(5000)), 400),
        ({}, b"answer/comment=" + b"x" * 1_100_000, 413),
        ({}, b"", 422),
        ({}, b"answer/approved=maybe&by=Eve", 422),
        ({}, b"answer/approved=true&answer/comment=%00&by=Eve", 303),
    ],
)
async def test_a_form_that_our_page_did_not_send_answers_nothing_or_what_it_says(
    asker: Asker, browser: httpx.AsyncClient, headers: dict[str, str], content: bytes, status: int
) -> None:
    token = await asker.ask()
    headers = {"content-type": "application/x-www-form-urlencoded"} | headers
    answer = await browser.post(asker.link(token), content=content, headers=headers)
    assert answer.status_code == status
    assert ((await asker.now(token)).status == "completed") == (status == 303)


async def test_a_schema_that_no_form_fits_is_answered_with_json(asker: Asker, browser: httpx.AsyncClient) -> None:
    schema: Any = {"type": "array", "items": {"type": "object", "required": ["id"]}}
    token = await asker.ask(schema=schema)
    wrong = await browser.post(asker.link(token), data={"answer": '[{"id": 1}, {}]', "by": "Ada"})
    assert wrong.status_code == 422
    assert "[1].id: This is required." in seen(wrong)
    assert (await browser.post(asker.link(token), data={"answer": '[{"id": 1}]', "by": "Ada"})).status_code == 303
    assert json.loads((await asker.now(token)).output or b"") == [{"id": 1}]


async def test_the_answer_that_tasks_ask_for_by_default_is_a_comment_a_name_and_two_buttons(
    asker: Asker, browser: httpx.AsyncClient
) -> None:
    @dataclass
    class Answer:  # the shape of stepwell's own
        approved: bool
        comment: str | None = None
        by: str | None = None

    token = await asker.ask(schema=TypeAdapter(Answer).json_schema())
    page = await browser.get(asker.link(token))
    assert re.findall(r"<label[^>]*>([^<]+)", page.text) == ["Comment ", "Your name"]
    await browser.post(asker.link(token), data=form(by="Ada") | {"answer/comment": "go"})
    done = await asker.now(token)
    assert json.loads(done.output or b"") == {"approved": True, "comment": "go", "by": "Ada"}
    shown = seen(await browser.get(asker.link(token)))
    assert shown.count("Ada") == 1


async def test_the_form_of_the_page_is_the_form_that_it_takes(asker: Asker, browser: httpx.AsyncClient) -> None:
    """Every control that the page shows, sent back as it came, with a button pressed."""
    token = await asker.ask(schema=APPROVAL)
    page = await browser.get(asker.link(token))
    names = re.findall(r"<(?:input|textarea|select|button)[^>]*\bname=\"([^\"]+)\"", page.text)
    assert names == ["answer/comment", "by", "answer/approved", "answer/approved"]
