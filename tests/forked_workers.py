"""The workers of a pool, forked: they begin in a moment, where an interpreter of their own imports PyTorch for seconds.

A worker runs the same `pool_worker.main` on the same connection with the same environment; only what it imports is
there already. What a pool owes to interpreters of their own (that they start, find their modules, and end with their
parent) is tested in tests/race_engine, which takes nothing from here.
"""

import contextlib
import gc
import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from types import SimpleNamespace

from sooner.race import pool_process, pool_worker
from sooner.race.engines.processes import Processes

_die_with = pool_worker._die_with


def outlive(parent, main_thread):
    """End with the connection only: the parent is the zygote."""


def serve(connection, out, environment, orphan=False):
    """Turn this process, which has just been forked, into a pool's worker; never return.

    Args:
        connection: descriptor of the socket to the pool.
        out: descriptor of what its standard output and error become.
        environment: its environment variables.
        orphan: whether the pool is in another process than the one that has forked it.
    """
    code = 1
    gc.freeze()  # what ends with threads of the process before would wait for them
    try:
        nothing = os.open(os.devnull, os.O_RDWR)
        for given in [int(one.name) for one in Path("/dev/fd").iterdir()]:  # whoever holds one may close it in peace
            if given not in (connection, out, nothing):
                with contextlib.suppress(OSError):  # the folder's own, which is closed by now
                    os.fstat(given)
                    os.dup2(nothing, given)
        for standard in (1, 2):
            os.dup2(out, standard)
        sys.stdin, sys.stdout, sys.stderr = (open(n, mode, closefd=False) for n, mode in enumerate("rww"))  # noqa: SIM115
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.environ.clear()
        os.environ.update(environment)
        start_here()
        pool_worker._die_with = outlive if orphan else _die_with
        pool_worker.main(connection)
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


class Child:
    """A worker forked from this process, in the place of a `subprocess.Popen`."""

    def __init__(self, words, *, pass_fds, env, **_):
        (connection,) = pass_fds
        out, theirs = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            serve(connection, theirs, env)
        os.close(theirs)
        self.stdout = os.fdopen(out, "rb", buffering=0)
        self.returncode = None

    def poll(self):
        return self._ended(os.WNOHANG)

    def wait(self, timeout=None):
        return self._ended(0)

    def kill(self):
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def _ended(self, how):
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, how)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


def started_by(popen):
    """What the pool sees of `subprocess` where its workers are started by this class."""
    return SimpleNamespace(**{**vars(subprocess), "Popen": popen})


def start_here():
    """From now on, fork the workers of this process's pools from it."""
    pool_process.subprocess = started_by(Child)


@contextlib.contextmanager
def forked(zygote):
    """Within it, workers of pools are forked from the zygote."""
    before = pool_process.subprocess
    pool_process.subprocess = started_by(zygote.worker)
    try:
        yield
    finally:
        pool_process.subprocess = before


class ForkedPool(Processes):
    """A pool whose workers are forked from the zygote."""

    def __init__(self, zygote, *arguments, **options):
        super().__init__(*arguments, **options)
        self.zygote = zygote

    def run(self, *arguments, **options):
        with forked(self.zygote):
            super().run(*arguments, **options)
