"""`python -m tests.chaos --runs 300 --steps 20 --seed 7`: a chaos run on a Postgres of its own, which is killed too."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

from stepwell.storage.embedded import EmbeddedPostgres
from stepwell.storage.migrations import migrate
from tests.chaos import checker
from tests.chaos.harness import Chaos, Plan
from tests.chaos.system import System
from tests.chaos.workload import CHILDREN, STEPS_OF_CHILD

FEWEST_STEPS = CHILDREN * STEPS_OF_CHILD
"""Those that a family's children do for it."""
KINDS = ("executor", "executor", "executor", "worker", "server", "postgres", "freeze")


def main() -> int:
    arguments = _arguments()
    plan = Plan(
        arguments.runs,
        arguments.steps,
        arguments.seed,
        tuple(arguments.kinds),
        at_once=arguments.at_once,
        patience=arguments.patience,
    )
    home = Path(tempfile.mkdtemp(prefix="stepwell-chaos-"))
    with EmbeddedPostgres(home) as postgres:
        asyncio.run(migrate(postgres.url))
        system = System.on(postgres.url, home / "ledger.jsonl", workers=arguments.workers, postgres=postgres)
        try:
            system.start()
            history, violations, table = asyncio.run(Chaos(plan, system, home / "ledger.jsonl").run())
        finally:
            system.stop()
            system.stack.save_logs(home)
    table.show()
    reasons = checker.vacuous(history, set(plan.kinds))
    for reason in reasons:
        print(f"proves nothing: {reason}")
    if violations or reasons:
        print(f"kept for a look: {home}")
        return 1
    shutil.rmtree(home)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--at-once", type=int, default=12, help="open runs; fewer take longer, and meet more faults")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--patience", type=float, default=1800.0, help="seconds after which it is given up")
    parser.add_argument(
        "--kinds", nargs="+", default=KINDS, choices=sorted(set(KINDS)), help="of faults, as often as named"
    )
    arguments = parser.parse_args()
    if arguments.steps < FEWEST_STEPS:
        parser.error(f"--steps {arguments.steps}: {FEWEST_STEPS} at least, which are those of a family's children")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
