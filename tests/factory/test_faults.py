"""Killed, interrupted, offline: the same command again completes the dataset, and its bytes are the same."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cxrsynth.factory.verify import against_receipts
from cxrsynth.store import Store
from tests.conftest import PATIENCE, cli, cli_process, latent_body, phantom_body, tree

MAIN = [sys.executable, "-c", "from cxrsynth.cli import main; main()"]
SLOTS = {"count": 24, "shard": 2}


def start(recipe: Path, out: Path, *more: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*MAIN, "generate", "-p", str(recipe), "-o", str(out), *more],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        # A shell lets its background jobs ignore Ctrl-C, and so would what the tests start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for(out: Path, receipts: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE
    while len(list(out.glob("shards/*.json"))) < receipts:
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    from cxrsynth.factory.plan import make_plan
    from cxrsynth.factory.run import run
    from cxrsynth.recipe import parse

    out = tmp_path_factory.mktemp("undisturbed") / "d"
    run(make_plan(parse(phantom_body(**SLOTS)), out))
    return tree(out)


def drawn(files: dict[str, bytes]) -> dict[str, bytes]:
    """The files that a run makes, without the pages that are written from them."""
    pages = {"README.md", "croissant.json", "preview.png", "report.html"}
    return {name: data for name, data in files.items() if name not in pages and not name.startswith("metadata-")}


@pytest.mark.parametrize("receipts", [0, 1, 4])
def test_a_run_killed_anywhere_is_completed_to_the_same_bytes(
    tmp_path: Path, write_recipe: Any, undisturbed: dict[str, bytes], receipts: int
) -> None:
    recipe, out = write_recipe(phantom_body(**SLOTS)), tmp_path / "d"
    process = start(recipe, out)
    wait_for(out, receipts, process)
    if receipts == 0:
        time.sleep(0.7)  # while it starts
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert Store(out).receipt(SLOTS["count"] // SLOTS["shard"] - 1) is None, "it was killed too late to show anything"
    again = cli("generate", "-p", recipe, "-o", out)
    assert again.returncode == 0, again.stderr
    files = drawn(tree(out))
    leftovers = {name for name in files if Path(name).name.startswith((".run", ".tmp"))}
    assert {name: data for name, data in files.items() if name not in leftovers} == undisturbed


def test_a_killed_run_leaves_no_process_behind(tmp_path: Path, write_recipe: Any) -> None:
    out = tmp_path / "d"
    process = start(write_recipe(phantom_body(**SLOTS)), out, "--workers", "2")
    wait_for(out, 1, process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + PATIENCE
    while members(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert members(process.pid) == []


def members(session: int) -> list[int]:
    """Living processes of a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_stops_with_130_and_keeps_whole_shards(
    tmp_path: Path, write_recipe: Any, undisturbed: dict[str, bytes], workers: str
) -> None:
    recipe, out = write_recipe(phantom_body(**SLOTS)), tmp_path / "d"
    process = start(recipe, out, "--workers", workers)
    wait_for(out, 1, process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the whole group
    _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert b"run the same command again" in stderr
    assert b"Traceback" not in stderr
    assert not list(against_receipts(Store(out)))
    assert not [path for path in out.rglob(".*") if path.name.startswith((".tmp", ".run"))]
    assert cli("generate", "-p", recipe, "-o", out).returncode == 0
    assert drawn(tree(out)) == undisturbed


# In every Python process that is started: connections to other machines, and sockets that would take some from there.
LISTED = """
import socket

class Listed(socket.socket):
    def connect(self, address):
        note("connect", address)
        return super().connect(address)

    def connect_ex(self, address):
        note("connect", address)
        return super().connect_ex(address)

    def sendto(self, *args):
        note("sendto", args[-1])
        return super().sendto(*args)

def note(what, address):
    if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "localhost", "::1"):
        with open({file!r}, "a") as file:
            file.write(what + " " + repr(address) + chr(10))

socket.socket = Listed
"""


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_a_killed_worker_costs_one_try_and_nothing_else_and_connects_nowhere(
    tmp_path: Path, write_recipe: Any, engine: str
) -> None:
    flaw = tmp_path / "flaw"
    flaw.write_text("kill once")
    code = "from cxrsynth import registry; registry.BUILTIN['generators']['phantom'] = 'tests.flaky:Flaky'; "
    # The patched registry has to reach the worker: it is imported there by the module that starts it.
    plugin = tmp_path / "sitecustomize.py"
    away = tmp_path / "connections"
    plugin.write_text(code + LISTED.format(file=str(away)))
    root = str(Path(__file__).parents[2])
    env = {"CXRSYNTH_TEST_FLAW": str(flaw), "PYTHONPATH": os.pathsep.join([str(tmp_path), root])}
    recipe = write_recipe(phantom_body())
    words = ["generate", "-p", recipe, "-o", tmp_path / "d", "--workers", "2", "--engine", engine, "--offline"]
    result = cli_process(*words, env=env)
    assert result.returncode == 0, result.stderr
    assert not flaw.exists()
    assert not away.exists(), away.read_text()
    assert len(list(Store(tmp_path / "d").rows())) == 6


BLOCKED = """
import socket, sys

def refuse(*a, **k):
    open({trace!r}, "a").write("socket")
    raise OSError("no network in this test")

if __name__ == "__main__":
    socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
    sys.argv = ["cxrsynth", *{arguments!r}]
    from cxrsynth.cli import main
    main()
"""


def blocked(tmp_path: Path, *arguments: Any) -> tuple[subprocess.CompletedProcess[str], bool]:
    """Run a command where every connection is refused; also says whether one was tried."""
    trace = tmp_path / "trace"
    script = tmp_path / "blocked.py"
    script.write_text(BLOCKED.format(trace=str(trace), arguments=list(map(str, arguments))))
    result = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=PATIENCE)
    return result, trace.exists()


def test_offline_generates_without_opening_a_socket(tmp_path: Path, write_recipe: Any, tiny: Path) -> None:
    recipe = write_recipe(latent_body(tiny, count=2, shard=2))
    result, opened = blocked(tmp_path, "generate", "-p", recipe, "-o", tmp_path / "d", "--offline")
    assert result.returncode == 0, result.stderr
    assert not opened


def test_a_hub_id_while_offline_is_refused_without_opening_a_socket(tmp_path: Path, write_recipe: Any) -> None:
    recipe = write_recipe(latent_body(Path("someone/roentgen")))
    result, opened = blocked(tmp_path, "generate", "-p", recipe, "-o", tmp_path / "d", "--offline")
    assert result.returncode == 4
    assert "someone/roentgen" in result.stderr
    assert not opened
