"""Links that are a permission: whoever holds the one of a token's page may read what is asked and answer it.

A link names the token, the second at which it ends, and an HMAC-SHA256 over both by the environment's secret. It gives
nothing but this one token, and a link of another one, or with another end, is not valid.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import datetime, timedelta

from stepwell.model.environment import Environment
from stepwell.model.token import Token

OPEN_FOR = timedelta(days=30)
"""How long the link of a token works that never times out."""
READABLE_FOR = timedelta(days=7)
"""How long after the token's end its link still shows how it ended."""

_PURPOSE = b"stepwell token page v1"


def page_url(public_url: str, environment: Environment, token_id: str, expires: int) -> str:
    """The address of a token's page. public_url: where people reach the server, without a slash at its end."""
    return f"{public_url}/tokens/{token_id}?expires={expires}&signature={_signature(environment, token_id, expires)}"


def token_url(public_url: str, environment: Environment, token: Token) -> str:
    """The address of a token's page: always the same for one token."""
    return page_url(public_url, environment, token.id, link_expiry(token.created_at, token.timeout_at))


def callback_url(public_url: str, environment: Environment, token_id: str) -> str:
    """The address by which a machine completes a token: as long as the token is open."""
    return f"{public_url}/api/v1/waitpoints/tokens/{token_id}/callback/{_callback(environment, token_id)}"


def is_callback(environment: Environment, token_id: str, signature: str) -> bool:
    """Whether a callback's signature was made here, in constant time."""
    return hmac.compare_digest(_callback(environment, token_id).encode(), signature.encode("utf-8", "surrogatepass"))


def _callback(environment: Environment, token_id: str) -> str:
    signed = b"stepwell token callback v1\0" + token_id.encode("utf-8", "surrogatepass")
    return hmac.digest(environment.signing_secret, signed, hashlib.sha256).hex()


def link_expiry(created_at: datetime, timeout_at: datetime | None) -> int:
    """When a token's link ends, in seconds since the epoch: always the same for one token."""
    return int(((timeout_at or created_at + OPEN_FOR) + READABLE_FOR).timestamp())


def is_signed(environment: Environment, token_id: str, expires: int, signature: str) -> bool:
    """Whether this link was made here, in constant time. It may have expired since."""
    expected = _signature(environment, token_id, expires)
    return hmac.compare_digest(expected.encode(), signature.encode("utf-8", "surrogatepass"))


def _signature(environment: Environment, token_id: str, expires: int) -> str:
    signed = b"\0".join([_PURPOSE, token_id.encode("utf-8", "surrogatepass"), str(expires).encode()])
    digest = hmac.digest(environment.signing_secret, signed, hashlib.sha256)
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
