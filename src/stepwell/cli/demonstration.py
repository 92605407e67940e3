"""What `stepwell demo` does: a `stepwell dev` of its own, the pipeline, two SIGKILLs, the timelines, the verdict."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rich.text import Text

from stepwell.cli import ledger
from stepwell.cli.console import out
from stepwell.cli.home import Home, Running
from stepwell.cli.pages import print_run
from stepwell.cli.record import Record, children_of, record_of
from stepwell.cli.supervisor import Child
from stepwell.cli.wording import counted, span
from stepwell.client.asynchronous import Stepwell
from stepwell.errors import ConfigError, StepwellError
from stepwell.model.lifecycle import is_terminal

if TYPE_CHECKING:
    from collections.abc import Generator

T = TypeVar("T")

LEASE, HEARTBEAT = 3.0, 1.0
STEPS = 4  # of one document
_WITHIN = 50.0
_LOOK = 0.02
_PIPELINE = ("document_pipeline", "pipeline.py")


def run(documents: int, home: Path | None, *, keep: bool) -> int:
    """The exit code: 0 if everything completed and nothing that had completed ran again."""
    if home is not None:
        home.mkdir(parents=True, exist_ok=True)
        return asyncio.run(Demonstration(home.resolve(), documents).run())
    with _temporary(keep=keep) as folder:
        return asyncio.run(Demonstration(folder, documents).run())


@contextmanager
def _temporary(*, keep: bool) -> Generator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="stepwell-demo-"))
    try:
        yield folder
    finally:
        if keep:
            _say(f"everything is kept in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def example(*parts: str) -> Path:
    """A file of the examples: in a checkout, or as installed with the package. Raises ConfigError."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "_examples", package.parents[1] / "examples"):
        if (file := folder.joinpath(*parts)).is_file():
            return file
    raise ConfigError(f"the example {'/'.join(parts)} is not installed", hint="install Stepwell again from its wheel")


class Demonstration:
    """One demo. `killed`: pids of the processes that were killed, and those that died with them."""

    def __init__(self, home: Path, documents: int) -> None:
        self._home = Home(home)
        self._documents = documents
        self._ledger = home / "ledger.jsonl"
        self._killed: list[int] = []
        self._kills = 0
        self._victim: str | None = None
        self._begun = time.monotonic()

    async def run(self) -> int:
        self._ledger.unlink(missing_ok=True)
        async with AsyncExitStack() as stack:
            running = await self._start(stack)
            _say(f"Postgres, server and worker are up after {span(time.monotonic() - self._begun)}")
            _say(f"Leases are {LEASE:g} s here instead of 30, so that a dead worker is noticed while you look.", "dim")
            client = await stack.enter_async_context(Stepwell(running.url, running.api_key))
            await _until("the worker has registered its tasks", lambda: _registered(client), _WITHIN)
            return await self._report(client, await self._survive(client))

    async def _start(self, stack: AsyncExitStack) -> Running:
        """`stepwell dev` as anybody would start it, with short leases, and its output in a file."""
        self._home.prepare()
        log = stack.enter_context((self._home.folder / "dev.log").open("w"))

        def note(line: str) -> None:
            log.write(line + "\n")
            log.flush()

        ours = {name: value for name, value in os.environ.items() if not name.startswith("STEPWELL_")}
        environment = ours | {
            "STEPWELL_HOME": str(self._home.folder),
            "STEPWELL_LEASE": str(LEASE),
            "STEPWELL_HEARTBEAT": str(HEARTBEAT),
            "LEDGER": str(self._ledger),
        }
        pipeline = shutil.copy(example(*_PIPELINE), self._home.folder)  # to be read, beside what it made
        dev = await Child.start(["dev", str(pipeline)], environment, note)
        stack.push_async_callback(dev.stop, 15.0)
        ended = asyncio.ensure_future(dev.ended())
        stack.callback(ended.cancel)

        async def announced() -> Running | None:
            if ended.done():
                raise StepwellError(
                    "the demo's `stepwell dev` ended:\n" + (self._home.folder / "dev.log").read_text()[-2000:],
                    hint="stepwell doctor may know why",
                )
            return self._home.running()

        return await _until("`stepwell dev` is ready", announced, _WITHIN)

    # ── the run and the kills ────────────────────────────────────────────────

    async def _survive(self, client: Stepwell) -> str:
        payload = {"database": str(self._home.folder / "documents.sqlite"), "limit": self._documents}
        handle = await client.trigger("document-pipeline", payload)
        files = counted(self._documents, "file")
        _say(f"document-pipeline {handle.id}: {files} of the standard library, a child run each")
        killing = asyncio.create_task(self._kill_both(client, self._documents * STEPS))

        async def ended() -> bool:
            if killing.done():
                killing.result()  # raises what went wrong with it
            return is_terminal((await client.runs.retrieve(handle.id)).state)

        try:
            await _until("the pipeline has ended", ended, _WITHIN)
        finally:
            killing.cancel()
        return handle.id

    async def _kill_both(self, client: Stepwell, steps: int) -> None:
        await self._kill_executor(client, steps * 3 // 10)
        await self._kill_worker(steps * 6 // 10)

    async def _kill_executor(self, client: Stepwell, after: int) -> None:
        """One that is in the middle of a step of a document, by what the ledger says."""

        async def victim() -> ledger.Line | None:
            lines = ledger.read(self._ledger)
            if _ended(lines) < after:
                return None
            busy = [line for line in ledger.in_flight(lines) if line.step in {"fetch", "extract", "summarise", "store"}]
            return max(busy, key=lambda line: line.t, default=None)

        while True:
            line = await _until(f"{after} steps are done", victim, _WITHIN)
            os.kill(line.pid, signal.SIGKILL)
            self._killed.append(line.pid)
            if any(each.key == line.key for each in ledger.in_flight(ledger.read(self._ledger))):
                break  # it died inside the step, as was wanted, and not just after it
        self._kills += 1
        self._victim = line.run
        done = _ended_of(self._ledger)
        _say(f"☠ killed executor {line.pid} with SIGKILL, in the middle of {line.step} ({done} steps done)", "red")

    async def _kill_worker(self, after: int) -> None:
        async def far_enough() -> bool:
            return _ended_of(self._ledger) >= after

        await _until(f"{after} steps are done", far_enough, _WITHIN)
        running = self._home.running()
        assert running is not None
        worker = running.pids["worker"]
        os.kill(worker, signal.SIGKILL)
        self._kills += 1
        done = _ended_of(self._ledger)
        self._killed += sorted({line.pid for line in ledger.read(self._ledger)})
        _say(f"☠ killed worker {worker} with SIGKILL; its executors died with it ({done} steps done)", "red")

    # ── what came of it ──────────────────────────────────────────────────────

    async def _report(self, client: Stepwell, parent: str) -> int:
        record = await record_of(client, parent)
        out().print()
        print_run(out(), record)
        killed = await self._killed_child(client)
        if killed is not None:
            _say("One of the documents that were killed on the way:\n", "bold")
            print_run(out(), killed)
        verdict = ledger.judge(ledger.read(self._ledger), self._killed)
        states = [child.state for child in await children_of(client, parent)]
        completed = states.count("completed")
        self._print_verdict(verdict, completed, len(states))
        fine = (
            record.run.state == "completed" and completed == len(states) == self._documents and not verdict.violations
        )
        if self._kills < 2:
            _say("The pipeline had ended before it could be killed twice: try with more --documents.", "red")
            fine = False
        return 0 if fine else 1

    async def _killed_child(self, client: Stepwell) -> Record | None:
        return None if self._victim is None else await record_of(client, self._victim)

    def _print_verdict(self, verdict: ledger.Verdict, completed: int, children: int) -> None:
        _say("The ledger, written by the steps themselves into a file outside the system:", "bold")
        rows = (
            ("steps completed", f"{verdict.completed:,}"),
            ("completed steps that ran again", f"{len(verdict.violations)}"),
            ("in flight at a kill, run again", f"{len(verdict.repeats) - len(verdict.violations)}"),
            ("children completed", f"{completed} of {children}"),
            ("SIGKILLs survived", f"{self._kills}"),
            ("total time", span(time.monotonic() - self._begun)),
        )
        for name, value in rows:
            bad = name == rows[1][0] and verdict.violations
            out().print(Text(f"  {name:<32}", style="dim").append(value, style="bold red" if bad else "bold"))
        for repeat in verdict.repeats:
            mark, style = ("·", "dim") if repeat.excused else ("✗", "red")
            line = f"  {mark} {repeat.step} of {repeat.run} ran {repeat.times} times: {repeat.why}"
            out().print(Text(line, style=style), soft_wrap=True)


def _say(text: str, style: str = "") -> None:
    out().print(text, style=style, soft_wrap=True)


def _ended(lines: list[ledger.Line]) -> int:
    return sum(line.what == "end" for line in lines)


def _ended_of(file: Path) -> int:
    return _ended(ledger.read(file))


async def _registered(client: Stepwell) -> bool:
    return any(task.id == "document-pipeline" for task in await client.tasks())


async def _until(what: str, look: Callable[[], Awaitable[T | None]], seconds: float) -> T:
    """Looks until there is something to see. Raises StepwellError when there is nothing in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        seen = await look()
        if seen:
            return seen
        await asyncio.sleep(_LOOK)
    raise StepwellError(
        f"the demo gave up after {seconds:g} s of waiting until {what}", hint="see dev.log in its home: --home"
    )
