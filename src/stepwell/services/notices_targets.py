"""Where notices go: webhooks, Slack channels and mailboxes, named by the operator in the settings and by nobody else.

A target's addresses and secrets are the operator's. Nothing that a task or a caller of the API says can add one or
change where a request goes, so a task cannot make the server call what only the server can reach.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable
from email.utils import parseaddr
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from stepwell.errors import ConfigError

_SHORTEST_SECRET = 16  # bytes


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One of `webhook`, `slack` and `email`, with what it needs.

    webhook: a URL, and `secret`: `whsec_` and base64, or several of them while one replaces another.
    slack: the URL of an incoming webhook. email: addresses, `sender` (in files: `from`) and `smtp`:
    `smtp://user:password@host:587`, or `smtps://` where TLS begins at once.
    environments, tags: only tokens of these environments, and with one of these tags; None: of all.
    """

    webhook: str | None = None
    secret: str | list[str] | None = None
    slack: str | None = None
    email: str | list[str] | None = None
    sender: str | None = msgspec.field(default=None, name="from")
    smtp: str | None = None
    environments: list[str] | None = None
    tags: list[str] | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("webhook", "slack", "email") if getattr(self, name)]
        if len(given) != 1:
            raise _wrong(f"a notice goes to one of webhook, slack and email, not to {' and '.join(given) or 'none'}")
        match self.kind:
            case "webhook":
                _check_url(self.webhook, "webhook", {"http", "https"})
                _check_secrets(self.secrets)
            case "slack":
                _check_url(self.slack, "slack", {"http", "https"})
            case "email":
                _check_url(self.smtp, "smtp", {"smtp", "smtps"})
                _check_addresses([*self.recipients, self.sender or ""])

    def __repr__(self) -> str:  # secrets and addresses have no place in logs and tracebacks
        return f"Target({self.place})"

    @property
    def kind(self) -> Literal["webhook", "slack", "email"]:
        return "webhook" if self.webhook else "slack" if self.slack else "email"

    @property
    def name(self) -> str:
        """What the database knows it by: the same as long as its address is, and no secret."""
        address = self.webhook or self.slack or " ".join(self.recipients)
        return f"{self.kind}:{hashlib.sha256(address.encode()).hexdigest()[:12]}"

    @property
    def place(self) -> str:
        """As logs may name it."""
        if self.kind == "email":
            return f"email to {', '.join(self.recipients)}"
        return f"{self.kind} at {urlsplit(self.webhook or self.slack or '').hostname}"

    @property
    def secrets(self) -> list[str]:
        return [self.secret] if isinstance(self.secret, str) else list(self.secret or [])

    @property
    def recipients(self) -> list[str]:
        return [self.email] if isinstance(self.email, str) else list(self.email or [])

    def wants(self, environment: str, tags: Iterable[str]) -> bool:
        """Whether it is to hear of a token with these tags in the environment with this slug."""
        return (self.environments is None or environment in self.environments) and (
            self.tags is None or not set(self.tags).isdisjoint(tags)
        )


def _check_url(url: str | None, name: str, schemes: set[str]) -> None:
    try:
        parts = urlsplit(url or "")
        fits = parts.scheme in schemes and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        fits = False
    if not fits:
        raise _wrong(f"{name} needs a URL that begins with {' or '.join(sorted(schemes))}://")


def _check_secrets(secrets: list[str]) -> None:
    if not secrets:
        raise _wrong("a webhook needs a secret, or its receiver could not tell who sent a notice")
    for secret in secrets:
        try:
            key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if len(key) < _SHORTEST_SECRET:
            raise _wrong(f"a webhook's secret is whsec_ and at least {_SHORTEST_SECRET} bytes in base64")


def _check_addresses(addresses: list[str]) -> None:
    for address in addresses:
        if "@" not in parseaddr(address)[1] or not address.isprintable():
            raise _wrong(f"email needs addresses and a `from`: {address!r} is none")


def _wrong(message: str) -> ConfigError:
    return ConfigError(f"setting notices: {message}", hint="see docs/operations/notices.md")
