"""An HTTP answer as `http.client` has its connections read it, of which the standard library's own takes six times as
long: that gives its head to the parser of e-mails.
"""

from __future__ import annotations

from http.client import BadStatusLine, HTTPException, IncompleteRead, LineTooLong, RemoteDisconnected
from typing import Any

_LONGEST_LINE = 65536
_MOST_HEADERS = 200
_NO_CONTENT = frozenset({204, 304})


class Answer:
    """`http.client.HTTPConnection.response_class`: all of it is read by `begin`. Header names are in lower case.

    will_close: the connection ends with it.
    """

    def __init__(self, sock: Any, debuglevel: int = 0, method: str | None = None, url: str | None = None) -> None:
        self._file = sock.makefile("rb")
        self._method = method
        self.status = 0
        self.headers: dict[str, str] = {}
        self.content = b""
        self.will_close = False

    def begin(self) -> None:
        """Raises HTTPException for what is no answer, and OSError."""
        version = ""
        with self._file:
            while self.status < 200:  # those below announce another one
                version = self._read_status()
                self.headers = self._read_headers()
            connection = self.headers.get("connection", "").lower()
            self.will_close = "close" in connection or (version != "HTTP/1.1" and "keep-alive" not in connection)
            self.content = self._read_content()

    def isclosed(self) -> bool:
        """It is read to its end: the connection can be used again."""
        return self._file.closed

    def close(self) -> None:
        self._file.close()

    def _read_status(self) -> str:
        line = self._line()
        version, _, rest = line.partition(" ")
        status = rest[:3]
        if not version.startswith("HTTP/1.") or not (status.isascii() and status.isdigit() and len(status) == 3):
            raise BadStatusLine(line)
        self.status = int(status)
        return version

    def _read_headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        while line := self._line():
            if len(headers) == _MOST_HEADERS:
                raise HTTPException(f"more than {_MOST_HEADERS} headers")
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return headers

    def _read_content(self) -> bytes:
        if self._method == "HEAD" or self.status in _NO_CONTENT:
            return b""
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            return self._read_chunks()
        length = self.headers.get("content-length", "")
        if length.isascii() and length.isdigit():
            return self._exactly(int(length))
        self.will_close = True
        return self._file.read()

    def _read_chunks(self) -> bytes:
        chunks: list[bytes] = []
        while size := self._chunk_size():
            chunks.append(self._exactly(size))
            self._line()
        self._read_headers()
        return b"".join(chunks)

    def _chunk_size(self) -> int:
        line = self._line()
        try:
            return int(line.partition(";")[0], 16)
        except ValueError:
            raise HTTPException(f"no size of a chunk: {line[:100]!r}") from None

    def _exactly(self, size: int) -> bytes:
        content = self._file.read(size)
        if len(content) < size:
            raise IncompleteRead(content, size - len(content))
        return content

    def _line(self) -> str:
        """Without its end; empty at the end of a head."""
        line = self._file.readline(_LONGEST_LINE + 1)
        if len(line) > _LONGEST_LINE:
            raise LineTooLong("answer's line")
        if not line.endswith(b"\n"):
            raise RemoteDisconnected("the server closed the connection before the end of its answer")
        return line.decode("latin-1").rstrip("\r\n")
