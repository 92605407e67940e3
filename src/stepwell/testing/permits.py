"""Semaphores, limiters and breakers of one world under test: the same decisions, kept in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from stepwell.model import permit
from stepwell.model.permit import Guard, PermitAnswer, PermitChange, Terms

Tell = Callable[[PermitAnswer], None]
Change = tuple[int, float, PermitChange | None]  # at which entry, when, what; None: the attempt was over


class Permits:
    """By run and key, in the order of asking."""

    def __init__(self) -> None:
        self._guards: dict[tuple[str, str], Guard] = {}
        self._asked: dict[tuple[str, str], PermitChange] = {}
        self._answers: dict[tuple[str, str], PermitAnswer] = {}
        self._tell: dict[tuple[str, str], Tell] = {}

    @classmethod
    def after(cls, run_id: str, changes: Sequence[Change]) -> Permits:
        """As they were when one run had made these changes."""
        permits = cls()
        for _, now, change in changes:
            if change is None:
                permits.drop(run_id)
            else:
                permits.change(run_id, now, change)
        return permits

    def change(self, run_id: str, now: float, change: PermitChange) -> None:
        place = run_id, change.key
        guard = replace(self._guard(change.terms), now=now)
        if change.verb == "return":
            guard = permit.leave(guard, change.failed, probe=guard.probing_since is not None)
            self._forget(place)
        elif place not in self._asked:
            self._asked[place] = change
            guard = self._ask(place, guard, change)
        self._guards[change.terms.kind, change.terms.name] = guard
        self._grant()

    def tell(self, run_id: str, keys: Sequence[str], tell: Tell) -> None:
        for key in keys:
            if (run_id, key) not in self._asked:
                tell(PermitAnswer(key, "unknown"))
            else:
                self._tell[run_id, key] = tell
        self._grant()

    def is_answered(self, run_id: str, key: str) -> bool:
        """Also when it is gone: then it is asked for again."""
        return (run_id, key) in self._answers or (run_id, key) not in self._asked

    def drop(self, run_id: str) -> None:
        """The attempt is over: it holds nothing."""
        for place in [place for place in self._asked if place[0] == run_id]:
            self._forget(place)
        self._grant()

    def _guard(self, terms: Terms) -> Guard:
        return self._guards.get((terms.kind, terms.name)) or Guard("", terms, "", 0.0)

    def _ask(self, place: tuple[str, str], guard: Guard, change: PermitChange) -> Guard:
        if change.terms.kind == "limiter":
            guard, at = permit.take(guard, change.weight)
            self._answers[place] = PermitAnswer(change.key, "granted", at)
        elif change.terms.kind == "breaker":
            guard, retry_at, _ = permit.enter(guard)
            status = "granted" if retry_at is None else "refused"
            self._answers[place] = PermitAnswer(change.key, status, guard.now if retry_at is None else retry_at)
        return guard

    def _grant(self) -> None:
        for place, change in self._asked.items():
            terms = change.terms
            held = sum(
                each.terms.name == terms.name and each.terms.kind == "semaphore" and other in self._answers
                for other, each in self._asked.items()
            )
            if terms.kind == "semaphore" and place not in self._answers and held < terms.amount:
                self._answers[place] = PermitAnswer(change.key, "granted")
            if place in self._answers and place in self._tell:
                self._tell.pop(place)(self._answers[place])

    def _forget(self, place: tuple[str, str]) -> None:
        for kept in (self._asked, self._answers, self._tell):
            kept.pop(place, None)
