"""Delivering one notice: real HTTP and SMTP servers, signatures that others verify, and receivers that misbehave."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from stepwell.errors import ConfigError
from stepwell.server.settings import load_settings
from stepwell.services.notices_delivery import NotDelivered, deliver
from stepwell.services.notices_message import LARGEST_DATA, Message
from stepwell.services.notices_targets import Target
from tests.services.receivers import HttpReceiver, mail_server

SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()
OLD_SECRET = "whsec_" + base64.b64encode(b"o" * 32).decode()


def message(**changes: Any) -> Message:
    values: dict[str, Any] = {
        "id": "msg_1",
        "occasion": "created",
        "environment": "prod",
        "token_id": "token_1",
        "title": "Pay 90 € to <Ada & Co>?",
        "url": "http://127.0.0.1:1/tokens/token_1?expires=1&signature=s",
        "status": "waiting",
        "created_at": datetime(2026, 11, 21, 10, tzinfo=UTC),
        "timeout_at": datetime(2026, 11, 22, 10, tzinfo=UTC),
        "run_id": "run_1",
        "tags": ("billing",),
        "data": {"amount": "90"},
        "schema": {"type": "boolean"},
    }
    return Message(**{**values, **changes})


@pytest.fixture
def receiver() -> Iterator[HttpReceiver]:
    with HttpReceiver() as receiver:
        yield receiver


async def test_a_webhook_is_signed_as_standard_webhooks_says(receiver: HttpReceiver) -> None:
    await deliver(Target(webhook=receiver.url, secret=SECRET), message())
    got = await receiver.next()
    assert got.headers["webhook-id"] == "msg_1"
    assert abs(int(got.headers["webhook-timestamp"]) - time.time()) < 30
    event = Webhook(SECRET).verify(got.body, got.headers)
    assert (event["type"], event["data"]["title"], event["data"]["data"]) == (
        "token.created",
        "Pay 90 € to <Ada & Co>?",
        {"amount": "90"},
    )
    assert event["data"]["answerSchema"] == {"type": "boolean"}
    signed = b".".join([b"msg_1", got.headers["webhook-timestamp"].encode(), got.body])
    by_hand = base64.b64encode(hmac.digest(b"s" * 32, signed, hashlib.sha256)).decode()
    assert got.headers["webhook-signature"] == f"v1,{by_hand}"


async def test_a_receiver_with_another_secret_refuses_it(receiver: HttpReceiver) -> None:
    await deliver(Target(webhook=receiver.url, secret=SECRET), message())
    got = await receiver.next()
    with pytest.raises(WebhookVerificationError):
        Webhook(OLD_SECRET).verify(got.body, got.headers)


async def test_while_a_secret_is_replaced_both_verify(receiver: HttpReceiver) -> None:
    await deliver(Target(webhook=receiver.url, secret=[SECRET, OLD_SECRET]), message())
    got = await receiver.next()
    for secret in (SECRET, OLD_SECRET):
        Webhook(secret).verify(got.body, got.headers)


async def test_data_that_is_too_large_is_left_out_and_said_to_be(receiver: HttpReceiver) -> None:
    await deliver(Target(webhook=receiver.url, secret=SECRET), message(data="x" * LARGEST_DATA))
    data = json.loads((await receiver.next()).body)["data"]
    assert data["dataLeftOut"] is True
    assert "data" not in data


async def test_a_message_to_slack_has_the_title_as_plain_text_and_the_link(receiver: HttpReceiver) -> None:
    await deliver(Target(slack=receiver.url), message(title="<!channel> *Pay*", occasion="expiring"))
    got = json.loads((await receiver.next()).body)
    title, link = got["blocks"]
    assert title["text"] == {"type": "plain_text", "text": "Still waiting: <!channel> *Pay*", "emoji": False}
    assert link["text"]["text"].startswith(f"<{message().url}|Open and answer>")
    assert "<!channel>" not in got["text"]


async def test_a_mail_has_the_title_the_link_and_the_same_id_each_time() -> None:
    async with mail_server() as mailbox:
        target = Target(
            email=["ada@example.com", "grace@example.com"],
            sender="Stepwell <stepwell@example.com>",
            smtp=f"smtp://127.0.0.1:{mailbox.port}",
        )
        for _ in range(2):
            await deliver(target, message(title="Pay\r\nBcc: eve@example.com"))
        first, second = await mailbox.mails.get(), await mailbox.mails.get()
    assert first["Message-ID"] == second["Message-ID"] == "<msg_1@stepwell.invalid>"
    assert first["Subject"] == "Pay Bcc: eve@example.com"
    assert first["Bcc"] is None
    assert first["To"] == "ada@example.com, grace@example.com"
    body = first.get_content()
    assert message().url in body
    assert "Open until 22 Nov 2026, 10:00 UTC." in body


async def test_a_mail_that_is_refused_says_what_the_server_said() -> None:
    async with mail_server() as mailbox:
        mailbox.refusal = "451 try again later"
        target = Target(email="ada@example.com", sender="s@example.com", smtp=f"smtp://127.0.0.1:{mailbox.port}")
        with pytest.raises(NotDelivered, match="451 try again later"):
            await deliver(target, message())


async def test_no_password_is_sent_where_tls_is_not_offered_by_another_machine() -> None:
    async with mail_server() as mailbox:
        target = Target(email="a@example.com", sender="s@example.com", smtp=f"smtp://u:p@127.0.0.1:{mailbox.port}")
        with pytest.raises(NotDelivered, match="AUTH"):
            await deliver(target, message())  # loopback: it tries, and this server takes no passwords
        here = Target(
            email="a@example.com", sender="s@example.com", smtp=f"smtp://u:p@[::ffff:127.0.0.1]:{mailbox.port}"
        )
        with pytest.raises(NotDelivered, match="STARTTLS"):
            await deliver(here, message())  # not known to be loopback, so TLS must come first


@pytest.mark.parametrize(
    ("answer", "final", "after"),
    [
        ((500, {}, b"oops"), False, 0),
        ((404, {}, b""), False, 0),
        ((410, {}, b""), True, 0),
        ((429, {"retry-after": "120"}, b""), False, 120),
        ((503, {"retry-after": "soon"}, b""), False, 0),
    ],
)
async def test_an_answer_that_is_no_success_says_why_and_whether_to_try_again(
    receiver: HttpReceiver, answer: tuple[int, dict[str, str], bytes], final: bool, after: float
) -> None:
    receiver.answers = [answer]
    with pytest.raises(NotDelivered, match=f"it answered {answer[0]}") as error:
        await deliver(Target(slack=receiver.url), message())
    assert (error.value.final, error.value.after) == (final, after)


async def test_a_redirect_is_not_followed(receiver: HttpReceiver) -> None:
    with HttpReceiver() as elsewhere:
        receiver.answers = [(307, {"location": elsewhere.url}, b"")]
        with pytest.raises(NotDelivered, match="it answered 307"):
            await deliver(Target(slack=receiver.url), message())
        assert elsewhere.waiting == 0


async def test_a_huge_answer_is_not_read(receiver: HttpReceiver) -> None:
    receiver.answers = [(200, {}, b"x" * 50_000_000)]
    await deliver(Target(slack=receiver.url), message())


async def test_a_receiver_that_never_answers_costs_only_its_patience(receiver: HttpReceiver) -> None:
    receiver.silent = True
    began = time.monotonic()
    with pytest.raises(NotDelivered, match=r"no answer within 0\.3 s"):
        await deliver(Target(slack=receiver.url), message(), patience=0.3)
    assert time.monotonic() - began < 10


async def test_a_receiver_that_is_not_there_is_a_reason_to_try_again(receiver: HttpReceiver) -> None:
    receiver.close()
    for target in (
        Target(slack=receiver.url),
        Target(email="a@example.com", sender="s@example.com", smtp=f"smtp://127.0.0.1:{receiver.port}"),
    ):
        with pytest.raises(NotDelivered, match=r"(?i)connect") as error:
            await deliver(target, message())
        assert not error.value.final


def test_targets_are_set_by_one_variable() -> None:
    told = json.dumps(
        [
            {"webhook": "https://ops.example.com/hook", "secret": SECRET},
            {"slack": "https://hooks.slack.com/services/T/B/x", "environments": ["prod"]},
            {"email": "ada@example.com", "from": "s@example.com", "smtp": "smtps://mail", "tags": ["billing"]},
        ]
    )
    settings = load_settings({"database_url": "x"}, environ={"STEPWELL_NOTICES": told, "STEPWELL_NOTICE_LEAD": "2h"})
    webhook, slack, email = settings.notices
    assert settings.notice_lead == 7200
    assert [target.wants("dev", ["vip"]) for target in settings.notices] == [True, False, False]
    assert [target.wants("prod", ["billing"]) for target in settings.notices] == [True, True, True]
    assert len({webhook.name, slack.name, email.name}) == 3
    for secret in (SECRET, "services/T/B/x"):
        assert secret not in repr(settings.notices) + " ".join(
            target.name + target.place for target in settings.notices
        )


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        ([{}], "not to none"),
        ([{"slack": "https://a", "email": "a@b"}], "not to slack and email"),
        ([{"slack": "hooks.slack.com/x"}], "slack needs a URL"),
        ([{"slack": "file:///etc/passwd"}], "slack needs a URL"),
        ([{"webhook": "https://a"}], "needs a secret"),
        ([{"webhook": "https://a", "secret": "short"}], "at least 16 bytes"),
        ([{"webhook": "https://a", "secret": "whsec_not base64 at all"}], "at least 16 bytes"),
        ([{"email": "a@b", "smtp": "smtp://x"}], "email needs addresses and a `from`"),
        ([{"email": "a@b", "from": "c@d"}], "smtp needs a URL"),
        ([{"email": "nobody", "from": "c@d", "smtp": "smtp://x"}], "'nobody' is none"),
        ([{"slack": "https://a", "colour": "red"}], "unknown field `colour`"),
        ([{"slack": "https://a"}, {"slack": "https://a", "tags": ["x"]}], "two of them go to the same address"),
        ("nonsense", "wrong type"),
    ],
)
def test_a_target_that_cannot_be_is_refused_at_start(told: Any, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        load_settings({"database_url": "x"}, environ={"STEPWELL_NOTICES": json.dumps(told)})


@pytest.mark.parametrize(
    "url", ["stepwell.example.com", "ftp://a", "https://a/", "https://a/path", "https://a?x=1", ""]
)
def test_a_public_url_that_no_link_can_begin_with_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="public_url"):
        load_settings({"database_url": "x", "public_url": url})
