"""Stands between a worker and the command it runs, so that nothing of the command outlives the race.

Started by its path, with the standard library alone. It runs the command in a session, hence a process group, of its
own. When the worker closes the pipe, or dies, the command and all that it has started are ended: first asked to, as
launchers such as torchrun pass that on, then killed.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of Linux: orphans below become children of this process
_GRACE_SECONDS = 5.0


def main(command: str, output: str, errors: str) -> int:
    """Run a command with its output in two files and return its exit code, 128 + n where signal n ended it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SUBREAPER, 1)
    with Path(output).open("ab") as out, Path(errors).open("ab") as err:
        process = subprocess.Popen(
            ["/bin/sh", "-c", command], stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
        )
    threading.Thread(target=_watch, args=(process,), daemon=True).start()
    code = process.wait()
    _signal(process.pid, signal.SIGKILL)  # what it left behind in the background
    return code if code >= 0 else 128 - code


def _watch(process: "subprocess.Popen[bytes]") -> None:
    """Wait until the worker is gone, then end the command."""
    while os.read(0, 1):
        pass
    _signal(process.pid, signal.SIGTERM)
    end = time.monotonic() + _GRACE_SECONDS
    while process.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    _signal(process.pid, signal.SIGKILL)
    os._exit(1)


def _signal(group: int, number: int) -> None:
    """Send a signal to the command's process group, and to descendants that have left it (as torchrun's do)."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
    for pid in _descendants(os.getpid()):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _descendants(root: int) -> list[int]:
    """Return the processes below this one; none where there is no /proc to tell."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    found: list[int] = []
    below = {root}
    while below:
        below = {pid for pid, parent in parents.items() if parent in below}
        found += below
    return found


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
