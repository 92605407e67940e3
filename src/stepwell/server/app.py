"""The ASGI application: the routes of the table, and the workers' WebSocket."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.routing import BaseRoute, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from stepwell.errors import ConnectionFailed, StepwellError
from stepwell.protocol.operations import WORKER
from stepwell.server.answers import refused, request_id_of
from stepwell.server.auth import authorize
from stepwell.server.backend import Backend, backend_of
from stepwell.server.pages.token import ROUTES as PAGES
from stepwell.server.routes import HANDLERS
from stepwell.server.routing import Front, no_such_method, no_such_path, routes_for


def create_app(backend: Backend) -> ASGIApp:
    """The application on an open backend."""
    operations = routes_for(HANDLERS)
    routes: list[BaseRoute] = [*operations, *PAGES, WebSocketRoute(WORKER.path, _worker)]
    app = Starlette(routes=routes, exception_handlers={404: no_such_path, 405: no_such_method})
    app.router.redirect_slashes = False
    app.state.backend = backend
    return Front(app, operations)


async def _worker(websocket: WebSocket) -> None:
    """Authorized like every operation; refused with an HTTP answer before the protocol is switched."""
    backend = backend_of(websocket)
    try:
        caller = await backend.authenticator.caller(websocket.headers.get("authorization"))
        authorize(caller, WORKER, {})
        if backend.draining:
            raise ConnectionFailed("the server is about to go", hint="connect to another one", code="draining")
    except StepwellError as error:
        await websocket.send_denial_response(refused(WORKER, error, request_id_of(websocket)))
        return
    await backend.gateway.serve(websocket, caller.environment)
