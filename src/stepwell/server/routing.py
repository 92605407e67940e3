"""Makes the routes from the table of operations: each gets its handler, its authorization and its error answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from urllib.parse import unquote

import structlog
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from stepwell.errors import ApiError, NotFound, StepwellError
from stepwell.protocol.operations import OPERATIONS, Operation
from stepwell.server.answers import answered, broken, preflight, refused, request_id_of
from stepwell.server.auth import Caller, authorize
from stepwell.server.backend import Backend, backend_of
from stepwell.server.requests import Call, Reply, checked_parameters, parse_body, parse_query

Handler = Callable[[Call], Awaitable[Reply]]
_log = structlog.get_logger("stepwell.server")
_CLIENT_GONE = 499


def routes_for(handlers: Mapping[Operation, Handler]) -> list[Route]:
    """One route an operation, in the table's order. An operation without a handler fails here, at start."""
    missing = [o.name for o in OPERATIONS if not o.websocket and o not in handlers]
    if missing:
        raise AssertionError(f"no handler for {', '.join(missing)}")
    routes: list[Route] = []
    for operation, handler in handlers.items():
        routes.append(Route(operation.path, _endpoint(operation, handler), methods=[operation.method]))
    routes.extend(Route(path, preflight, methods=["OPTIONS"]) for path in {o.path for o in OPERATIONS if o.browser})
    return routes


def _endpoint(operation: Operation, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        request_id = request_id_of(request)
        try:
            call = await _call(operation, request)
            return answered(operation, await handler(call), request_id)
        except StepwellError as error:
            return refused(operation, error, request_id)
        except ClientDisconnect:
            return Response(status_code=_CLIENT_GONE)
        except Exception as error:  # noqa: BLE001 - the HTTP edge: whatever it was, the caller gets an answer
            return broken(operation, error, request_id)

    return endpoint


async def _call(operation: Operation, request: Request) -> Call:
    """In this order: who, may they, then the path, the query and the body. A stranger's body is never parsed."""
    backend = backend_of(request)
    raw = {name: unquote(value) for name, value in request.path_params.items()}
    caller = await _caller(backend, operation, request, raw)
    parameters = checked_parameters(raw)
    query = parse_query(operation, request)
    body = await parse_body(operation, request)
    return Call(backend, operation, caller, parameters, body, query, request)


async def _caller(
    backend: Backend, operation: Operation, request: Request, parameters: dict[str, str]
) -> Caller | None:
    if operation.access == "anyone":
        return None
    caller = await backend.authenticator.caller(request.headers.get("authorization"))
    authorize(caller, operation, parameters)
    return caller


class Front:
    """Routes by the path as it was sent: a slash within an id (`%2F`) must not become a separator.

    An operation is carried out at once: what else Starlette puts around a route (handlers of errors, which `_endpoint`
    answers itself) takes as long as all of ours about a short call. Everything else goes to `app`.
    """

    def __init__(self, app: Starlette, operations: Sequence[Route]) -> None:
        self._app = app
        self._operations = operations

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in {"http", "websocket"} and scope.get("raw_path"):
            scope = {**scope, "path": scope["raw_path"].decode("ascii", "replace").partition("?")[0]}
        found = self._operation(scope) if scope["type"] == "http" else None
        if found is None:
            await self._app(scope, receive, send)
            return
        scope.update(found, app=self._app)
        response: Response = await found["endpoint"](Request(scope, receive, send))
        await response(scope, receive, send)

    def _operation(self, scope: Scope) -> Scope | None:
        """What to add to the scope."""
        for route in self._operations:
            match, found = route.matches(scope)
            if match is Match.FULL:
                return found
        return None


def no_such_path(request: Request, _: Exception) -> Response:
    error = NotFound(f"no operation {request.method} {request.url.path[:200]}", hint="see /openapi.json")
    return refused(None, error, request_id_of(request))


def no_such_method(request: Request, _: Exception) -> Response:
    error = ApiError(f"{request.method} is not possible here", code="method-not-allowed", status=405)
    return refused(None, error, request_id_of(request))
