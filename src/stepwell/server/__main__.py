"""`python -m stepwell.server`: serve with the settings of files and environment."""

from __future__ import annotations

import sys

from stepwell.errors import StepwellError
from stepwell.server.main import serve
from stepwell.server.settings import load_settings

if __name__ == "__main__":
    try:
        serve(load_settings())
    except StepwellError as error:
        sys.stderr.write(f"{error.code}: {error}\n")
        sys.exit(1)
