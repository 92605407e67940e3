"""Templates to responses, with the headers that let a page do nothing but show itself and send its form back."""

from __future__ import annotations

import secrets
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse, RedirectResponse, Response

_HEADERS = {
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",  # the address is the permission: no page that is linked to may learn it
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "x-robots-tag": "noindex, nofollow",
}


@cache
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("stepwell.server.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _style() -> str:
    return (files("stepwell.server.pages") / "templates" / "style.css").read_text("utf-8")


def page(template: str, status: int = 200, **values: Any) -> Response:
    """The template as a response. Its only style is the one that carries this response's nonce; it has no script."""
    nonce = secrets.token_urlsafe(18)
    text = _templates().get_template(template).render(nonce=nonce, style=_style(), **values)
    return HTMLResponse(text, status, headers={**_HEADERS, "content-security-policy": _policy(nonce)})


def see_other(address: str) -> Response:
    """To the page that shows what a form led to: reloading that one sends nothing again."""
    return RedirectResponse(address, 303, headers=_HEADERS)


def _policy(nonce: str) -> str:
    return "; ".join(
        [
            "default-src 'none'",
            f"style-src 'nonce-{nonce}'",
            "img-src data:",  # the icon, which is part of the page
            "form-action 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        ]
    )
