"""`@task(slow_down=...)`, as users write it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stepwell.client.checks import checked_seconds, described
from stepwell.client.options import Duration
from stepwell.errors import ConfigError
from stepwell.model.slowing import SlowDownRule, fault_of


@dataclass(frozen=True)
class SlowDown:
    """A task of which `after` attempts in a row failed, over all its runs, starts one run at a time, at distances from
    `first` to `longest`, until one succeeds."""

    after: int = 10
    first: Duration = "1s"
    longest: Duration = "1m"

    def rule(self, owner: str) -> SlowDownRule:
        """As it is stored, in seconds. Raises ConfigError."""
        if type(self.after) is not int:
            raise ConfigError(f"{owner} got after={described(self.after)}", hint="a whole number of failures")
        first, longest = checked_seconds(owner, "first", self.first), checked_seconds(owner, "longest", self.longest)
        rule = SlowDownRule(self.after, first, longest)
        if (fault := fault_of(rule)) is not None:
            raise ConfigError(f"{owner}: {fault}", hint='e.g. SlowDown(after=10, first="1s", longest="1m")')
        return rule


def slow_down_of(owner: str, value: Any) -> SlowDownRule | None:
    """What a task says: a SlowDown, True for its defaults, or nothing. Raises ConfigError."""
    if value is None or value is False:
        return None
    if value is True:
        value = SlowDown()
    if not isinstance(value, SlowDown):
        raise ConfigError(f"{owner} got slow_down={described(value)}", hint="True, or SlowDown(after=10)")
    return value.rule(f"{owner}: slow_down")
