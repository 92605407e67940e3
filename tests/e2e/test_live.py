"""What a person sees at a terminal, where the last line is alive."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.e2e.terminal import WITHIN, Dev, answer, environment, eventually


def read_until(descriptor: int, pattern: str, seen: str = "") -> str:
    """What a terminal shows, up to a text that matches."""
    deadline = time.monotonic() + WITHIN
    while not re.search(pattern, seen):
        assert time.monotonic() < deadline, f"{pattern!r} was never shown: {seen[-2000:]!r}"
        if select.select([descriptor], [], [], 0.5)[0]:
            try:
                seen += os.read(descriptor, 65536).decode(errors="replace")
            except OSError:  # the command has ended, and its side of the terminal is closed
                assert re.search(pattern, seen), seen[-2000:]
    return seen


def test_ctrl_c_stops_following_and_not_the_run(running: Dev, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    ours, theirs = pty.openpty()
    command = [sys.executable, "-P", "-m", "stepwell.cli", "trigger", "gated", "--wait"]
    following = subprocess.Popen(
        [*command, "-p", json.dumps({"gate": str(gate)})],
        cwd=running.project,
        env=environment(TERM="xterm-256color"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    try:
        seen = read_until(ours, r"gated .*executing.*1 checkpoint, last ✓ double")
        following.send_signal(signal.SIGINT)
        seen = read_until(ours, r"the run goes on; follow it with: stepwell runs watch (run_\w+)", seen)
        assert following.wait(WITHIN) == 130
    finally:
        following.kill()
        following.wait()
        os.close(ours)
    run = re.findall(r"runs watch (run_\w+)", seen)[-1]
    gate.touch()
    eventually(lambda: answer(running.project, "runs", "show", run)["run"]["state"] == "completed")
