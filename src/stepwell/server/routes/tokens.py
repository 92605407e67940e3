"""Public tokens, made for callers with an API key."""

from __future__ import annotations

import time

from stepwell.errors import ApiError
from stepwell.protocol import operations
from stepwell.protocol.fleet import Claims, Token
from stepwell.server import tokens
from stepwell.server.requests import Call


async def claims(call: Call) -> Claims:
    return Claims(sub=call.environment_id, pub=True)


async def create(call: Call) -> Token:
    """A token with exactly the scopes asked for."""
    tokens.check_scopes(call.body.scopes)
    if call.body.one_time_use:
        raise ApiError(
            "tokens that work only once are not made yet",
            hint="leave oneTimeUse out and choose a short expirationTime",
            code="invalid-request",
        )
    ends = tokens.expiry(call.body.expiration_time, time.time())
    return Token(token=tokens.mint(call.environment, call.body.scopes, ends))


HANDLERS = {operations.TOKEN_CLAIMS: claims, operations.CREATE_TOKEN: create}
