"""Kept-alive connections to one server for plain calls, at a quarter of the processor time of the general HTTP library.

A call is one write and one read of a socket, as the standard library does them. What is less plain (a stream of events,
a proxy, a transport of the caller's own) goes through httpx2, whose errors are raised here too.
"""

from __future__ import annotations

import select
import ssl
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx2

from stepwell.client.exchange import Call, Reply

_MOST_IDLE = 20


def goes_direct(url: str) -> bool:
    """Whether no proxy of the environment stands between here and the server."""
    parts = urlsplit(url)
    return not getproxies().get(parts.scheme) or bool(proxy_bypass(parts.netloc))


class Lines:
    """Any thread may call: each takes an idle connection, or makes one."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        parts = urlsplit(url)
        self._host, self._port, self._path = parts.hostname or "", parts.port, parts.path
        self._tls = httpx2.create_ssl_context() if parts.scheme == "https" else None
        self._headers = headers
        self._idle: list[_PlainLine | _TlsLine] = []
        self._closed = False

    def send(self, call: Call, timeout: httpx2.Timeout) -> Reply:
        """Raises httpx2.TransportError: ConnectError and ConnectTimeout when nothing was sent."""
        line = self._reused() or self._made(timeout.connect)
        try:
            line.sock.settimeout(timeout.read)
            line.request(call.method, self._path + call.url, call.content, {**self._headers, **call.headers})
            response = line.flushed()
            measured = response.chunked or response.length is not None
            content = response.read()
            if not (measured or content):  # the standard library takes a head that breaks off for a whole one
                raise httpx2.ReadError("the connection ended within the head of the answer")
        except TimeoutError as error:
            line.close()
            raise httpx2.ReadTimeout(str(error)) from error
        except (OSError, HTTPException) as error:
            line.close()
            raise httpx2.ReadError(str(error) or type(error).__name__) from error
        except BaseException:
            line.close()
            raise
        if response.will_close or self._closed or len(self._idle) >= _MOST_IDLE:
            line.close()
        else:
            self._idle.append(line)
        return Reply(response.status, content, {name.lower(): value for name, value in response.headers.items()})

    def close(self) -> None:
        """Close what is idle; what is under way is closed when it ends."""
        self._closed = True
        while (line := self._popped()) is not None:
            line.close()

    def _reused(self) -> _PlainLine | _TlsLine | None:
        """An idle connection that the server has not closed meanwhile."""
        while (line := self._popped()) is not None:
            if not _readable(line.sock):  # else it is its end, since no answer is due
                return line
            line.close()
        return None

    def _popped(self) -> _PlainLine | _TlsLine | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _made(self, within: float | None) -> _PlainLine | _TlsLine:
        if self._tls is None:
            line = _PlainLine(self._host, self._port, timeout=within)
        else:
            line = _TlsLine(self._host, self._port, timeout=within, context=self._tls)
        try:
            line.connect()
        except TimeoutError as error:
            line.close()
            raise httpx2.ConnectTimeout(str(error) or "no connection in time") from error
        except OSError as error:
            line.close()
            raise httpx2.ConnectError(str(error)) from error
        return line


class _OneWrite:
    """Head and body leave together: the server wakes once for them."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._parts: list[bytes] = []

    def send(self, data: Any) -> None:
        """Called by `request`, for the head and for the body."""
        self._parts.append(data)

    def flushed(self: Any) -> Any:
        """The response to what has been gathered."""
        gathered, self._parts = b"".join(self._parts), []
        self.sock.sendall(gathered)
        return self.getresponse()


class _PlainLine(_OneWrite, HTTPConnection):
    pass


class _TlsLine(_OneWrite, HTTPSConnection):
    pass


def _readable(sock: Any) -> bool:
    if isinstance(sock, ssl.SSLSocket) and sock.pending():
        return True
    if not hasattr(select, "poll"):  # Windows
        return bool(select.select([sock], [], [], 0)[0])
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))
