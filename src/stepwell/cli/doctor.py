"""`stepwell doctor`: what is wrong here, and how to mend it."""

from __future__ import annotations

import typer

from stepwell.cli.options import AsJson


def doctor(as_json: AsJson = False) -> None:
    """Check this installation, and say how to mend it.

    Python, Postgres, schema, port, server, key, workers, and one trivial run from end to end if a server is up. Exit
    code 1 if something does not work.
    """
    from stepwell.cli.checkup import examine, print_findings
    from stepwell.cli.console import print_json

    findings = examine()
    if as_json:
        print_json(findings)
    else:
        print_findings(findings)
    if any(finding.level == "fail" for finding in findings):
        raise typer.Exit(1)
