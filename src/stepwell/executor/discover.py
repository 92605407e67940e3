"""Imports the user's modules and tells what they declare. Whatever goes wrong in them is an error as data.

A module is named as `package.module`, or as a file: `tasks.py`, `app/tasks.py`. A file inside a package (a folder
with an `__init__.py`) is imported as the package's module, one outside any package under its own name: the name by
which every other process, and every stored reference to its classes, knows it.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType, TracebackType

from stepwell.client.checks import did_you_mean
from stepwell.errors import ConfigError, StepwellError
from stepwell.executor import determinism
from stepwell.model.task import Manifest
from stepwell.protocol.forking import LoadFailed
from stepwell.sdk import registry

_OURS = str(Path(__file__).resolve().parents[1])


def load(modules: Sequence[str]) -> Manifest | LoadFailed:
    """Import these modules as an executor does, and say what they declare, or why that failed."""
    try:
        return _load(modules)
    except StepwellError as error:
        return LoadFailed(error.code, error.message, error.hint, users_traceback(error))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a module may raise anything, SystemExit too; told to the worker as data
        return LoadFailed("import-failed", *_import_failure(error), users_traceback(error))


def _load(modules: Sequence[str]) -> Manifest:
    determinism.install()
    if not modules:
        raise ConfigError(
            "no module was named", hint="name the files or modules that declare tasks: tasks.py, app.tasks"
        )
    for name in modules:
        import_named(name)
    manifest = registry.manifest()
    if not manifest.tasks:
        raise ConfigError(
            f"no task is declared in {', '.join(modules)}",
            hint="put @task on a function at module level, or name the module that has it",
            code="no-tasks",
        )
    return manifest


def import_named(name: str) -> ModuleType:
    """Import `package.module` or `path/to/file.py`.

    Raises:
        ConfigError: there is no such file or module, or its name is taken by another module.
    """
    if name.endswith(".py") or "/" in name:
        return _import_file(Path(name))
    _put_on_path(Path.cwd())
    try:
        found = importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the parent package exists; an import inside it failed
        found = None
    if found is None:
        raise _no_such_module(name)
    return importlib.import_module(name)


def _import_file(given: Path) -> ModuleType:
    file = given.resolve()
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "does not exist"
        raise ConfigError(f"{given} {what}", hint=_files_like(given), code="module-not-found")
    root, name = _importable(file)
    _put_on_path(root)
    module = importlib.import_module(name)
    if Path(module.__file__ or "").resolve() != file:
        raise ConfigError(
            f"{given} would be imported as {name!r}, which is already {module.__file__ or 'a builtin module'}",
            hint="give the file another name",
            code="module-name-taken",
        )
    return module


def _importable(file: Path) -> tuple[Path, str]:
    """The folder to import from, and the dotted name there."""
    parts = [file.stem]
    folder = file.parent
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    if parts[-1] == "__init__" and len(parts) > 1:
        parts.pop()
    if not all(part.isidentifier() for part in parts):
        raise ConfigError(
            f"{file.name} cannot be imported: {'.'.join(parts)!r} is no module name",
            hint="use letters, digits and underscores in the names of files and folders",
            code="module-name-invalid",
        )
    return folder, ".".join(parts)


def _put_on_path(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _no_such_module(name: str) -> ConfigError:
    as_file = Path(*name.split(".")).with_suffix(".py")
    hint = f"did you mean the file {as_file}?" if as_file.is_file() else _files_like(as_file)
    return ConfigError(
        f"there is no module {name!r} (looked in {Path.cwd()} and sys.path)", hint=hint, code="module-not-found"
    )


def _files_like(given: Path) -> str:
    folder = given.parent if given.parent.is_dir() else Path.cwd()
    files = sorted(path.name for path in folder.glob("*.py"))
    near = did_you_mean(given.name, files)
    return near or f"in {folder.resolve()} are: {', '.join(files[:8]) or 'no Python files'}"


def _import_failure(error: BaseException) -> tuple[str, str]:
    place = next((f" ({file}:{line})" for file, line in _places(error)), "")
    if isinstance(error, SystemExit):
        return (
            f"a module called sys.exit({error.code!r}) while it was imported{place}",
            'put what shall run only as a script under `if __name__ == "__main__":`',
        )
    return (
        f"the modules cannot be imported: {type(error).__name__}: {error}{place}",
        "mend the error that the traceback shows; nothing was registered and nothing is lost",
    )


def _places(error: BaseException) -> Iterator[tuple[str, int]]:
    """Innermost first, the user's own lines."""
    if isinstance(error, SyntaxError) and error.filename:
        yield error.filename, error.lineno or 0
    for frame in reversed(traceback.extract_tb(_users_frames(error.__traceback__))):
        if not _is_ours(frame.filename):
            yield frame.filename, frame.lineno or 0


def users_traceback(error: BaseException) -> str:
    """The formatted traceback from the user's first frame on. Of a refusal of ours it has the user's frames alone:
    what was wrong is in its message, and no line of ours helps to mend it. Empty if there is none of the user's.
    """
    tb = _users_frames(error.__traceback__)
    if not isinstance(error, StepwellError):
        return "".join(traceback.format_exception(type(error), error, tb))
    theirs = [frame for frame in traceback.extract_tb(tb) if not _is_ours(frame.filename)]
    return "".join(["Traceback (most recent call last):\n", *traceback.format_list(theirs)]) if theirs else ""


def _users_frames(tb: TracebackType | None) -> TracebackType | None:
    """Without the leading frames that are ours or the import system's."""
    while tb is not None and _is_ours(tb.tb_frame.f_code.co_filename):
        tb = tb.tb_next
    return tb


def _is_ours(filename: str) -> bool:
    return filename.startswith((_OURS, "<frozen importlib", importlib.__file__))
