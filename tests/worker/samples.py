"""Tasks that behave in every way, for the worker's tests."""

from __future__ import annotations

import asyncio
import ctypes
import io
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from contextlib import suppress
from pathlib import Path

from stepwell import Retry, checkpoint, ctx, step, sync, task
from stepwell.executor import burials, watchdog

watchdog.GRACE = 0.3  # seconds, and not its five
burials.MOST = 3  # and not its hundreds

kept: list[object] = []
calls = 0


@task
async def hello(name: str) -> str:
    return f"hello {name}"


@task
async def pids() -> list[int]:
    return [os.getpid(), os.getppid(), os.getsid(0)]


@task
async def count_calls() -> int:
    global calls
    calls += 1
    return calls


@task
async def say_and_wait(file: str) -> str:
    await checkpoint("began", pid=os.getpid())
    await until_exists(file)
    return "done"


@step
async def until_exists(file: str) -> str:
    while not Path(file).exists():
        await asyncio.sleep(0.01)
    return Path(file).read_text()


@task
async def eat_memory(megabytes: int) -> int:
    await checkpoint("began", pid=os.getpid())
    block = bytearray(megabytes * 1024 * 1024)
    for place in range(0, len(block), 4096):
        block[place] = 1
    return len(block)


@task
async def eat_memory_for_long(megabytes: int) -> None:
    for _ in range(megabytes):
        kept.append(os.urandom(1024 * 1024))
        await asyncio.sleep(0.001)


@task
async def spin(pipe: str) -> None:
    """Tells a named pipe that it begins, and never awaits again."""
    await checkpoint("began", pid=os.getpid())
    Path(pipe).write_text(str(os.getpid()))
    while True:
        pass


@step(timeout="200ms")
async def spins(pipe: str) -> None:
    Path(pipe).write_text(str(os.getpid()))
    while True:
        pass


@task
async def spin_in_a_step(pipe: str) -> None:
    await spins(pipe)


@step(heartbeat="200ms", timeout="1h")
async def spins_silently(pipe: str) -> None:
    ctx.heartbeat("began")
    Path(pipe).write_text(str(os.getpid()))
    while True:
        pass


@task
async def silent_spin_in_a_step(pipe: str) -> None:
    await spins_silently(pipe)


@step(timeout="200ms")
async def will_not_end(pipe: str) -> None:
    Path(pipe).write_text(str(os.getpid()))
    while True:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)


@task
async def a_step_that_will_not_end(pipe: str) -> None:
    await will_not_end(pipe)


@step(heartbeat="200ms")
async def computes_and_says_so() -> str:
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        ctx.heartbeat()
    return "alive"


@task
async def beating_spin_in_a_step() -> str:
    return await computes_and_says_so()


@task
async def leave(code: int) -> None:
    await checkpoint("began", pid=os.getpid())
    os._exit(code)


@task
async def crash() -> None:
    await checkpoint("began", pid=os.getpid())
    ctypes.string_at(0)


@task
async def fork_bomb(most: int) -> int:
    """Bounded, for the case that nobody stops it: no more than `most` processes, each ends after 20 s."""
    await checkpoint("began", pid=os.getpid())
    counter = Path(f"/proc/{os.getpid()}/comm")
    assert counter.exists()
    for _ in range(most):
        try:
            pid = os.fork()
        except OSError:
            time.sleep(0.05)
            continue
        if pid == 0:
            time.sleep(20)
            os._exit(0)
        time.sleep(0.001)
    time.sleep(20)
    return most


@task
async def leave_a_child(pipe: str, new_session: bool) -> int:
    process = subprocess.Popen(["sleep", "300"], start_new_session=new_session)
    Path(pipe).write_text(str(process.pid))
    os._exit(1)


@task
async def flood(lines: int) -> str:
    for number in range(lines):
        print("line", number)
    return "done"


@task
async def talk() -> str:
    print("to stdout")
    print("to stderr", file=sys.stderr)
    logging.getLogger("app").info("to the log", extra={"order": 7})
    warnings.warn("a warning", stacklevel=1)
    sys.stdout.buffer.write(b"as bytes\n")
    os.write(1, b"to descriptor 1\n")
    await in_a_step()
    subprocess.run(["echo", "from a child process"], check=True)
    ctypes.CDLL(None).puts(b"from C")
    print("no end of line", end="")
    return "done"


@step
async def in_a_step() -> None:
    print("in a step")


@task
async def secrets() -> dict[str, str]:
    environ = Path("/proc/self/environ").read_bytes().decode(errors="replace")
    return {"environ": "\n".join(f"{key}={value}" for key, value in os.environ.items()), "proc": environ}


@task
async def hashes() -> list[object]:
    return [hash("stepwell"), sorted({"a", "b", "c"}), list({"alpha", "beta", "gamma", "delta"}), random.random()]


@task
async def wait_durably() -> str:
    await checkpoint("began", pid=os.getpid())
    try:
        await asyncio.sleep(3600)
    finally:
        print("unwound")
    return "woken"


@task
async def wait_plainly(leaves: str = "") -> int:
    """Waits without anything to be unwound, and leaves this or that in its process."""
    match leaves:
        case "a connection of its module":
            kept.append(socket.socket())
        case "a descriptor":
            kept.append(Path("/dev/null").open())  # noqa: SIM115
        case "a thread":
            threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        case "a child process":
            kept.append(subprocess.Popen(["sleep", "300"]))
        case "its directory":
            os.chdir("/")
        case "a variable":
            os.environ["LEFT"] = "yes"
        case "a stream":
            sys.stdout = io.StringIO()
        case "a background task":
            await leave_a_task()
        case _:
            pass
    await asyncio.sleep(3600)
    return os.getpid()


@step
async def leave_a_task() -> None:
    kept.append(asyncio.create_task(asyncio.sleep(60)))


@task
def wait_in_a_thread() -> None:
    sync.sleep("1h")


@task
async def clean_up(pipe: str) -> None:
    """Tells a named pipe that it waits, and later that it could clean up, with awaits."""
    await checkpoint("began", pid=os.getpid())
    Path(pipe).write_text("waiting")
    try:
        await asyncio.sleep(4)
    finally:
        await asyncio.sleep(0.01)
        await tell(pipe)


@step
async def tell(pipe: str) -> None:
    Path(pipe).write_text("cleaned up")


@task
async def kill_parent() -> None:
    await checkpoint("began", pid=os.getpid())
    os.kill(os.getppid(), 9)
    time.sleep(20)


@task
async def say_name(name: str, file: str) -> None:
    print(name, "began")
    await checkpoint("began", pid=os.getpid())
    await until_exists(file)
    print(name, "ended")


@task
async def talk_between() -> str:
    print("before")
    sys.stdout.write("before too\n")
    await checkpoint("half")
    await asyncio.sleep(3600)
    print("after")
    return "done"


@task(max_duration="500ms")
async def spin_briefly() -> None:
    while True:
        pass


async def write_down(file: str, line: str) -> None:
    with Path(file).open("a") as ledger:
        ledger.write(line + "\n")


@step(retry=Retry(max_attempts=3, min_timeout="10ms"))
async def take_back(receipt: str, file: str, name: str) -> None:
    """Kills its process in the midst of its first try."""
    mark = Path(f"{file}.{name}")
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    await write_down(file, f"undo {name}")


@step(undo=take_back)
async def buy(file: str, name: str) -> str:
    await write_down(file, name)
    return f"receipt of {name}"


@task(retry=Retry(max_attempts=1))
async def saga(file: str, fails: bool) -> None:
    """Buys three things, then fails or waits for its cancellation."""
    for name in ("flight", "hotel", "car"):
        await buy(file, name)
    if fails:
        raise ValueError("no boat")
    await asyncio.sleep(86_400)


@task
async def act(part: str = "", pipe: str = "", file: str = "", name: str = "") -> str:
    """One task whose runs are short, or stand without ever awaiting, or wait durably, or crash: so these are in one
    another's way. Tells its name and its process first."""
    if pipe:
        Path(pipe).write_text(f"{name} {os.getpid()};")
    if part == "stand":
        with Path(file).open("rb", buffering=0) as gate:
            gate.read(1)
    elif part == "wait_for_ever":
        signal.pause()
    elif part == "wait":
        try:
            await asyncio.sleep(3600)
        finally:
            print("unwound")
    elif part == "leave":
        os._exit(3)
    return f"{name} ended"


@task
async def long_answer(megabytes: int) -> str:
    return "x" * (megabytes * 1_000_000)
