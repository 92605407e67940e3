"""A process that dies with the one that started it: server and worker of `stepwell dev`, or the `dev` of a demo.

`python -m stepwell.cli.supervised PARENT FD (server | worker | dev) …`, started by `supervisor`. What it has to say
when it is ready goes to the descriptor FD, which it then closes.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

from stepwell.errors import ConfigError, StepwellError
from stepwell.executor.childhood import die_with_parent

MISUSED = 2
"""Exit code for what will not get better by itself, such as a module that cannot be imported."""


def main(arguments: Sequence[str]) -> int:
    parent, descriptor, kind, *rest = arguments
    die_with_parent(int(parent))
    tell = int(descriptor)
    os.set_inheritable(tell, False)

    def ready(what: str) -> None:
        os.write(tell, what.encode())
        os.close(tell)

    try:
        if kind == "server":
            from stepwell.cli.configuration import server_settings
            from stepwell.server.main import serve

            serve(server_settings(), ready=ready)
        elif kind == "dev":
            from stepwell.cli.development import run

            run(rest, port=0, reload=False)
        else:
            from stepwell.cli.configuration import worker_settings
            from stepwell.cli.working import work

            work(
                worker_settings(rest),
                ready=lambda manifest: ready(json.dumps([task.id for task in manifest.tasks])),
                beside_dev=True,
            )
    except StepwellError as error:
        from stepwell.cli.console import print_error

        print_error(error)
        return MISUSED if isinstance(error, ConfigError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
