"""What files and environment say: the worker's settings, the modules of a project, the database.

The server reads its own (`server.settings`). Both read the same files, so each is told which keys are the other's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stepwell.errors import ConfigError
from stepwell.settings import SettingsFile, from_environment, settings_file

if TYPE_CHECKING:
    from stepwell.server.settings import Settings
    from stepwell.worker.settings import WorkerSettings

PROJECT_KEYS = frozenset({"modules"})
WORKER_KEYS = frozenset(
    {
        *("url", "api_key", "name", "slots", "prefetch", "prefetch_wait"),
        *("warm_seconds", "warm_per_task", "warm_total", "max_processes"),
        *("kill_grace", "drain_grace", "shared_suspended", "control_groups", "state_dir"),
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

    file = settings_file()
    _refuse_unknown(file)
    own = {key: value for key, value in file.values.items() if key in WORKER_KEYS}
    values: dict[str, Any] = {**own, **from_environment(WORKER_KEYS), **(overrides or {})}
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
    file = settings_file()
    named = from_environment(PROJECT_KEYS).get("modules")
    found: Any = named.split(",") if named else file.values.get("modules")
    if found is None:
        raise ConfigError("no file or module with tasks is named", hint=_EXAMPLE, code="no-modules")
    names: list[Any] = [found] if isinstance(found, str) else found if isinstance(found, list) else []  # pyright: ignore[reportUnknownVariableType]
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ConfigError(f"modules = {found!r} is no list of files or modules", hint=_EXAMPLE, code="no-modules")
    return names if named else [_from_folder_of(file, name) for name in names]


def _from_folder_of(file: SettingsFile, name: str) -> str:
    """A file named in pyproject.toml is meant from there, wherever the command is called."""
    is_file = name.endswith(".py") or "/" in name
    return str(file.path.parent / name) if file.path is not None and is_file else name


def _refuse_unknown(file: SettingsFile) -> None:
    try:
        from stepwell.server.settings import KEYS
    except ImportError:  # a machine for workers alone, without the server's libraries
        return
    file.refuse_unknown({*KEYS, *WORKER_KEYS, *PROJECT_KEYS})


def database_url() -> str | None:
    """The Postgres that environment or file names; None means the embedded one."""
    key = "database_url"
    return from_environment({key}).get(key) or settings_file().values.get(key) or None
