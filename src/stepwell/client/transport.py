"""What both shells do with a call around the sending: the address, the headers, and the errors of the HTTP library."""

from __future__ import annotations

from typing import NoReturn

import httpx2

from stepwell.client.connection import Connection
from stepwell.client.exchange import Call, Reply
from stepwell.errors import ConnectionFailed

# With these the request never left: sending it again repeats nothing.
UNSENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError)

CONNECT_WITHIN = 5.0  # seconds


def headers_of(connection: Connection) -> dict[str, str]:
    """The headers of every request."""
    from stepwell.client.version import VERSION

    return {"authorization": f"Bearer {connection.api_key}", "user-agent": f"stepwell-python/{VERSION}"}


def timeout_of(call: Call) -> httpx2.Timeout:
    return httpx2.Timeout(call.within, connect=CONNECT_WITHIN)


def reply_of(response: httpx2.Response) -> Reply:
    return Reply(response.status_code, response.content, {k.lower(): v for k, v in response.headers.items()})


def was_sent(error: httpx2.TransportError) -> bool:
    """Whether the request may have arrived."""
    return not isinstance(error, UNSENT)


def raise_silence(connection: Connection, call: Call, error: httpx2.TransportError, tried: int) -> NoReturn:
    """Raises ConnectionFailed: there was no reply, after so many tries."""
    tries = "1 try" if tried == 1 else f"{tried} tries"
    path = call.url.partition("?")[0]
    raise ConnectionFailed(
        f"{call.method} {connection.url}{path} got no answer after {tries}: {_reason(error)}",
        hint="is the server running, and is STEPWELL_URL its address? Whether it was carried out is not known"
        if was_sent(error)
        else "is the server running, and is STEPWELL_URL its address? Nothing was sent",
    ) from error


def _reason(error: httpx2.TransportError) -> str:
    return str(error) or type(error).__name__
