"""Where the server is and with which key: as given, from the environment, or from a `stepwell dev` nearby."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from stepwell.errors import ConfigError

WAYS = (
    "run `stepwell dev` in this project; or set STEPWELL_URL and STEPWELL_API_KEY; "
    "or pass them: Stepwell(url=..., api_key=...)"
)


@dataclass(frozen=True, slots=True)
class Connection:
    """A server's address, without a slash at its end, and an API key of one of its environments."""

    url: str
    api_key: str = field(repr=False)


def find_connection(
    url: str | None = None,
    api_key: str | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> Connection:
    """The first of: the arguments, STEPWELL_URL and STEPWELL_API_KEY, the `dev.json` of a `stepwell dev`.

    Raises:
        ConfigError: there is no address, no key, or the address is none.
    """
    variables = os.environ if environ is None else environ
    url = url or variables.get("STEPWELL_URL")
    api_key = api_key or variables.get("STEPWELL_API_KEY")
    if url is None:
        file = stepwell_home(variables, directory) / "dev.json"
        if not file.is_file():
            raise ConfigError(f"no server is named, and no `stepwell dev` has written {file}", hint=WAYS)
        noted = _noted(file)
        url, api_key = noted["url"], api_key or noted["api_key"]
    if not api_key:
        raise ConfigError(f"there is no API key for {url}", hint=WAYS)
    return Connection(_checked(url), api_key)


def stepwell_home(environ: Mapping[str, str] | None = None, directory: Path | None = None) -> Path:
    """STEPWELL_HOME, or `.stepwell` beside the nearest pyproject.toml upwards, or in the directory itself."""
    named = (os.environ if environ is None else environ).get("STEPWELL_HOME")
    if named:
        return Path(named).expanduser()
    here = (directory or Path.cwd()).resolve()
    projects = (folder for folder in (here, *here.parents) if (folder / "pyproject.toml").is_file())
    return next(projects, here) / ".stepwell"


def _noted(file: Path) -> dict[str, str]:
    try:
        noted: Any = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} cannot be read: {error}", hint="start `stepwell dev` again") from error
    entries = cast("dict[str, Any]", noted) if isinstance(noted, dict) else {}
    found = {name: entries.get(name) for name in ("url", "api_key")}
    if not all(isinstance(value, str) for value in found.values()):
        raise ConfigError(f"{file} names no url and api_key", hint="start `stepwell dev` again")
    return cast("dict[str, str]", found)


def _checked(url: str) -> str:
    scheme, _, rest = url.partition("://")
    if scheme not in {"http", "https"} or not rest.strip("/"):
        raise ConfigError(f"{url!r} is not the address of a server", hint='e.g. "http://127.0.0.1:8430"')
    return url.rstrip("/")
