"""Public tokens, made for callers with an API key."""

from __future__ import annotations

import time

from stepwell.errors import ApiError
from stepwell.protocol import operations
from stepwell.protocol.fleet import Claims, PublicToken
from stepwell.server import public_tokens
from stepwell.server.requests import Call


async def claims(call: Call) -> Claims:
    return Claims(sub=call.environment_id, pub=True)


async def create(call: Call) -> PublicToken:
    """A token with exactly the scopes asked for."""
    public_tokens.check_scopes(call.body.scopes)
    if call.body.one_time_use:
        raise ApiError(
            "tokens that work only once are not made yet",
            hint="leave oneTimeUse out and choose a short expirationTime",
            code="invalid-request",
        )
    ends = public_tokens.expiry(call.body.expiration_time, time.time())
    return PublicToken(token=public_tokens.mint(call.environment, call.body.scopes, ends))


HANDLERS = {operations.TOKEN_CLAIMS: claims, operations.CREATE_PUBLIC_TOKEN: create}
