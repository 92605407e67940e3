"""`python -m bench.harness PEER MODULE WORKLOAD FILE SIZES`: one measurement, its figures as JSON in FILE.

With any other third word it is one of the peer's own processes, such as its worker.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import traceback
from pathlib import Path

from bench.harness.processes import kill_all
from bench.harness.workloads import WORKLOADS


def main(name: str, module: str, word: str, *rest: str) -> None:
    peer = importlib.import_module(f"bench.peers.{module}").ThePeer(name, module)
    if word not in WORKLOADS:
        getattr(peer, f"role_{word}")(*rest)
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    file, sizes = rest
    try:
        peer.prepare()
        peer.start_server()
        figures = WORKLOADS[word](peer, **json.loads(sizes))
        answer = {"figures": figures, "versions": peer.versions(), "setup": peer.setup}
    except Exception as error:  # noqa: BLE001 - whatever a peer does wrong is its result
        traceback.print_exc()
        answer = {"error": f"{type(error).__name__}: {error}"[:300]}
    Path(file).write_text(json.dumps(answer), encoding="utf-8")
    kill_all()
    sys.stdout.flush()
    os._exit(0)  # clients that leave threads behind do not keep us


main(*sys.argv[1:])
