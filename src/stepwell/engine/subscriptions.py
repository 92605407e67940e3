"""What a wait for a message may say: its name, what it matches, how far it looks back."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from stepwell.errors import ApiError
from stepwell.model.message import Subscription

LONGEST_NAME = 200
MOST_PATHS = 20
LARGEST_MATCH = 8 * 1024
_FARTHEST = 366 * 86_400.0


def check_subscription(subscription: Subscription) -> None:
    """Raises ApiError (invalid-request)."""
    check_name(subscription.kind, subscription.name)
    if subscription.match is not None:
        check_match(subscription.match)
    if subscription.since is not None and not 0 <= subscription.since <= _FARTHEST:
        raise _invalid(f"since = {subscription.since:g} s", "0 to 366 days")


def check_name(kind: str, name: str) -> None:
    """Raises ApiError (invalid-request)."""
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        raise _invalid(f"the {kind}'s name {name[:80]!r}", f"1 to {LONGEST_NAME} printable characters")


def check_match(match: bytes) -> None:
    """Raises ApiError (invalid-request)."""
    try:
        found: Any = msgspec.json.decode(match)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        found = None
    if not isinstance(found, dict) or len(match) > LARGEST_MATCH:
        raise _invalid(f"match is {match[:80]!r}", f"a JSON object of at most {LARGEST_MATCH} bytes")
    paths = [*cast("dict[str, Any]", found)]
    if len(paths) > MOST_PATHS:
        raise _invalid(f"match has {len(paths)} fields", f"at most {MOST_PATHS}")
    for path in paths:
        if not all(path.split(".")):
            raise _invalid(f"match has the field {path[:80]!r}", 'names with dots between, as in "order.id"')


def _invalid(what: str, hint: str) -> ApiError:
    return ApiError(f"this cannot be waited for: {what}", hint=hint, code="invalid-request", status=422)
