"""The tokens of runs under test: answered at once by whoever answers them, else timed out by moving the clock."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from stepwell.errors import ConfigError, StepwellError
from stepwell.model.token import TokenOutcome, TokenSpec, token_id
from stepwell.model.wait import Wait
from stepwell.testing.answering import outcome_of

if TYPE_CHECKING:
    from stepwell.executor.attempt import Attempt
    from stepwell.testing.world import Clock


@dataclass(frozen=True)
class _Made:
    run_id: str
    key: str
    spec: TokenSpec
    timeout_at: float | None
    outcome: TokenOutcome | None = None


class Tokens:
    """All of one world, by their ids."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._made: dict[str, _Made] = {}

    def make(self, run_id: str, key: str, spec: TokenSpec) -> None:
        due = None if spec.timeout is None else self._clock.now() + spec.timeout
        self._made.setdefault(token_id(run_id, key), _Made(run_id, key, spec, due))

    def forget_but(self, run_id: str, keys: set[str]) -> None:
        """A run goes on from an earlier place: only these entries are stored, and nobody has answered anything."""
        self._made = {
            name: replace(made, outcome=None) if made.run_id == run_id else made
            for name, made in self._made.items()
            if made.run_id != run_id or made.key in keys
        }

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
        outcome = made.outcome or outcome_of(name, made.spec)
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
            titles = sorted(repr(self._made[name].spec.title) for name in names)
            raise ConfigError(
                f"nobody answers the token {', '.join(titles)}, which never times out",
                hint="give it a timeout, or an answer: with stepwell.testing.answers({title: answer}): ...",
            )
        self._clock.move_to(min(moments))


def _at_rest(attempt: Attempt) -> bool:
    busy = attempt.external > 0 or any(not leaf.held_still for leaf in attempt.leaves)
    return not busy and not attempt.mailbox and not attempt.ready
