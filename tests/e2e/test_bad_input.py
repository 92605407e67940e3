"""Wrong input of every kind, at the real command line, client and HTTP API of one running stack.

Each is told with its code, its values and what to do, in none of our own lines; and while all of it goes wrong, a run
is under way that must not notice.
"""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from stepwell import sync
from stepwell.errors import NotFound, PayloadInvalid, PayloadTooLarge
from tests.e2e.terminal import Dev, answer, eventually, stepwell

TASKS = """
from __future__ import annotations

import asyncio
import pathlib
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from stepwell import checkpoint, task


class Order(BaseModel):
    id: str
    amount: int


class Socket:
    pass


@dataclass
class Box:
    items: list[Any]


@task(id="greet")
async def greet(name: str, times: int = 1) -> str:
    return name * times


@task(id="pay")
async def pay(order: Order) -> str:
    return order.id


async def open_box() -> Box:
    return Box([1, {"conn": Socket()}])


@task(id="unstorable-step")
async def unstorable_step() -> int:
    return len((await open_box()).items)


@task(id="unstorable-output")
async def unstorable_output() -> Any:
    return {"conn": Socket()}


@task(id="unstorable-checkpoint")
async def unstorable_checkpoint() -> None:
    await checkpoint("here", conn=Socket())


async def circle() -> list[Any]:
    ring: list[Any] = [1]
    ring.append({"again": ring})
    return ring


@task(id="circular")
async def circular() -> int:
    return len(await circle())


async def read_it_all() -> str:
    return "x" * (11 * 1024 * 1024)


@task(id="large-step")
async def large_step() -> int:
    return len(await read_it_all())


@task(id="no-queue")
async def no_queue() -> str:
    return await greet.options(queue="nowhere", max_attempts=1).trigger_and_wait("x")


async def hold(gate: str) -> str:
    pathlib.Path(gate + ".reached").touch()
    while not pathlib.Path(gate).exists():
        await asyncio.sleep(0.02)
    return "opened"


async def unwrap() -> Any:
    import presents

    return presents.Gift("a book")


@task(id="present")
async def present(gate: str) -> str:
    gift = await unwrap()
    return gift.name + await hold(gate)


@task(id="steady")
async def steady(gate: str) -> str:
    return await hold(gate)
"""
PRESENTS = "from dataclasses import dataclass\n\n\n@dataclass\nclass {name}:\n    name: str\n"

MODULES = {
    "fails.py": "import nothing_of_this_name\n",
    "exits.py": "import sys\n\nsys.exit(3)\n",
    "syntax.py": "def broken(:\n",
    "empty.py": "x = 1\n",
    "my-tasks.py": "x = 1\n",
    "twins.py": """
from stepwell import task


@task(id="same")
async def one() -> None: ...


@task(id="same")
async def two() -> None: ...
""",
    "hidden.py": """
import functools

from stepwell import task


class Opaque:
    def __init__(self, fn):
        functools.update_wrapper(self, fn)


def wrapped(fn):
    opaque = Opaque(fn)

    @functools.wraps(fn)
    async def wrapper():
        return await opaque()

    return wrapper


@task
@wrapped
async def hidden() -> None: ...
""",
    "no_source.py": "exec('from stepwell import task\\n@task\\nasync def made() -> None: ...\\n')\n",
    "undeclared.py": "from stepwell import task\n\n\n@task(queue='nowhere')\nasync def lost() -> None: ...\n",
    "option.py": "from stepwell import task\n\n\n@task(retries=3)\nasync def lost() -> None: ...\n",
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    """A `stepwell dev` with a run in hand, which is still in its first attempt when everything has been tried."""
    project = tmp_path_factory.mktemp("bad") / "project"
    (project / "wrong").mkdir(parents=True)
    (project / "pyproject.toml").write_text('[tool.stepwell]\nmodules = ["tasks.py"]\n')
    (project / "tasks.py").write_text(TASKS)
    (project / "presents.py").write_text(PRESENTS.format(name="Gift"))
    for name, text in MODULES.items():
        (project / "wrong" / name).write_text(text)
    dev = Dev(project, "--no-reload")
    try:
        dev.ready()
        gate = project / "steady"
        run = answer(project, "trigger", "steady", "-p", json.dumps({"gate": str(gate)}))["id"]
        eventually((project / "steady.reached").exists)
        yield dev
        gate.touch()
        assert json.loads(stepwell(project, "runs", "watch", run).stdout) == "opened"
        told = answer(project, "runs", "show", run)["run"]
        assert (told["attemptCount"], told.get("crashes", 0)) == (1, 0)
        assert dev.interrupt() == 0
    finally:
        dev.close()


def refused(done: CompletedProcess[str], exit_code: int) -> str:
    """The code of the error that a command ended with; no answer is on stdout, and nothing of ours in a stack."""
    assert done.returncode == exit_code, done.stdout + done.stderr
    assert all(" starting; " in line for line in done.stdout.splitlines()), done.stdout
    assert not re.search(r"stepwell/(cli|client|codec|executor|sdk|server|storage|worker)/", done.stderr), done.stderr
    found = re.search(r"^error\[([a-z-]+)\]: .+\nhint: .+", done.stderr, re.MULTILINE)
    assert found is not None, done.stderr
    return found[1]


def reach(dev: Dev) -> dict[str, str]:
    return {"STEPWELL_URL": dev.file()["url"], "STEPWELL_API_KEY": dev.file()["api_key"]}


def post(dev: Dev, path: str, body: bytes) -> tuple[int, Any]:
    """As a caller in any language would."""
    at = dev.file()
    headers = {"authorization": f"Bearer {at['api_key']}", "content-type": "application/json"}
    request = urllib.request.Request(at["url"] + path, body, headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


# ── triggering ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("arguments", "code", "exit_code", "said"),
    [
        (["gret"], "task-not-found", 1, ["no task 'gret'", "did you mean 'greet'?"]),
        (["nobody"], "task-not-found", 1, ["no task 'nobody'", "start a worker"]),
        (["greet", "-p", '{"name": 3}'], "payload-invalid", 1, ["name: 3 is not", "tasks.py:"]),
        (["greet", "-p", '{"nam": "x"}'], "payload-invalid", 1, ["nam: is not a parameter", "name: is required"]),
        (["pay", "-p", '{"id": "x", "amount": "a lot"}'], "payload-invalid", 1, ['amount: "a lot" is not']),
        (["greet", "-p", "[1]"], "payload-invalid", 1, ['[1] is not of type "object"']),
        (["greet", "-p", "{name"], "config-error", 2, ["--payload"]),
        (["greet", "-p", "@nowhere.json"], "config-error", 2, ["cannot read nowhere.json"]),
        (["greet", "-p", '{"name": "x"}', "--queue", "nowhere"], "queue-not-found", 1, ["no queue 'nowhere'"]),
    ],
)
def test_what_cannot_be_triggered_is_refused_with_the_values(
    stack: Dev, arguments: list[str], code: str, exit_code: int, said: list[str]
) -> None:
    done = stepwell(stack.project, "trigger", *arguments)
    assert refused(done, exit_code) == code
    for part in said:
        assert part in done.stderr


def test_a_payload_that_is_too_large_is_refused_with_both_sizes(stack: Dev) -> None:
    (stack.project / "large.json").write_text(json.dumps({"name": "x" * 12_000_000}))
    done = stepwell(stack.project, "trigger", "greet", "-p", "@large.json")
    assert refused(done, 1) == "payload-too-large"
    assert re.search(r"has 12,000,\d+ bytes, more than the 11,534,336", done.stderr)
    status, body = post(
        stack, "/api/v1/tasks/greet/trigger", json.dumps({"payload": {"name": "x" * 10_600_000}}).encode()
    )
    assert (status, body["code"]) == (413, "payload-too-large")
    assert "10,485,760" in body["error"]


def test_the_http_api_names_each_field_with_its_reason(stack: Dev) -> None:
    status, body = post(stack, "/api/v1/tasks/greet/trigger", b'{"payload": {"name": 3, "times": "two"}}')
    assert (status, body["code"]) == (422, "payload-invalid")
    assert {problem["field"] for problem in body["details"]["problems"]} == {"name", "times"}
    status, body = post(stack, "/api/v1/tasks/greet/trigger", b"{payload")
    assert (status, body["code"]) == (400, "invalid-request")
    status, body = post(stack, "/api/v1/tasks/nobody/trigger", b"{}")
    assert (status, body["code"]) == (404, "task-not-found")


def test_the_client_raises_the_class_of_each_refusal(stack: Dev) -> None:
    at = stack.file()
    with sync.Stepwell(url=at["url"], api_key=at["api_key"]) as client:
        with pytest.raises(NotFound, match="no task 'nobody'") as unknown:
            client.trigger("nobody", {})
        assert unknown.value.code == "task-not-found"
        with pytest.raises(PayloadInvalid) as invalid:
            client.trigger("greet", {"name": 3})
        assert [problem["field"] for problem in invalid.value.problems] == ["name"]
        with pytest.raises(PayloadTooLarge):
            client.trigger("greet", {"name": "x" * 12_000_000})


# ── values ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("unstorable-step", r"open_box \(tasks.py:\d+\): value at \$.items\[1\].conn has type tasks.Socket"),
        ("unstorable-output", r"the task's return value: value at \$.conn has type tasks.Socket"),
        ("unstorable-checkpoint", r"checkpoint 'here': value at \$.conn has type tasks.Socket"),
        ("circular", r"circle \(tasks.py:\d+\): value at \$\[1\].again is circular: it is the same object as \$"),
        ("large-step", r"read_it_all \(tasks.py:\d+\): the value has 11.0 MB; one checkpoint may hold 10 MB"),
    ],
)
def test_a_value_that_cannot_be_stored_ends_its_run_at_once_with_path_and_type(
    stack: Dev, task: str, said: str
) -> None:
    done = stepwell(stack.project, "trigger", task, "--wait")
    assert done.returncode == 1
    assert re.search(rf"✗ stepwell.errors.CheckpointError: {said}.*\[checkpoint_invalid\]", done.stderr), done.stderr
    assert done.stderr.count("hint: ") == 1
    assert "attempt 1 failed" not in done.stderr


def test_a_queue_that_nobody_declared_is_told_to_the_task_that_names_it(stack: Dev) -> None:
    done = stepwell(stack.project, "trigger", "no-queue", "--max-attempts", "1", "--wait")
    assert done.returncode == 1
    assert "✗ stepwell.errors.NotFound: there is no queue 'nowhere'" in done.stderr
    assert "hint: declare it with queue(...)" in done.stderr


def test_a_stored_class_that_is_gone_fails_the_run_and_its_return_lets_it_go_on(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text('[tool.stepwell]\nmodules = ["tasks.py"]\n')
    (project / "tasks.py").write_text(TASKS)
    (project / "presents.py").write_text(PRESENTS.format(name="Gift"))
    gate = tmp_path / "gate"
    dev = Dev(project, STEPWELL_DRAIN_GRACE="0.2")
    try:
        said = dev.ready()
        run = answer(project, "trigger", "present", "-p", json.dumps({"gate": str(gate)}))["id"]
        eventually(Path(f"{gate}.reached").exists)
        (project / "presents.py").write_text(PRESENTS.format(name="Present"))
        said = dev.ready(after=said)
        watched = stepwell(project, "runs", "watch", run)
        assert watched.returncode == 1
        assert "entry 0, unwrap (tasks.py:" in watched.stderr
        assert "has the class 'presents:Gift', which cannot be imported" in watched.stderr
        assert "hint: restore presents.Gift" in watched.stderr
        assert "[checkpoint_invalid]" in watched.stderr
        (project / "presents.py").write_text(PRESENTS.format(name="Gift"))
        dev.ready(after=said)
        gate.touch()
        again = stepwell(project, "runs", "replay", run, "--from", "0", "--wait")
        assert json.loads(again.stdout) == "a bookopened", again.stderr
        assert dev.interrupt() == 0
    finally:
        dev.close()


# ── modules ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("module", "code", "said"),
    [
        ("fails.py", "import-failed", r"No module named 'nothing_of_this_name' \(.*fails.py:1\)"),
        ("exits.py", "import-failed", r"sys.exit\(3\) while it was imported \(.*exits.py:3\)"),
        ("syntax.py", "import-failed", r"SyntaxError: invalid syntax"),
        ("empty.py", "no-tasks", r"no task is declared in wrong/empty.py"),
        ("my-tasks.py", "module-name-invalid", r"'my-tasks' is no module name"),
        ("nowhere.py", "module-not-found", r"wrong/nowhere.py does not exist"),
        ("twins.py", "config-error", r"two tasks have the id 'same': one \(wrong/twins.py:5\) and two \(.*:9\)"),
        ("hidden.py", "config-error", r"@task stands above another decorator of 'hidden' \(hidden.py:\d+\)"),
        ("no_source.py", "config-error", r"the source of 'made' cannot be found"),
        ("undeclared.py", "config-error", r"names the queue 'nowhere', which is not declared"),
        ("option.py", "config-error", r"has no option 'retries'\nhint: did you mean 'retry'?"),
    ],
)
def test_a_worker_whose_modules_are_wrong_says_where_and_ends(stack: Dev, module: str, code: str, said: str) -> None:
    done = stepwell(stack.project, "worker", f"wrong/{module}", **reach(stack))
    assert refused(done, 2) == code
    assert re.search(said, done.stderr), done.stderr
    assert done.stderr.count(done.stderr.partition("]: ")[2].partition("\n")[0]) == 1, "it says it twice"


# ── servers, keys, ports ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_wrong_key_is_refused_to_callers_and_workers(stack: Dev) -> None:
    wrong = reach(stack) | {"STEPWELL_API_KEY": "tr_dev_wrong"}
    asked = stepwell(stack.project, "trigger", "greet", "-p", '{"name": "x"}', **wrong)
    assert refused(asked, 1) == "key-invalid"
    assert "STEPWELL_API_KEY" in asked.stderr
    worker = stepwell(stack.project, "worker", "tasks.py", **wrong)
    assert refused(worker, 1) == "unauthorized"
    assert "tr_dev_wrong" not in asked.stderr + worker.stderr


def test_a_server_that_is_not_there_is_named(stack: Dev) -> None:
    nowhere = reach(stack) | {"STEPWELL_URL": "http://127.0.0.1:9"}
    done = stepwell(stack.project, "trigger", "greet", "-p", '{"name": "x"}', **nowhere)
    assert refused(done, 1) == "connection-failed"
    assert "http://127.0.0.1:9/" in done.stderr


def test_a_port_that_is_taken_is_named(stack: Dev) -> None:
    port = stack.file()["url"].rpartition(":")[2]
    database = {"STEPWELL_DATABASE_URL": stack.file()["database_url"]}
    done = stepwell(stack.project, "server", "--port", port, **database)
    assert refused(done, 2) == "port-taken"
    assert f"127.0.0.1:{port}" in done.stderr


class OldPostgres:
    """Says what a Postgres says when a client comes, as version 14, and nothing more."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"postgresql://ada:secret@127.0.0.1:{self._listener.getsockname()[1]}/app"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with closing(client):
                self._greet(client)

    def _greet(self, client: socket.socket) -> None:
        client.settimeout(10)
        while (asked := self._startup(client)) == _SSL_REQUEST:
            client.sendall(b"N")
        if asked is None:
            return
        greeting = _message(b"R", struct.pack("!i", 0))
        for name, value in (("server_version", "14.11"), ("client_encoding", "UTF8"), ("TimeZone", "UTC")):
            greeting += _message(b"S", f"{name}\0{value}\0".encode())
        client.sendall(greeting + _message(b"K", struct.pack("!ii", 1, 1)) + _message(b"Z", b"I"))
        while client.recv(4096):
            pass

    @staticmethod
    def _startup(client: socket.socket) -> int | None:
        head = client.recv(8, socket.MSG_WAITALL)
        if len(head) < 8:
            return None
        length, code = struct.unpack("!ii", head)
        client.recv(length - 8, socket.MSG_WAITALL) if length > 8 else None
        return code


_SSL_REQUEST = 80877103


def _message(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("!i", len(content) + 4) + content


@pytest.fixture(scope="module")
def old_postgres() -> Iterator[OldPostgres]:
    server = OldPostgres()
    yield server
    server.close()


@pytest.mark.parametrize("command", [["server", "--port", "0"], ["db", "check"], ["db", "migrate"]], ids="-".join)
def test_a_postgres_that_is_too_old_is_refused_with_its_version(
    stack: Dev, old_postgres: OldPostgres, command: list[str]
) -> None:
    done = stepwell(stack.project, *command, STEPWELL_DATABASE_URL=old_postgres.url)
    assert refused(done, 2) == "database-unavailable"
    assert "is version 14.11; Stepwell needs 15 or newer" in done.stderr
    assert "secret" not in done.stderr


@pytest.mark.parametrize(
    "command", [["server", "--port", "0"], ["dev", "--port", "0"], ["db", "check"]], ids=lambda words: words[0]
)
def test_a_postgres_that_is_not_there_is_named_without_its_password(
    stack: Dev, tmp_path: Path, command: list[str]
) -> None:
    nowhere = {"STEPWELL_DATABASE_URL": "postgresql://ada:secret@127.0.0.1:9/app", "STEPWELL_HOME": str(tmp_path)}
    done = stepwell(stack.project, *command, **nowhere)
    assert refused(done, 2) == "database-unavailable"
    assert "postgresql://ada@127.0.0.1:9/app" in done.stderr
    assert "secret" not in done.stderr


def test_after_all_of_it_the_stack_completes_a_run(stack: Dev) -> None:
    done = stepwell(stack.project, "trigger", "greet", "-p", '{"name": "ada", "times": 2}', "--wait")
    assert json.loads(done.stdout) == "adaada"
