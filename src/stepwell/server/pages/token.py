"""A token's page at its signed link: GET shows it, POST answers it. Whoever holds the link may do both.

Nothing but the link is proof of that permission, so no cookie can be misused for it, and a GET changes nothing: mail
scanners and link previews open links too. A link that is not valid looks the same whether there is such a token or not.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from http import HTTPStatus

import msgspec
import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from stepwell.engine import environments, links, tokens
from stepwell.errors import Conflict, ConnectionFailed, NotFound, PayloadInvalid, PayloadTooLarge
from stepwell.model.environment import Environment
from stepwell.model.token import Token
from stepwell.primitives.ids import is_id
from stepwell.server.answers import request_id_of
from stepwell.server.backend import Backend, backend_of
from stepwell.server.pages.answering import Submission, closed_page, open_page, submission, typed_in
from stepwell.server.pages.asked import Asked, State
from stepwell.server.pages.fields import ABSENT, ROOT, Schema
from stepwell.server.pages.rendering import page, see_other
from stepwell.server.requests import read_limited

LARGEST_FORM = 1024 * 1024
"""Bytes of an answer as a browser sends it."""

ANY_ANSWER: Schema = {
    "type": "object",
    "properties": {"approved": {"type": "boolean"}, "comment": {"type": "string"}},
    "required": ["approved"],
}
"""What is asked for where a token takes any JSON."""

_FORM = "application/x-www-form-urlencoded"
_STATES: dict[str, State] = {"waiting": "open", "completed": "answered", "timed_out": "timed-out"}
_TOO_LATE = "Your answer came too late: this is closed already, as it says above."
_NOBODY = Environment("", "", created_at=datetime.fromtimestamp(0, UTC), signing_secret=b"\0" * 32)
_log = structlog.get_logger("stepwell.server")


class Refused(Exception):
    """The page that is shown instead."""

    def __init__(self, status: int, heading: str, text: str) -> None:
        super().__init__(heading)
        self.status = status
        self.heading = heading
        self.text = text


async def show(request: Request) -> Response:
    """The question with its form, or how it ended."""
    token, task_id = await _opened(request)
    asked = asked_of(token, task_id)
    return open_page(asked, schema_of(token)) if asked.state == "open" else closed_page(asked)


async def answer(request: Request) -> Response:
    """Take an answer that fits, show what is wrong with one that does not, or how somebody else was first."""
    _check_origin(request)
    token, task_id = await _opened(request)
    sent = submission(schema_of(token), await _typed(request))
    asked = asked_of(token, task_id)
    if asked.state != "open":
        return _too_late(request, asked, sent)
    if not sent.fits:
        return open_page(asked, schema_of(token), sent, HTTPStatus.UNPROCESSABLE_ENTITY)
    try:
        await tokens.complete(
            backend_of(request).db, token.environment_id, token.id, msgspec.json.encode(sent.answer), by=sent.by
        )
    except PayloadInvalid as error:  # the engine is the last judge, and knows of rules that no form does
        refused = replace(sent, problems={ROOT: [each["reason"] for each in error.problems] or [error.message]})
        return open_page(asked, schema_of(token), refused, HTTPStatus.UNPROCESSABLE_ENTITY)
    except PayloadTooLarge:
        raise _too_long() from None
    except Conflict:
        return _too_late(request, asked_of(*await _opened(request)), sent)
    return see_other(f"?{request.url.query}")


def asked_of(token: Token, task_id: str | None) -> Asked:
    """What the page shows of a token."""
    return Asked(
        reference=token.id,
        title=token.title or "Approve this?",
        state=_STATES.get(token.status, "canceled"),
        created_at=token.created_at,
        data=ABSENT if token.data is None else msgspec.json.decode(token.data),
        answer=ABSENT if token.output is None else msgspec.json.decode(token.output),
        task_id=task_id,
        tags=token.tags,
        timeout_at=token.timeout_at,
        ended_at=token.closed_at,
        answered_by=token.completed_by,
    )


def schema_of(token: Token) -> Schema:
    return ANY_ANSWER if token.answer_schema is None else token.answer_schema


async def _opened(request: Request) -> tuple[Token, str | None]:
    """The token that a valid link leads to, and the task that asks. Raises Refused."""
    token_id = request.path_params["token_id"]
    expires, signature = request.query_params.get("expires", ""), request.query_params.get("signature", "")
    if not (is_id(token_id) and expires.isascii() and expires.isdigit() and len(expires) <= 12):
        raise _no_such_link()
    found, environment = await _found(backend_of(request), token_id)
    if not links.is_signed(environment, token_id, int(expires), signature) or found is None:
        raise _no_such_link()
    if int(expires) <= time.time():
        raise Refused(
            HTTPStatus.GONE, "This link has expired", "Ask whoever sent it for a new one, if it is still needed."
        )
    return found


async def _found(backend: Backend, token_id: str) -> tuple[tuple[Token, str | None] | None, Environment]:
    """The token with its task, and its environment; where there is none, one whose links nobody has."""
    found = await tokens.linked(backend.db, token_id)
    environment = await environments.get_environment(backend.db, found[0].environment_id) if found else None
    return found, environment or _NOBODY


def _no_such_link() -> Refused:
    text = "It may be incomplete, or it was changed on the way. Open it again from the message that it came with."
    return Refused(HTTPStatus.NOT_FOUND, "This link does not work", text)


def _too_late(request: Request, asked: Asked, sent: Submission) -> Response:
    """Somebody was first; if it was this person with this answer, it was a second click."""
    if asked.state == "answered" and sent.fits and (asked.answer, asked.answered_by) == (sent.answer, sent.by):
        return see_other(f"?{request.url.query}")
    return closed_page(asked, late=_TOO_LATE, status=HTTPStatus.CONFLICT)


def _check_origin(request: Request) -> None:
    """A page of somebody else's must not send this form, even if it came to know the link."""
    if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        raise Refused(HTTPStatus.FORBIDDEN, "This was sent from another page", "Open the link itself and answer there.")


async def _typed(request: Request) -> dict[str, list[str]]:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "This is no form", "Open the link in a browser.")
    try:
        return typed_in(await read_limited(request, LARGEST_FORM))
    except ValueError:
        raise Refused(HTTPStatus.BAD_REQUEST, "This form cannot be read", "Open the link again and answer.") from None
    except PayloadTooLarge:
        raise _too_long() from None


def _too_long() -> Refused:
    text = "Go back, make your answer shorter, and send it again."
    return Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "This answer is too long", text)


def _guarded(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Whatever goes wrong, the person gets a page that says what to do."""

    async def endpoint(request: Request) -> Response:
        try:
            return await handler(request)
        except Refused as refusal:
            return page("notice.html", refusal.status, heading=refusal.heading, text=refusal.text)
        except ClientDisconnect:
            return Response(status_code=499)
        except NotFound:  # it was there a moment ago
            refusal = _no_such_link()
            return page("notice.html", refusal.status, heading=refusal.heading, text=refusal.text)
        except ConnectionFailed:
            text = "Nothing was lost. Try again in a minute; an answer that you sent may need to be sent again."
            return page("notice.html", HTTPStatus.SERVICE_UNAVAILABLE, heading="Not available right now", text=text)
        except Exception as error:  # noqa: BLE001 - the HTTP edge: a person gets a page, the log the rest
            request_id = request_id_of(request)
            _log.error("request failed", operation="token page", request_id=request_id, exc_info=error)
            text = f"The fault is ours, and it was noted. Try again; if it stays, say that it was {request_id}."
            return page("notice.html", HTTPStatus.INTERNAL_SERVER_ERROR, heading="Something went wrong", text=text)

    return endpoint


ROUTES: list[BaseRoute] = [
    Route("/tokens/{token_id}", _guarded(show), methods=["GET"]),
    Route("/tokens/{token_id}", _guarded(answer), methods=["POST"]),
]
