"""A notice as its receivers read it: JSON for a webhook, a message for Slack, a mail."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any

import msgspec

from stepwell.model.notice import Occasion

LARGEST_DATA = 256 * 1024
"""Bytes of a token's data that a webhook carries; of more it says that there is more (`dataLeftOut`)."""

_LONGEST_TITLE = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What a notice says. url: the page of the token, signed. data and schema: plain trees; None if there is none."""

    id: str
    occasion: Occasion
    environment: str
    token_id: str
    title: str
    url: str
    status: str
    created_at: datetime
    timeout_at: datetime | None = None
    run_id: str | None = None
    tags: tuple[str, ...] = ()
    data: Any = None
    schema: Any = None

    @property
    def headline(self) -> str:
        """The title on one line, cut to what a subject may hold."""
        title = " ".join(self.title.split()) or self.token_id
        title = title if len(title) <= _LONGEST_TITLE else title[: _LONGEST_TITLE - 1] + "…"
        return title if self.occasion == "created" else f"Still waiting: {title}"

    @property
    def until(self) -> str:
        """When it times out, as a sentence; empty if it does not."""
        return f"Open until {self.timeout_at.astimezone(UTC):%-d %b %Y, %H:%M} UTC." if self.timeout_at else ""


def webhook_body(message: Message) -> bytes:
    """The JSON of an event: `token.created` or `token.expiring`."""
    token: dict[str, Any] = {
        "id": message.token_id,
        "title": message.title,
        "status": message.status,
        "url": message.url,
        "environment": message.environment,
        "createdAt": message.created_at.astimezone(UTC),
        "tags": message.tags,
    }
    if message.timeout_at is not None:
        token["timeoutAt"] = message.timeout_at.astimezone(UTC)
    if message.run_id is not None:
        token["runId"] = message.run_id
    token |= _details(message)
    return msgspec.json.encode({"type": f"token.{message.occasion}", "timestamp": datetime.now(UTC), "data": token})


def _details(message: Message) -> dict[str, Any]:
    details = {"data": message.data} if message.data is not None else {}
    if message.schema is not None:
        details["answerSchema"] = message.schema
    return details if len(msgspec.json.encode(details)) <= LARGEST_DATA else {"dataLeftOut": True}


def slack_body(message: Message) -> bytes:
    """A message for an incoming webhook. The title is plain text: nothing in it is markup, or calls anybody."""
    link = f"<{message.url}|Open and answer>"
    blocks = [
        {"type": "section", "text": {"type": "plain_text", "text": message.headline, "emoji": False}},
        {"type": "section", "text": {"type": "mrkdwn", "text": " · ".join(filter(None, [link, message.until]))}},
    ]
    text = message.headline.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return msgspec.json.encode({"text": text, "blocks": blocks, "unfurl_links": False, "unfurl_media": False})


def mail(message: Message, sender: str, recipients: list[str]) -> EmailMessage:
    """A plain mail. Its Message-ID is the notice's: a mailbox that got it twice can tell."""
    letter = EmailMessage()
    letter["Subject"] = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in message.headline)
    letter["From"] = sender
    letter["To"] = ", ".join(recipients)
    letter["Date"] = format_datetime(datetime.now(UTC))
    letter["Message-ID"] = f"<{message.id}@stepwell.invalid>"
    letter["Auto-Submitted"] = "auto-generated"
    lines = [message.title, "", message.url, "", message.until, "", "Whoever has this link can answer."]
    letter.set_content("\n".join(lines).replace("\n\n\n", "\n\n") + "\n")
    return letter
