"""`token` and `create_token`: wait for somebody outside. A run that waits holds no worker."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast, overload

from stepwell.client.checks import checked_seconds, described
from stepwell.errors import ConfigError, PayloadInvalid, TokenCanceled, TokenTimeout
from stepwell.model.retry import Retry
from stepwell.model.token import TokenSpec
from stepwell.sdk.runtime import Runtime, StepCall, StepOptions, current
from stepwell.sdk.words import word

if TYPE_CHECKING:
    from stepwell.sdk.schema import Schema

A = TypeVar("A")
D = TypeVar("D")
Duration = float | str | timedelta


@dataclass(frozen=True)
class Answer:
    """What a person says to a token, unless it asks for something else. by: who, as far as that was said."""

    approved: bool
    comment: str | None = None
    by: str | None = None


class _Raise:
    def __repr__(self) -> str:
        return "<raise TokenTimeout>"


RAISE: Final = _Raise()


class TokenHandle(Generic[A]):
    """A token of this run, to be awaited once or often: `await handle`, in `gather`, or as a task in `asyncio.wait`."""

    __stepwell_word__ = True
    __slots__ = ("answer", "id")

    def __init__(self, id: str, answer: type[A]) -> None:  # noqa: A002
        self.id = id
        self.answer = answer

    @overload
    async def wait(self) -> A: ...
    @overload
    async def wait(self, *, default: D) -> A | D: ...
    @word
    async def wait(self, *, default: Any = RAISE) -> Any:
        """The answer, as soon as there is one; `default` when the token times out.

        Raises:
            TokenTimeout: nobody answered in time, and there is no default. TokenCanceled: it was canceled.
            PayloadInvalid: the answer does not fit. ConfigError: outside a run.
        """
        runtime = current() or outside("token.wait", "client.get_token(id)")
        return answer_of(await runtime.token_closed("token", self.id), self.answer, default)

    @word
    async def url(self) -> str:
        """The link to the page where a person answers this token, for a message of your own: a step, which asks the
        server once. Whoever has the link may answer; it works as long as the token is open.

        Raises:
            ConfigError: outside a run.
        """
        runtime = current() or outside("token.url", "client.get_token(id).page_url")
        return await runtime.step(StepCall(_link_of, (self.id,), {}, _ASKING))

    def __await__(self) -> Generator[Any, Any, A]:
        return self.wait().__await__()

    def __repr__(self) -> str:
        return f"<token {self.id}>"


_ASKING = StepOptions("token.url", retry=Retry(max_attempts=5), timeout=10.0)


async def _link_of(token_id: str) -> str:
    runtime = current()
    assert runtime is not None  # it is a step
    return await runtime.token_link(token_id)


@overload
async def token(
    *,
    title: str | None = None,
    timeout: Duration | None = None,
    data: Any = None,
    tags: Iterable[str] = (),
) -> Answer: ...
@overload
async def token(
    *,
    title: str | None = None,
    timeout: Duration | None = None,
    data: Any = None,
    tags: Iterable[str] = (),
    default: D,
) -> Answer | D: ...
@overload
async def token(
    *,
    title: str | None = None,
    timeout: Duration | None = None,
    data: Any = None,
    tags: Iterable[str] = (),
    answer: type[A],
) -> A: ...
@overload
async def token(
    *,
    title: str | None = None,
    timeout: Duration | None = None,
    data: Any = None,
    tags: Iterable[str] = (),
    answer: type[A],
    default: D,
) -> A | D: ...
@word
async def token(
    *,
    title: str | None = None,
    timeout: Duration | None = None,
    data: Any = None,
    tags: Iterable[str] = (),
    answer: Any = Answer,
    default: Any = RAISE,
) -> Any:
    """Asks somebody outside, and waits for the answer; the run holds no worker meanwhile.

    title: what is asked, in a line. data: what the decision is about, for people to read; anything that can be stored.
    answer: what the answer has to be: a pydantic model, a dataclass, a TypedDict, `bool`, …; by default an `Answer`
    with `approved`. timeout: how long it is open ("24h"), for ever by default. default: what is returned when it times
    out. tags: to find it by.

    Raises:
        TokenTimeout: nobody answered in time, and there is no default. TokenCanceled: it was canceled.
        ConfigError: outside a run, or an argument that is none. CheckpointError: `data` cannot be stored.
    """
    runtime = current() or outside("token", "client.create_token(...)")
    spec = spec_of(title=title, timeout=timeout, data=data, tags=tags, answer=answer)
    made = await runtime.create_token("token", spec)
    return answer_of(await runtime.token_closed("token", made), answer, default)


@overload
async def create_token(
    *, title: str | None = None, timeout: Duration | None = None, data: Any = None, tags: Iterable[str] = ()
) -> TokenHandle[Answer]: ...
@overload
async def create_token(
    *,
    title: str | None = None,
    timeout: Duration | None = None,
    data: Any = None,
    tags: Iterable[str] = (),
    answer: type[A],
) -> TokenHandle[A]: ...
@word
async def create_token(
    *,
    title: str | None = None,
    timeout: Duration | None = None,
    data: Any = None,
    tags: Iterable[str] = (),
    answer: Any = Answer,
) -> TokenHandle[Any]:
    """Makes a token and goes on: its handle has the `id`, and is awaited later. Arguments and errors as of `token`."""
    runtime = current() or outside("create_token", "client.create_token(...)")
    spec = spec_of(title=title, timeout=timeout, data=data, tags=tags, answer=answer)
    return TokenHandle(await runtime.create_token("token", spec), answer)


def spec_of(
    *, title: str | None, timeout: Duration | None, data: Any, tags: Iterable[str], answer: Any = Answer
) -> TokenSpec:
    """Raises ConfigError and CheckpointError."""
    import msgspec

    from stepwell.codec.payload import TAGGED, Packet, plain_bytes
    from stepwell.codec.values import dumps

    if title is not None and (not isinstance(title, str) or not 0 < len(title) <= 500):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigError(f"token got the title {described(title)}", hint="a text of 1 to 500 characters")
    if isinstance(tags, str):
        raise ConfigError(f"token got tags={tags!r}, which is one text", hint=f"a list: tags=[{tags!r}]")
    return TokenSpec(
        title=title,
        data=None if data is None else plain_bytes(Packet(dumps(data), TAGGED)),
        answer_schema=None if answer is None else msgspec.json.encode(_schema(answer).json_schema()),
        tags=tuple(tags),
        timeout=None if timeout is None else checked_seconds("token", "timeout", timeout, zero=True),
    )


def answer_of(closed: dict[str, Any], answer: Any, default: Any) -> Any:
    """The typed answer in how a token was closed. Raises TokenTimeout, TokenCanceled, PayloadInvalid."""
    status, token_id = closed["status"], closed["token"]
    if status == "timed_out":
        if default is not RAISE:
            return default
        raise TokenTimeout(
            f"token {token_id} timed out: nobody answered in time",
            hint="give it a longer timeout, or a default: token(..., default=...)",
        )
    if status != "completed":
        who = f" by {closed['by']}" if "by" in closed else ""
        raise TokenCanceled(f"token {token_id} was canceled{who}" if status == "canceled" else f"no token {token_id}")
    given = closed.get("answer")
    if answer is None:
        return given
    if answer is Answer and isinstance(given, dict) and "by" in closed:
        given = {"by": closed["by"]} | {k: v for k, v in cast("dict[str, Any]", given).items() if v is not None}
    try:
        return _schema(answer).validate(given)
    except PayloadInvalid as error:
        message = error.message.partition(" does not fit: ")[2] or error.message
        raise PayloadInvalid(
            f"the answer to token {token_id} does not fit: {message}", problems=error.problems
        ) from None


def outside(verb: str, instead: str) -> Runtime:
    """Raises ConfigError: this word waits, which only a run can."""
    raise ConfigError(
        f"{verb} was called outside a run, where nothing can be suspended",
        hint=f"inside a task it waits; here {instead}",
    )


@lru_cache(maxsize=256)
def _schema(answer: Any) -> Schema:
    from stepwell.sdk.schema import ObjectSchema

    return ObjectSchema("the answer", answer)
