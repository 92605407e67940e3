"""How a run may be triggered: the options by name, checked, in the units that are stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeAlias, TypedDict, get_args

from stepwell.client.admission import Debounce, Singleton, Throttle, Unique, admission_of
from stepwell.client.caller import caller
from stepwell.client.checks import epoch_seconds, refuse_unknown
from stepwell.client.given import Given
from stepwell.model.admission import SingletonMode
from stepwell.model.child import IdempotencyScope, OnParentCancel, TriggerOptions

Duration: TypeAlias = float | str | timedelta


class Named(Protocol):
    """A queue as declared in code."""

    @property
    def name(self) -> str: ...


class TriggerFields(TypedDict, total=False):
    """The options of a trigger.

    queue: instead of the task's own. concurrency_key: a limit of its own per key, e.g. a tenant. priority: larger goes
    first. delay: not before then, a duration or a datetime. ttl: a run that has not begun by then expires.
    idempotency_key: one run per task and key for `idempotency_key_ttl` (30 days); idempotency_key_scope: within the
    environment ("global"), or, inside a task, within the "run" that triggers or its "attempt". max_attempts,
    max_duration: instead of the declared ones. tags: added to the declared ones. metadata: the run's first metadata.
    on_parent_cancel: "abandon" has a child go on when the run that triggered it is canceled (default: "cancel").
    unique, debounce, singleton, throttle: which triggers make a run, instead of what the task declares.
    """

    queue: Named | str | None
    concurrency_key: str | None
    priority: int | None
    delay: Duration | datetime | None
    ttl: Duration | None
    idempotency_key: str | None
    idempotency_key_ttl: Duration | None
    idempotency_key_scope: IdempotencyScope | None
    max_attempts: int | None
    max_duration: Duration | None
    tags: Sequence[str] | None
    metadata: Mapping[str, Any] | None
    on_parent_cancel: OnParentCancel | None
    unique: Unique | None
    debounce: Debounce | None
    singleton: Singleton | SingletonMode | None
    throttle: Throttle | None


def trigger_options(owner: str, options: Mapping[str, Any]) -> TriggerOptions:
    """The options as they are stored. Raises ConfigError that names the option."""
    refuse_unknown(owner, options, TriggerFields.__annotations__)
    given = Given(owner, options)
    delay = given.get("delay")
    moment = epoch_seconds(delay, f"{owner}: delay") if isinstance(delay, datetime) else None
    return TriggerOptions(
        queue=given.queue("queue"),
        concurrency_key=given.text("concurrency_key"),
        priority=given.whole("priority"),
        delay=given.duration("delay", zero=True) if moment is None else None,
        delay_until=moment,
        ttl=given.duration("ttl"),
        idempotency_key=given.text("idempotency_key"),
        idempotency_key_ttl=given.duration("idempotency_key_ttl"),
        idempotency_key_scope=_scope(given),
        max_attempts=given.whole("max_attempts", smallest=1),
        max_duration=given.duration("max_duration"),
        tags=given.tags("tags"),
        metadata=given.document("metadata"),
        on_parent_cancel=given.choice("on_parent_cancel", get_args(OnParentCancel)),
        admission=admission_of(owner, options),
    )


def _scope(given: Given) -> IdempotencyScope | None:
    scope = given.choice("idempotency_key_scope", get_args(IdempotencyScope))
    if scope is not None and given.get("idempotency_key") is None:
        raise given.wrong("idempotency_key_scope", "give it together with an idempotency_key")
    return scope


def scoped(options: TriggerOptions) -> TriggerOptions:
    """The options as they are sent: the key is the triggering run's own, or its attempt's, where its scope says so.

    Outside a run every key belongs to the environment.
    """
    scope, ask_caller = options.idempotency_key_scope, caller.get()
    if scope is None:
        return options
    key = options.idempotency_key
    if scope != "global" and ask_caller is not None:
        here = ask_caller()
        key = f"{here.run_id}:{key}" if scope == "run" else f"{here.run_id}#{here.attempt}:{key}"
    return replace(options, idempotency_key=key, idempotency_key_scope=None)
