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
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n[1, 2\r\n10;note=x\r\n, 3, 4, 5, 6, 7]\r\n"
    b"0\r\nX-Sum: 28\r\n\r\n"
)


class Wire:
    """A server that reads whatever one `recv` gives, and answers each time. `closing`: it hangs up after each."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}/behind"
        self.connections = 0
        self.received: list[bytes] = []
        self.answer = ANSWER
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
                connection.sendall(self.answer)
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


@pytest.mark.parametrize(
    ("answer", "status", "content"),
    [
        (CHUNKED, 200, b"[1, 2, 3, 4, 5, 6, 7]"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 Service Unavailable\r\ncontent-length: 3\r\n\r\nno.", 503, b"no."),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 200 OK\ncontent-length:2\n\n{}", 200, b"{}"),
    ],
)
def test_whatever_its_form_an_answer_leaves_the_connection_for_the_next_one(
    wire: Wire, answer: bytes, status: int, content: bytes
) -> None:
    wire.answer = answer
    with lines_to(wire) as lines:
        replies = [lines.send(Call("GET", "/api"), PATIENCE) for _ in range(3)]
    assert [(reply.status, reply.content) for reply in replies] == [(status, content)] * 3
    assert wire.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n\r\n{}",
    ],
)
def test_an_answer_that_ends_its_connection_is_followed_by_another_one(wire: Wire, answer: bytes) -> None:
    wire.answer, wire.closing = answer, True
    with lines_to(wire) as lines:
        assert [lines.send(Call("GET", "/api"), PATIENCE).content for _ in range(2)] == [b"{}"] * 2
    assert wire.connections == 2


@pytest.mark.parametrize(("answer", "end"), [(ANSWER, len(ANSWER)), (CHUNKED, CHUNKED.index(b"0\r\nX-Sum"))])
def test_an_answer_that_is_cut_off_anywhere_is_an_error_of_a_request_that_was_sent(
    wire: Wire, answer: bytes, end: int
) -> None:
    wire.closing = True
    with lines_to(wire) as lines:
        for length in range(end):
            wire.answer = answer[:length]
            with pytest.raises(httpx2.ReadError):
                lines.send(Call("GET", "/api"), PATIENCE)


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nmany\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"x-%d: y\r\n" % n for n in range(300)) + b"\r\n",
    ],
)
def test_what_is_no_answer_is_an_error_and_ends_its_connection(wire: Wire, answer: bytes) -> None:
    wire.answer = answer
    with lines_to(wire) as lines:
        for number in range(1, 3):
            with pytest.raises(httpx2.ReadError):
                lines.send(Call("GET", "/api"), PATIENCE)
            assert wire.connections == number


def test_a_proxy_of_the_environment_is_left_to_the_general_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:3128")
    monkeypatch.setenv("no_proxy", "near.example")
    assert not goes_direct("http://far.example:8430")
    assert goes_direct("http://near.example:8430")
