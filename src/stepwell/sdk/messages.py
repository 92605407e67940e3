"""What a task receives: events, and the messages of its inboxes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from stepwell.client.checks import checked_seconds, described
from stepwell.errors import ConfigError, MessageTimeout, PayloadInvalid
from stepwell.model.message import Subscription
from stepwell.model.token import TokenSpec
from stepwell.sdk.runtime import Runtime

if TYPE_CHECKING:
    from stepwell.sdk.schema import Schema

D_co = TypeVar("D_co", covariant=True)
Duration = float | str | timedelta
LONGEST_NAME = 200


class _Raise:
    def __repr__(self) -> str:
        return "<raise>"


RAISE: Final = _Raise()


@dataclass(frozen=True, slots=True)
class Message(Generic[D_co]):
    """An event or a signal as a task gets it. id: the sender's own, if it gave one. data: plain JSON, or what was asked
    for by `data=`."""

    id: str
    name: str
    data: D_co
    sent_at: datetime


def checked_message_name(what: str, name: Any) -> str:
    """Raises ConfigError."""
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        raise ConfigError(f"{what} got the name {described(name)}", hint=f"1 to {LONGEST_NAME} printable characters")
    return name


def wait_spec(subscription: Subscription, timeout: Duration | None) -> TokenSpec:
    """Raises ConfigError."""
    what = subscription.kind
    seconds = None if timeout is None else checked_seconds(what, "timeout", timeout, zero=True)
    return TokenSpec(timeout=seconds, subscription=subscription)


def message_of(closed: dict[str, Any], what: str, data: Any, default: Any, error: type[MessageTimeout]) -> Any:
    """The message in how a wait ended, or `default`. Raises `error`, and PayloadInvalid for data that does not fit."""
    if closed["status"] != "completed":
        if default is not RAISE:
            return default
        raise error(f"{what}: nothing came in time", hint="give it a longer timeout, or a default")
    given = closed["answer"]
    return Message(given["id"], given["name"], fitted(given["data"], data, what, given["id"]), moment(given["at"]))


def fitted(given: Any, data: Any, what: str, message_id: str) -> Any:
    """The data as `data` says that it is. Raises PayloadInvalid."""
    if data is None:
        return given
    try:
        return _schema(data).validate(given)
    except PayloadInvalid as error:
        message = error.message.partition(" does not fit: ")[2] or error.message
        raise PayloadInvalid(
            f"the data of {what} ({message_id}) does not fit: {message}", problems=error.problems
        ) from None


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def of_a_run(runtime: Runtime | None, verb: str, instead: str) -> Runtime:
    """Raises ConfigError: this word waits, which only a run can."""
    if runtime is None:
        raise ConfigError(
            f"{verb} was called outside a run, where nothing can be suspended",
            hint=f"inside a task it waits; here {instead}",
        )
    return runtime


@lru_cache(maxsize=256)
def _schema(data: Any) -> Schema:
    from stepwell.sdk.schema import ObjectSchema

    return ObjectSchema("the data", data)
