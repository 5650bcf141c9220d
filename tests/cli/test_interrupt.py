"""Ctrl-C during an import takes effect and leaves no lock behind; so does the end of stdin, if requested."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from geoseg_cli.main import geoseg

SCENE = Path(__file__).parents[2] / "sample_data" / "scene.tif"

CALLBACK = """
import _imp, os, signal, sys, threading, time, weakref
from geoseg_cli.process import interrupts_between_imports

# as in importlib._bootstrap._get_module_lock, with Ctrl-C between taking the lock and giving it back
names = {"_imp": _imp, "interrupt": signal.raise_signal, "number": signal.SIGINT}
lines = ["def forget(_):", " _imp.acquire_lock()", " interrupt(number)", " _imp.release_lock()"]
exec(compile("\\n".join(lines), "<frozen importlib._bootstrap>", "exec"), names)

class Lock:
    pass

said = "lost"
try:
    with interrupts_between_imports():
        lock = Lock()
        seen = weakref.ref(lock, names["forget"])
        del lock
        for _ in range(3000):
            time.sleep(0.01)
except KeyboardInterrupt:
    said = "heard"

def load():
    import xmlrpc.client

later = threading.Thread(target=load, daemon=True)
later.start()
later.join(30)
print(said, "locked" if later.is_alive() else "free", flush=True)
os._exit(0)  # a thread that waits for the lock would keep the process
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no signal to one thread")
def test_ctrl_c_in_an_import_is_heard_and_leaves_no_lock() -> None:
    done = subprocess.run([sys.executable, "-c", CALLBACK], capture_output=True, text=True, check=False, timeout=200)
    assert (done.stdout, done.stderr) == ("heard free\n", "")


WAITS = """
import signal, subprocess, sys, time
from geoseg_cli.process import interrupt_at_end_of_stdin

signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in the background of a shell
interrupt_at_end_of_stdin()
try:
    child = subprocess.run([sys.executable, "-c", "print(len(input()))"], stderr=subprocess.DEVNULL)
    print("child reads", child.returncode, flush=True)
    time.sleep(120)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
DIES = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdin=subprocess.PIPE, stdout=sys.stdout)
sys.stdin.readline()
os.kill(os.getpid(), 9) if os.name != "nt" else os._exit(1)
"""


def test_closing_stdin_interrupts() -> None:
    with subprocess.Popen([sys.executable, "-c", WAITS], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        assert running.stdout.readline().split() == [b"child", b"reads", b"1"]  # an empty stdin, at once
        assert running.poll() is None
        running.stdin.close()
        assert running.stdout.read().strip() == b"interrupted"
        assert running.wait(60) == 0


def test_a_run_ends_with_a_parent_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", DIES, WAITS], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        assert parent.stdout.readline().startswith(b"child")
        parent.stdin.write(b"die\n")
        parent.stdin.flush()
        assert parent.stdout.read().strip() == b"interrupted"  # stdin ends: no process holds this pipe anymore


def test_the_command_is_interrupted_where_the_variable_says_so(tmp_path: Path) -> None:
    out = tmp_path / "map.tif"
    command = [sys.executable, "-m", "geoseg_cli", "predict", str(SCENE), "--out", str(out), "--tile", "256"]
    with subprocess.Popen(
        [*command, "--progress", "json"],
        stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"GEOSEG_END_WITH_STDIN": "1"}, text=True,
    ) as running:  # fmt: skip
        assert running.stdin is not None
        assert running.stderr is not None
        told = next(line for line in map(json.loads, running.stderr) if line.get("pieces_done"))
        running.stdin.close()
        last = [json.loads(line) for line in running.stderr][-1]
        assert running.wait(60) == 1
    assert last["error"].startswith("interrupted; ")
    assert int(last["error"].split()[1]) >= told["pieces_done"]
    assert not out.exists()
    assert (tmp_path / "map.tif.parts").is_dir()


@pytest.mark.parametrize("name", sorted(geoseg.commands))
def test_a_termination_interrupts_every_command(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM ends each command like Ctrl-C: one line, and the previous signal handler is restored."""

    def stopped(_context: click.Context) -> None:
        signal.raise_signal(signal.SIGTERM)

    command, before = geoseg.commands[name], signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(command, "params", [])
    monkeypatch.setattr(command, "invoke", stopped)
    result = CliRunner().invoke(geoseg, [name])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.lstrip() == "geoseg: interrupted: no output file was written\n"
    assert signal.getsignal(signal.SIGTERM) is before


STARTS = """
import signal, sys

class Watch:
    def find_spec(self, name, *_):
        if name == "click":  # in the midst of what the command imports
            signal.raise_signal(getattr(signal, sys.argv[1]))

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Watch())
from geoseg_cli import command
command()
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_command_that_is_stopped_before_it_has_begun_says_so_in_one_line(name: str) -> None:
    ways = {"": "geoseg: interrupted: {}", "--progress=json": '{{"interrupted": "{}"}}'}
    for option, line in ways.items():
        done = subprocess.run([sys.executable, "-c", STARTS, name, option], capture_output=True, text=True, check=False)
        said = line.format("no output file was written")
        assert (done.returncode, done.stdout, done.stderr) == (1, "", f"{said}\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
def test_an_output_that_cannot_be_printed_is_one_line() -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device, not a file
        command = [sys.executable, "-m", "geoseg_cli", "info", str(SCENE)]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    said = "geoseg: error: cannot write to stdout: the disk is full; send the output elsewhere\n"
    assert (done.returncode, done.stderr) == (1, said)
