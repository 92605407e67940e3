"""What user code finds in its environment: the worker's own, without what opens our doors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import unquote, urlsplit

PREFIX = "STEPWELL_"
_SHORTEST = 6
"""A secret shorter than this may stand in any text by chance."""


def scrubbed(environ: Mapping[str, str], secrets: Iterable[str]) -> dict[str, str]:
    """Without our own variables, and without any whose value holds one of the secrets: the API key, the database's URL
    or password, under whatever name somebody passed them on. The user's own keys stay."""
    hidden = [*secrets, *_ours(environ)]
    return {
        name: value
        for name, value in environ.items()
        if not name.upper().startswith(PREFIX) and not any(_holds(value, secret) for secret in hidden)
    }


def _ours(environ: Mapping[str, str]) -> list[str]:
    names = ("API_KEY", "DATABASE_URL", "DATABASE_DIRECT_URL", "SECRET_KEY")
    return [environ[PREFIX + name] for name in names if PREFIX + name in environ]


def _holds(value: str, secret: str) -> bool:
    if len(secret) >= _SHORTEST and secret in value:
        return True
    # A password may be a common word ("postgres"): it counts where it stands alone, or as one.
    password = urlsplit(secret).password if "://" in secret else None
    return bool(password) and (value in (password, unquote(password or "")) or f":{password}@" in value)
