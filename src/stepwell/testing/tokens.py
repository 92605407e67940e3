"""The tokens of runs under test: answered at once by whoever answers them, else timed out by moving the clock.

What waits for a message is given the first that fits and that none of its run's waits has had, as soon as it is made.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from stepwell.errors import ConfigError, StepwellError
from stepwell.model.token import TokenOutcome, TokenSpec, token_id
from stepwell.model.wait import Wait
from stepwell.testing.answering import outcome_of
from stepwell.testing.sending import fitting

if TYPE_CHECKING:
    from stepwell.executor.attempt import Attempt
    from stepwell.testing.world import Clock


STARTED_AT = 1_700_000_000.0  # when every run under test begins, by its own clock


@dataclass(frozen=True)
class _Made:
    run_id: str
    key: str
    spec: TokenSpec
    timeout_at: float | None
    outcome: TokenOutcome | None = None
    message: str | None = None  # its id
    ceased: bool = False

    @property
    def answer_key(self) -> str:
        name, _, number = self.key.rpartition("#")
        return f"{name}.answer#{number}"


class Tokens:
    """All of one world, by their ids."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._made: dict[str, _Made] = {}

    def make(self, run_id: str, key: str, spec: TokenSpec) -> None:
        due = None if spec.timeout is None else self._clock.now() + spec.timeout
        self._made.setdefault(token_id(run_id, key), _Made(run_id, key, spec, due))
        self._deliver(run_id)

    def give_up(self, name: str) -> None:
        """The run waits for this message no more: another wait may have it."""
        if name in self._made:
            self._made[name] = replace(self._made[name], message=None, ceased=True)
            self._deliver(self._made[name].run_id)

    def forget_but(self, run_id: str, entries: Mapping[str, str]) -> None:
        """A run goes on from an earlier place: only these entries are stored (outcomes by key), and nobody has answered
        anything."""
        self._made = {
            name: replace(made, outcome=None, message=None, ceased=entries.get(made.answer_key) == "canceled")
            if made.run_id == run_id
            else made
            for name, made in self._made.items()
            if made.run_id != run_id or made.key in entries
        }
        self._deliver(run_id)

    def _deliver(self, run_id: str) -> None:
        """To the waits of a run, in the order in which they began."""
        mine = {name: made for name, made in self._made.items() if made.run_id == run_id and made.spec.subscription}
        had = {made.message for made in mine.values()}
        for name, made in mine.items():
            if made.message is None and not made.ceased and made.spec.subscription is not None:
                given = next((each for each in fitting(made.spec.subscription) if each.id not in had), None)
                if given is not None:
                    had.add(given.id)
                    text = json.dumps({"id": given.id, "name": given.name, "at": STARTED_AT, "data": given.data})
                    outcome = TokenOutcome(name, "completed", text.encode())
                    self._made[name] = replace(made, message=given.id, outcome=outcome)

    async def tell(self, attempt: Attempt, token_ids: Sequence[str]) -> None:
        """Tell an attempt of these as they are closed; the clock moves when nothing else is under way."""
        left = set(token_ids)
        try:
            while not attempt.dead and left & attempt.tokens.awaited:
                closed = [outcome for name in sorted(left) if (outcome := self._look(name)) is not None]
                left -= {outcome.token_id for outcome in closed}
                attempt.tokens_closed(closed)
                if not closed and _at_rest(attempt):
                    self._move_on(left & attempt.tokens.awaited, attempt.timers.next_due())
                    attempt.kick()
                await asyncio.sleep(0)
        except StepwellError as error:
            attempt.fail(error)

    def wait(self, waits: Sequence[Wait]) -> None:
        """Until one of what a suspended run waits for is over."""
        names = {wait.token_id for wait in waits if wait.token_id is not None}
        if all(self._look(name) is None for name in sorted(names)):
            self._move_on(names, min((wait.due_at for wait in waits if wait.due_at is not None), default=None))

    def _look(self, name: str) -> TokenOutcome | None:
        made = self._made.get(name)
        if made is None:
            return TokenOutcome(name, "unknown")
        outcome = made.outcome or (None if made.spec.subscription else outcome_of(name, made.spec))
        if outcome is None and made.timeout_at is not None and made.timeout_at <= self._clock.now():
            outcome = TokenOutcome(name, "timed_out")
        self._made[name] = replace(made, outcome=outcome)
        return outcome

    def _move_on(self, names: set[str], due: float | None) -> None:
        """Raises ConfigError where nothing would ever happen."""
        moments = [made.timeout_at for name in names if (made := self._made.get(name)) and made.timeout_at is not None]
        if due is not None:
            moments.append(due)
        if not moments:
            raise _never([self._made[name].spec for name in sorted(names)])
        self._clock.move_to(min(moments))


def _never(specs: Sequence[TokenSpec]) -> ConfigError:
    awaited = sorted(f"{each.subscription.kind} {each.subscription.name!r}" for each in specs if each.subscription)
    if awaited:
        return ConfigError(
            f"nobody sends the {', '.join(awaited)}, and the wait for it never times out",
            hint="give it a timeout, or send one: with stepwell.testing.sends(events=[(name, data)]): ...",
        )
    titles = sorted(repr(each.title) for each in specs)
    return ConfigError(
        f"nobody answers the token {', '.join(titles)}, which never times out",
        hint="give it a timeout, or an answer: with stepwell.testing.answers({title: answer}): ...",
    )


def _at_rest(attempt: Attempt) -> bool:
    busy = attempt.external > 0 or any(not leaf.held_still for leaf in attempt.leaves)
    return not busy and not attempt.mailbox and not attempt.ready
