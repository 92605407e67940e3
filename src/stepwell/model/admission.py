"""Admission: which triggers make a run. What a task or a trigger asks for, and the pure decisions about it.

Facts in, decision out: the rows of the keys as they are locked, and Postgres's clock, come from whoever asks.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, cast

Kind = Literal["unique", "debounce", "singleton", "throttle", "batch"]
DebounceMode = Literal["leading", "trailing"]
SingletonMode = Literal["skip", "replace", "queue"]
Over = Literal["refuse", "drop"]
Why = Literal["duplicate", "debounced", "running", "throttled"]

MAX_DELAY = 3600.0
"""Seconds for which a debounce may go on, unless it says otherwise."""
MOST_MARKS = 1000
MOST_MEMBERS = 1000
_FARTHEST = 100 * 365 * 86400.0
_LONGEST_PLAIN = 200
_LONGEST_WORD = 512


@dataclass(frozen=True, slots=True)
class DebounceRule:
    """One run for many triggers in quick succession: `delay` seconds after the last, `max_delay` after the first.

    mode: the payload of the first trigger (leading) or of the last (trailing) is the run's. key, by: see `key_of`.
    """

    delay: float
    max_delay: float = MAX_DELAY
    mode: DebounceMode = "leading"
    key: str = ""
    by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ThrottleRule:
    """At most `limit` runs in any `window` seconds. over: what is beyond is refused, or dropped without an error."""

    limit: int
    window: float
    over: Over = "refuse"
    key: str = ""
    by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SingletonRule:
    """One run at a time, from its trigger to its end.

    mode: a trigger meanwhile is skipped, replaces that run (which is canceled), or its run waits for its turn.
    """

    mode: SingletonMode = "skip"
    key: str = ""
    by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UniqueRule:
    """One run for each payload in `window` seconds; by: only these fields of it count."""

    window: float
    key: str = ""
    by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BatchRule:
    """One execution for many runs: their payloads become the list that `parameter` takes.

    They are collected once there are `max_size` of them, or `max_wait` seconds after the first.
    """

    max_size: int
    max_wait: float
    parameter: str
    key: str = ""
    by: tuple[str, ...] = ()


Rule = DebounceRule | ThrottleRule | SingletonRule | UniqueRule | BatchRule


@dataclass(frozen=True, slots=True)
class Admission:
    """What a task declares, or a trigger asks for; of one kind one. A batch only tasks declare."""

    unique: UniqueRule | None = None
    debounce: DebounceRule | None = None
    singleton: SingletonRule | None = None
    throttle: ThrottleRule | None = None
    batch: BatchRule | None = None


@dataclass(frozen=True, slots=True)
class Keyed:
    """A rule with the key that it has for one trigger."""

    kind: Kind
    key: str
    rule: Rule


@dataclass(frozen=True, slots=True)
class KeyState:
    """What is known of a key: the run that stands for it, and moments in seconds since the epoch.

    since: the first trigger (debounce, batch). until: when the run is due (debounce), the window's end (unique), when
    to collect (batch). marks: when runs were made (throttle). size: of a batch; canceled ones count until it is due.
    """

    run_id: str | None = None
    since: float = 0.0
    until: float = 0.0
    marks: tuple[float, ...] = ()
    size: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a trigger.

    why: None makes a run; else nothing is made, `run_id` stands for it. push: that run is due at this moment instead.
    delay: the new run is due after so many seconds. replaces: the run to cancel first. behind: the new run waits for
    the key's others to end. batched: it waits to be collected; tell: whoever collects has to know. retry_after: seconds
    after which a throttled trigger would not be.
    """

    why: Why | None = None
    run_id: str | None = None
    push: float | None = None
    take_payload: bool = False
    delay: float | None = None
    replaces: str | None = None
    behind: bool = False
    batched: bool = False
    tell: bool = False
    refuse: bool = False
    retry_after: float | None = None


# ── what is asked for ────────────────────────────────────────────────────────


def merged(declared: Admission | None, asked: Admission | None) -> Admission | None:
    """What a trigger asks for goes before what its task declares, kind by kind."""
    if declared is None or asked is None:
        return asked or declared
    given = {field.name: getattr(asked, field.name) for field in fields(asked)}
    return replace(declared, **{name: rule for name, rule in given.items() if rule is not None})


def rules_of(admission: Admission) -> list[tuple[Kind, Rule]]:
    """In the order in which they are asked."""
    every: list[tuple[Kind, Rule | None]] = [
        ("unique", admission.unique),
        ("debounce", admission.debounce),
        ("singleton", admission.singleton),
        ("throttle", admission.throttle),
        ("batch", admission.batch),
    ]
    return [(kind, rule) for kind, rule in every if rule is not None]


def keyed(admission: Admission, payload: Any) -> tuple[Keyed, ...]:
    """Each rule with its key for this payload (plain JSON)."""
    return tuple(Keyed(kind, key_of(kind, rule, payload), rule) for kind, rule in rules_of(admission))


def key_of(kind: Kind, rule: Rule, payload: Any) -> str:
    """The rule's `key`, with the payload's fields that `by` names. A unique rule without either takes all of it."""
    if not rule.by and (kind != "unique" or rule.key):
        return rule.key
    chosen = [_field(payload, path) for path in rule.by] if rule.by else payload
    text = json.dumps(chosen, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    if len(text) > _LONGEST_PLAIN or not text.isprintable():
        text = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{rule.key}:{text}"


def _field(payload: Any, path: str) -> Any:
    """What stands at `customer.id`; None if there is nothing."""
    for name in path.split("."):
        if not isinstance(payload, dict):
            return None
        payload = cast("dict[str, Any]", payload).get(name)
    return payload


def fault_of(rule: Rule) -> tuple[str, str] | None:
    """What is wrong with a rule, and what was expected."""
    if len(rule.key) > _LONGEST_WORD or not rule.key.isprintable():
        return f"key={rule.key[:40]!r}", f"at most {_LONGEST_WORD} printable characters"
    for field in rule.by:
        if not 1 <= len(field) <= _LONGEST_WORD or not field.isprintable():
            return f"by={field[:40]!r}", f"names of fields, of 1 to {_LONGEST_WORD} printable characters"
    if isinstance(rule, DebounceRule):
        if not 0 < rule.delay <= _FARTHEST:
            return f"delay={rule.delay:g}", "a delay above 0"
        if not rule.delay <= rule.max_delay <= _FARTHEST:
            return f"delay={rule.delay:g} and max_delay={rule.max_delay:g}", (
                f"a max_delay (default {MAX_DELAY:g} s) that is no shorter than the delay: a debounce must end"
            )
    if isinstance(rule, ThrottleRule | UniqueRule) and not 0 < rule.window <= _FARTHEST:
        return f"window={rule.window:g}", "a window above 0"
    if isinstance(rule, BatchRule):
        if not 1 <= rule.max_size <= MOST_MEMBERS:
            return f"max_size={rule.max_size}", f"1 to {MOST_MEMBERS} runs in a batch"
        if not 0 < rule.max_wait <= _FARTHEST:
            return f"max_wait={rule.max_wait:g}", "a max_wait above 0"
    if isinstance(rule, ThrottleRule) and not 1 <= rule.limit <= MOST_MARKS:
        return f"limit={rule.limit}", f"1 to {MOST_MARKS} runs in a window"
    return None


# ── deciding ─────────────────────────────────────────────────────────────────


def decide(
    new_run: str, rules: Iterable[Keyed], states: dict[tuple[Kind, str], KeyState], status: dict[str, str], now: float
) -> Verdict:
    """What becomes of a trigger whose run would be `new_run`. Notes in `states` what it changes of its keys.

    status: of the runs that stand for keys; "delayed" ones can be put off. "held" is a run that waits for its turn, of
    a key whose run has ended.
    """
    each: dict[Kind, Keyed] = {rule.kind: rule for rule in rules}
    known: dict[Kind, KeyState] = {kind: states.get((kind, rule.key), KeyState()) for kind, rule in each.items()}
    refusal = _refusal(each, known, status, now)
    if refusal is not None:
        if refusal.push is not None:
            debounce: Kind = "debounce"
            states[debounce, each[debounce].key] = replace(known[debounce], until=refusal.push)
        return refusal
    verdict = Verdict()
    for kind, asked in each.items():
        rule, state = asked.rule, known[kind]
        if isinstance(rule, UniqueRule):
            state = KeyState(new_run, now, now + rule.window)
        elif isinstance(rule, DebounceRule):
            state = KeyState(new_run, now, now + rule.delay)
            verdict = replace(verdict, delay=rule.delay)
        elif isinstance(rule, ThrottleRule):
            state = KeyState(new_run, marks=(*_within(rule, state, now), now))
        elif isinstance(rule, BatchRule):
            state, opened = joined(rule, state, now), not state.size
            verdict = replace(verdict, batched=True, tell=opened or state.size == rule.max_size)
        elif _is_live(state, status):
            verdict = replace(verdict, behind=True, replaces=state.run_id if rule.mode == "replace" else None)
        else:
            state = KeyState(new_run, now)
        states[kind, asked.key] = state
    return verdict


def _refusal(
    each: dict[Kind, Keyed], known: dict[Kind, KeyState], status: dict[str, str], now: float
) -> Verdict | None:
    """Why no run is made, if none is."""
    for kind, asked in each.items():
        rule, state = asked.rule, known[kind]
        if isinstance(rule, UniqueRule) and state.until > now:
            return Verdict("duplicate", state.run_id)
        if isinstance(rule, DebounceRule) and state.until > now and status.get(state.run_id or "") == "delayed":
            due = min(now + rule.delay, state.since + rule.max_delay)
            return Verdict("debounced", state.run_id, push=due, take_payload=rule.mode == "trailing")
        if isinstance(rule, SingletonRule) and rule.mode == "skip" and _is_live(state, status):
            return Verdict("running", state.run_id)
        if isinstance(rule, ThrottleRule):
            marks = _within(rule, state, now)
            if len(marks) >= rule.limit:
                after = marks[-rule.limit] + rule.window - now
                return Verdict("throttled", state.run_id, refuse=rule.over == "refuse", retry_after=after)
    return None


def joined(rule: BatchRule, state: KeyState, now: float) -> KeyState:
    """A batch with one more in it: the first opens it, the last one makes it due."""
    size = state.size + 1
    since, until = (state.since, state.until) if state.size else (now, now + rule.max_wait)
    return KeyState(since=since, until=min(now, until) if size >= rule.max_size else until, size=size)


def _is_live(state: KeyState, status: dict[str, str]) -> bool:
    return status.get(state.run_id or "", "ended") != "ended"


def _within(rule: ThrottleRule, state: KeyState, now: float) -> tuple[float, ...]:
    return tuple(mark for mark in state.marks if mark > now - rule.window)
