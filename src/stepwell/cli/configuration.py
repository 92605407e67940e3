"""What files and environment say: the worker's settings, the modules of a project, the database.

The server reads its own (`server.settings`). Both read the same files, so each is told which keys are the other's.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stepwell.errors import ConfigError

if TYPE_CHECKING:
    from stepwell.server.settings import Settings
    from stepwell.worker.settings import WorkerSettings

PREFIX = "STEPWELL_"
PROJECT_KEYS = frozenset({"modules"})
WORKER_KEYS = frozenset(
    {
        *("url", "api_key", "name", "slots", "prefetch", "prefetch_wait"),
        *("warm_seconds", "warm_per_task", "warm_total", "max_processes"),
        *("kill_grace", "drain_grace", "shared_suspended", "control_groups"),
    }
)
_DURATIONS = frozenset({"warm_seconds", "kill_grace", "drain_grace"})
_EXAMPLE = 'name them: stepwell dev tasks.py; or write modules = ["tasks.py"] below [tool.stepwell] in pyproject.toml'


def server_settings(overrides: Mapping[str, Any] | None = None) -> Settings:
    """The server's. Raises ConfigError, also for a key that nobody knows."""
    from stepwell.server.settings import load_settings

    return load_settings(overrides, others=WORKER_KEYS | PROJECT_KEYS)


def worker_settings(modules: Sequence[str], overrides: Mapping[str, Any] | None = None) -> WorkerSettings:
    """The worker's: its server is the one of the environment, or of a `stepwell dev` nearby. Raises ConfigError."""
    import msgspec

    from stepwell.client.connection import find_connection
    from stepwell.primitives.duration import seconds
    from stepwell.worker.settings import WorkerSettings

    values = _from_file(WORKER_KEYS) | _from_environment(WORKER_KEYS) | dict(overrides or {})
    connection = find_connection(values.pop("url", None), values.pop("api_key", None))
    types = {field.name: field.type for field in dataclasses.fields(WorkerSettings)}
    kinds: dict[str, type] = {"int": int, "float": float, "str": str}
    for key, value in values.items():
        try:
            if key in _DURATIONS:
                values[key] = seconds(value)
            else:
                values[key] = msgspec.convert(value, kinds[str(types[key])], strict=False)
        except (msgspec.ValidationError, ConfigError) as error:
            raise ConfigError(f"setting {key} = {value!r}: {error}", hint="see docs/reference/cli.md") from None
    return WorkerSettings(url=connection.url, api_key=connection.api_key, modules=tuple(modules), **values)


def project_modules(given: Sequence[str] | None) -> list[str]:
    """The files or modules that declare tasks: those given, else the project's. Raises ConfigError (no-modules)."""
    if given:
        return list(given)
    named = os.environ.get(PREFIX + "MODULES")
    found: Any = named.split(",") if named else _from_file(PROJECT_KEYS).get("modules")
    if found is None:
        raise ConfigError("no file or module with tasks is named", hint=_EXAMPLE, code="no-modules")
    names: list[Any] = [found] if isinstance(found, str) else found if isinstance(found, list) else []  # pyright: ignore[reportUnknownVariableType]
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ConfigError(f"modules = {found!r} is no list of files or modules", hint=_EXAMPLE, code="no-modules")
    return [_from_folder_of_project(name) for name in names]


def _from_folder_of_project(name: str) -> str:
    """A file named in pyproject.toml is meant from there, wherever the command is called."""
    file = _settings_file()
    if file is None or not (name.endswith(".py") or "/" in name):
        return name
    return str(file[0].parent / name)


def database_url() -> str | None:
    """The Postgres that environment or file names; None means the embedded one."""
    found = _from_environment({"database_url"}) or _from_file({"database_url"})
    return found.get("database_url") or None


def _from_environment(keys: frozenset[str] | set[str]) -> dict[str, Any]:
    return {key: os.environ[PREFIX + key.upper()] for key in keys if os.environ.get(PREFIX + key.upper())}


def _from_file(keys: frozenset[str] | set[str]) -> dict[str, Any]:
    file = _settings_file()
    return {} if file is None else {key: value for key, value in file[1].items() if key in keys}


def _settings_file() -> tuple[Path, dict[str, Any]] | None:
    """The nearest stepwell.toml or pyproject.toml upwards, and what it says of us."""
    import tomllib

    here = Path.cwd()
    for folder in (here, *here.parents):
        own, project = folder / "stepwell.toml", folder / "pyproject.toml"
        for file in (own, project):
            if file.is_file():
                try:
                    content = tomllib.loads(file.read_text(encoding="utf-8"))
                except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
                    raise ConfigError(f"{file} is no valid TOML: {error}") from error
                return file, content if file is own else content.get("tool", {}).get("stepwell", {})
    return None
