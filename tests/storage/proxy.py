"""A TCP proxy in front of Postgres that breaks connections in the ways that networks do."""

from __future__ import annotations

import asyncio
import contextlib
from urllib.parse import urlsplit


class Proxy:
    """Forwards to the Postgres of `url`; `proxy.url` goes through it."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._frozen: set[asyncio.StreamWriter] = set()
        self._clients: set[asyncio.StreamWriter] = set()
        self._swallow_reply_to: bytes | None = None
        self._rewrite: tuple[bytes, bytes] | None = None

    @property
    def url(self) -> str:
        user = self._target.netloc.rpartition("@")[0]
        port = self._server.sockets[0].getsockname()[1]
        return self._target._replace(netloc=f"{user}@127.0.0.1:{port}").geturl()

    def freeze(self) -> None:
        """Stop forwarding the replies on all present connections, and keep them open: half-open TCP."""
        self._frozen |= self._clients

    def swallow_reply_to(self, words: bytes) -> None:
        """Cut the connection that sends `words` next, once Postgres has answered and before the answer is passed on."""
        self._swallow_reply_to = words

    def rewrite_replies(self, old: bytes, new: bytes) -> None:
        """Replace bytes, of one length, in what Postgres says."""
        assert len(old) == len(new)
        self._rewrite = (old, new)

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for client in self._clients:
            client.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, to_postgres = await asyncio.open_connection(self._target.hostname, self._target.port)
        self._clients.add(writer)
        doomed = asyncio.Event()
        requests = asyncio.create_task(self._requests(reader, to_postgres, doomed))
        with contextlib.suppress(ConnectionError):
            while chunk := await upstream.read(65536):
                if doomed.is_set():
                    break
                if self._rewrite:
                    chunk = chunk.replace(*self._rewrite)
                if writer not in self._frozen:
                    writer.write(chunk)
                    await writer.drain()
        requests.cancel()
        for end in (writer, to_postgres):
            end.transport.abort()
        self._clients.discard(writer)

    async def _requests(
        self, reader: asyncio.StreamReader, to_postgres: asyncio.StreamWriter, doomed: asyncio.Event
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while chunk := await reader.read(65536):
                if self._swallow_reply_to and self._swallow_reply_to in chunk:
                    self._swallow_reply_to = None
                    doomed.set()
                to_postgres.write(chunk)
                await to_postgres.drain()
        to_postgres.transport.abort()
