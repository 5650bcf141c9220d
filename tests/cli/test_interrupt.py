"""Ctrl-C in the midst of an import: it arrives, and leaves no lock behind."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

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
