"""Renews the leases from threads of its own, which nothing on the event loop can hold up.

The same calls tell the server which workers of this machine have died (`presence`).
"""

from __future__ import annotations

import http.client
import logging
import threading
import time
from collections.abc import Callable
from urllib.parse import SplitResult, urlsplit

import msgspec

from stepwell.protocol.frames import Heartbeat, HeartbeatReply
from stepwell.worker.leases import Leases
from stepwell.worker.presence import Presence

PATH = "/api/v1/worker/heartbeat"
_FIRST_RETRY = 0.5
_LOOK = 0.25
"""Seconds between two looks for workers that have died. The first is at once: it is for our predecessor."""
_log = logging.getLogger("stepwell.worker")
_decoder = msgspec.json.Decoder(HeartbeatReply)

Expired = Callable[[list[tuple[str, int]]], None]
Replied = Callable[[HeartbeatReply, list[tuple[str, int]]], None]


class HeartbeatThreads:
    """One thread asks the server, one watches the deadlines: an answer that does not come must not delay the latter.

    `expired` and `replied` are called in these threads; `replied` gets what was asked for as well.
    """

    def __init__(
        self,
        url: str,
        api_key: str,
        worker_id: str,
        leases: Leases,
        presence: Presence,
        expired: Expired,
        replied: Replied,
    ) -> None:
        self._url = urlsplit(url)
        self._api_key = api_key
        self._worker_id = worker_id
        self._leases = leases
        self._presence = presence
        self._expired = expired
        self._replied = replied
        self._stop = threading.Event()
        self._seconds = 10.0
        self._threads: list[threading.Thread] = []

    def start(self, seconds: float) -> None:
        """Begin, or go on with another interval."""
        self._seconds = seconds
        if not self._threads:
            for target, name in ((self._renew_forever, "heartbeat"), (self._watch_forever, "deadlines")):
                thread = threading.Thread(target=target, name=f"stepwell-{name}", daemon=True)
                self._threads.append(thread)
                thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._leases.sooner.set()
        for thread in self._threads:
            thread.join(self._seconds)

    def say_goodbye(self) -> bool:
        """After `stop`: no more runs are to be leased to this worker. Whether the server knows; takes a moment."""
        connection = _connect(self._url, self._seconds / 2)
        try:
            self._ask(connection, Heartbeat(self._worker_id, self._leases.held(), leaving=True))
        except (OSError, http.client.HTTPException, msgspec.DecodeError, _Refused) as error:
            _log.warning("the server does not know that this worker has ended: %s", error)
            return False
        finally:
            connection.close()
        return True

    def _renew_forever(self) -> None:
        connection = _connect(self._url, self._seconds / 2)
        failures = 0
        due = time.monotonic() + self._seconds
        pause = 0.0
        try:
            while not self._stop.wait(pause):
                asked_at = time.monotonic()
                dead = self._presence.dead()
                pause = min(_LOOK, max(0.0, due - asked_at))
                if asked_at < due and (failures or not dead):
                    continue
                try:
                    self._renew(connection, asked_at, dead)
                except (OSError, http.client.HTTPException, msgspec.DecodeError, _Refused) as error:
                    connection.close()
                    connection = _connect(self._url, self._seconds / 2)
                    failures += 1
                    due = asked_at + min(_FIRST_RETRY * 2 ** min(failures, 8), self._seconds / 4)
                    if failures in (1, 10, 100):
                        _log.warning("heartbeat failed (%d in a row): %s: %s", failures, type(error).__name__, error)
                else:
                    if failures:
                        _log.info("heartbeat answered again after %d failures", failures)
                    failures = 0
                    due = asked_at + self._seconds
        finally:
            connection.close()

    def _renew(self, connection: http.client.HTTPConnection, asked_at: float, dead: list[str]) -> None:
        held = self._leases.held()
        reply = self._ask(connection, Heartbeat(self._worker_id, held, dead))
        if dead:
            _log.info("died on this machine, their runs go on now: %s", ", ".join(dead))
            self._presence.buried(dead)
        self._leases.clock_seen(reply.now, asked_at)
        lost = set(reply.lost)
        self._leases.renewed([lease for lease in held if lease[0] not in lost], asked_at)
        self._replied(reply, held)

    def _ask(self, connection: http.client.HTTPConnection, said: Heartbeat) -> HeartbeatReply:
        headers = {"Authorization": f"Bearer {self._api_key}", "Content-Type": "application/json"}
        connection.request("POST", self._url.path.rstrip("/") + PATH, msgspec.json.encode(said), headers)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise _Refused(
                f"the server answered {answer.status} {answer.reason}: {content[:200].decode(errors='replace')}"
            )
        return _decoder.decode(content)

    def _watch_forever(self) -> None:
        while not self._stop.is_set():
            self._leases.sooner.clear()
            deadline = self._leases.next_deadline()
            if not self._stop.is_set():
                self._leases.sooner.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
            expired = self._leases.take_expired(time.monotonic())
            if expired:
                self._expired(expired)


class _Refused(Exception):
    """An answer that is no reply."""


def _connect(url: SplitResult, timeout: float) -> http.client.HTTPConnection:
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    return kind(url.hostname or "", url.port, timeout=timeout)
