"""Tokens and the links to their pages, for tests."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from html import unescape
from typing import Any

import httpx

from stepwell.engine import tokens
from stepwell.engine.links import link_expiry, page_url
from stepwell.model.environment import Environment
from stepwell.model.token import Token, TokenSpec
from stepwell.storage.database import Database, Tx

APPROVAL = {
    "type": "object",
    "properties": {
        "approved": {"type": "boolean", "title": "Approved"},
        "comment": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None, "title": "Comment"},
    },
    "required": ["approved"],
}


@dataclass(frozen=True)
class Asker:
    """Makes tokens in an environment, and links to them on a server."""

    db: Database
    environment: Environment
    url: str

    async def ask(self, schema: Any = APPROVAL, data: Any = None, title: str | None = "Run it?", **spec: Any) -> Token:
        made, _ = await tokens.create(
            self.db,
            self.environment.id,
            TokenSpec(
                title=title,
                data=None if data is None else json.dumps(data).encode(),
                answer_schema=None if schema is None else json.dumps(schema).encode(),
                **{"timeout": 3600.0, **spec},
            ),
        )
        return made

    def link(self, token: Token, expires: int | None = None) -> str:
        moment = link_expiry(token.created_at, token.timeout_at) if expires is None else expires
        return page_url(self.url, self.environment, token.id, moment)

    async def now(self, token: Token) -> Token:
        return await tokens.get(self.db, self.environment.id, token.id)

    async def time_out(self, token: Token) -> None:
        """Its time is over, and the service saw it."""

        async def body(tx: Tx) -> None:
            past = "UPDATE token SET timeout_at = clock_timestamp() - interval '1 second' WHERE id = $1"
            await tx.execute(past, token.id)

        await self.db.transact("move_time", body)
        await tokens.time_out_due(self.db)


def seen(answer: httpx.Response) -> str:
    """The text of a page, as a person reads it."""
    body = re.sub(r"<style.*?</style>|<head>.*?</head>", "", answer.text, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", body)).split())
