"""The connections of the client for plain calls, on real sockets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx2
import pytest

from stepwell.client.exchange import Call
from stepwell.client.lines import Lines, goes_direct

PATIENCE = httpx2.Timeout(5)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Kept: Yes\r\n\r\n{}"


class Wire:
    """A server that reads whatever one `recv` gives, and answers each time. `closing`: it hangs up after each."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}/behind"
        self.connections = 0
        self.received: list[bytes] = []
        self.closing = False
        self.closed = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            while data := connection.recv(65536):
                self.received.append(data)
                connection.sendall(ANSWER)
                if self.closing:
                    break
        self.closed.set()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()


@pytest.fixture
def wire() -> Iterator[Wire]:
    server = Wire()
    yield server
    server.close()


@contextmanager
def lines_to(wire: Wire) -> Iterator[Lines]:
    lines = Lines(wire.url, {"authorization": "Bearer k"})
    try:
        yield lines
    finally:
        lines.close()


def test_head_and_body_leave_in_one_write_below_the_path_of_the_address(wire: Wire) -> None:
    with lines_to(wire) as lines:
        reply = lines.send(Call("POST", "/api?x=1", b'{"a":1}', {"content-type": "application/json"}), PATIENCE)
    assert (reply.status, reply.content, reply.headers["x-kept"]) == (200, b"{}", "Yes")
    (request,) = wire.received
    assert request.startswith(b"POST /behind/api?x=1 HTTP/1.1\r\n")
    assert b"authorization: Bearer k\r\n" in request
    assert request.endswith(b'\r\n\r\n{"a":1}')


def test_one_call_after_the_other_uses_one_connection(wire: Wire) -> None:
    with lines_to(wire) as lines:
        for _ in range(5):
            lines.send(Call("GET", "/api"), PATIENCE)
    assert (wire.connections, len(wire.received)) == (1, 5)


def test_a_connection_that_the_server_closed_meanwhile_is_not_used_again(wire: Wire) -> None:
    wire.closing = True
    with lines_to(wire) as lines:
        for number in range(1, 4):
            assert lines.send(Call("GET", "/api"), PATIENCE).status == 200
            assert wire.closed.wait(5)
            wire.closed.clear()
            assert wire.connections == number


def test_threads_share_the_connections_and_not_one_of_them_at_a_time(wire: Wire) -> None:
    with lines_to(wire) as lines, ThreadPoolExecutor(8) as threads:
        replies = list(threads.map(lambda _: lines.send(Call("GET", "/api"), PATIENCE), range(200)))
    assert {reply.content for reply in replies} == {b"{}"}
    assert wire.connections <= 8


def test_an_answer_that_is_cut_off_is_an_error_of_a_request_that_was_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(ANSWER[:-1])

        threading.Thread(target=serve, daemon=True).start()
        lines = Lines(f"http://127.0.0.1:{listening.getsockname()[1]}", {})
        with pytest.raises(httpx2.ReadError):
            lines.send(Call("GET", "/api"), PATIENCE)


def test_a_proxy_of_the_environment_is_left_to_the_general_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:3128")
    monkeypatch.setenv("no_proxy", "near.example")
    assert not goes_direct("http://far.example:8430")
    assert goes_direct("http://near.example:8430")
