"""Delivers one notice to one target. Returns if the receiver took it, raises NotDelivered with the reason if not."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from ipaddress import ip_address
from urllib.parse import unquote, urlsplit

import aiosmtplib
import httpx2
from standardwebhooks import Webhook

from stepwell.services.notices_message import Message, mail, slack_body, webhook_body
from stepwell.services.notices_targets import Target

PATIENCE = 15.0
"""Seconds that a receiver has, from the first look-up of its name to its answer."""

_SMTP_PORTS = {"smtp": 587, "smtps": 465}


class NotDelivered(Exception):
    """The receiver did not take it. final: it said that it never will. after: seconds it asked us to wait."""

    def __init__(self, reason: str, *, final: bool = False, after: float = 0.0) -> None:
        super().__init__(reason)
        self.final = final
        self.after = after


async def deliver(target: Target, message: Message, patience: float = PATIENCE) -> None:
    """Raises NotDelivered."""
    try:
        async with asyncio.timeout(patience):
            match target.kind:
                case "webhook":
                    body = webhook_body(message)
                    await _post(target.webhook or "", body, signature_headers(target.secrets, message.id, body))
                case "slack":
                    await _post(target.slack or "", slack_body(message), {})
                case "email":
                    await _send_mail(target, message, patience)
    except TimeoutError:
        raise NotDelivered(f"no answer within {patience:g} s") from None


def signature_headers(secrets: list[str], message_id: str, body: bytes) -> dict[str, str]:
    """The headers of the Standard Webhooks scheme: a signature by each secret, for the time in which two are valid."""
    now = datetime.now(UTC)
    signatures = [Webhook(secret).sign(message_id, now, body.decode()) for secret in secrets]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


async def _post(url: str, body: bytes, headers: Mapping[str, str]) -> None:
    """No redirect is followed: it would lead to where no operator sent us. The answer's body is not read."""
    sent = {"content-type": "application/json", "user-agent": "stepwell", **headers}
    try:
        async with (
            httpx2.AsyncClient(follow_redirects=False, timeout=PATIENCE) as client,
            client.stream("POST", url, content=body, headers=sent) as answer,
        ):
            status, after = answer.status_code, answer.headers.get("retry-after", "")
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        raise NotDelivered(f"{type(error).__name__}: {error}") from error
    if not 200 <= status < 300:
        wait = float(after) if after.isascii() and after.isdigit() and len(after) < 6 else 0.0
        raise NotDelivered(f"it answered {status}", final=status == 410, after=wait)


async def _send_mail(target: Target, message: Message, patience: float) -> None:
    """A password is sent only under TLS, or to this machine itself."""
    where = urlsplit(target.smtp or "")
    host, user = where.hostname or "", unquote(where.username or "") or None
    try:
        await aiosmtplib.send(
            mail(message, target.sender or "", target.recipients),
            hostname=host,
            port=where.port or _SMTP_PORTS[where.scheme],
            username=user,
            password=unquote(where.password or "") or None,
            use_tls=where.scheme == "smtps",
            start_tls=False if where.scheme == "smtps" else True if user and not _is_here(host) else None,
            timeout=patience,
        )
    except aiosmtplib.SMTPResponseException as error:
        raise NotDelivered(f"{error.code} {error.message}") from error
    except (aiosmtplib.SMTPException, OSError, ssl.SSLError) as error:
        raise NotDelivered(f"{type(error).__name__}: {error}") from error


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
