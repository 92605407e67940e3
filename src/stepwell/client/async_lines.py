"""Kept-alive connections to one server for the plain calls of async code: `lines` for an event loop, by aiohttp.

At a quarter of the general HTTP library's processor time. Its errors are raised as those of httpx2, as `lines` does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import httpx2

from stepwell.client.exchange import Call, Reply

if TYPE_CHECKING:
    import aiohttp


class AsyncLines:
    """Connections are opened when first needed, and belong to the loop that runs then; another loop gets others."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self._url = url
        self._headers = headers
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def send(self, call: Call, timeout: httpx2.Timeout) -> Reply:
        """Raises httpx2.TransportError: ConnectError and ConnectTimeout when nothing was sent."""
        import aiohttp
        from yarl import URL  # aiohttp's own type of an address: it says that ours is quoted already

        session = self._session_here()
        patience = aiohttp.ClientTimeout(total=None, sock_connect=timeout.connect, sock_read=timeout.read)
        try:
            async with session.request(
                call.method,
                URL(self._url + call.url, encoded=True),
                data=call.content,
                headers=call.headers,
                timeout=patience,
                allow_redirects=False,
            ) as response:
                content = await response.read()
        except (aiohttp.ConnectionTimeoutError, aiohttp.ClientConnectorError) as error:
            timed_out = isinstance(error, aiohttp.ConnectionTimeoutError)
            raise (httpx2.ConnectTimeout if timed_out else httpx2.ConnectError)(str(error)) from error
        except TimeoutError as error:
            raise httpx2.ReadTimeout(str(error)) from error
        except (aiohttp.ClientError, OSError) as error:
            raise httpx2.ReadError(str(error) or type(error).__name__) from error
        return Reply(response.status, content, {name.lower(): value for name, value in response.headers.items()})

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _session_here(self) -> aiohttp.ClientSession:
        import aiohttp

        loop = asyncio.get_running_loop()
        if self._session is None or self._session.closed or self._loop is not loop:
            tls: Any = httpx2.create_ssl_context() if self._url.startswith("https") else True
            connector = aiohttp.TCPConnector(limit=0, ssl=tls)
            jar = aiohttp.DummyCookieJar()
            self._session = aiohttp.ClientSession(connector=connector, headers=self._headers, cookie_jar=jar)
            self._loop = loop
        return self._session
