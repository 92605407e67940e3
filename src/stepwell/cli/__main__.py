"""`python -m stepwell.cli`: the same as `stepwell`."""

from __future__ import annotations

from stepwell.cli.app import main

if __name__ == "__main__":
    main()
