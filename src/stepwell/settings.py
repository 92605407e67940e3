"""Settings as people write them: stepwell.toml or [tool.stepwell] in pyproject.toml, and STEPWELL_* variables.

Server, worker and command line read the same file, each its own keys; what a key means is theirs to say.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stepwell.errors import ConfigError

PREFIX = "STEPWELL_"


@dataclass(frozen=True)
class SettingsFile:
    """What a file says of us. `path` is None when there is no such file."""

    path: Path | None = None
    values: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def refuse_unknown(self, known: Iterable[str]) -> None:
        """Raises ConfigError (setting-unknown) for a key that nobody reads, which is a typing error."""
        names = sorted(known)
        for key in self.values:
            if key not in names:
                near = difflib.get_close_matches(key, names, n=1)
                raise ConfigError(
                    f"{self.path}: unknown setting {key!r}",
                    hint=f"did you mean {near[0]!r}?" if near else f"known are {', '.join(names)}",
                    code="setting-unknown",
                )


def settings_file(directory: Path | None = None) -> SettingsFile:
    """The nearest stepwell.toml or pyproject.toml, in the directory (the working one) or above; the former goes first.

    Raises ConfigError when it is no TOML.
    """
    here = (directory or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        own, project = folder / "stepwell.toml", folder / "pyproject.toml"
        if own.is_file():
            return SettingsFile(own, _read(own))
        if project.is_file():
            return SettingsFile(project, _read(project).get("tool", {}).get("stepwell", {}))
    return SettingsFile()


def from_environment(keys: Iterable[str], environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The values of those keys that are set as variables: `port` is STEPWELL_PORT."""
    variables = os.environ if environ is None else environ
    return {key: variables[PREFIX + key.upper()] for key in keys if PREFIX + key.upper() in variables}


def _read(file: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is no valid TOML: {error}") from error
