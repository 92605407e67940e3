"""httpx and httpx2, which have the same shapes: responses that were read, requests, URLs.

Of a request the method, the URL, the body and the headers are kept, but not the headers that carry credentials.
"""

from __future__ import annotations

import base64
import importlib
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from stepwell.codec.refusal import Refusal, name_of
from stepwell.codec.walk import TAG, Decoder, Encoder, Tree, class_of

_LIBRARIES = ("httpx", "httpx2")
_SECRET = ("auth", "cookie", "key", "secret", "signature", "token")  # a header whose name has one of these


def encoder_of(cls: type[Any]) -> Callable[[Any, Encoder], Tree] | None:
    for library in _LIBRARIES:
        module = sys.modules.get(library)
        if module is not None:
            for name, encode in (("Response", _encode_response), ("Request", _encode_request), ("URL", _encode_url)):
                if cls is getattr(module, name, None):
                    return encode(library)
    return None


def _encode_response(library: str) -> Callable[[Any, Encoder], Tree]:
    def encode(value: Any, encoder: Encoder) -> Tree:
        tree: dict[str, Tree] = {
            TAG: f"{library}-response",
            "v": value.status_code,
            "h": _pairs(value.headers),
            "b": base64.b64encode(_body(value)).decode(),
            "w": value.http_version,
            "p": value.reason_phrase,
        }
        if value._request is not None:  # the public property raises when there is none
            tree["r"] = encoder.part(value.request, ".request")
        elapsed = _elapsed(value)
        if elapsed is not None:
            tree["e"] = elapsed.total_seconds()
        if value.history:
            tree["i"] = [encoder.part(each, f".history[{index}]") for index, each in enumerate(value.history)]
        return tree

    return encode


def _encode_request(library: str) -> Callable[[Any, Encoder], Tree]:
    def encode(value: Any, _: Encoder) -> Tree:
        tree: dict[str, Tree] = {TAG: f"{library}-request", "m": value.method, "v": str(value.url)}
        tree["h"] = [[name, content] for name, content in _pairs(value.headers) if not _is_secret(name)]
        if hasattr(value, "_content"):  # a streamed body is gone once it was sent
            tree["b"] = base64.b64encode(value.content).decode()
        return tree

    return encode


def _encode_url(library: str) -> Callable[[Any, Encoder], Tree]:
    return lambda value, _: {TAG: f"{library}-url", "v": str(value)}


def _pairs(headers: Any) -> list[list[str]]:
    return [[name.decode("latin-1"), content.decode("latin-1")] for name, content in headers.raw]


def _is_secret(header: str) -> bool:
    return any(word in header.lower() for word in _SECRET)


def _elapsed(response: Any) -> timedelta | None:
    try:
        return response.elapsed
    except RuntimeError:  # the client has not measured it
        return None


def _body(response: Any) -> bytes:
    if not hasattr(response, "_content"):
        raise Refusal(
            f"is a {name_of(class_of(response))} whose body was not read",
            "read it in the step, with `response.read()` or `await response.aread()`, or return what you need of it",
        )
    return response.content


def _decode_response(library: str) -> Callable[[dict[str, Tree], Decoder], Any]:
    def decode(tree: dict[str, Tree], decoder: Decoder) -> Any:
        module = importlib.import_module(library)
        # The body was stored decoded, so the headers must come after it: `content-encoding` would decode it again.
        response = module.Response(
            tree["v"],
            content=base64.b64decode(tree["b"], validate=True),
            request=decoder.part(tree["r"], ".request") if "r" in tree else None,
            extensions={"http_version": tree["w"].encode("ascii"), "reason_phrase": tree["p"].encode("latin-1")},
            history=decoder.parts(tree.get("i", [])),
        )
        response.headers = module.Headers(_raw(tree["h"]))
        if "e" in tree:
            response.elapsed = timedelta(seconds=tree["e"])
        return response

    return decode


def _decode_request(library: str) -> Callable[[dict[str, Tree], Decoder], Any]:
    def decode(tree: dict[str, Tree], _: Decoder) -> Any:
        module = importlib.import_module(library)
        content = base64.b64decode(tree["b"], validate=True) if "b" in tree else None
        return module.Request(tree["m"], tree["v"], headers=_raw(tree["h"]), content=content)

    return decode


def _raw(pairs: list[list[str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), content.encode("latin-1")) for name, content in pairs]


def _decode_url(library: str) -> Callable[[dict[str, Tree], Decoder], Any]:
    return lambda tree, _: importlib.import_module(library).URL(tree["v"])


DECODERS: dict[str, Callable[[dict[str, Tree], Decoder], Any]] = {
    f"{library}-{part}": make(library)
    for library in _LIBRARIES
    for part, make in (("response", _decode_response), ("request", _decode_request), ("url", _decode_url))
}
