"""The words for admission, as users write them: durations as people say them, checked at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from stepwell.client.checks import checked_seconds, described
from stepwell.errors import ConfigError
from stepwell.model.admission import (
    MAX_DELAY,
    Admission,
    BatchRule,
    DebounceMode,
    DebounceRule,
    Over,
    Rule,
    SingletonMode,
    SingletonRule,
    ThrottleRule,
    UniqueRule,
    fault_of,
)

_Duration = float | str | timedelta
_By = str | tuple[str, ...] | list[str]


@dataclass(frozen=True)
class Debounce:
    """One run for many triggers in quick succession: `delay` after the last of them, at most `max_delay` after the
    first (default: an hour).

    key: triggers with the same key count together; by: so do those with the same values in these fields of the payload,
    e.g. "customer.id". Neither: all triggers of the task. mode: the run has the payload of the first trigger
    ("leading", the default) or of the last ("trailing").
    """

    key: str = ""
    delay: _Duration = ""
    mode: DebounceMode = "leading"
    max_delay: _Duration | None = None
    by: _By = ()

    def rule(self, owner: str) -> DebounceRule:
        """As it is stored, in seconds. Raises ConfigError."""
        delay = checked_seconds(owner, "delay", self.delay)
        most = MAX_DELAY if self.max_delay is None else checked_seconds(owner, "max_delay", self.max_delay)
        _choice(owner, "mode", self.mode, ("leading", "trailing"))
        return DebounceRule(delay, most, self.mode, self.key, _by(self.by))


@dataclass(frozen=True)
class Throttle:
    """At most `limit` runs in any window of `per`. over: a trigger beyond that raises LimitExceeded ("refuse", the
    default) or makes no run and says so ("drop"). key, by: as of `Debounce`.
    """

    limit: int
    per: _Duration
    key: str = ""
    over: Over = "refuse"
    by: _By = ()

    def rule(self, owner: str) -> ThrottleRule:
        """As it is stored, in seconds. Raises ConfigError."""
        if type(self.limit) is not int:
            raise ConfigError(f"{owner} got limit={described(self.limit)}", hint="a whole number of runs")
        _choice(owner, "over", self.over, ("refuse", "drop"))
        return ThrottleRule(self.limit, checked_seconds(owner, "per", self.per), self.over, self.key, _by(self.by))


@dataclass(frozen=True)
class Singleton:
    """One run at a time, from its trigger to its end. mode: a trigger meanwhile makes no run ("skip", the default),
    cancels the one before ("replace"), or makes one that begins when the one before has ended ("queue").
    key, by: as of `Debounce`.
    """

    mode: SingletonMode = "skip"
    key: str = ""
    by: _By = ()

    def rule(self, owner: str) -> SingletonRule:
        """As it is stored. Raises ConfigError."""
        _choice(owner, "mode", self.mode, ("skip", "replace", "queue"))
        return SingletonRule(self.mode, self.key, _by(self.by))


@dataclass(frozen=True)
class Unique:
    """One run for each payload within `window`. by: only these fields of the payload count, e.g. ("user", "day")."""

    window: _Duration
    by: _By = ()
    key: str = ""

    def rule(self, owner: str) -> UniqueRule:
        """As it is stored, in seconds. Raises ConfigError."""
        return UniqueRule(checked_seconds(owner, "window", self.window), self.key, _by(self.by))


@dataclass(frozen=True)
class Batch:
    """One execution for many runs: the task takes the list of what they were given, and returns the list of their
    results. They are collected once there are `max_size` of them (1,000 at most), or `max_wait` after the first.

    key, by: as of `Debounce`; only triggers of one key come into one list.
    """

    max_size: int
    max_wait: _Duration = ""
    key: str = ""
    by: _By = ()

    def rule(self, owner: str, parameter: str) -> BatchRule:
        """As it is stored, in seconds. parameter: which takes the list. Raises ConfigError."""
        if type(self.max_size) is not int:
            raise ConfigError(f"{owner} got max_size={described(self.max_size)}", hint="a whole number of runs")
        if self.max_wait == "":
            raise ConfigError(
                f"{owner} got no max_wait", hint='say how long the first may wait for others, e.g. max_wait="2s"'
            )
        wait = checked_seconds(owner, "max_wait", self.max_wait)
        rule = BatchRule(self.max_size, wait, parameter, self.key, _by(self.by))
        _checked(owner, rule)
        return rule


_WORDS: dict[str, type[Debounce | Throttle | Singleton | Unique]] = {
    "unique": Unique,
    "debounce": Debounce,
    "singleton": Singleton,
    "throttle": Throttle,
}


def admission_of(owner: str, options: Mapping[str, Any]) -> Admission | None:
    """What `unique`, `debounce`, `singleton` and `throttle` of these options ask for. Raises ConfigError."""
    rules: dict[str, Any] = {}
    for name, kind in _WORDS.items():
        value = options.get(name)
        if value is None:
            continue
        if name == "singleton" and isinstance(value, str):
            value = Singleton(value)  # type: ignore[arg-type]  # checked below
        if not isinstance(value, kind):
            raise ConfigError(f"{owner} got {name}={described(value)}", hint=f"write {name}={kind.__name__}(...)")
        rules[name] = _checked(f"{owner}: {name}", value.rule(f"{owner}: {name}"))
    return Admission(**rules) if rules else None


def _checked(owner: str, rule: Rule) -> Rule:
    fault = fault_of(rule)
    if fault is not None:
        raise ConfigError(f"{owner} got {fault[0]}", hint=f"expected {fault[1]}")
    return rule


def _by(names: _By) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _choice(owner: str, name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{owner} got {name}={value!r}", hint=f"expected {' or '.join(map(repr, choices))}")
