"""Whether a request is sent again, and when. Facts in, decision out."""

from __future__ import annotations

import random

from stepwell.client.exchange import Call, Reply
from stepwell.primitives.backoff import backoff_delay
from stepwell.protocol.refusals import RETRYABLE_STATUSES

TRIES = 5
FIRST_DELAY = 0.25
LARGEST_DELAY = 8.0
# The longest that a server's own `retry-after` is followed.
LONGEST_ASKED = 60.0

# The server says with these that it has done nothing.
UNTOUCHED_STATUSES = frozenset({429, 503})


def delay_after_reply(call: Call, reply: Reply, tried: int) -> float | None:
    """Seconds until the call is sent again after this reply to its `tried`-th sending, or None: the reply stands."""
    if tried >= TRIES or reply.status < 400:
        return None
    wish = reply.headers.get("x-should-retry")
    retryable = reply.status in RETRYABLE_STATUSES if wish not in {"true", "false"} else wish == "true"
    if not retryable or not (call.repeatable or reply.status in UNTOUCHED_STATUSES):
        return None
    asked = _asked(reply)
    return _backoff(tried) if asked is None else asked


def delay_after_silence(call: Call, tried: int, *, sent: bool) -> float | None:
    """The same when there was no reply. `sent`: the request may have arrived, and been carried out."""
    if tried >= TRIES or (sent and not call.repeatable):
        return None
    return _backoff(tried)


def _asked(reply: Reply) -> float | None:
    try:
        return min(LONGEST_ASKED, max(0.0, float(reply.headers["retry-after"])))
    except (KeyError, ValueError):  # absent, or a date: our own delay will do
        return None


def _backoff(tried: int) -> float:
    return backoff_delay(tried, 2.0, FIRST_DELAY, LARGEST_DELAY, jitter=True, random=random.random())
