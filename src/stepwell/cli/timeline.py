"""What happened to a run, in order, as a person wants it told. Facts in, entries out: nothing is asked or printed here.

Events tell what the system did (claimed, killed, resumed), the journal what the run did (steps, timers, children).
Both carry Postgres's clock, so one order holds for all.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias, cast

from stepwell.cli.wording import clock, compact, counted, shortened, span
from stepwell.protocol.runs import CheckpointView, EventView, RunDetail

Tone: TypeAlias = Literal["plain", "good", "bad", "warn", "quiet", "wait"]

_KILLED = re.compile(r"the executor was killed by signal \d+ \((\w+)\)")
_WAITS = {"timer": "sleeps", "children": "waits for children", "token": "waits for a token"}
_HIDDEN_KINDS = frozenset({"order"})  # they hold a place in the replay's order, and nothing that happened


@dataclass(frozen=True, slots=True)
class Entry:
    """One line. at, until: seconds since the run was triggered; `until` is None for what took no time.

    depth: how far in: a branch (a task that the run started), or a step inside a step. order: among those of one
    moment. number: of the checkpoint, by which it can be replayed from.
    """

    at: float
    what: str
    tone: Tone = "plain"
    mark: str = "·"
    until: float | None = None
    note: str = ""
    site: str = ""
    depth: int = 0
    order: int = 0
    number: int | None = None


def timeline(
    run: RunDetail,
    events: Sequence[EventView],
    journal: Sequence[CheckpointView],
    workers: Mapping[str, str] | None = None,
) -> list[Entry]:
    """The entries of a run, in order of their beginning. `workers` are names for worker ids."""
    told = _Story(run, workers or {})
    entries = [entry for event in events for entry in told.of(event)]
    entries += [
        _checkpoint(c, told.began(c), told.ended(c), held=c.key not in told.suspended)
        for c in journal
        if c.kind not in _HIDDEN_KINDS
    ]
    entries += told.open_waits({c.key for c in journal})
    return sorted(entries, key=lambda entry: (round(entry.at, 3), entry.order))


def ends_at(run: RunDetail, now: datetime | None = None) -> float:
    """Seconds from trigger to end, or until now."""
    return ((run.finished_at or now or datetime.now(UTC)) - run.created_at).total_seconds()


# ── what the run did ─────────────────────────────────────────────────────────


def _checkpoint(c: CheckpointView, began: float, at: float, *, held: bool) -> Entry:
    """held: the executor stayed with the run while it waited."""
    site = "" if c.site.startswith("<") else c.site
    told = Entry(began, c.name, "good", "✓", at, "", site, branch_depth(c.key) + c.nested, c.seq, c.seq)
    if at < 0:
        return replace(told, at=0.0, until=None, tone="quiet", mark="=", note="kept", order=c.seq - 10**6)
    if c.kind in {"timer", "children"}:
        what = "sleep" if c.kind == "timer" else "waited for children"
        return replace(told, what=what, tone="wait", mark="◷", note="" if held else "held no worker")
    if c.kind == "answer" and c.outcome == "value":
        note = ", ".join(text for text in (_answered(c), "" if held else "held no worker") if text)
        return replace(told, what="waited for a token", tone="wait", mark="◷", note=note)
    if c.kind == "token":
        return replace(told, at=at, until=None, what="made a token", tone="plain", mark="✉", note=_text(c.value))
    if c.kind == "spawn":
        return replace(told, at=at, until=None, what=f"triggered {c.name or 'children'}", tone="plain", mark="⑂")
    if c.kind == "named":
        return replace(told, at=at, until=None, tone="plain", mark="◆", note=_noted(c))
    if c.outcome == "error":
        reason = f"{c.error.name or 'error'}: {c.error.message}" if c.error else "raised"
        return replace(told, tone="bad", mark="✗", note=shortened(reason, 200))
    if c.outcome == "canceled":
        return replace(told, tone="warn", mark="⊘", note="canceled")
    return told


def _answered(c: CheckpointView) -> str:
    """`completed by mara: {"approved": true}`"""
    value: object = c.value
    if not isinstance(value, dict):
        return ""
    closed = cast("Mapping[str, Any]", value)
    said = f": {compact(closed['answer'], 60)}" if "answer" in closed else ""
    who = f" by {closed['by']}" if "by" in closed else ""
    return f"{str(closed.get('status', '')).replace('_', ' ')}{who}{said}"


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def branch_depth(key: str) -> int:
    """How many tasks deep the branch of a key is: `main/one.0|fetch#0` is 1."""
    return key.partition("|")[0].count("/")


def _noted(c: CheckpointView) -> str:
    value = c.value
    if isinstance(value, dict) and value:
        return "  ".join(f"{key}={compact(each, 40)}" for key, each in value.items())  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return ""


# ── what the system did ──────────────────────────────────────────────────────


class _Story:
    """Tells events in order; what an event means depends on those before it."""

    def __init__(self, run: RunDetail, workers: Mapping[str, str]) -> None:
        self._run = run
        self._workers = workers
        self._attempt = 0
        self._waits: list[dict[str, Any]] = []
        self._interrupted = False
        self._claims: list[tuple[float, int]] = []
        self.suspended: dict[str, float] = {}
        """When the run first let go of its worker for this wait, by the wait's key."""

    def since(self, moment: datetime) -> float:
        return (moment - self._run.created_at).total_seconds()

    def began(self, c: CheckpointView) -> float:
        """When its work began; not before the claim that led to it, whose clock is another's estimate."""
        if c.key in self.suspended:
            return self.suspended[c.key]
        return max(self._claimed(c), self.since(c.started_at))

    def ended(self, c: CheckpointView) -> float:
        """Before the beginning for one that a fork took over."""
        return max(self._claimed(c), self.since(c.at))

    def _claimed(self, c: CheckpointView) -> float:
        return max((at for at, kept in self._claims if kept <= c.seq), default=-math.inf)

    def of(self, event: EventView) -> Iterable[Entry]:
        tell = getattr(self, f"tell_{event.type}", None)
        return () if tell is None else tell(self.since(event.at), event.details)

    def open_waits(self, journaled: set[str]) -> Iterable[Entry]:
        """What the run waits for now; a wait that is over is told by its checkpoint."""
        if self._run.state != "waiting":
            return
        for wait in self._waits:
            if wait.get("key") in journaled:
                continue
            due = wait.get("due_at")
            until = "" if due is None else f", until {clock(datetime.fromtimestamp(float(due), UTC))}"
            what = _WAITS.get(str(wait.get("kind")), "waits")
            began = self.suspended.get(str(wait.get("key")), 0.0)
            which = f", {wait['token_id']}" if wait.get("token_id") else ""
            yield Entry(began, what, "wait", "◷", ends_at(self._run), f"holds no worker{until}{which}", order=10**6)

    def tell_triggered(self, at: float, data: Mapping[str, Any]) -> Iterable[Entry]:
        note = ""
        if data.get("forked_from"):
            note = f"from {data['forked_from']}"
            if data.get("forked_seq") is not None:
                note += f", of which {counted(int(data['forked_seq']) + 1, 'checkpoint')} are kept"
        yield Entry(0.0, "redriven" if data.get("redrive") else "triggered", "quiet", "○", note=note, order=-(10**7))

    def tell_promoted(self, at: float, data: Mapping[str, Any]) -> Iterable[Entry]:
        yield Entry(0.0, "delayed", "wait", "◷", until=at, order=-8)

    def tell_collected(self, at: float, data: Mapping[str, Any]) -> Iterable[Entry]:
        note = f"executed by {data.get('collector')}, at place {data.get('place')} of its list"
        yield Entry(0.0, "waited for its batch", "wait", "◷", until=at, note=note, order=-8)

    def tell_rescheduled(self, at: float, data: Mapping[str, Any]) -> Iterable[Entry]:
        yield Entry(at, "rescheduled", "quiet", "◷", note=f"to {data.get('delayed_until') or 'now'}", order=-8)

    def tell_bumped(self, at: float, data: Mapping[str, Any]) -> Iterable[Entry]:
        yield Entry(at, "bumped", "quiet", "○", note="to the front of its queue", order=-8)

    def tell_claimed(self, at: float, data: Mapping[str, Any]) -> Iterable[Entry]:
        number, kept = int(data.get("attempt") or 1), int(data.get("checkpoints") or 0)
        self._claims.append((at, kept))
        worker = self._worker(data)
        note = f"{counted(kept, 'checkpoint')} replayed" if kept else ""
        if number == self._attempt:
            tone: Tone = "good" if self._interrupted else "quiet"
            yield Entry(at, f"resumed on {worker}", tone, "↻", note=note, order=-5)
        else:
            yield Entry(at, f"attempt {number} on {worker}", "plain", "▶", note=note, order=-5)
        self._attempt, self._interrupted = number, False

    def tell_suspended(self, at: float, data: Mapping[str, Any]) -> Iterable[Entry]:
        self._waits = list(data.get("waits") or ())
        for wait in self._waits:
            self.suspended.setdefault(str(wait.get("key")), at)
        return ()

    def tell_released(self, at: float, data: Mapping[str, Any]) -> Iterable[Entry]:
        note = "its code had ended before it heard of the cancel" if data.get("reason") == "cancel" else ""
        yield Entry(at, f"given back by {self._worker(data)}", "quiet", "↩", note=note, order=10**6)

    def tell_rescued(self, at: float, data: Mapping[str, Any]) -> Iterable[Entry]:
        self._interrupted = True
        what = f"{self._worker(data)} was lost"
        yield Entry(
            at, what, "bad", "☠", note="its lease ran out: killed or cut off; the run goes on elsewhere", order=-6
        )

    def tell_crashed(self, at: float, data: Mapping[str, Any]) -> Iterable[Entry]:
        self._interrupted = True
        message = str(data.get("message") or data.get("code"))
        what = _KILLED.sub(r"executor killed by \1", shortened(message, 90))
        yield Entry(at, what, "bad", "☠", note=_again(data), order=-6)

    def tell_retrying(self, at: float, data: Mapping[str, Any]) -> Iterable[Entry]:
        yield Entry(
            at,
            f"attempt {data.get('attempt')} failed",
            "warn",
            "↺",
            note=_because(data) + _again(data, "; "),
            order=10**6,
        )

    def tell_completed(self, at: float, data: Mapping[str, Any]) -> Iterable[Entry]:
        yield Entry(at, "completed", "good", "●", order=10**7)

    def tell_failed(self, at: float, data: Mapping[str, Any]) -> Iterable[Entry]:
        reason = f" ({data['reason']})" if data.get("reason") else ""
        yield Entry(at, "failed", "bad", "●", note=_because(data) + reason, order=10**7)

    def tell_cancel_requested(self, at: float, data: Mapping[str, Any]) -> Iterable[Entry]:
        grace = f"{span(float(data.get('grace') or 0))} to clean up"
        note = "; ".join(text for text in (_why_canceled(data), grace) if text)
        yield Entry(at, "asked to end", "warn", "⊘", note=note, order=-7)

    def tell_canceled(self, at: float, data: Mapping[str, Any]) -> Iterable[Entry]:
        note = "; ".join(text for text in (_why_canceled(data), str(data.get("note") or "")) if text)
        yield Entry(at, "canceled", "warn", "●", note=note, order=10**7)

    def tell_expired(self, at: float, data: Mapping[str, Any]) -> Iterable[Entry]:
        yield Entry(at, "expired", "warn", "●", note="no worker took it within its ttl", order=10**7)

    def tell_forked(self, at: float, data: Mapping[str, Any]) -> Iterable[Entry]:
        yield Entry(at, "forked", "quiet", "⑂", note=f"{data.get('run')} began from its journal", order=10**8)

    def tell_discarded(self, at: float, data: Mapping[str, Any]) -> Iterable[Entry]:
        by = f", by {data['by']}" if data.get("by") else ""
        yield Entry(at, "discarded", "quiet", "✗", note=f"{data.get('reason')}{by}", order=10**8)

    def tell_redriven(self, at: float, data: Mapping[str, Any]) -> Iterable[Entry]:
        yield Entry(at, "redriven", "quiet", "⑂", note=f"as {data.get('run')}", order=10**8)

    def _worker(self, data: Mapping[str, Any]) -> str:
        worker_id = str(data.get("worker") or "")
        return self._workers.get(worker_id) or f"worker {worker_id[-6:]}"


def _why_canceled(data: Mapping[str, Any]) -> str:
    return f"together with {data['by']}" if data.get("by") else str(data.get("reason") or "")


def _because(data: Mapping[str, Any]) -> str:
    name, message = data.get("name"), str(data.get("message") or data.get("code") or "")
    return shortened(f"{name}: {message}" if name else message, 160)


def _again(data: Mapping[str, Any], before: str = "") -> str:
    after = data.get("retry_after")
    return "" if after is None else f"{before}again in {span(float(after))}"
