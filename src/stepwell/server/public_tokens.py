"""Public tokens: short-lived JWTs (HS256, by the environment's secret) that may do only what their scopes name."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from datetime import datetime
from functools import lru_cache
from typing import Any

import msgspec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from stepwell.errors import ApiError, ConfigError, Unauthorized
from stepwell.model.environment import Environment
from stepwell.primitives.duration import seconds
from stepwell.protocol.operations import OPERATIONS

ISSUER = "https://id.trigger.dev"  # the npm client's own tokens say so; ours look the same to it
AUDIENCE = "https://api.trigger.dev"
ALGORITHM = "HS256"
LIFETIME = 15 * 60
MAX_LIFETIME = 30 * 24 * 3600
MAX_LENGTH = 4096

_HEADER = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=")
_CLAIMS = jwt.JWTClaimsRegistry(
    iss={"essential": True, "value": ISSUER},
    aud={"essential": True, "value": AUDIENCE},
    sub={"essential": True},
    exp={"essential": True},
)


def _grantable() -> frozenset[str]:
    """`read:runs`, `write:batch`, …: every scope that some operation asks for, without the id."""
    return frozenset(":".join(o.scope.split(":")[:2]) for o in OPERATIONS if o.scope is not None)


GRANTABLE = _grantable()


def mint(environment: Environment, scopes: list[str], expires_at: float) -> str:
    """A token of this environment with these scopes, valid until `expires_at` (seconds since the epoch)."""
    claims: dict[str, Any] = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": environment.id,
        "pub": True,
        "iat": int(time.time()),
        "exp": int(expires_at),
        "scopes": scopes,
    }
    # Each trigger's answer carries one; the library takes a hundred times as long to write it.
    signed = _HEADER + b"." + _base64(msgspec.json.encode(claims))
    signature = hmac.digest(environment.signing_secret, signed, hashlib.sha256)
    return (signed + b"." + _base64(signature)).decode()


def public_token(environment: Environment, scopes: list[str]) -> dict[str, str]:
    """The headers by which the npm client gets a token without signing one itself."""
    claims = {"sub": environment.id, "pub": True, "scopes": scopes}
    return {
        "x-trigger-jwt": mint(environment, scopes, time.time() + LIFETIME),
        "x-trigger-jwt-claims": msgspec.json.encode(claims).decode(),
    }


def claimed_environment(token: str) -> str | None:
    """The environment that a token names, before anything of it is verified; None if it is no token."""
    parts = token.split(".")
    if len(parts) != 3 or len(token) > MAX_LENGTH:
        return None
    try:
        claims = msgspec.json.decode(_unbase64(parts[1]))
    except (msgspec.MsgspecError, ValueError):
        return None
    subject = claims.get("sub") if isinstance(claims, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return subject if isinstance(subject, str) else None


def verify(token: str, environment: Environment) -> tuple[str, ...]:
    """The token's scopes. Raises Unauthorized when the signature, the time or any other claim is wrong."""
    try:
        decoded = jwt.decode(token, _key(environment), algorithms=[ALGORITHM])
        _CLAIMS.validate(decoded.claims)
    except (JoseError, ValueError) as error:
        raise Unauthorized(
            f"the public token is not valid: {getattr(error, 'error', None) or type(error).__name__}",
            hint="tokens live for minutes; make a new one with an API key",
            code="public-token-invalid",
        ) from None
    scopes: object = decoded.claims.get("scopes")
    if decoded.claims.get("pub") is not True or not isinstance(scopes, list):
        return ()
    return tuple(scope for scope in scopes if isinstance(scope, str))  # pyright: ignore[reportUnknownVariableType]


def grants(scopes: tuple[str, ...], needed: str) -> bool:
    """Whether one of `scopes` allows `needed` ("read:runs:run_1"): itself, its kind ("read:runs"), or "read:all"."""
    action, _, rest = needed.partition(":")
    kind = rest.partition(":")[0]
    return any(scope in (needed, f"{action}:{kind}", f"{action}:all") for scope in scopes)


def check_scopes(scopes: list[str]) -> None:
    """Raises ApiError for none at all, or one that grants nothing: it would be a mistake found much later."""
    if not scopes:
        raise ApiError("a public token needs at least one scope", hint='e.g. "read:runs:run_…"', code="scope-unknown")
    for scope in scopes:
        action, _, rest = scope.partition(":")
        kind = f"{action}:{rest.partition(':')[0]}"
        if kind not in GRANTABLE and scope not in {"read:all", "write:all"}:
            known = ", ".join(sorted(GRANTABLE))
            raise ApiError(f"no such scope: {scope!r}", hint=f"known are {known}", code="scope-unknown")


def expiry(asked: str | float | None, now: float) -> float:
    """When a token ends, for what was asked: a duration, seconds since the epoch, or a moment. Raises ApiError."""
    if asked is None:
        return now + LIFETIME
    try:
        ends = _moment(asked, now)
    except (ConfigError, ValueError):
        raise ApiError(f"not an expiration time: {asked!r}", hint='e.g. "15m"', code="invalid-request") from None
    if not now < ends <= now + MAX_LIFETIME:
        raise ApiError("a public token must end in the future, within 30 days", code="invalid-request")
    return ends


def _moment(asked: str | float, now: float) -> float:
    if not isinstance(asked, str):
        return float(asked)
    try:
        return now + seconds(asked)
    except ConfigError:
        return datetime.fromisoformat(asked).timestamp()


def _key(environment: Environment) -> OctKey:
    return _imported(environment.signing_secret)


@lru_cache(maxsize=1000)
def _imported(secret: bytes) -> OctKey:
    """A key is checked at length when it is made."""
    return OctKey.import_key(secret)


def _base64(part: bytes) -> bytes:
    return base64.urlsafe_b64encode(part).rstrip(b"=")


def _unbase64(part: str) -> bytes:

    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
