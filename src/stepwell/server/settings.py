"""The server's settings: defaults, stepwell.toml or [tool.stepwell] in pyproject.toml, STEPWELL_* variables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from stepwell.errors import ConfigError
from stepwell.primitives.duration import seconds
from stepwell.services.notices_targets import Target
from stepwell.settings import from_environment, settings_file


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be set of a server. Durations are seconds (written as "30s" or 30), sizes are bytes.

    database_url: a Postgres 15+. database_direct_url: the same without a transaction-mode pooler, for LISTEN; None: as
        database_url. pool_size: connections to it.
    lease: how long a claim holds without a heartbeat; heartbeat: how often workers renew it; sweep: how often the
        services look for what is due when no hint came; poll: the same for claims and for those who wait for a run.
    cancel_grace: what a canceled run has for its clean-up, unless its task or the call says otherwise.
    public_url: where people's browsers reach the server, for the links in notices; None: where it listens.
    notices: who is told of a new token; notice_lead: how long before its timeout they are reminded of it, 0 for never.
    event_retention: how long events are kept after they were sent, for runs that begin to wait for one later.
    max_payload: of one run's payload. auto_migrate: apply missing migrations at start (development).
    drain: seconds between "not ready" and closing, for a load balancer to notice; shutdown: for requests to end.
    """

    database_url: str
    database_direct_url: str | None = None
    host: str = "127.0.0.1"
    port: int = 8430
    pool_size: int = 10
    lease: float = 30.0
    heartbeat: float = 10.0
    sweep: float = 1.0
    poll: float = 1.0
    cancel_grace: float = 5.0
    public_url: str | None = None
    notices: tuple[Target, ...] = ()
    notice_lead: float = 3600.0
    event_retention: float = 7 * 86_400.0
    max_payload: int = 10 * 1024 * 1024
    auto_migrate: bool = False
    drain: float = 0.0
    shutdown: float = 10.0
    log_level: str = "info"
    log_format: str = "json"

    def __post_init__(self) -> None:
        if self.heartbeat * 2 > self.lease:
            raise ConfigError(
                f"heartbeat = {self.heartbeat:g} s leaves no room in a lease of {self.lease:g} s",
                hint="one missed heartbeat must not cost a lease: set heartbeat to a third of it",
            )
        if not 0 <= self.port <= 65535:
            raise ConfigError(
                f"port = {self.port} is no port", hint="choose one from 1 to 65535, or 0 for any free one"
            )
        if self.public_url is not None and not _is_address(self.public_url):
            raise ConfigError(
                f"public_url = {self.public_url!r} is no address that a browser could open",
                hint="write it as in https://stepwell.example.com, without a slash or anything else after it",
            )
        if len({target.name for target in self.notices}) < len(self.notices):
            raise ConfigError("setting notices: two of them go to the same address", hint="make one of them")


DURATIONS = frozenset(
    {"lease", "heartbeat", "sweep", "poll", "cancel_grace", "drain", "shutdown", "notice_lead", "event_retention"}
)
KEYS = frozenset(Settings.__struct_fields__)


def load_settings(
    overrides: Mapping[str, Any] | None = None,
    *,
    directory: Path | None = None,
    environ: Mapping[str, str] | None = None,
    others: Iterable[str] = (),
) -> Settings:
    """Settings from files (of `directory` or the nearest one above), the environment and `overrides`; later wins.

    `others` names keys of the same files that somebody else reads. Raises ConfigError for a key that nobody knows, a
    value of the wrong type, and when there is no database_url.
    """
    file = settings_file(directory)
    file.refuse_unknown({*KEYS, *others})
    values = {**file.values, **from_environment(KEYS, environ), **(overrides or {})}
    if not values.get("database_url"):
        raise ConfigError(
            "no database is named",
            hint="set STEPWELL_DATABASE_URL=postgresql://…; `stepwell dev` brings a Postgres of its own",
            code="database-url-missing",
        )
    return _converted({key: value for key, value in values.items() if key in KEYS})


def _converted(values: dict[str, Any]) -> Settings:
    for key in DURATIONS & values.keys():
        try:
            values[key] = seconds(values[key])
        except ConfigError as error:
            raise ConfigError(f"setting {key}: {error.message}", hint=error.hint) from None
    try:
        if isinstance(values.get("notices"), str):  # a variable holds the list as JSON
            values["notices"] = msgspec.json.decode(values["notices"])
        return msgspec.convert(values, Settings, strict=False)
    except msgspec.DecodeError as error:
        raise ConfigError(f"a setting has the wrong type: {error}", hint="see docs/operations/server.md") from None


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and url == f"{parts.scheme}://{parts.netloc}"
    except ValueError:
        return False
